"""The search for formulas beside the published one, mask by mask, on a synthetic set: the same output, faster.

    python -m benchmarks.neurons                            # 500 images, 2 units: minutes
    python -m benchmarks.neurons --ratio                    # 2000 images, 600 concepts: half an hour and more
    python -m benchmarks.neurons --ratio --only L3B5        # that search alone
    python -m benchmarks.neurons --full [--units 512]       # 63,305 images, 1,197 concepts

The set is `synthetic`'s, from seed 0. The baseline is ``tests/oracles/compexp.py``, the published beam of Mu & Andreas
(2020) written from its description: run-length masks (pycocotools), every candidate's mask built anew from its parts,
each concept negated once and kept (that is not timed). Both run in one process, on one core, turn by turn for each
unit, and must give the same final beam: formulas, order, scores, repeats; or nothing is written. Ours is timed for one
unit at a time (the median of many calls) and as a batch; times are those of the processor, which depend less on what
else a machine does. The package ``compositional-explanations`` is a second baseline on a smaller set (100 images of
56 x 56, 75 concepts), its beam and its optimal search on one thread, its IoU no higher than ours:
``pip install --no-deps --target DIR compositional-explanations``, then ``--peer DIR``.

``--full`` tells what each step takes at the published scale, one core and as many as there are, and the memory; its
baseline is 0. Compile times are those of fresh processes: cold (an empty cache), warm (a filled one), steady (the next
call in the same process). Rows go to ``benchmarks/results/neurons.csv`` as they are measured.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for `python -m`
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "tests"))

import synthetic
from neurons_masks import Size, against_masks
from neurons_package import against_package
from neurons_rows import SEED, facts_of, one_time, row_of, spent, told
from timing import HERE, Row, device_name, phases, write_rows

from explain.neurons.counts import UnitCounts
from explain.neurons.optimal import optimal_search
from explain.neurons.search import beam_search, ceiling

RESULTS = HERE / "results" / "neurons.csv"
STAGES = ("drawing", "cells", "maps", "quantiles", "counts")
SMALL = Size(500, 600, ((3, 5, 2),))
RATIO = Size(2000, 600, ((3, 5, 6), (10, 10, 2)))
FULL = (63_305, 1197)


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


TINY = """
import numpy as np
from explain.neurons.cells import build_index
from explain.neurons.counts import unit_counts
from explain.neurons.optimal import optimal_search
from explain.neurons.search import beam_search
from explain.types import Concept, Labels
rng = np.random.default_rng(0)
maps = [np.where(rng.random((3, 16, 16)) < 0.4, rng.integers(0, 9, (3, 16, 16)), -1).astype(np.int32) for _ in range(4)]
def searched():
    index = build_index([Concept(f"c{n}", "object") for n in range(9)], [Labels(one) for one in maps])
    units = unit_counts(rng.integers(0, 2, (3, len(index.cells))))
    beam_search(index.cells, units, length=3, beam=5)
    optimal_search(index.cells, units, length=3)
"""


def compile_times() -> Iterator[Row]:
    """Yield cold, warm and steady seconds of cells, beam and optimal search on a tiny set, in fresh processes."""
    for name, taken in phases(TINY, "searched()").items():
        told(f"compiled code, {name}: {taken:.3f} s")
        yield row_of(f"compiled code, {name}", "a tiny set", "", one_time(taken), 1)


def main() -> None:
    """Time, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratio", action="store_true", help="2000 images beside the mask by mask search")
    parser.add_argument("--only", help="one search: L3B5 or L10B10")
    parser.add_argument("--full", action="store_true", help="the published scale, times and memory")
    parser.add_argument("--images", type=int, help="others than 500, 2000 (--ratio) or 63,305 (--full)")
    parser.add_argument("--units", type=int, default=512, help="of --full")
    parser.add_argument("--peer", type=Path, help="where compositional-explanations was installed to")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.full:
        found = at_full_scale(arguments.images or FULL[0], FULL[1], arguments.units)
    else:
        if int(os.environ.get("NUMBA_NUM_THREADS", "2")) != 1:
            os.environ["NUMBA_NUM_THREADS"] = "1"
            os.execv(sys.executable, [sys.executable, *sys.argv])  # one core each: numba reads it when it starts
        size = RATIO if arguments.ratio else SMALL
        size = replace(size, images=arguments.images or size.images)
        if arguments.only:
            found = against_masks(_only(size, arguments.only))
        else:
            package = against_package(arguments.peer, 6 if arguments.ratio else 2)
            found = chain(against_masks(size), package, compile_times())
    for row in found:
        write_rows(arguments.out, [row], [row.name], device_name(torch.device("cpu")))
    told(f"written: {arguments.out}")


def _only(size: Size, name: str) -> Size:
    """Return the set with one of its searches, such as ``L3B5``."""
    searches = tuple(one for one in size.searches if f"L{one[0]}B{one[1]}" == name)
    if not searches:
        raise SystemExit(f"no search {name!r}: {', '.join(f'L{a}B{b}' for a, b, _ in size.searches)}")
    return replace(size, searches=searches)


if __name__ == "__main__":
    main()
