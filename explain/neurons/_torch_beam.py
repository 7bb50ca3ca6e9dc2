"""The beam search in batched torch operations, on any device; `explain.neurons._beam` says what must come out.

All units of a chunk go through a round together. The formulas that are extended, of all units, are rows of four
matrices: W, V and H, as in the compiled search, and the cells of each formula as bits. Every extension is scored; those
that can enter a beam, by a bound that costs no sort, are merged with the old beams. New formulas take their parent's
rows, changed by the cells that parent and concept share (for V: by the unit's own cells that change). Sums are int64
and so do not depend on their order; scores are float64 from whole numbers below 2^53, which it holds exactly.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain.neurons._beam_state import AND, AND_NOT, HEAD, LENGTH, OR, OR_NOT, PIXELS, SHARED, Rules
from explain.neurons._table import Table
from explain.neurons._torch_cells import KEEP, LEAF, DeviceTable, DeviceUnits, load_table, load_units, unpacked

__all__ = ["search_units_torch"]

_MARK, _WORDS = 3, 4  # places in a row of the output, as in the compiled search
_BLOCK = 32  # concepts of which the best extension is looked at for the bound
_MEMORY = 1 << 27  # bytes of a chunk of units on the processor: so many units that the calls cost little
_SMALL = 1e-250  # a penalty below may make a score 0
_SHARE = 0.25  # of a graphics card's free memory


class _Beam(NamedTuple):
    """The beams of all units of a chunk, one after the other, best first."""

    unit: Tensor
    """int64 ``(E,)``."""
    rank: Tensor
    """int64 ``(E,)``: place in the unit's beam."""
    score: Tensor
    """float64 ``(E,)``."""
    rows: Tensor
    """int64 ``(E, HEAD + 2 length)``: as in the output."""


class _State(NamedTuple):
    """The formulas that are extended next, in the order of the beams."""

    unit: Tensor
    """int64 ``(F,)``."""
    rows: Tensor
    """int64 ``(F, HEAD + 2 length)``: as in the output."""
    w: Tensor
    """int64 ``(F, C)``; so are ``v`` and ``h``."""
    v: Tensor
    h: Tensor
    bits: Tensor
    """int64 ``(F, words)``."""


class _Offers(NamedTuple):
    """Extensions that may enter a beam, in the order of generation."""

    row: Tensor
    """int64 ``(N,)``: the parent's row in the state."""
    concept: Tensor
    op: Tensor
    score: Tensor
    totals: Tensor
    """int64 ``(3, N)``: active pixels, pixels, sum of marks."""


