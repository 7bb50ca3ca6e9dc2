"""The search for formulas on sentence pairs beside the published one, mask by mask: the same output, faster.

    python -m benchmarks.text                     # 3 units: minutes
    python -m benchmarks.text --units 12 --vectors

10,000 pairs of SNLI dev with the units of a trained model, where ``../shared/data/nli`` is there; else drawn sentences
with planted units. Concepts are the words of both sides, parts of speech, overlap (and NEIGHBORS with ``--vectors``).
The baseline is ``tests/oracles/nli.py``, the search of Mu & Andreas (2020) written from its description: every
candidate's mask is built anew from its parts. Both run in one process, on one core, turn by turn for each unit, with
the same concepts, length and beam, and must give the same final beam: formulas, order, scores, repeats; or nothing is
written. Ours is timed in that form one unit a call (the median of several calls), and as it is by default (without
duplicates in the beam, all concepts in every round) many units a call. Times are those of the processor, which depend
less on what else a machine does. A tiny search, cold, warm and steady, is timed in fresh processes (`timing.phases`).
Rows go to ``benchmarks/results/text.csv``.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for `python -m`
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "tests"))

from neurons_masks import alike
from neurons_rows import told
from oracles import nli
from text_data import PACK, Built, built, columns
from timing import HERE, Row, commit, device_name, phases, plain_row, ratio, today, write_rows

from explain.neurons._table import make_table
from explain.neurons.search import SearchResult, beam_search

RESULTS = HERE / "results" / "text.csv"
NO_PACK = Path("no-pack")
BATCH, REPEATS = 64, 5
TINY = """
import numpy as np
from explain.neurons.search import beam_search
from explain.text.features import pair_features
from text_data import drawn, planted, tables
features = pair_features(drawn(100), words=20)
cells, counts = tables(features, planted(features, 2))
def searched():
    beam_search(cells, counts, length=3, beam=5)
"""


def versions() -> str:
    """Return the versions of what computes."""
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in ("numba", "numpy"))


def spent(run: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Return the median seconds of the processor of some runs, and the last result."""
    times = []
    for _ in range(repeats):
        begun = time.process_time()
        found = run()
        times.append(time.process_time() - begun)
    return float(np.median(times)), found


def rows_of(data: Built, length: int, beam: int) -> Iterator[Row]:
    """Yield the rows of the search in the published form, of the default one, and of building the table."""
    units, cells = len(data.firing), data.cells
    case = f"{data.name}: {len(data.features)} pairs, {len(cells.concepts)} concepts, length {length}, beam {beam}"
    told(f"{case}; {len(cells)} cells, {np.diff(cells.indptr).mean():.1f} concepts per pair, {units} units")
    table, _ = spent(lambda: make_table(cells), 1)
    alone, together = beside_masks(data, length, beam)
    what = "NEIGHBORS, " if data.features.neighbors else ""
    yield row_of(f"{what}published form, one unit a call", case, "mask by mask", alone)
    yield row_of(f"{what}default, {BATCH} units a call", case, "mask by mask", together)
    yield row_of(f"{what}table of concepts, once for all units", case, "", np.array([[table, 0.0]]))


def beside_masks(data: Built, length: int, beam: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return seconds ``(units, 2)`` of (ours, mask by mask): published form, and default form in a batch."""
    concepts = columns(data.features)
    masks = np.stack(list(concepts.values()))
    alone = np.zeros((len(data.firing), 2))

    def ours(unit: int) -> list[SearchResult]:
        used = int((masks & data.firing[unit]).any(1).sum())  # only what overlaps with the unit extends formulas
        return beam_search(
            data.cells, data.counts.select([unit]), length=length, beam=beam, compat="compexp", limit=max(used, 1)
        )

    def batch() -> list[SearchResult]:
        own = data.counts.select(np.arange(BATCH) % len(data.firing))
        return beam_search(data.cells, own, length=length, beam=beam)

    ours(0)  # compiles
    for unit, firing in enumerate(data.firing):
        before, (found,) = spent(functools.partial(ours, unit), REPEATS)
        other, wanted = spent(functools.partial(nli.search, firing, concepts, length=length, beam=beam), 1)
        after, _ = spent(functools.partial(ours, unit), REPEATS)
        alone[unit] = (before + after) / 2, other
        if not alike(found, wanted):
            raise SystemExit(f"unit {unit}: the final beams differ: the search is wrong")
        told(
            f"unit {unit}: {1000 * alone[unit, 0]:.2f} ms, mask by mask {other:.1f} s:"
            f" {other / alone[unit, 0]:,.0f} times as fast, the same {len(wanted)} formulas, IoU {found.iou:.4f},"
            f" {found.beam[0].text}"
        )
    whole, results = spent(batch, REPEATS)
    told(f"default: {1000 * whole / BATCH:.2f} ms per unit, {BATCH} units a call")
    for unit, result in enumerate(results[: len(data.firing)]):
        told(f"unit {unit}: default IoU {result.iou:.4f}, {result.formula}")
    together = alone.copy()
    together[:, 0] = whole / BATCH
    return alone, together


def row_of(name: str, case: str, baseline: str, seconds: NDArray[np.float64]) -> Row:
    """Return a row from seconds ``(units, 2)`` per unit; the ratio is that of the sums."""
    own, other = seconds.mean(0)
    nothing = float("nan")
    low, high = ratio(seconds)[1:] if other else (nothing, nothing)
    return Row(
        name, case, baseline, own, other, own / other if other else nothing, low, high, nothing, len(seconds),
        device_name(torch.device("cpu")), 1, versions(), commit(), today(),
    )  # fmt: skip


def main() -> None:
    """Time, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=3)
    parser.add_argument("--words", type=int, default=2000, help="most frequent words that are concepts, on each side")
    parser.add_argument("--drawn", action="store_true", help="drawn sentences, though the SNLI pack is there")
    parser.add_argument("--vectors", action="store_true", help="with NEIGHBORS")
    parser.add_argument("--length", type=int, default=5)
    parser.add_argument("--beam", type=int, default=10)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if int(os.environ.get("NUMBA_NUM_THREADS", "2")) != 1:
        os.environ["NUMBA_NUM_THREADS"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.argv])  # one core each: numba reads it when it starts
    torch.set_num_threads(1)
    data = built(arguments.words, arguments.units, arguments.vectors, NO_PACK if arguments.drawn else PACK)
    rows = list(rows_of(data, arguments.length, arguments.beam))
    for name, taken in phases(TINY, "searched()").items():
        told(f"compiled code, {name}: {taken:.3f} s")
        rows.append(plain_row(f"compiled code, {name}", "100 drawn pairs", taken, 1, versions()))
    write_rows(arguments.out, rows, [one.name for one in rows], device_name(torch.device("cpu")))
    told(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
