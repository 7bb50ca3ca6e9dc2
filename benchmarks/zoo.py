"""Take torchvision's classifiers apart, with random weights: explain/nets/zoo.csv and the table of docs/models.md.

python benchmarks/zoo.py                      # all, one after the other: an hour on a busy core, 6 GB
python benchmarks/zoo.py resnet18 vit_b_16    # these; the other rows stay
python benchmarks/zoo.py --missing            # those not in the file yet: goes on after an interruption
python benchmarks/zoo.py --table              # the table of the page from the file alone
python benchmarks/zoo.py --timm               # a small network of each of timm's modules: results/timm.csv

The file travels with the package; `explain models` prints it. timm's is evidence only.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from explain.nets.subject import torchvision_names
from explain.nets.zoo import ZOO, ZooRow, fill_random, read_zoo, write_zoo
from explain.saliency.support import examine, examine_random

PAGE = Path(__file__).parent.parent / "docs" / "models.md"
TIMM = Path(__file__).parent / "results" / "timm.csv"
GIANTS = ("regnet_y_128gf", "vit_l_16", "vit_l_32", "convnext_large", "vit_h_14")
"""Measured last."""
SMALL = ["atto", "femto", "pico", "nano", "xxs", "xx_small", "tiny", "_t_", "_050", "_035", "small", "_s", "b0", "18"]
"""What the names of small networks hold, the smallest first."""
MOST_PARAMETERS, LARGEST_SIDE = 80e6, 384
"""timm's networks beyond these are left out."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--missing", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--timm", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    every, one = (timm_names, examine_timm) if given.timm else (torchvision_names, examine_random)
    out = given.out or (TIMM if given.timm else ZOO)
    failed = [] if given.table else measure(given.names or every(), out, one, missing=given.missing)
    if given.out is None:
        page = with_table(PAGE.read_text(encoding="utf-8"), "zoo", read_zoo())
        PAGE.write_text(with_table(page, "timm", read_zoo(TIMM)), encoding="utf-8")
    return len(failed) > 0


def timm_names() -> list[str]:
    """Return a network of each of timm's modules, the one whose name says most clearly that it is small."""
    import timm

    found = []
    for module in timm.list_modules():
        named = [(next((i for i, part in enumerate(SMALL) if part in name), len(SMALL)), len(name), name)
                 for name in timm.list_models(module=module)]  # fmt: skip
        name = min(named)[2]
        with torch.device("meta"):
            network = timm.create_model(name)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        if parameters <= MOST_PARAMETERS and max(network.default_cfg["input_size"]) <= LARGEST_SIDE:
            found.append(name)
    return found


def examine_timm(name: str) -> ZooRow:
    """Return what `examine` finds of a network of timm with random weights, on two noise images."""
    import timm

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model(name).eval()
        images = torch.randn(2, *network.default_cfg["input_size"])
        fill_random(network, images)
    return examine(network, images, name, type(network).__module__.rsplit(".", 1)[-1])[1]


def measure(names: Sequence[str], out: Path, one: Callable[[str], ZooRow], *, missing: bool) -> list[str]:
    """Measure one network after the other, writing each row at once; return the names of those that failed."""
    rows = {row.name: row for row in read_zoo(out)}
    failed = []
    for name in sorted(names, key=lambda name: (GIANTS.index(name) if name in GIANTS else -1, name)):
        if missing and name in rows:
            continue
        start = time.perf_counter()
        try:
            row = one(name)
        except Exception:
            traceback.print_exc()
            failed.append(name)
            continue
        rows[name] = row
        write_zoo(rows.values(), out)
        print(
            f"{name:20} {row.layer:28} {row.channels:5} {row.grid:8} {row.answer:12} residual {row.residual:.1e}"
            f" gradcam {row.gradcam} placed {row.placed} {row.instead} ({time.perf_counter() - start:.0f} s)",
            flush=True,
        )
    if failed:
        print("failed:", ", ".join(failed), file=sys.stderr)
    return failed


def with_table(page: str, mark: str, rows: Sequence[ZooRow]) -> str:
    """Return the page with the table between the marks replaced."""
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    exact, folded = sum(row.exact for row in rows), sum(row.folded for row in rows)
    told = f"{exact} of {len(rows)} have exact class activation maps, {folded} of them by folding their LayerNorm."
    return f"{before}{begin}\n{told}\n\n{table(rows)}\n{end}{after}"


def table(rows: Sequence[ZooRow]) -> str:
    """Return the table in Markdown."""
    titles = ("model", "parameters (M)", "layer", "channels", "grid", "exact CAM", "residual, or what to use instead")
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for row in rows:
        last = f"{row.residual:.1e}" if row.exact else row.instead
        lines.append(
            f"| {row.name} | {row.parameters / 1e6:.1f} | `{row.layer}` | {row.channels} | {row.grid} | {row.answer} |"
            f" {last} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