def search_units_torch(
    table: Table,
    counts: tuple[NDArray[np.int64], ...],
    rules: Rules,
    beam: int,
    output: NDArray[np.int64],
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Search all units of ``counts = (indptr, cells, counts, active)``, in chunks that fit the device.

    ``output``, int64 ``(U, B + length, HEAD + 2 length)`` of zeros, is filled as by the compiled search: rows 0…B-1 of
    a unit are its final beam, then comes one row for the best after each round; rows of length 0 are empty.
    """
    units, concepts = len(output), len(table.pixels)
    if not concepts or not units:
        return
    cells = load_table(table, rules, device)
    step = _units_at_once(cells, beam, int(rules.operators), output.shape[2], device)
    for begin in range(0, units, step):
        end = min(begin + step, units)
        found = _search(cells, load_units(cells, counts, rules, begin, end), rules, beam, output[begin:end].shape)
        output[begin:end] = found.cpu().numpy()
        if progress is not None:
            progress(end, units)


def _units_at_once(cells: DeviceTable, beam: int, operators: int, width: int, device: torch.device) -> int:
    concepts, words = cells.bits.shape
    each = 8 * beam * ((10 + 2 * operators) * concepts + 7 * words + 4 * width) + 8 * len(cells.weights)
    memory = _SHARE * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _MEMORY
    return max(1, int(memory / each))


def _search(cells: DeviceTable, units: DeviceUnits, rules: Rules, beam: int, shape: tuple[int, ...]) -> Tensor:
    """Return what the output holds for the units of a chunk."""
    result = torch.zeros(shape, dtype=torch.int64, device=units.own.device)
    many, length = len(units.own), shape[1] - beam
    blank = torch.zeros_like(units.own)
    nobody = torch.zeros(0, dtype=torch.int64, device=blank.device)
    # Round 0 extends the empty formula by OR.
    state = _State(
        torch.arange(many, device=blank.device), result[:, 0], blank, blank, blank, torch.zeros_like(units.bits)
    )
    kept = _Beam(nobody, nobody, nobody.double(), result[:0, 0])
    for round_ in range(length):
        scores = _scores(cells, units, rules, state, round_ == 0)
        empty = bool(rules.published) and round_ > 0  # may an extension hold no active pixel?
        least = 0.0 if empty or rules.penalties[-1] < _SMALL else sys.float_info.min
        bar = _bar(kept, scores, state, many, beam, least)
        offers = _offers(cells, units, rules, state, scores, bar, empty)
        kept, took = _merged(kept, offers, state, round_ == 0, bool(rules.published), beam)
        best = kept.rank == 0
        result[kept.unit[best], beam + round_] = kept.rows[best]
        if round_ + 1 < length:
            state = _next_state(cells, units, state, kept, took, bool(rules.published))
    result[kept.unit, kept.rank] = kept.rows
    return result


def _scores(cells: DeviceTable, units: DeviceUnits, rules: Rules, state: _State, first: bool) -> Tensor:
    """Return float64 ``(operators, F, C)``: the score of every extension, -1 where it is none."""
    unit, v, wrong = state.unit, state.v.double(), (state.w - state.v).double()
    own = units.own.double().index_select(0, unit)
    rest = (cells.pixels - units.own).double().index_select(0, unit)
    shared, pixels = state.rows[:, SHARED, None].double(), state.rows[:, PIXELS, None]
    active = units.active[unit, None].double()
    without = active + pixels - shared  # the union of unit and formula
    words = state.rows[:, _WORDS, None]
    scores = torch.empty((1 if first else rules.operators, *v.shape), dtype=torch.float64, device=v.device)
    for op, score in enumerate(scores):
        # ``score``: active pixels of the extension; ``union``: of unit and extension. All are whole numbers.
        if op == OR:
            torch.sub(own, v, out=score).add_(shared)
            union, same = rest.sub(wrong).add_(without), cells.pixels
        elif op == AND:
            score.copy_(v)
            union, same = wrong + active, pixels
        elif op == AND_NOT:
            torch.sub(shared, v, out=score)
            union, same = without - wrong, torch.zeros_like(pixels)
        else:
            torch.sub(v, own, out=score).add_(active)
            union, same = wrong.sub(rest).add_(cells.total), pixels + cells.pixels - cells.total
        score /= union.add_(1e-10) if rules.published else union
        if rules.penalties[-1] != 1:
            score *= cells.penalties[words + 1 + (rules.published if op in (AND_NOT, OR_NOT) else 0)]
        # Where the concept changes nothing (one set holds the other, so equal counts tell): a duplicate of its
        # parent, which would be dropped later at more cost.
        if not rules.published:
            score.masked_fill_(state.w == same, -1)
    usable = units.leaves if first else units.chosen
    if usable is not None:
        scores.masked_fill_(~usable.index_select(0, unit), -1)
    return scores


def _bar(kept: _Beam, scores: Tensor, state: _State, units: int, beam: int, least: float) -> Tensor:
    """Return float64 ``(u,)``: an extension that scores less cannot enter the beam.

    It must have ``least``, and beat the last of a full beam. And where the best of some blocks of concepts have B
    different scores, these are B different sets of cells, as all formulas of a round have one length; less than the
    B-th is then too little.
    """
    operators, rows, concepts = scores.shape
    last = torch.full((units,), least, dtype=torch.float64, device=scores.device)
    full = kept.rank == beam - 1
    last[kept.unit[full]] = kept.score[full].nextafter(torch.full_like(kept.score[full], torch.inf))
    size = min(_BLOCK, concepts)
    best = scores[..., : concepts // size * size].unflatten(-1, (-1, size)).amax(-1)
    number = torch.arange(rows, device=scores.device)
    place = number - torch.searchsorted(state.unit, state.unit)
    most = int(place.max()) + 1 if rows else 1
    spread = scores.new_full((units, most, operators, best.shape[2]), -1.0)
    spread[state.unit, place] = best.transpose(0, 1)
    falling = spread.flatten(1).sort(1, descending=True).values
    different = torch.ones_like(falling, dtype=torch.int64)
    different[:, 1:] = falling[:, 1:] < falling[:, :-1]
    different = different.cumsum(1)
    bound = falling.masked_fill(different > beam, torch.inf).amin(1)
    return torch.maximum(last, bound.masked_fill(different[:, -1] < beam, -1.0))


def _offers(
    cells: DeviceTable, units: DeviceUnits, rules: Rules, state: _State, scores: Tensor, bar: Tensor, empty: bool
) -> _Offers:
    """Return the extensions that reach the bar."""
    operators, rows, concepts = scores.shape
    found = (scores >= bar[state.unit][None, :, None]).flatten().nonzero().squeeze(1)
    op, pair = found // (rows * concepts), found % (rows * concepts)
    order = (pair * operators + op).argsort()
    found, op, pair = found[order], op[order], pair[order]
    row, concept = pair // concepts, pair % concepts
    unit, both = state.unit[row], state.rows[row]
    parents = both[:, [SHARED, PIXELS, _MARK]].T
    own = torch.stack([units.own[unit, concept], cells.pixels[concept], cells.shared_marks[concept, concept]])
    shared = torch.stack([matrix.flatten()[pair] for matrix in (state.v, state.w, state.h)])
    whole = torch.tensor([0, cells.total, cells.total_mark], device=op.device)[:, None].repeat(1, len(op))
    whole[0] = units.active[unit]
    parts = cells.counts[op].T
    totals = parents * parts[0] + own * parts[1] + shared * parts[2] + whole * parts[3]
    offers = _Offers(row, concept, op, scores.flatten()[found], totals)
    return offers if empty else _Offers(*(part[..., totals[0] != 0] for part in offers))


def _merged(
    kept: _Beam, offers: _Offers, state: _State, first: bool, published: bool, beam: int
) -> tuple[_Beam, tuple[Tensor, Tensor, Tensor]]:
    """Return the new beams, and each formula's row in the state, operator (`KEEP`: an old one) and concept."""
    old = len(kept.unit)
    unit = torch.cat([kept.unit, state.unit[offers.row]])
    score = torch.cat([kept.score, offers.score])
    order = torch.sort(score, descending=True, stable=True).indices
    order = order[torch.sort(unit[order], stable=True).indices]
    if not published:
        pixels = torch.cat([kept.rows[:, PIXELS], offers.totals[1]])[order]
        marks = torch.cat([kept.rows[:, _MARK], offers.totals[2]])[order]
        order = order[_first_of_each(unit[order], pixels, marks)]
    unit = unit[order]
    rank = torch.arange(len(unit), device=unit.device) - torch.searchsorted(unit, unit)
    order, unit, rank = order[rank < beam], unit[rank < beam], rank[rank < beam]
    new = order >= old
    at = order[new] - old
    row, op, concept = order.clone(), torch.full_like(order, KEEP), torch.zeros_like(order)
    row[new], op[new], concept[new] = offers.row[at], offers.op[at], offers.concept[at]
    rows = torch.empty((len(order), state.rows.shape[1]), dtype=torch.int64, device=unit.device)
    rows[~new] = kept.rows[order[~new]]
    rows[new] = _grown(state.rows[offers.row[at]], offers, at, first, published)
    return _Beam(unit, rank, score[order], rows), (row, op, concept)


def _first_of_each(unit: Tensor, pixels: Tensor, marks: Tensor) -> Tensor:
    """Return bool ``(N,)``: True where no earlier one has the same unit, pixels and mark."""
    # Equal ones come together by a mix of the three (odd factors, with overflow), and are then compared.
    key = marks * -7046029254386353131 + pixels * -4417276706812531889 + unit * -3335678366873096957
    order = torch.sort(key, stable=True).indices
    other = torch.zeros_like(order, dtype=torch.bool)
    other[:1] = True
    for part in (unit, pixels, marks):
        other[1:] |= part[order[1:]] != part[order[:-1]]
    return torch.zeros_like(other).scatter_(0, order, other)


def _grown(rows: Tensor, offers: _Offers, at: Tensor, first: bool, published: bool) -> Tensor:
    """Return the parents' rows of the output, grown by what the offers add."""
    size, op = rows[:, LENGTH, None], offers.op[at]
    rows = rows.scatter(1, HEAD + size, offers.concept[at][:, None])
    rows.scatter_(1, (HEAD + rows.shape[1]) // 2 + size, torch.full_like(size, LEAF) if first else op[:, None])
    rows[:, LENGTH] += 1
    rows[:, _WORDS] += 1 + published * ((op == AND_NOT) | (op == OR_NOT))
    rows[:, SHARED], rows[:, PIXELS], rows[:, _MARK] = offers.totals[:, at]
    return rows


def _next_state(
    cells: DeviceTable,
    units: DeviceUnits,
    state: _State,
    kept: _Beam,
    took: tuple[Tensor, Tensor, Tensor],
    published: bool,
) -> _State:
    """Return the state of the formulas to be extended: the new ones; in the published code, all."""
    row, op, concept = took
    new = (op != KEEP).nonzero().squeeze(1)
    parents = _State(kept.unit[new], kept.rows[new], *(part.index_select(0, row[new]) for part in state[2:]))
    children = _children(cells, units, parents, op[new], concept[new])
    if not published:
        return children
    row[new] = len(state.unit) + torch.arange(len(new), device=row.device)
    return _State(
        kept.unit,
        kept.rows,
        *(torch.cat(both).index_select(0, row) for both in zip(state[2:], children[2:], strict=True)),
    )


def _children(cells: DeviceTable, units: DeviceUnits, parents: _State, op: Tensor, concept: Tensor) -> _State:
    """Turn each parent's rows of the state into its child's, in place."""
    unit, _, w, v, h, bits = parents
    concepts = len(cells.pixels)
    either, minus, outside = ((op == kind).nonzero().squeeze(1) for kind in (OR, AND, OR_NOT))
    for found, table in ((w, cells.overlap), (h, cells.shared_marks)):
        found.index_add_(0, either, table.index_select(0, concept[either]))
        found.index_fill_(0, minus, 0)
        found.index_copy_(0, outside, table.diagonal() - table[concept[outside]])
    # W and H: less, or plus, what parent and concept share. Objects of one kind never meet, so often that is nothing.
    other = cells.bits.index_select(0, concept)
    both = bits & other
    sign = cells.counts[op, 2]
    for row, cell, entry, label in unpacked(cells, both):
        to = row[entry] * concepts + label
        w.view(-1).index_add_(0, to, (cells.weights[cell] * sign[row])[entry])
        h.view(-1).index_add_(0, to, (cells.marks[cell] * sign[row])[entry])
    # What comes in or goes out: OR c less g, AND g less c, AND NOT both, OR NOT what is in neither.
    joins = (op == OR) | (op == OR_NOT)
    other &= -joins.long()[:, None]
    both ^= other
    both ^= bits & -((op == AND) | (op == OR_NOT)).long()[:, None]
    both.index_copy_(0, outside, ~both[outside])
    bits ^= both
    both &= units.bits.index_select(0, unit)
    sign = 2 * joins.long() - 1
    for row, cell, entry, label in unpacked(cells, both):
        v.view(-1).index_add_(0, row[entry] * concepts + label, (units.counts[unit[row], cell] * sign[row])[entry])
    return parents
