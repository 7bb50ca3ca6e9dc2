"""The best formula of up to three concepts, with proof: the compiled part of `explain.neurons.optimal`.

With the best IoU so far, tau, ``IoU(g) > tau`` is ``T(g) > tau A``, where T adds ``t = (1 + tau) a - tau n``
over the cells of g (a: the unit's pixels, n: all pixels, A: all of the unit's): a signed measure, so that every formula
of a, b and c is a sum of T over a, b, c, their pairs and their triple. ``T+`` adds positive t only; they lie on the
unit's own cells. ``T- = T+ - T``. As tau rises t falls, so old values remain upper bounds.

1. All pairs exactly, from two tables: pixels (shared by all units) and the unit's pixels.
2. A pair g stays if a third concept may lift it above tau: with OR it gains at most the largest T+ of any concept, with
   AND or AND NOT it ends at most at T+(g); and what g reaches is at most what its left operand reaches, plus the T+
   that was added and the T- that was removed (both operands, where the operator allows).
3. For a pair that stays, every third concept: only T of the triple is unknown, and lies between -min(T-) and min(T+)
   of its three pairs.
4. What stays is counted cell by cell.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from explain.compiling import compiled, inner
from explain.neurons._beam_state import AND, AND_NOT, OR

__all__ = ["ExactWork", "make_exact_work", "search_exactly"]

# ``best``: rows by length (1, 2, 3): intersection, pixels, three concepts, two operators.
_SHARED, _PIXELS, _FIRST, _SECOND, _THIRD, _OP1, _OP2, FIELDS = range(8)


class ExactWork(NamedTuple):
    """Memory of one thread; all zero between units."""

    shared: Any
    """int64 ``(C, C)``: the unit's pixels that two concepts share; on the diagonal, of each."""
    gain: Any
    """float64 ``(C, C)``: T+ that two concepts share."""
    reach: Any
    """float64 ``(C,)``: the best T of a concept alone or with one more."""
    marked: Any
    """uint8 ``(M,)``: cells of one concept."""
    marked_own: Any
    """uint8 ``(K,)``: the unit's cells of one concept."""
    triple: Any
    """int64 ``(2, C)``: pixels, and the unit's pixels, that a pair shares with each concept."""
    start: Any
    """int64 ``(C + 1,)``: where the unit's own cells of each concept begin in ``places``."""
    places: Any
    """int32."""


def make_exact_work(concepts: int, cells: int, room: tuple[int, int]) -> ExactWork:
    """Return the memory of one thread; ``room``: the most cells, and (cell, concept) pairs, of any unit."""
    return ExactWork(
        shared=np.zeros((concepts, concepts), np.int64),
        gain=np.zeros((concepts, concepts), np.float64),
        reach=np.zeros(concepts, np.float64),
        marked=np.zeros(cells, np.uint8),
        marked_own=np.zeros(room[0], np.uint8),
        triple=np.zeros((2, concepts), np.int64),
        start=np.zeros(concepts + 1, np.int64),
        places=np.empty(room[1], np.int32),
    )


@compiled
def search_exactly(
    table: Any, work: Any, units: Any, begin: int, end: int, length: int, best: Any, told: Any
) -> None:  # pragma: no cover - compiled
    """Raise ``best`` int64 ``(U, 3, FIELDS)``, which holds a good formula of each length, to the best there is.

    ``told`` int64 ``(U, 2)``: pairs that stayed, and pairs that were counted cell by cell.
    """
    indptr, cells, counts, active = units
    total = table.records[:, 1].sum()
    for unit in range(begin, end):
        if active[unit] == 0:
            continue
        own = cells[indptr[unit] : indptr[unit + 1]]
        own_counts = counts[indptr[unit] : indptr[unit + 1]]
        _score_singles(table, work, own, own_counts, active[unit], best[unit])
        if length > 1:
            _fill_pairs(table, work, own, own_counts, active[unit], best[unit, length - 1])
            _score_pairs(table, work, total, active[unit], best[unit])
        if length > 2:
            _score_triples(table, work, total, own, own_counts, active[unit], best[unit], told[unit])
        if length > 1:
            for place in range(len(own)):
                for at in range(table.records[own[place], 0], table.records[own[place] + 1, 0]):
                    for to in range(table.records[own[place], 0], table.records[own[place] + 1, 0]):
                        work.shared[table.indices[at], table.indices[to]] = 0
                        work.gain[table.indices[at], table.indices[to]] = 0.0


