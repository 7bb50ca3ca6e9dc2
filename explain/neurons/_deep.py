"""Longer formulas with a bound: the compiled part of `explain.neurons.anytime`.

One *level* asks: is there a formula of up to L concepts whose IoU exceeds x? As in `explain.neurons._exact`,
``IoU(g) > x`` is ``T(g) > x A``, where T adds ``t = (1 + x) a - x n`` over the cells of g; T+ adds positive t only,
``T- = T+ - T``. A depth-first search over ``((c1 op c2) op c3) …`` leaves out a prefix h with r concepts to come where
this is no more than x A:

i.   only OR follow: T(h), and the r largest T+ that concepts have outside of h; of one of them, T instead;
ii.  AND NOT too, u times: T(h), the r - u largest T+ outside, and the u largest T- that concepts share with h;
iii. an AND too: the result of the last one lies within one concept, so no more than the largest T+ of a concept, the
     largest T of one and r - 2 more T+; ii and iii also end at T+(h) and r - 1 more T+;
iv.  what g reaches with r more, and the T+ that h adds to g and the T- that it takes away, where g is h's own prefix or
     its last concept. Each further operator acts cell by cell and keeps the order of sets, so that two results differ
     at most where their prefixes differ.

The bound of h is min(max(i, ii, iii), iv), from what is known of its prefix. With one concept to come, T of h's
extensions is bounded once more from the table of pairs before h is counted cell by cell. OR after OR, and AND or AND
NOT after either, may be swapped: only one order is followed. Counts are whole numbers, kept as float64, which is exact
below 2^53.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from explain.compiling import compiled, inner
from explain.neurons._beam_state import AND, AND_NOT, OR

__all__ = ["BEST", "EFFORT", "NEW_LEVEL", "NEW_UNIT", "NODES", "PHASE", "DeepWork", "go_on", "make_deep_work"]

# Rows of ``path``: the concept and operator that came last, which children come next and how many there are, the rank
# that the next concept of the same run must exceed, and the rank of the first concept while it counts in a run of AND.
_CONCEPT, _OP, _NEXT, _COUNT, _LAST, _FIRST, _PATH = range(7)
# ``facts`` of a prefix, and of a concept: T, T+, active pixels, pixels.
_T, _PLUS, _OWN, _PIXELS, _GAIN, _ROOT, _FACTS = range(7)
_DEPTH, _LEAF, NODES, EFFORT, PHASE, _STATE = range(6)
# ``PHASE``, for the caller to set: a new unit, a new level, or the same one.
NEW_UNIT, NEW_LEVEL, SAME_LEVEL = range(3)
BEST = 3
"""Where concepts begin in a row of the best formula: after its intersection, pixels and length; then its operators."""
_NEW_RUN = -1


class DeepWork(NamedTuple):
    """Memory of one thread: L is the length asked for, K the unit's cells."""

    square: Any
    """float64 ``(2, C, C)``: the unit's pixels, and the T+, that two concepts share."""
    single: Any
    """float64 ``(4, C)``: the facts of each concept."""
    vectors: Any
    """float64 ``(L, 3, C)``: active pixels, pixels and T+ that a prefix shares with each concept."""
    facts: Any
    """float64 ``(L, 4)``: of each prefix."""
    reach: Any
    """float64 ``(L, C)``: a bound on T of what begins with a concept and has r more."""
    tops: Any
    """float64 ``(L,)``: the sum of the r largest T+ of concepts."""
    order: Any
    """int64 ``(2, C)``: concepts by falling active pixels, and the rank of each: the order within a run."""
    covers: Any
    """float64 ``(L + 1, C)``: the sum of the r largest T- that others share with a concept."""
    sums: Any
    """float64 ``(L, 2, L + 1)``: of each prefix: the sums of the r largest T+ outside, and T- inside."""
    bounds: Any
    """float64 ``(3, C)``: of the extensions of a prefix."""
    bits: Any
    """uint64 ``(L, ceil(M / 64))``: the cells of each prefix."""
    members: Any
    """uint8 ``(L, K)``: which of the unit's own cells they are."""
    positive: Any
    """float64 ``(K,)``: positive t."""
    start: Any
    """int64 ``(C + 1,)``: where the unit's own cells of each concept begin in ``places``."""
    places: Any
    """int32."""
    path: Any
    """int64 ``(L, _PATH)``."""
    children: Any
    """int64 ``(L, 3 C)``: concept and operator of what is to be followed."""
    limits: Any
    """float64 ``(L, 3 C)``: their bounds."""
    state: Any
    """int64: depth, leaves done, prefixes counted, effort, phase."""


