"""What maps, boxes and JSON of many photos cost beside a plain forward pass over the same loader.

    python benchmarks/throughput.py MODEL PHOTOS... [--weights W] [--classes top5] [--photos 1000] [--out CSV]

Blocks of photos go through both in turn, in one process: the network alone under ``inference_mode`` on batches of
`explain.localization.photos.read_ahead`, and the job behind ``explain image`` without pictures (reading, transform,
forward, maps, boxes, arrays, JSON). The network alone runs before and after; see `timing`. Pictures are timed apart,
on the first block. The row goes to ``benchmarks/results/throughput.csv``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from timing import HERE, Row, commit, device_name, paired, peak_of, ratio, today, write_rows

import explain
from explain.cli.image import find_images
from explain.localization.photo_pictures import draw_pictures
from explain.localization.photo_run import write_photo_run
from explain.localization.photos import map_photos, read_ahead
from explain.nets.subject import Subject

RESULTS = HERE / "results" / "throughput.csv"


def plain(subject: Subject, paths: Sequence[Path], o: argparse.Namespace) -> None:
    """Run the network alone over the loader."""
    subject.model.eval()
    with torch.inference_mode():
        for _, batch in read_ahead(paths, subject.transform, batch_size=o.batch_size, workers=o.workers):
            subject.model(subject.placed(batch.tensor))


def job(subject: Subject, paths: Sequence[Path], o: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the job behind ``explain image``, without pictures."""
    found = map_photos(subject, paths, o.classes, batch_size=o.batch_size, workers=o.workers)
    return write_photo_run(folder, found, paths, {"model": {"name": subject.name}, "classes": o.classes})


def measure(subject: Subject, paths: Sequence[Path], o: argparse.Namespace) -> Row:
    """Return the row of the CSV; pictures are timed and printed apart."""
    blocks = [paths[start : start + o.block] for start in range(0, len(paths) - o.block + 1, o.block)] or [paths]
    settle = torch.cuda.synchronize if subject.device.type == "cuda" else lambda: None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        turns = {"job": 0, "plain": 0}

        def block_of(which: str) -> Sequence[Path]:
            """The first run of each, to warm up, is on the first block; then each block is run plain, job, plain."""
            turn = max(0, turns[which] - 1)
            turns[which] += 1
            return blocks[turn // 2 if which == "plain" else turn]

        def progress(_: str, done: int) -> None:
            print(f"block {done} of {len(blocks)}", file=sys.stderr, flush=True)

        seconds = paired(
            {"job": lambda: job(subject, block_of("job"), o, folder)},
            lambda: plain(subject, block_of("plain"), o),
            lambda _: len(blocks),
            settle,
            progress,
        )["job"]
        peak = peak_of(lambda: job(subject, blocks[0], o, folder), subject.device)
        run = job(subject, blocks[0], o, folder)
        start = time.perf_counter()
        draw_pictures(folder, run)
        each = (time.perf_counter() - start) / len(blocks[0])
    print(f"pictures, apart: {1000 * each:.0f} ms per photo (a sheet, the photo, an overlay per class)")
    own, base = (float(value) for value in seconds.sum(0))
    middle, low, high = ratio(seconds)
    photos = len(blocks) * len(blocks[0])
    print(f"maps, boxes and JSON: {1000 * own / photos:.0f} ms per photo, the network alone {1000 * base / photos:.0f}")
    return Row(
        f"throughput explain image {subject.name} {o.classes}",
        f"{photos} photos, batch {o.batch_size}",
        "plain forward over the same loader",
        own, base, middle, low, high, peak, len(seconds), device_name(subject.device), torch.get_num_threads(),
        f"torch {torch.__version__}, pillow {version('pillow')}", commit(), today(),
    )  # fmt: skip


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("images", nargs="+", help="files, folders or globs")
    parser.add_argument("--weights", default="DEFAULT")
    parser.add_argument("--classes", default="top5")
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--block", type=int, default=64, help="photos per measurement")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=RESULTS)
    o = parser.parse_args()
    subject = explain.load(o.model, weights=o.weights, device=o.device)
    row = measure(subject, find_images(o.images)[: o.photos], o)
    write_rows(o.out, [row], [row.name], row.device)
    print(f"{row.name}: {row.ratio:.3f} [{row.low:.3f}, {row.high:.3f}] over {row.n} blocks; written: {o.out}")


if __name__ == "__main__":
    main()
