"""The search for formulas beside the published one, mask by mask, on a synthetic set: the same output, faster.

    python -m benchmarks.neurons                            # 500 images, 2 units: minutes
    python -m benchmarks.neurons --ratio                    # 2000 images, 600 concepts: half an hour and more
    python -m benchmarks.neurons --full [--units 512]       # 63,305 images, 1,197 concepts

The set is `synthetic`'s, from seed 0. The baseline is ``tests/oracles/compexp.py``, the published beam of Mu & Andreas
(2020) written from its description: run-length masks (pycocotools), every candidate's mask built anew from its parts,
each concept negated once and kept (that is not timed). Both run in one process, on one core, turn by turn for each
unit, and must give the same final beam: formulas, order, scores, repeats; or nothing is written. Ours is timed for one
unit at a time (the median of many calls) and as a batch. The package ``compositional-explanations`` is a second
baseline on a smaller set (100 images of 56 x 56, 75 concepts), its beam and its optimal search on one thread, its IoU
no higher than ours: ``pip install --no-deps --target DIR compositional-explanations``, then ``--peer DIR``.

``--full`` tells what each step takes at the published scale, one core and as many as there are, and the memory; its
baseline is 0. Compile times are those of fresh processes: cold (an empty cache), warm (a filled one), steady (the next
call in the same process). Rows go to ``benchmarks/results/neurons.csv``.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.metadata
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for `python -m`
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "tests"))

import synthetic
from oracles import compexp
from timing import HERE, Row, commit, device_name, ratio, today, write_rows

from explain.neurons.cells import CellIndex
from explain.neurons.counts import UnitCounts, active_masks
from explain.neurons.optimal import optimal_search
from explain.neurons.search import SearchResult, beam_search, ceiling

Seconds = NDArray[np.float64]
RESULTS = HERE / "results" / "neurons.csv"
SEED = 0
REPEATS = 9
PACKAGE = "compositional-explanations"
BATCH = 64
STAGES = ("drawing", "cells", "maps", "quantiles", "counts")


@dataclass(frozen=True)
class Size:
    """A synthetic set and what is searched on it."""

    images: int
    concepts: int
    searches: tuple[tuple[int, int, int], ...]
    """(length, beam, units)."""


SMALL = Size(500, 600, ((3, 5, 2),))
RATIO = Size(2000, 600, ((3, 5, 6), (10, 10, 2)))
FULL = (63_305, 1197)
PEER = (100, 75, 56)


def told(text: str) -> None:
    print(text, flush=True)


def concept_masks(index: CellIndex) -> Iterator[tuple[str, compexp.Rle]]:
    """Yield name and mask of each concept that occurs, by number: run lengths over all images, stacked."""
    images, height, width = index.local.shape
    starts = index.start.tolist()
    for concept in index.cells.concepts:
        having = np.append(index.cells.having(concept.name), False)
        if not having.any():
            continue
        shown = having[index.lookup]
        mask = np.zeros((images, height, width), np.bool_)
        for image in np.unique(np.searchsorted(index.start, np.flatnonzero(shown), side="right") - 1).tolist():
            table = np.append(shown[starts[image] : starts[image + 1]], False)
            mask[image] = table[np.minimum(index.local[image], len(table) - 1)]
        yield concept.name, compexp.encoded(mask.reshape(images * height, width))


def unit_mask(built: synthetic.Built, unit: int) -> compexp.Rle:
    """Return where a unit is active, upsampled."""
    images, height, width = built.index.local.shape
    own = np.flatnonzero(built.firing.unit == unit)
    maps = torch.from_numpy(built.firing.maps[own])[:, None]
    limit = torch.from_numpy(built.thresholds[unit : unit + 1])
    mask = np.zeros((images, height, width), np.bool_)
    for number, _, dense in active_masks(maps, limit, (height, width)):
        mask[built.firing.image[own[number.numpy()]]] = dense.numpy()
    return compexp.encoded(mask.reshape(images * height, width))


def first_leaves(built: synthetic.Built, units: int) -> NDArray[np.bool_]:
    """Return bool ``(U, C)``: the concepts of the images where each unit fires."""
    index = built.index
    allowed = np.zeros((units, len(index.cells.concepts)), np.bool_)
    for unit in range(units):
        for image in built.firing.image[built.firing.unit == unit].tolist():
            for cell in index.lookup[index.start[image] : index.start[image + 1]].tolist():
                allowed[unit, index.cells.indices[index.cells.indptr[cell] : index.cells.indptr[cell + 1]]] = True
    return allowed


def alike(got: SearchResult, wanted: Sequence[compexp.Item]) -> bool:
    """Tell whether two final beams are the same: formulas in order, counts, scores to the last bit."""
    ours = []
    for one in got.beam:
        score = one.intersection / (got.active + one.pixels - one.intersection + 1e-10)
        ours.append((one.text, score, one.intersection, one.pixels))
    return ours == [(one.text, one.score, one.intersection, one.pixels) for one in wanted]


def spent(run: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Return the median seconds of some runs, and the last result."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        found = run()
        times.append(time.perf_counter() - begun)
    return float(np.median(times)), found


def made(size: Size) -> tuple[synthetic.Built, compexp.Masks]:
    """Return the set, as cells and as run-length masks."""
    units = max(units for *_, units in size.searches)
    begun = time.perf_counter()
    built = synthetic.build(size.images, size.concepts, units, SEED)
    told(f"built in {time.perf_counter() - begun:.0f} s: {facts_of(built)}")
    begun = time.perf_counter()
    masks = compexp.Masks(concept_masks(built.index))
    for label in range(len(masks.masks)):
        masks.negated(label)
    told(f"{len(masks.masks)} concepts as run lengths in {time.perf_counter() - begun:.0f} s")
    return built, masks


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


def against_masks(size: Size) -> Iterator[Row]:
    """Yield the rows of our search beside the mask by mask one."""
    built, masks = made(size)
    case = f"{size.images} images, 112x112, {size.concepts} concepts"
    for length, beam, units in size.searches:
        name = f"N={size.images} beam L{length}B{beam}"
        alone, together, exact = beside_masks(built, masks, length, beam, units)
        yield row_of(f"{name}, one unit a call", case, "mask by mask", alone, 1)
        yield row_of(f"{name}, {BATCH} units a call", case, "mask by mask", together, 1)
        if length == 3:
            yield row_of(
                f"N={size.images} certified L3, one unit a call", case, f"mask by mask, beam L{length}B{beam}", exact, 1
            )


def beside_masks(
    built: synthetic.Built, masks: compexp.Masks, length: int, beam: int, units: int
) -> tuple[Seconds, Seconds, Seconds]:
    """Return seconds ``(units, 2)`` of (ours, mask by mask): one unit a call, many, and the certified search."""
    cells, allowed = built.index.cells, first_leaves(built, units)
    seen = cells.concept_pixels > 0

    def ours(chosen: NDArray[np.int64]) -> list[SearchResult]:
        own = built.counts.select(chosen)
        return beam_search(cells, own, length=length, beam=beam, compat="compexp", allowed=allowed[chosen])

    def theirs(unit: int) -> list[compexp.Item]:
        return compexp.search(mask, masks, allowed[unit, seen].tolist(), length=length, beam=beam)

    alone, exact = np.zeros((units, 2)), np.zeros((units, 2))
    ours(np.arange(units))  # compiles
    optimal_search(cells, built.counts.select([0]), length=3)
    for unit in range(units):
        mask, one = unit_mask(built, unit), np.array([unit])
        before, (found,) = spent(functools.partial(ours, one), REPEATS)
        other, wanted = spent(functools.partial(theirs, unit), 1)
        after, _ = spent(functools.partial(ours, one), REPEATS)
        alone[unit] = (before + after) / 2, other
        if not alike(found, wanted):
            raise SystemExit(f"unit {unit}: the final beams differ: the search is wrong")
        own = built.counts.select(one)
        exact[unit] = spent(functools.partial(optimal_search, cells, own, length=3), 3)[0], other
        told(
            f"L{length}B{beam} unit {unit}: {1000 * alone[unit, 0]:.3f} ms, mask by mask {other:.1f} s:"
            f" {other / alone[unit, 0]:,.0f} times as fast, the same {len(wanted)} formulas, {found.beam[0].text}"
        )
    whole, _ = spent(functools.partial(ours, np.arange(BATCH) % units), REPEATS)
    together = alone.copy()
    together[:, 0] = whole / BATCH
    told(f"L{length}B{beam}: {1000 * whole / BATCH:.3f} ms per unit, {BATCH} units a call")
    return alone, together, exact


def against_package(folder: Path | None, units: int) -> Iterator[Row]:
    """Yield the rows of our searches beside the package ``compositional-explanations``; none where it is not there."""
    if folder is not None:
        sys.path.append(str(folder))
    try:
        from compositional_explanations import beam as peer_beam
        from compositional_explanations import metrics
        from compositional_explanations import optimal as peer_optimal
    except ImportError as error:
        told(f"compositional-explanations left out: {error} (pip install --no-deps --target DIR it, then --peer DIR)")
        return
    images, concepts, side = PEER
    built = synthetic.build(images, concepts, units, SEED, resolution=side)
    cells = built.index.cells
    present = np.flatnonzero(cells.concept_pixels > 0)
    ids = np.stack([built.index.cell_ids(image) for image in range(images)])
    masks = [torch.from_numpy(cells.having(cells.concepts[number].name)[ids]).flatten(1) for number in present]
    disjoint = torch.tensor([[not bool((one & other).any()) for other in masks] for one in masks])
    case = f"{images} images, {side}x{side}, {concepts} concepts"
    ways: dict[str, tuple[Callable[..., Any], Callable[[UnitCounts], list[SearchResult]]]] = {
        "beam L3B5": (peer_beam.compute_beam_explanations, lambda own: beam_search(cells, own, length=3, beam=5)),
        "certified L3": (peer_optimal.compute_optimal_explanations, lambda own: optimal_search(cells, own, length=3)),
    }
    for name, (theirs, ours) in ways.items():
        seconds = np.zeros((units, 2))
        ours(built.counts)
        for unit in range(units):
            own = built.counts.select([unit])
            bitmap = torch.zeros((images, side, side), dtype=torch.bool)
            at = np.flatnonzero(built.firing.unit == unit)
            maps = torch.from_numpy(built.firing.maps[at])[:, None]
            for number, _, dense in active_masks(
                maps, torch.from_numpy(built.thresholds[unit : unit + 1]), (side, side)
            ):
                bitmap[torch.from_numpy(built.firing.image[at[number.numpy()]])] = dense
            options = {"beam_size": 5} if name.startswith("beam") else {}
            begun = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):  # it prints as it goes
                formula = theirs(
                    bitmaps=bitmap.flatten(1),
                    masks=masks,
                    disjoint_info=disjoint,
                    length=3,
                    device=torch.device("cpu"),
                    **options,
                )
            seconds[unit, 1] = time.perf_counter() - begun
            reached = metrics.compute_iou_from_masks(formula=formula, masks=masks, bitmaps=bitmap.flatten(1))
            seconds[unit, 0], (found,) = spent(lambda own=own, ours=ours: ours(own), REPEATS)
            told(
                f"{name} unit {unit}: {1000 * seconds[unit, 0]:.3f} ms, package {seconds[unit, 1]:.2f} s:"
                f" {seconds[unit, 1] / seconds[unit, 0]:,.0f} times as fast; IoU {found.iou:.6f}, package {reached:.6f}"
            )
            if name == "certified L3" and found.iou != reached:
                raise SystemExit(f"unit {unit}: two certified optima differ: {found.iou} and {reached}")
        yield row_of(f"N={images} {name}, one unit a call", case, PACKAGE, seconds, 1)


def at_full_scale(images: int, concepts: int, units: int) -> Iterator[Row]:
    """Yield what each step takes at the published scale: seconds of a step, or per unit of a search."""
    case = f"{images} images, 112x112, {concepts} concepts, {units} units"
    shown = [0.0]

    def progress(stage: str, done: int) -> None:
        if time.perf_counter() - shown[0] > 20:
            shown[0] = time.perf_counter()
            told(f"  {stage}: {done} images")

    synthetic.build(100, concepts, 2, SEED)  # compiles
    built = synthetic.build(images, concepts, units, SEED, progress=progress)
    cores = int(os.environ.get("NUMBA_NUM_THREADS", os.cpu_count() or 1))
    told(facts_of(built))
    for stage in STAGES:
        taken = built.seconds[stage]
        own = " (the generator's own)" if stage in ("drawing", "maps") else ""
        told(f"{stage}: {taken:.1f} s{own}")
        if not own:
            yield row_of(f"{stage}, all units" if stage != "cells" else "cells", case, "", one_time(taken), cores)
    cells = built.index.cells
    for length, beam in ((3, 5), (10, 10)):
        yield from _searched(
            f"beam L{length}B{beam}",
            case,
            built.counts,
            cores,
            lambda own, length=length, beam=beam: beam_search(cells, own, length=length, beam=beam),
        )
    yield from _searched("certified L3", case, built.counts, cores, lambda own: optimal_search(cells, own, length=3))
    begun = time.perf_counter()
    limits = ceiling(cells, built.counts)
    yield row_of("ceiling, per unit", case, "", one_time((time.perf_counter() - begun) / units), 1)
    told(f"mean ceiling {limits.mean():.3f}; peak of the process {peak_mb():.0f} MB (generator included)")
    yield row_of("whole process, peak memory", case, "", one_time(float("nan")), cores, peak_mb())


def one_time(seconds: float) -> NDArray[np.float64]:
    """Return seconds without a baseline."""
    return np.array([[seconds, 0.0]])


def _searched(
    name: str, case: str, counts: UnitCounts, cores: int, search: Callable[[UnitCounts], object]
) -> Iterator[Row]:
    search(counts.select([0]))  # compiles
    taken, _ = spent(lambda: search(counts), 3 if name.startswith("beam") else 1)
    told(
        f"{name}: {taken:.2f} s for {len(counts)} units, {1000 * taken * cores / len(counts):.2f} ms per unit and core"
    )
    yield row_of(f"{name}, per unit", case, "", one_time(taken / len(counts)), cores)


def peak_mb() -> float:
    """Return the most memory that this process held, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) / 1024