@inner
def _score_singles(
    table: Any, work: Any, own: Any, own_counts: Any, active: int, best: Any
) -> None:  # pragma: no cover - compiled
    """Sort the unit's cells by concept, and find the best single concept."""
    concepts = len(table.pixels)
    sums = work.triple[1]
    for concept in range(concepts):
        sums[concept] = 0
        work.start[concept] = 0
    for place in range(len(own)):
        for at in range(table.records[own[place], 0], table.records[own[place] + 1, 0]):
            sums[table.indices[at]] += own_counts[place]
            work.start[table.indices[at]] += 1
    ends = np.int64(0)
    for concept in range(concepts):
        ends += work.start[concept]
        work.start[concept] = ends
    work.start[concepts] = ends
    for back in range(len(own)):
        place = len(own) - 1 - back
        for at in range(table.records[own[place], 0], table.records[own[place] + 1, 0]):
            work.start[table.indices[at]] -= 1
            work.places[work.start[table.indices[at]]] = place
    for concept in range(concepts):
        score = sums[concept] / (active + table.pixels[concept] - sums[concept])
        if score > best[0, _SHARED] / (active + best[0, _PIXELS] - best[0, _SHARED]):
            best[0, _SHARED], best[0, _PIXELS], best[0, _FIRST] = sums[concept], table.pixels[concept], concept


@inner
def _fill_pairs(
    table: Any, work: Any, own: Any, own_counts: Any, active: int, best: Any
) -> None:  # pragma: no cover - compiled
    """Add up ``shared`` and ``gain``, at the best IoU so far."""
    tau = best[_SHARED] / (active + best[_PIXELS] - best[_SHARED])
    for place in range(len(own)):
        cell, count = own[place], own_counts[place]
        value = (1 + tau) * count - tau * table.records[cell, 1]
        begin, end = table.records[cell, 0], table.records[cell + 1, 0]
        for at in range(begin, end):
            one = table.indices[at]
            for to in range(begin, end):
                work.shared[one, table.indices[to]] += count
                if value > 0:
                    work.gain[one, table.indices[to]] += value


@inner
def _score_pairs(table: Any, work: Any, total: Any, active: int, best: Any) -> None:  # pragma: no cover - compiled
    """Find the best pair, and fill ``reach``: the best T of each concept alone or as left operand."""
    concepts = len(table.pixels)
    own, sizes = _diagonal(work.shared), table.pixels
    shorter = np.int64(0)  # a pair must beat the single, and the pair, that are known
    if best[1, _SHARED] * (active + best[0, _PIXELS] - best[0, _SHARED]) < best[0, _SHARED] * (
        active + best[1, _PIXELS] - best[1, _SHARED]
    ):
        for at in range(FIELDS):
            best[1, at] = best[0, at]
        best[1, _SECOND], best[1, _OP1] = -1, -1
    shorter = best[2, _SHARED]
    top = max(
        best[1, _SHARED] / (active + best[1, _PIXELS] - best[1, _SHARED]),
        shorter / (active + best[2, _PIXELS] - shorter),
    )
    reach = work.reach
    for concept in range(concepts):
        reach[concept] = (1 + top) * own[concept] - top * sizes[concept]
    for a in range(concepts):
        tau = best[1, _SHARED] / (active + best[1, _PIXELS] - best[1, _SHARED])
        bar = tau * active - _slack(tau, active, total)
        a_own, a_size = own[a], sizes[a]
        if a_own == 0 and a_size == 0:
            continue
        shared, overlap = work.shared[a], table.overlap[a]
        hits = 0
        for c in range(concepts):
            # At the bound that pruning uses, ``top``; and at tau, to see what beats the best pair.
            both, both_n = shared[c], overlap[c]
            t_or = (1 + top) * (a_own + own[c] - both) - top * (a_size + sizes[c] - both_n)
            t_and = (1 + top) * both - top * both_n
            t_not = (1 + top) * (own[c] - both) - top * (sizes[c] - both_n)
            most = max(t_or, t_and, t_not)
            reach[c] = max(reach[c], most)
            hits += (1 + tau) * (a_own + own[c] - both) - tau * (a_size + sizes[c] - both_n) > bar
            hits += (1 + tau) * both - tau * both_n > bar
            hits += (1 + tau) * (own[c] - both) - tau * (sizes[c] - both_n) > bar
        if hits == 0:
            continue
        for c in range(concepts):
            if c == a:
                continue
            for op in range(3):
                if op == OR:
                    x, n = a_own + own[c] - shared[c], a_size + sizes[c] - overlap[c]
                elif op == AND:
                    x, n = shared[c], overlap[c]
                else:
                    x, n = own[c] - shared[c], sizes[c] - overlap[c]
                if x / (active + n - x) > best[1, _SHARED] / (active + best[1, _PIXELS] - best[1, _SHARED]):
                    best[1, _SHARED], best[1, _PIXELS], best[1, _OP1] = x, n, op
                    best[1, _FIRST], best[1, _SECOND] = (c, a) if op == AND_NOT else (min(a, c), max(a, c))


