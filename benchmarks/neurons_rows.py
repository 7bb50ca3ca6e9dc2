"""What the benchmarks of the search share: telling, timing, rows of the results file."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import synthetic
import torch
from numpy.typing import NDArray
from timing import Row, commit, device_name, ratio, today

Seconds = NDArray[np.float64]
SEED = 0
REPEATS = 9
PACKAGE = "compositional-explanations"


def told(text: str) -> None:
    print(text, flush=True)


def spent(run: Callable[[], Any], repeats: int, clock: Callable[[], float] = time.perf_counter) -> tuple[float, Any]:
    """Return the median seconds of some runs, and the last result."""
    times = []
    for _ in range(repeats):
        begun = clock()
        found = run()
        times.append(clock() - begun)
    return float(np.median(times)), found


def facts_of(built: synthetic.Built) -> str:
    """Return what a set is like."""
    cells, counts = built.index.cells, built.counts
    return (
        f"{len(cells)} cells of {cells.total} pixels, {len(cells.indices) / len(cells):.2f} labels per cell,"
        f" {np.diff(built.index.start).mean():.1f} label sets per image,"
        f" {np.diff(counts.indptr).mean():.0f} cells per unit, {100 * counts.active.mean() / cells.total:.2f} % active"
    )


def row_of(name: str, case: str, baseline: str, seconds: Seconds, cores: int, peak: float = float("nan")) -> Row:
    """Return a row from seconds ``(units, 2)`` per unit; the ratio is that of the sums."""
    own, other = seconds.mean(0)
    low, high = ratio(seconds)[1:] if other else (float("nan"), float("nan"))
    other_package = baseline if baseline == PACKAGE else "pycocotools"
    packages = ("numba", other_package) if baseline else ("numba",)
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
    return Row(
        name, case, baseline, own, other, own / other if other else float("nan"), low, high, peak, len(seconds),
        device_name(torch.device("cpu")), cores, versions, commit(), today(),
    )  # fmt: skip


def one_time(seconds: float) -> NDArray[np.float64]:
    """Return seconds without a baseline."""
    return np.array([[seconds, 0.0]])
