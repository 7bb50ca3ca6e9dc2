"""How well each formula of a beam could be extended, before any extension is looked at; see `explain.neurons._beam`."""

from __future__ import annotations

from typing import Any

import numpy as np

from explain.compiling import inner
from explain.neurons._beam_state import (
    BLOCK,
    LENGTH,
    PIXELS,
    SHARED,
    WORDS,
)

__all__ = ["rate_all"]


@inner
def rate_all(
    table: Any, work: Any, rules: Any, active: int, parents: Any, round_: int
) -> Any:  # pragma: no cover - compiled
    """Fill ``rates`` and ``peaks``, and return a score that the last formula of the new beam will not fall below.

    The new beam is the best of the old one and of all extensions, so its last is no worse than the B-th best of any of
    them, such as the old beam and the best extension of each block. Where equal sets share a slot, equal scores are
    counted once: different scores are those of different sets, unless longer formulas are penalised.
    """
    slots, scores, rates, peaks, top = work.slots, work.score, work.rates, work.peaks, work.top
    limit, concepts = len(scores), rates.shape[1]
    raising = rules.published or rules.penalties[len(rules.penalties) - 1] == 1
    known: Any = 0
    for place in range(len(parents)):
        if raising:
            known = _take(top, known, scores[place], rules.published)
    for number in range(len(parents)):
        slot = parents[number]
        if not (rules.published or slots[slot, LENGTH] == round_):
            continue
        _rate(table, work, rules, active, slot, rates[number])
        for begin in range(0, concepts, BLOCK):
            best = -1.0
            for concept in range(begin, min(begin + BLOCK, concepts)):
                best = max(best, rates[number, concept])
            peaks[number, begin // BLOCK] = best
            if raising and best >= 0:
                known = _take(top, known, best, rules.published)
    return top[limit - 1] if known == limit else 0.0


@inner
def _take(top: Any, known: int, score: float, twice: int) -> Any:  # pragma: no cover - compiled
    """Enter a score into the ``known`` best ones, equal ones once or ``twice``; return how many there are now."""
    if known == len(top) and score <= top[known - 1]:
        return known
    place = known
    while place > 0 and top[place - 1] < score:
        place -= 1
    if not twice and place > 0 and top[place - 1] == score:
        return known
    for at in range(min(known, len(top) - 1), place, -1):
        top[at] = top[at - 1]
    top[place] = score
    return min(known + 1, len(top))


@inner
def _rate(table: Any, work: Any, rules: Any, active: int, slot: int, row: Any) -> None:  # pragma: no cover - compiled
    """Write each concept's best score as an extension of one formula; -1 where it changes nothing or hits nothing.

    Without branches, and over views that begin at 0: the compiler uses wide instructions only where no index can be
    negative. The scores are those of `_offer` to the last bit.
    """
    slots, own, sizes, chosen = work.slots, work.shared, table.pixels, work.chosen
    w_row, v_row = work.vectors[0, slot], work.vectors[1, slot]
    shared, pixels = slots[slot, SHARED], slots[slot, PIXELS]
    words = slots[slot, WORDS] if rules.published else slots[slot, LENGTH]
    plain, negated = rules.penalties[words + 1], rules.penalties[words + 1 + rules.published]
    same, none = (np.int64(-1), np.int64(-1)) if rules.published else (pixels, np.int64(0))
    more = 1e-10 if rules.published else 0.0
    for at in range(len(row)):
        w, v = w_row[at], v_row[at]
        a, n = shared + own[at] - v, pixels + sizes[at] - w
        best = plain * (a / ((active + n - a) + more)) if (n != same) & (a > none) else -1.0
        score = plain * (v / ((active + w - v) + more)) if (w != same) & (v > none) else -1.0
        best = score if score > best else best
        a, n = shared - v, pixels - w
        score = negated * (a / ((active + n - a) + more)) if (n != same) & (a > none) else -1.0
        best = score if score > best else best
        row[at] = best if chosen[at] else -1.0
    if rules.operators > 3:
        for at in range(len(row)):
            a, n = active - own[at] + v_row[at], table.total - sizes[at] + w_row[at]
            score = negated * (a / ((active + n - a) + more)) if (n != same) & (a > none) else -1.0
            row[at] = score if (score > row[at]) & (chosen[at] != 0) else row[at]