COMPILED = """
import json, sys, time
import numpy as np
from explain.neurons.cells import build_index
from explain.neurons.counts import unit_counts
from explain.neurons.optimal import optimal_search
from explain.neurons.search import beam_search
from explain.types import Concept, Labels
rng = np.random.default_rng(0)
maps = [np.where(rng.random((3, 16, 16)) < 0.4, rng.integers(0, 9, (3, 16, 16)), -1).astype(np.int32) for _ in range(4)]
times = []
for _ in range(2):
    begun = time.perf_counter()
    index = build_index([Concept(f"c{n}", "object") for n in range(9)], [Labels(one) for one in maps])
    units = unit_counts(rng.integers(0, 2, (3, len(index.cells))))
    beam_search(index.cells, units, length=3, beam=5)
    optimal_search(index.cells, units, length=3)
    times.append(time.perf_counter() - begun)
print(json.dumps(times))
"""


def compile_times() -> Iterator[Row]:
    """Yield cold, warm and steady seconds of cells, beam and optimal search on a tiny set, in fresh processes."""
    with tempfile.TemporaryDirectory() as cache:
        own = {**os.environ, "NUMBA_CACHE_DIR": cache}
        times = [
            json.loads(
                subprocess.run([sys.executable, "-c", COMPILED], env=own, capture_output=True, check=True).stdout
            )
            for _ in range(2)
        ]
    for name, taken in (("cold", times[0][0]), ("warm", times[1][0]), ("steady", times[1][1])):
        told(f"compiled code, {name}: {taken:.3f} s")
        yield row_of(f"compiled code, {name}", "a tiny set", "", one_time(taken), 1)


def main() -> None:
    """Time, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratio", action="store_true", help="2000 images beside the mask by mask search")
    parser.add_argument("--full", action="store_true", help="the published scale, times and memory")
    parser.add_argument("--images", type=int, default=FULL[0], help="of --full")
    parser.add_argument("--units", type=int, default=512, help="of --full")
    parser.add_argument("--peer", type=Path, help="where compositional-explanations was installed to")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    if arguments.full:
        rows += at_full_scale(arguments.images, FULL[1], arguments.units)
    else:
        if int(os.environ.get("NUMBA_NUM_THREADS", "2")) != 1:
            os.environ["NUMBA_NUM_THREADS"] = "1"
            os.execv(sys.executable, [sys.executable, *sys.argv])  # one core each: numba reads it when it starts
        rows += against_masks(RATIO if arguments.ratio else SMALL)
        rows += against_package(arguments.peer, 6 if arguments.ratio else 2)
        rows += compile_times()
    write_rows(arguments.out, rows, [one.name for one in rows], device_name(torch.device("cpu")))
    told(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