def make_deep_work(concepts: int, cells: int, room: tuple[int, int], length: int) -> DeepWork:
    """Return the memory of one thread; ``room``: the most cells, and (cell, concept) pairs, of any unit."""
    return DeepWork(
        square=np.zeros((2, concepts, concepts), np.float64),
        single=np.zeros((_GAIN, concepts), np.float64),
        vectors=np.zeros((length, 3, concepts), np.float64),
        facts=np.zeros((length, _FACTS), np.float64),
        reach=np.zeros((length, concepts), np.float64),
        tops=np.zeros(length + 1, np.float64),
        order=np.zeros((2, concepts), np.int64),
        covers=np.zeros((length + 1, concepts), np.float64),
        sums=np.zeros((length, 2, length + 1), np.float64),
        bounds=np.zeros((3, concepts), np.float64),
        bits=np.zeros((length, (cells + 63) // 64), np.uint64),
        members=np.zeros((length, room[0]), np.uint8),
        positive=np.zeros(room[0], np.float64),
        start=np.zeros(concepts + 1, np.int64),
        places=np.empty(room[1], np.int32),
        path=np.zeros((length, _PATH), np.int64),
        children=np.zeros((length, 3 * concepts), np.int64),
        limits=np.zeros((length, 3 * concepts), np.float64),
        state=np.zeros(_STATE, np.int64),
    )


@inner
def _index(table: Any, work: Any, own: Any, own_counts: Any) -> None:  # pragma: no cover - compiled
    """Sort a unit's cells by concept, and add up the pixels that two concepts share."""
    concepts = len(table.pixels)
    work.state[NODES] = 0
    for concept in range(concepts):
        work.start[concept] = 0
        for other in range(concepts):
            work.square[0, concept, other] = 0.0
    for place in range(len(own)):
        begin, end = table.records[own[place], 0], table.records[own[place] + 1, 0]
        for at in range(begin, end):
            work.start[table.indices[at]] += 1
            for to in range(begin, end):
                work.square[0, table.indices[at], table.indices[to]] += own_counts[place]
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
    for c in range(concepts):
        rank = c
        while rank > 0 and work.square[0, work.order[0, rank - 1], work.order[0, rank - 1]] < work.square[0, c, c]:
            work.order[0, rank] = work.order[0, rank - 1]
            rank -= 1
        work.order[0, rank] = c
    for rank in range(concepts):
        work.order[1, work.order[0, rank]] = rank


@inner
def _start(
    table: Any, pixels: Any, work: Any, own: Any, own_counts: Any, level: float
) -> None:  # pragma: no cover - compiled
    """Begin with a level."""
    concepts, length = len(table.pixels), len(work.reach)
    leaf: Any = np.int64(0)  # a bare 0 would compile functions anew
    gain, single = work.square[1], work.single
    for concept in range(concepts):
        for other in range(concepts):
            gain[concept, other] = 0.0
    for place in range(len(own)):
        value = (1 + level) * own_counts[place] - level * table.records[own[place], 1]
        work.positive[place] = max(value, 0.0)
        if value > 0:
            begin, end = table.records[own[place], 0], table.records[own[place] + 1, 0]
            for at in range(begin, end):
                for to in range(begin, end):
                    gain[table.indices[at], table.indices[to]] += value
    most = -np.inf
    for c in range(concepts):
        single[_OWN, c], single[_PIXELS, c] = work.square[0, c, c], pixels[c, c]
        single[_T, c] = (1 + level) * single[_OWN, c] - level * single[_PIXELS, c]
        single[_PLUS, c] = gain[c, c]
        most = max(most, single[_T, c])
    for c in range(concepts):
        for fact in range(3):
            work.vectors[0, fact, c] = 0.0
    work.path[0, _CONCEPT] = -1
    _sum_largest(work, leaf, level, length - 1)
    for r in range(length):
        work.tops[r] = work.sums[0, 0, r]
    for at in range(length):
        work.facts[at, _ROOT] = most
    for a in range(concepts):
        _copy_leaf(pixels, work, a)
        _sum_largest(work, leaf, level, length - 1)
        for r in range(length):
            work.covers[r, a] = work.sums[0, 1, r]
        work.reach[0, a] = single[_T, a]
    for r in range(1, length):
        for a in range(concepts):
            _copy_leaf(pixels, work, a)
            if r > 1:
                _sum_largest(work, leaf, level, r - 1)
            work.reach[r, a] = _reach(work, leaf, level, r, work.reach[r - 1, a])
    work.state[_DEPTH], work.state[_LEAF] = 0, 0


@inner
def _copy_leaf(pixels: Any, work: Any, a: int) -> None:  # pragma: no cover - compiled
    vectors = work.vectors[0]
    for c in range(vectors.shape[1]):
        vectors[0, c], vectors[1, c], vectors[2, c] = work.square[0, a, c], pixels[a, c], work.square[1, a, c]
    work.path[0, _CONCEPT] = a
    for fact in range(_GAIN):
        work.facts[0, fact] = work.single[fact, a]


@inner
def _sum_largest(work: Any, at: int, level: float, r: int) -> None:  # pragma: no cover - compiled
    """Fill ``sums`` of a prefix g: the 0 … r largest T+ of concepts outside of g, and T- that they share with g.

    A concept that g has is not taken away again: the same set has a shorter formula.
    """
    own, pixels, plus = work.vectors[at, 0], work.vectors[at, 1], work.vectors[at, 2]
    single, singles, outside, inside = work.single[_T], work.single[_PLUS], work.sums[at, 0], work.sums[at, 1]
    for place in range(r + 1):
        outside[place], inside[place] = 0.0, 0.0
    most = -np.inf
    for c in range(len(own)):
        t_gc = (1 + level) * own[c] - level * pixels[c]
        most = max(most, single[c] - t_gc)
        value = singles[c] - plus[c]
        if value > outside[r]:
            place = r
            while place > 1 and outside[place - 1] < value:
                outside[place] = outside[place - 1]
                place -= 1
            outside[place] = value
        value = plus[c] - t_gc
        if value > inside[r]:
            used = False
            for depth in range(at + 1):
                used |= work.path[depth, _CONCEPT] == c
            if used:
                continue
            place = r
            while place > 1 and inside[place - 1] < value:
                inside[place] = inside[place - 1]
                place -= 1
            inside[place] = value
    for place in range(1, r + 1):
        outside[place] += outside[place - 1]
        inside[place] += inside[place - 1]
    work.facts[at, _GAIN] = most


@inner
def _bound_children(work: Any, at: int, level: float, r: int, reach: float) -> Any:  # pragma: no cover - compiled
    """Fill ``bounds`` of all extensions of a prefix g, with r (at least 1) concepts to come; return the largest.

    ``reach``: a bound on T of what g reaches with r more. Rows: only OR follow; AND NOT too; AND too.
    """
    own, pixels, plus = work.vectors[at, 0], work.vectors[at, 1], work.vectors[at, 2]
    t_g, plus_g, gain = work.facts[at, _T], work.facts[at, _PLUS], work.facts[at, _GAIN]
    outside, inside, tops, covers = work.sums[at, 0], work.sums[at, 1], work.tops, work.covers
    single, singles, reaches = work.single[_T], work.single[_PLUS], work.reach[r]
    after_and = tops[1] + (max(work.facts[at, _ROOT], 0.0) + tops[r - 2] if r > 1 else 0.0)
    largest = -np.inf
    for c in range(len(own)):
        t_gc, both = (1 + level) * own[c] - level * pixels[c], plus[c]
        t_c, plus_c = single[c], singles[c]
        for op in range(3):
            if op == OR:
                t, positive, lost = t_g + t_c - t_gc, plus_g + plus_c - both, 0.0
                third = min(reach + plus_c - both, reaches[c] + plus_g - both)
                other = t_g + plus_c - both + gain + outside[r - 1]
            elif op == AND:
                t, positive, lost = t_gc, both, plus_g - both
                third = min(reach + lost - (t_g - t_gc), reaches[c] + plus_c - both - (t_c - t_gc))
                other = positive + work.facts[at, _ROOT] + tops[r - 1]
            else:
                t, positive, lost = t_g - t_gc, plus_g - both, both
                third = reach + both - t_gc
                other = positive + work.facts[at, _ROOT] + tops[r - 1]
            only_or = min(t + min(tops[r], outside[r] + lost), other)
            with_not = only_or
            for taken in range(1, r + 1):
                cover = inside[taken]
                if op == OR:
                    cover += covers[taken, c]
                elif op == AND:
                    cover = min(cover, covers[taken, c])
                with_not = max(with_not, t + cover + min(tops[r - taken], outside[r - taken] + lost))
            mixed = min(max(with_not, after_and), positive + min(tops[r - 1], outside[r - 1] + lost))
            found = min(max(only_or, mixed), third)
            work.bounds[op, c] = found
            largest = max(largest, found)
    return largest


@inner
def _reach(work: Any, at: int, level: float, r: int, less: float) -> Any:  # pragma: no cover - compiled
    """Return a bound on T of what a prefix reaches with r more concepts; ``less``: with r - 1 more."""
    if r > 1:
        return max(less, _bound_children(work, at, level, r - 1, less))
    own, pixels, single, t = work.vectors[at, 0], work.vectors[at, 1], work.single[_T], work.facts[at, _T]
    found = t
    for c in range(len(own)):
        t_gc = (1 + level) * own[c] - level * pixels[c]
        found = max(found, t + single[c] - t_gc, t_gc, t - t_gc)
    return found


@inner
def _list_children(work: Any, at: int, level: float, left: int, bar: float) -> None:  # pragma: no cover - compiled
    """List the extensions of a prefix that have ``left - 1`` (at least 1) concepts to come and may exceed ``bar``."""
    own, pixels, single, r = work.vectors[at, 0], work.vectors[at, 1], work.single, left - 1
    a, n = work.facts[at, _OWN], work.facts[at, _PIXELS]
    _sum_largest(work, at, level, r)
    reach = work.reach[r, work.path[at, _CONCEPT]]
    if at > 0:
        reach = work.facts[at, _T]
        for more in range(1, r + 1):
            reach = _reach(work, at, level, more, reach)
    _bound_children(work, at, level, r, reach)
    op_last, last, first = work.path[at, _OP], work.path[at, _LAST], work.path[at, _FIRST]
    after_or = last if at == 0 or op_last == OR else _NEW_RUN
    after_and = last if at > 0 and op_last != OR else _NEW_RUN
    count = 0
    for c in range(len(own)):
        rank = work.order[1, c]
        for op in range(3):
            limit = work.bounds[op, c]
            if limit <= bar:
                continue
            if op == OR:
                skip = rank <= after_or or own[c] == single[_OWN, c]
            elif op == AND:
                skip = rank <= after_and or rank <= first or own[c] == 0 or pixels[c] == n
            else:
                skip = rank <= after_and or own[c] == a or pixels[c] == 0
            for depth in range(at + 1):
                skip |= op != AND and work.path[depth, _CONCEPT] == c
            if not skip:
                work.children[at, count], work.limits[at, count] = 3 * c + op, limit
                count += 1
    work.path[at, _NEXT], work.path[at, _COUNT] = 0, count


@compiled
def go_on(
    table: Any, pixels: Any, work: Any, own: Any, own_counts: Any, active: int, level: float, best: Any,
    effort: int, nodes: int
) -> Any:  # pragma: no cover - compiled  # fmt: skip
    """Go on with a level until it is done (returns 1), or some effort is spent or so many prefixes counted (0).

    ``pixels`` float64 ``(C, C)``: pixels that two concepts share.

    ``best`` int64 ``(BEST + 2 L,)``: the best formula so far, raised in place.
    """
    concepts, length, state = len(table.pixels), len(work.reach), work.state
    slack = 1e-10 * (active + level * table.records[:, 1].sum())
    state[EFFORT] = 0
    if effort == 0:
        return 0
    if state[PHASE] == NEW_UNIT:
        _index(table, work, own, own_counts)
    if state[PHASE] != SAME_LEVEL:
        _start(table, pixels, work, own, own_counts, level)
        state[PHASE] = SAME_LEVEL
    while state[EFFORT] < effort and state[NODES] < nodes:
        at = state[_DEPTH] - 1
        tau = best[0] / (active + best[1] - best[0])
        bar = max(tau, level) * active - slack
        if at < 0:
            if state[_LEAF] == concepts:
                return 1
            a = work.order[0, state[_LEAF]]
            state[_LEAF] += 1
            if work.reach[length - 1, a] <= bar or work.square[0, a, a] == 0:
                continue
            _open_leaf(table, pixels, work, a)
        elif work.path[at, _NEXT] == work.path[at, _COUNT]:
            state[_DEPTH] -= 1
            continue
        else:
            number = work.path[at, _NEXT]
            work.path[at, _NEXT] += 1
            if work.limits[at, number] <= bar:
                continue
            c, op = work.children[at, number] // 3, work.children[at, number] % 3
            last = at + 2 == length - 1  # one concept to come
            state[EFFORT] += concepts
            if last and not _last_may_help(pixels, work, at, op, c, level, bar):
                continue
            _extend(table, pixels, work, own, own_counts, at, op, c, level, last)
            if last:
                state[NODES] += 1
                _score(work, at + 1, active, best)
                continue
        state[NODES] += 1
        at = state[_DEPTH]
        state[_DEPTH] += 1
        state[EFFORT] += 4 * concepts
        if at > 1:
            _score(work, at, active, best)
        _list_children(work, at, level, length - 1 - at, bar)
    return 0


@inner
def _open_leaf(table: Any, pixels: Any, work: Any, a: int) -> None:  # pragma: no cover - compiled
    _copy_leaf(pixels, work, a)
    path = work.path[0]
    path[_CONCEPT], path[_OP], path[_LAST], path[_FIRST] = a, 0, work.order[1, a], work.order[1, a]
    for word in range(work.bits.shape[1]):
        work.bits[0, word] = np.uint64(0)
    for place in range(work.members.shape[1]):
        work.members[0, place] = 0
    for at in range(table.start[a], table.start[a + 1]):
        work.bits[0, table.rows[at] >> 6] |= np.uint64(1) << np.uint64(table.rows[at] & 63)
    for at in range(work.start[a], work.start[a + 1]):
        work.members[0, work.places[at]] = 1


@inner
def _extend(
    table: Any, pixels: Any, work: Any, own: Any, own_counts: Any, at: int, op: int, c: int, level: float, last: bool
) -> None:  # pragma: no cover - compiled
    """Count ``g op c`` cell by cell: with D = what g, c and another concept share, OR adds c less D, AND is D."""
    old, new, facts = work.vectors[at], work.vectors[at + 1], work.facts
    a_c, n_c, plus_c = old[0, c], old[1, c], old[2, c]
    sign = 1.0 if op == AND else -1.0
    kept, added = (0.0 if op == AND else 1.0), (1.0 if op == OR else 0.0)
    for d in range(old.shape[1]):
        new[0, d] = kept * old[0, d] + added * work.square[0, c, d]
        new[1, d] = kept * old[1, d] + added * pixels[c, d]
        new[2, d] = kept * old[2, d] + added * work.square[1, c, d]
    facts[at + 1, _OWN] = kept * facts[at, _OWN] + added * work.single[_OWN, c] + sign * a_c
    facts[at + 1, _PIXELS] = kept * facts[at, _PIXELS] + added * work.single[_PIXELS, c] + sign * n_c
    facts[at + 1, _PLUS] = kept * facts[at, _PLUS] + added * work.single[_PLUS, c] + sign * plus_c
    facts[at + 1, _T] = (1 + level) * facts[at + 1, _OWN] - level * facts[at + 1, _PIXELS]
    path = work.path[at + 1]
    path[_CONCEPT], path[_OP], path[_LAST] = c, op, work.order[1, c]
    path[_FIRST] = _NEW_RUN if op == OR else work.path[at, _FIRST]
    bits, cells = work.bits[at], work.bits[at + 1]
    if not last:
        for word in range(len(bits)):
            cells[word] = np.uint64(0) if op == AND else bits[word]
        for place in range(len(own)):
            work.members[at + 1, place] = 0 if op == AND else work.members[at, place]
    if n_c > 0 or not last:
        work.state[EFFORT] += table.start[c + 1] - table.start[c]
        for number in range(table.start[c], table.start[c + 1]):
            cell = table.rows[number]
            bit = np.uint64(1) << np.uint64(cell & 63)
            inside = (bits[cell >> 6] & bit) != 0
            if inside:
                weight = sign * table.records[cell, 1]
                for label in range(table.records[cell, 0], table.records[cell + 1, 0]):
                    new[1, table.indices[label]] += weight
            if not last and op != AND_NOT and inside == (op == AND):
                cells[cell >> 6] |= bit
            elif not last and op == AND_NOT and inside:
                cells[cell >> 6] &= ~bit
    if a_c == 0 and (last or op != OR):
        return
    for number in range(work.start[c], work.start[c + 1]):
        place = work.places[number]
        inside = work.members[at, place] != 0
        if inside:
            count, plus = sign * own_counts[place], sign * work.positive[place]
            for label in range(table.records[own[place], 0], table.records[own[place] + 1, 0]):
                new[0, table.indices[label]] += count
                new[2, table.indices[label]] += plus
        if not last and inside != (op == OR):
            work.members[at + 1, place] = op != AND_NOT


@inner
def _last_may_help(
    pixels: Any, work: Any, at: int, op: int, c: int, level: float, bar: float
) -> Any:  # pragma: no cover - compiled
    """Tell whether a last concept d may lift ``g op c`` above ``bar``: T of g and c and d is unknown but bounded."""
    own, shared, plus = work.vectors[at, 0], work.vectors[at, 1], work.vectors[at, 2]
    own_c, shared_c, plus_c = work.square[0, c], pixels[c], work.square[1, c]
    single, t = work.single[_T], work.facts[at, _T]
    t_gc, gain = (1 + level) * own[c] - level * shared[c], plus[c]
    loss, t_c = gain - t_gc, single[c]
    hits = 0
    if op == OR:
        t_h = t + t_c - t_gc
        for d in range(len(own)):
            t_gd, t_cd = (1 + level) * own[d] - level * shared[d], (1 + level) * own_c[d] - level * shared_c[d]
            high = min(gain, plus[d], plus_c[d])
            low = -min(loss, plus[d] - t_gd, plus_c[d] - t_cd)
            rest = t_h - t_gd - t_cd + high
            hits += (rest + single[d] > bar) | (rest > bar) | (t_gd + t_cd - low > bar)
    elif op == AND:
        for d in range(len(own)):
            t_gd, t_cd = (1 + level) * own[d] - level * shared[d], (1 + level) * own_c[d] - level * shared_c[d]
            high = min(gain, plus[d], plus_c[d])
            low = -min(loss, plus[d] - t_gd, plus_c[d] - t_cd)
            hits += (t_gc + single[d] - low > bar) | (high > bar) | (t_gc - low > bar)
    else:
        t_h = t - t_gc
        for d in range(len(own)):
            t_gd, t_cd = (1 + level) * own[d] - level * shared[d], (1 + level) * own_c[d] - level * shared_c[d]
            high = min(gain, plus[d], plus_c[d])
            low = -min(loss, plus[d] - t_gd, plus_c[d] - t_cd)
            hits += (t_h + single[d] - t_gd + high > bar) | (t_gd - low > bar) | (t_h - t_gd + high > bar)
    return hits > 0


@inner
def _score(work: Any, at: int, active: int, best: Any) -> None:  # pragma: no cover - compiled
    """Score all extensions of a prefix exactly; raise ``best`` where one is better."""
    own, pixels = work.vectors[at, 0], work.vectors[at, 1]
    a, n = work.facts[at, _OWN], work.facts[at, _PIXELS]
    singles, sizes = work.single[_OWN], work.single[_PIXELS]
    tau = best[0] / (active + best[1] - best[0])
    bar = tau * active * (1 - 1e-9)
    hits = 0
    for c in range(len(own)):
        t_c, t_gc = (1 + tau) * singles[c] - tau * sizes[c], (1 + tau) * own[c] - tau * pixels[c]
        t = (1 + tau) * a - tau * n - t_gc
        hits += (t + t_c > bar) | (t_gc > bar) | (t > bar)
    if hits == 0:
        return
    length = len(work.reach)
    for c in range(len(own)):
        for op in range(3):
            if op == OR:
                x, y = a + singles[c] - own[c], n + sizes[c] - pixels[c]
            elif op == AND:
                x, y = own[c], pixels[c]
            else:
                x, y = a - own[c], n - pixels[c]
            if x / (active + y - x) > best[0] / (active + best[1] - best[0]):
                best[0], best[1], best[2] = np.int64(x), np.int64(y), at + 2
                for depth in range(at + 1):
                    best[BEST + depth] = work.path[depth, _CONCEPT]
                    best[BEST + length + depth] = work.path[depth, _OP]
                best[BEST + at + 1], best[BEST + length + at + 1] = c, op
