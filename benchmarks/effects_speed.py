"""Every unit removed, by the job behind ``explain effects RUN ablation``, beside plain forward passes.

    python benchmarks/effects_speed.py [--images 200] [--pairs 5] [--device cuda]

The network is `demo` with its own weights, the images are drawn scenes, decoded before the clock starts: needs no data.
Each case runs between two runs of its baseline (`timing.paired`): all units of the last map removed one by one, with
intervals over images, beside a plain forward pass over the same images; some units of the layer before it, beside a
whole forward pass for each edit. What ablation finds on photos is `effects`; rows of costs there are of real data. Rows
go to ``benchmarks/results/effects_speed.csv``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from effects import NETWORKS
from effects_ablation import cost_plans
from timing import HERE, Row, commit, device_name, paired, ratio, today, write_rows

import explain
from explain.data import open_localization
from explain.data.scenes import scenes_folder

RESULTS = HERE / "results" / "effects_speed.csv"
NETWORK = "demo"


def measured(images: int, pairs: int, device: torch.device) -> list[Row]:
    """Return a row for each plan; what the first call takes is told."""
    subject = explain.load(NETWORK, device=str(device))
    data = open_localization(scenes_folder(images))
    network = NETWORKS[NETWORK]
    settle = (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)
    rows = []
    for name, (case, baseline) in cost_plans(subject, network.before, network.last, data, images).items():
        begun = time.perf_counter()
        case()
        settle()
        first = time.perf_counter() - begun
        seconds = paired({name: case}, baseline, lambda _: pairs, settle)[name]
        middle, low, high = ratio(seconds)
        own, other = (float(value) for value in np.median(seconds, axis=0))
        print(f"{name}\n  first call of the process {first:.2f} s, steady {own:.2f} s,"
              f" baseline {other:.2f} s: ratio {middle:.2f} [{low:.2f}, {high:.2f}]", flush=True)  # fmt: skip
        what, _, beside = name.partition(": time over that of ")
        rows.append(
            Row(f"ablation, {what}", f"{NETWORK}, drawn scenes", beside, own, other, middle, low, high, float("nan"),
                len(seconds), device_name(device), torch.get_num_threads(), f"torch {torch.__version__}", commit(),
                today())
        )  # fmt: skip
    return rows


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    device = torch.device(given.device)
    rows = measured(given.images, given.pairs, device)
    write_rows(given.out, rows, [row.name for row in rows], device_name(device))
    print(f"written: {given.out}")


if __name__ == "__main__":
    main()
