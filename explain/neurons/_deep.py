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

from typing import Any

import numpy as np

from explain.compiling import compiled, inner
from explain.neurons._beam_state import AND, AND_NOT, OR
from explain.neurons._by_concept import sort_by_concept
from explain.neurons._deep_bounds import bound_reach, list_children, sum_largest
from explain.neurons._deep_state import (
    BEST,
    CONCEPT,
    COUNT,
    DEPTH,
    EFFORT,
    FIRST,
    GAIN,
    LAST,
    LEAF,
    NEW_RUN,
    NEW_UNIT,
    NEXT,
    NODES,
    OP,
    OWN,
    PHASE,
    PIXELS,
    PLUS,
    ROOT,
    SAME_LEVEL,
    T,
)

__all__ = ["go_on"]


@inner
def _index(table: Any, work: Any, own: Any, own_counts: Any) -> None:  # pragma: no cover - compiled
    """Sort a unit's cells by concept, and add up the pixels that two concepts share."""
    concepts = len(table.pixels)
    work.state[NODES] = 0
    for concept in range(concepts):
        for other in range(concepts):
            work.square[0, concept, other] = 0.0
    for place in range(len(own)):
        begin, end = table.records[own[place], 0], table.records[own[place] + 1, 0]
        for at in range(begin, end):
            for to in range(begin, end):
                work.square[0, table.indices[at], table.indices[to]] += own_counts[place]
    sort_by_concept(table, own, work.start, work.places)
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
        single[OWN, c], single[PIXELS, c] = work.square[0, c, c], pixels[c, c]
        single[T, c] = (1 + level) * single[OWN, c] - level * single[PIXELS, c]
        single[PLUS, c] = gain[c, c]
        most = max(most, single[T, c])
    for c in range(concepts):
        for fact in range(3):
            work.vectors[0, fact, c] = 0.0
    work.path[0, CONCEPT] = -1
    sum_largest(work, leaf, level, length - 1)
    for r in range(length):
        work.tops[r] = work.sums[0, 0, r]
    for at in range(length):
        work.facts[at, ROOT] = most
    for a in range(concepts):
        _copy_leaf(pixels, work, a)
        sum_largest(work, leaf, level, length - 1)
        for r in range(length):
            work.covers[r, a] = work.sums[0, 1, r]
        work.reach[0, a] = single[T, a]
    for r in range(1, length):
        for a in range(concepts):
            _copy_leaf(pixels, work, a)
            if r > 1:
                sum_largest(work, leaf, level, r - 1)
            work.reach[r, a] = bound_reach(work, leaf, level, r, work.reach[r - 1, a])
    work.state[DEPTH], work.state[LEAF] = 0, 0


@inner
def _copy_leaf(pixels: Any, work: Any, a: int) -> None:  # pragma: no cover - compiled
    vectors = work.vectors[0]
    for c in range(vectors.shape[1]):
        vectors[0, c], vectors[1, c], vectors[2, c] = work.square[0, a, c], pixels[a, c], work.square[1, a, c]
    work.path[0, CONCEPT] = a
    for fact in range(GAIN):
        work.facts[0, fact] = work.single[fact, a]


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
        at = state[DEPTH] - 1
        tau = best[0] / (active + best[1] - best[0])
        bar = max(tau, level) * active - slack
        if at < 0:
            if state[LEAF] == concepts:
                return 1
            a = work.order[0, state[LEAF]]
            state[LEAF] += 1
            if work.reach[length - 1, a] <= bar or work.square[0, a, a] == 0:
                continue
            _open_leaf(table, pixels, work, a)
        elif work.path[at, NEXT] == work.path[at, COUNT]:
            state[DEPTH] -= 1
            continue
        else:
            number = work.path[at, NEXT]
            work.path[at, NEXT] += 1
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
        at = state[DEPTH]
        state[DEPTH] += 1
        state[EFFORT] += 4 * concepts
        if at > 1:
            _score(work, at, active, best)
        list_children(work, at, level, length - 1 - at, bar)
    return 0


@inner
def _open_leaf(table: Any, pixels: Any, work: Any, a: int) -> None:  # pragma: no cover - compiled
    _copy_leaf(pixels, work, a)
    path = work.path[0]
    path[CONCEPT], path[OP], path[LAST], path[FIRST] = a, 0, work.order[1, a], work.order[1, a]
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
    facts[at + 1, OWN] = kept * facts[at, OWN] + added * work.single[OWN, c] + sign * a_c
    facts[at + 1, PIXELS] = kept * facts[at, PIXELS] + added * work.single[PIXELS, c] + sign * n_c
    facts[at + 1, PLUS] = kept * facts[at, PLUS] + added * work.single[PLUS, c] + sign * plus_c
    facts[at + 1, T] = (1 + level) * facts[at + 1, OWN] - level * facts[at + 1, PIXELS]
    path = work.path[at + 1]
    path[CONCEPT], path[OP], path[LAST] = c, op, work.order[1, c]
    path[FIRST] = NEW_RUN if op == OR else work.path[at, FIRST]
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
    single, t = work.single[T], work.facts[at, T]
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
    a, n = work.facts[at, OWN], work.facts[at, PIXELS]
    singles, sizes = work.single[OWN], work.single[PIXELS]
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
                    best[BEST + depth] = work.path[depth, CONCEPT]
                    best[BEST + length + depth] = work.path[depth, OP]
                best[BEST + at + 1], best[BEST + length + at + 1] = c, op