@inner
def _diagonal(square: Any) -> Any:  # pragma: no cover - compiled
    found = np.empty(len(square), square.dtype)
    for place in range(len(square)):
        found[place] = square[place, place]
    return found


@inner
def _slack(tau: float, active: int, total: int) -> Any:  # pragma: no cover - compiled
    """What rounding may hide, many times over: T adds numbers of this size in float64."""
    return 1e-12 * (active + tau * total) + 1e-9


@inner
def _score_triples(
    table: Any, work: Any, total: Any, own: Any, own_counts: Any, active: int, best: Any, told: Any
) -> None:  # pragma: no cover - compiled
    """Go through all pairs of concepts: steps 2 to 4 of the module's text."""
    concepts = len(table.pixels)
    sizes = table.pixels
    mine, gains = _diagonal(work.shared), _diagonal(work.gain)
    if best[2, _SHARED] * (active + best[1, _PIXELS] - best[1, _SHARED]) < best[1, _SHARED] * (
        active + best[2, _PIXELS] - best[2, _SHARED]
    ):
        for at in range(FIELDS):
            best[2, at] = best[1, at]
        best[2, _THIRD], best[2, _OP2] = -1, -1
    tau = best[2, _SHARED] / (active + best[2, _PIXELS] - best[2, _SHARED])
    largest = 0.0
    for concept in range(concepts):
        largest = max(largest, gains[concept])
    stays = np.zeros(4, np.bool_)  # OR, AND, a AND NOT b, b AND NOT a
    for a in range(concepts):
        marked = False
        for b in range(a + 1, concepts):
            if mine[a] + mine[b] == 0:
                continue
            bar = tau * active - _slack(tau, active, total)
            both, both_n, both_gain = work.shared[a, b], table.overlap[a, b], work.gain[a, b]
            t_a = (1 + tau) * mine[a] - tau * sizes[a]
            t_b = (1 + tau) * mine[b] - tau * sizes[b]
            t_ab = (1 + tau) * both - tau * both_n
            loss_ab = both_gain - t_ab
            reach_a, reach_b = work.reach[a], work.reach[b]
            stays[0] = (
                gains[a] > 0
                and gains[b] > 0
                and max(t_a + t_b - t_ab + largest, gains[a] + gains[b] - both_gain) > bar
                and reach_a + gains[b] - both_gain > bar
                and reach_b + gains[a] - both_gain > bar
            )
            stays[1] = (
                both > 0
                and max(t_ab + largest, both_gain) > bar
                and reach_a + gains[a] - t_a - loss_ab > bar
                and reach_b + gains[b] - t_b - loss_ab > bar
            )
            removes = loss_ab > 0
            stays[2] = (
                removes
                and gains[a] > 0
                and max(t_a - t_ab + largest, gains[a] - both_gain) > bar
                and reach_a + loss_ab > bar
            )
            stays[3] = (
                removes
                and gains[b] > 0
                and max(t_b - t_ab + largest, gains[b] - both_gain) > bar
                and reach_b + loss_ab > bar
            )
            if not (stays[0] or stays[1] or stays[2] or stays[3]):
                continue
            told[0] += 1
            if not _third_may_help(table, work, mine, a, b, tau, bar, stays):
                continue
            told[1] += 1
            if both_n > 0 and not marked:
                _mark(table, work, a, 1)
                marked = True
            _count_triple(table, work, own, own_counts, b, both_n > 0)
            tau = _score_thirds(table, work, mine, a, b, active, stays, tau, best)
        if marked:
            _mark(table, work, a, 0)


