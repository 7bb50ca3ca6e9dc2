"""What maps, boxes and JSON of many photos cost beside a plain forward pass over the same loader.

    python benchmarks/throughput.py MODEL PHOTOS... [--weights W] [--classes top5] [--photos 1000] [--out CSV]

Blocks of photos go through both in turn, in one process: the network alone under ``inference_mode`` on batches of
`explain.localization.photos.read_ahead`, and the job behind ``explain image`` without pictures (reading, transform,
forward, maps, boxes, arrays, JSON). Which goes first alternates. The ratio is the median over blocks; its interval
(95 %) is a bootstrap of that median. Pictures are timed apart, on the first block.
"""

from __future__ import annotations

import argparse
import csv
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

import explain
from explain.cli.image import find_images
from explain.localization.photo_run import draw_pictures, write_photo_run
from explain.localization.photos import map_photos, read_ahead
from explain.nets.subject import Subject

COLUMNS = (
    "name,case,baseline,seconds,baseline_seconds,ratio,low,high,peak_mb,n,device,threads,versions,commit,date".split(
        ","
    )
)
RESULTS = Path(__file__).parent / "results" / "throughput.csv"


def plain(subject: Subject, paths: Sequence[Path], batch_size: int, workers: int) -> None:
    subject.model.eval()
    with torch.inference_mode():
        for _, batch in read_ahead(paths, subject.transform, batch_size=batch_size, workers=workers):
            subject.model(subject.placed(batch.tensor))
    settle(subject)


def job(subject: Subject, paths: Sequence[Path], batch_size: int, workers: int, classes: str, folder: Path) -> dict:
    found = map_photos(subject, paths, classes, batch_size=batch_size, workers=workers)
    run = write_photo_run(folder, found, paths, {"model": {"name": subject.name}, "classes": classes})
    settle(subject)
    return run


def settle(subject: Subject) -> None:
    if subject.device.type == "cuda":
        torch.cuda.synchronize(subject.device)


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(subject: Subject, paths: Sequence[Path], options: argparse.Namespace) -> tuple[np.ndarray, float]:
    """Return seconds (blocks, 2) of the forward pass and of the job, and the seconds of one block's pictures."""
    blocks = [paths[start : start + options.block] for start in range(0, len(paths), options.block)]
    blocks = [block for block in blocks if len(block) == options.block] or blocks
    seconds = np.zeros((len(blocks), 2))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        calls = (
            lambda block: plain(subject, block, options.batch_size, options.workers),
            lambda block: job(subject, block, options.batch_size, options.workers, options.classes, folder),
        )
        for call in calls:  # allocators, kernels, lazy imports
            call(blocks[0])
        for number, block in enumerate(blocks):
            for which in (0, 1) if number % 2 else (1, 0):
                seconds[number, which] = timed(lambda call=calls[which], block=block: call(block))
        run = job(subject, blocks[0], options.batch_size, options.workers, options.classes, folder)
        pictures = timed(lambda: draw_pictures(folder, run))
    return seconds, pictures / len(blocks[0])


def interval(ratios: np.ndarray, draws: int = 10_000) -> tuple[float, float]:
    generator = np.random.default_rng(0)
    medians = np.median(generator.choice(ratios, (draws, len(ratios))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(low), float(high)


def peak_mb(subject: Subject) -> float:
    if subject.device.type == "cuda":
        return torch.cuda.max_memory_allocated(subject.device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def row(subject: Subject, seconds: np.ndarray, options: argparse.Namespace, photos: int) -> dict[str, object]:
    ratios = seconds[:, 1] / seconds[:, 0]
    low, high = interval(ratios)
    device = torch.cuda.get_device_name(subject.device) if subject.device.type == "cuda" else "cpu"
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "name": "explain image",
        "case": f"{subject.name} {options.classes} batch {options.batch_size} x {photos} photos",
        "baseline": "inference_mode forward over the same loader",
        "seconds": round(float(seconds[:, 1].sum()), 3),
        "baseline_seconds": round(float(seconds[:, 0].sum()), 3),
        "ratio": round(float(np.median(ratios)), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "peak_mb": round(peak_mb(subject)),
        "n": len(ratios),
        "device": device,
        "threads": torch.get_num_threads(),
        "versions": f"torch {torch.__version__}, explain {version('explain-nets')}, pillow {version('pillow')}",
        "commit": commit.stdout.strip(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def append(path: Path, found: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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
    options = parser.parse_args()
    subject = explain.load(options.model, weights=options.weights, device=options.device)
    paths = find_images(options.images)[: options.photos]
    seconds, pictures = measure(subject, paths, options)
    found = row(subject, seconds, options, len(paths))
    append(options.out, found)
    print(", ".join(f"{key} {found[key]}" for key in ("case", "ratio", "low", "high", "n", "seconds", "threads")))
    print(f"pictures, apart: {1000 * pictures:.0f} ms per photo (a sheet, the photo, an overlay per class)")


if __name__ == "__main__":
    main()
