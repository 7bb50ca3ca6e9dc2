"""Bounds of what a prefix of a formula reaches with more concepts: i to iv in the text of `explain.neurons._deep`."""

from __future__ import annotations

from typing import Any

import numpy as np

from explain.compiling import inner
from explain.neurons._beam_state import AND, OR
from explain.neurons._deep_state import CONCEPT, COUNT, FIRST, GAIN, LAST, NEW_RUN, NEXT, OP, OWN, PIXELS, PLUS, ROOT, T

__all__ = ["bound_reach", "list_children", "sum_largest"]


@inner
def sum_largest(work: Any, at: int, level: float, r: int) -> None:  # pragma: no cover - compiled
    """Fill ``sums`` of a prefix g: the 0 … r largest T+ of concepts outside of g, and T- that they share with g.

    A concept that g has is not taken away again: the same set has a shorter formula.
    """
    own, pixels, plus = work.vectors[at, 0], work.vectors[at, 1], work.vectors[at, 2]
    single, singles, outside, inside = work.single[T], work.single[PLUS], work.sums[at, 0], work.sums[at, 1]
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
                used |= work.path[depth, CONCEPT] == c
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
    work.facts[at, GAIN] = most


@inner
def _bound_children(work: Any, at: int, level: float, r: int, reach: float) -> Any:  # pragma: no cover - compiled
    """Fill ``bounds`` of all extensions of a prefix g, with r (at least 1) concepts to come; return the largest.

    ``reach``: a bound on T of what g reaches with r more. Rows: only OR follow; AND NOT too; AND too.
    """
    own, pixels, plus = work.vectors[at, 0], work.vectors[at, 1], work.vectors[at, 2]
    t_g, plus_g, gain = work.facts[at, T], work.facts[at, PLUS], work.facts[at, GAIN]
    outside, inside, tops, covers = work.sums[at, 0], work.sums[at, 1], work.tops, work.covers
    single, singles, reaches = work.single[T], work.single[PLUS], work.reach[r]
    after_and = tops[1] + (max(work.facts[at, ROOT], 0.0) + tops[r - 2] if r > 1 else 0.0)
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
                other = positive + work.facts[at, ROOT] + tops[r - 1]
            else:
                t, positive, lost = t_g - t_gc, plus_g - both, both
                third = reach + both - t_gc
                other = positive + work.facts[at, ROOT] + tops[r - 1]
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
def bound_reach(work: Any, at: int, level: float, r: int, less: float) -> Any:  # pragma: no cover - compiled
    """Return a bound on T of what a prefix reaches with r more concepts; ``less``: with r - 1 more."""
    if r > 1:
        return max(less, _bound_children(work, at, level, r - 1, less))
    own, pixels, single, t = work.vectors[at, 0], work.vectors[at, 1], work.single[T], work.facts[at, T]
    found = t
    for c in range(len(own)):
        t_gc = (1 + level) * own[c] - level * pixels[c]
        found = max(found, t + single[c] - t_gc, t_gc, t - t_gc)
    return found


@inner
def list_children(work: Any, at: int, level: float, left: int, bar: float) -> None:  # pragma: no cover - compiled
    """List the extensions of a prefix that have ``left - 1`` (at least 1) concepts to come and may exceed ``bar``."""
    own, pixels, single, r = work.vectors[at, 0], work.vectors[at, 1], work.single, left - 1
    a, n = work.facts[at, OWN], work.facts[at, PIXELS]
    sum_largest(work, at, level, r)
    reach = work.reach[r, work.path[at, CONCEPT]]
    if at > 0:
        reach = work.facts[at, T]
        for more in range(1, r + 1):
            reach = bound_reach(work, at, level, more, reach)
    _bound_children(work, at, level, r, reach)
    op_last, last, first = work.path[at, OP], work.path[at, LAST], work.path[at, FIRST]
    after_or = last if at == 0 or op_last == OR else NEW_RUN
    after_and = last if at > 0 and op_last != OR else NEW_RUN
    count = 0
    for c in range(len(own)):
        rank = work.order[1, c]
        for op in range(3):
            limit = work.bounds[op, c]
            if limit <= bar:
                continue
            if op == OR:
                skip = rank <= after_or or own[c] == single[OWN, c]
            elif op == AND:
                skip = rank <= after_and or rank <= first or own[c] == 0 or pixels[c] == n
            else:
                skip = rank <= after_and or own[c] == a or pixels[c] == 0
            for depth in range(at + 1):
                skip |= op != AND and work.path[depth, CONCEPT] == c
            if not skip:
                work.children[at, count], work.limits[at, count] = 3 * c + op, limit
                count += 1
    work.path[at, NEXT], work.path[at, COUNT] = 0, count