@inner
def _third_may_help(
    table: Any, work: Any, mine: Any, a: int, b: int, tau: float, bar: float, stays: Any
) -> Any:  # pragma: no cover - compiled
    """Strike out of ``stays`` what no third concept can lift above ``bar``: T of the triple is unknown but bounded."""
    sizes = table.pixels
    shared_a, overlap_a, gain_a = work.shared[a], table.overlap[a], work.gain[a]
    shared_b, overlap_b, gain_b = work.shared[b], table.overlap[b], work.gain[b]
    t_a = (1 + tau) * mine[a] - tau * sizes[a]
    t_b = (1 + tau) * mine[b] - tau * sizes[b]
    t_ab = (1 + tau) * shared_a[b] - tau * overlap_a[b]
    both_gain = gain_a[b]
    loss_ab = both_gain - t_ab
    t_or = t_a + t_b - t_ab
    hits_or, hits_and, hits_a, hits_b = 0, 0, 0, 0
    for c in range(len(sizes)):
        t_ac = (1 + tau) * shared_a[c] - tau * overlap_a[c]
        t_bc = (1 + tau) * shared_b[c] - tau * overlap_b[c]
        t_c = (1 + tau) * mine[c] - tau * sizes[c]
        high = min(both_gain, gain_a[c], gain_b[c])
        low = -min(loss_ab, gain_a[c] - t_ac, gain_b[c] - t_bc)
        # The largest that OR c, AND c and AND NOT c can give.
        hits_or += max(t_or + t_c - t_ac - t_bc + high, t_ac + t_bc - low, t_or - t_ac - t_bc + high) > bar
        hits_and += max(t_ab + t_c - low, high, t_ab - low) > bar
        hits_a += max(t_a - t_ab + t_c - t_ac + high, t_ac - low, t_a - t_ab - t_ac + high) > bar
        hits_b += max(t_b - t_ab + t_c - t_bc + high, t_bc - low, t_b - t_ab - t_bc + high) > bar
    stays[0] &= hits_or > 0
    stays[1] &= hits_and > 0
    stays[2] &= hits_a > 0
    stays[3] &= hits_b > 0
    return stays[0] or stays[1] or stays[2] or stays[3]


@inner
def _mark(table: Any, work: Any, concept: int, sign: int) -> None:  # pragma: no cover - compiled
    for at in range(table.start[concept], table.start[concept + 1]):
        work.marked[table.rows[at]] = sign
    for at in range(work.start[concept], work.start[concept + 1]):
        work.marked_own[work.places[at]] = sign


@inner
def _count_triple(
    table: Any, work: Any, own: Any, own_counts: Any, concept: int, meet: bool
) -> None:  # pragma: no cover - compiled
    """Fill ``triple``: what the marked concept and this one share with each third."""
    for c in range(len(table.pixels)):
        work.triple[0, c] = 0
        work.triple[1, c] = 0
    if not meet:
        return
    for at in range(table.start[concept], table.start[concept + 1]):
        cell = table.rows[at]
        if work.marked[cell]:
            for label in range(table.records[cell, 0], table.records[cell + 1, 0]):
                work.triple[0, table.indices[label]] += table.records[cell, 1]
    for at in range(work.start[concept], work.start[concept + 1]):
        place = work.places[at]
        if work.marked_own[place]:
            for label in range(table.records[own[place], 0], table.records[own[place] + 1, 0]):
                work.triple[1, table.indices[label]] += own_counts[place]


@inner
def _score_thirds(
    table: Any, work: Any, mine: Any, a: int, b: int, active: int, stays: Any, tau: float, best: Any
) -> Any:  # pragma: no cover - compiled
    """Score all extensions of the pairs of a and b that stay, exactly; return the best IoU so far."""
    sizes, both, both_n = table.pixels, work.shared[a, b], table.overlap[a, b]
    for first in range(4):
        if not stays[first]:
            continue
        if first == 0:
            g, g_n = mine[a] + mine[b] - both, sizes[a] + sizes[b] - both_n
        elif first == 1:
            g, g_n = both, both_n
        elif first == 2:
            g, g_n = mine[a] - both, sizes[a] - both_n
        else:
            g, g_n = mine[b] - both, sizes[b] - both_n
        for c in range(len(sizes)):
            v, w = work.triple[1, c], work.triple[0, c]  # what c shares with g
            if first == 0:
                v, w = work.shared[a, c] + work.shared[b, c] - v, table.overlap[a, c] + table.overlap[b, c] - w
            elif first == 2:
                v, w = work.shared[a, c] - v, table.overlap[a, c] - w
            elif first == 3:
                v, w = work.shared[b, c] - v, table.overlap[b, c] - w
            for op in range(3):
                if op == OR:
                    x, n = g + mine[c] - v, g_n + sizes[c] - w
                elif op == AND:
                    x, n = v, w
                else:
                    x, n = g - v, g_n - w
                if x > 0 and x / (active + n - x) > tau:
                    tau = x / (active + n - x)
                    best[2, _SHARED], best[2, _PIXELS] = x, n
                    best[2, _FIRST], best[2, _SECOND], best[2, _THIRD] = (b, a, c) if first == 3 else (a, b, c)
                    best[2, _OP1], best[2, _OP2] = min(first, 2), op
    return tau
