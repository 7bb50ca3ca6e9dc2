import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.neurons import best_in_grammar, dense_beam

from explain.errors import InputError
from explain.neurons.cells import Cells, build_index, formula_cells
from explain.neurons.counts import iou, unit_counts
from explain.neurons.formula import parse
from explain.neurons.search import beam_search, ceiling
from explain.types import Concept, Labels


def problem(seed, concepts=4, pixels=60, units=3, noise=0.2):
    """Dense masks of concepts (some alike) and units (formulas with noise), and the same as cells."""
    rng = np.random.default_rng(seed)
    masks = rng.random((concepts, pixels)) < rng.choice([0.05, 0.2, 0.5], concepts)[:, None]
    if concepts > 2:
        masks[2] = masks[rng.integers(0, 2)] if rng.random() < 0.3 else masks[2]
    active = []
    for _ in range(units):
        a, b, c = masks[rng.integers(0, concepts, 3)]
        planted = rng.choice(3)
        mask = [(a | b) & ~c, a & b, (a & ~b) | c][planted]
        active.append(mask ^ (rng.random(pixels) < noise * rng.random()))
    return masks, np.array(active), *as_cells(masks, np.array(active))


def as_cells(masks, active):
    names = tuple(Concept(f"c{number}", "object") for number in range(len(masks)))
    maps = np.where(masks, np.arange(len(masks))[:, None], -1).astype(np.int32)[:, None]
    index = build_index(names, [Labels(maps)])
    ids = index.cell_ids(0)[0]
    return index.cells, unit_counts(np.array([np.bincount(ids[unit], minlength=len(index.cells)) for unit in active]))


def text(chain):
    """The text of an oracle's formula, as the library prints it: chains of one operator are flat."""
    out, last = "", ""
    for op, concept in chain:
        kind = op[:3]
        if not op:
            out = f"c{concept}"
        elif last == "OR" and kind == "AND":
            out = f"({out}) {op} c{concept}"
        else:
            out = f"{out} {op} c{concept}"
        last = kind or last
    return out


def described(found):
    return [(str(one.formula), one.iou, one.length) for one in found]


@settings(deadline=None, max_examples=80)
@given(
    st.integers(0, 10**6),
    st.integers(1, 5),
    st.integers(1, 6),
    st.integers(1, 7),
    st.sampled_from([0, 5, 15]),
)
def test_beam_equals_the_search_on_dense_masks(seed, concepts, length, beam, least):
    masks, active, cells, units = problem(seed, concepts)
    for unit, got in zip(active, beam_search(cells, units, length=length, beam=beam, min_pixels=least), strict=True):
        best, kept = dense_beam(unit, list(masks), length, beam, least)
        assert described(got.beam) == [(text(one.chain), one.iou, len(one.chain)) for one in kept]
        assert described(got.by_length) == [(text(one.chain), one.iou, len(one.chain)) for one in best]
        assert got.active == unit.sum()
        if kept:
            assert (got.formula, got.iou) == (got.beam[0].formula, kept[0].iou)
            assert got.pixels == kept[0].mask.sum()
            assert got.intersection == (kept[0].mask & unit).sum()
        else:
            assert got.formula is None


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(2, 8), st.integers(1, 8))
def test_what_holds_for_every_beam(seed, concepts, beam):
    _, _, cells, units = problem(seed, concepts, pixels=200)
    limits = ceiling(cells, units)
    for unit, got in enumerate(beam_search(cells, units, length=4, beam=beam)):
        rising = [one.iou for one in got.by_length]
        assert rising == sorted(rising)
        assert all(one.length <= most for most, one in enumerate(got.by_length, start=1))
        assert got.iou <= limits[unit]
        chosen = {formula_cells(cells, one.formula).tobytes() for one in got.beam}
        assert len(chosen) == len(got.beam) <= beam
        ordered = [(-one.iou, one.length) for one in got.beam]
        assert ordered == sorted(ordered)
        for one in got.beam:
            assert iou(cells, one.formula, units)[unit] == one.iou > 0
            assert parse(str(one.formula)) == one.formula


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(2, 3), st.integers(1, 4))
def test_an_unlimited_beam_finds_the_best_of_the_grammar(seed, concepts, length):
    masks, active, cells, units = problem(seed, concepts)
    for unit, got in zip(active, beam_search(cells, units, length=length, beam=300), strict=True):
        assert got.iou == best_in_grammar(unit, list(masks), length)


def test_ceiling_is_the_best_of_all_sets_of_cells():
    _, _, cells, units = problem(5, 3)
    for unit, got in enumerate(ceiling(cells, units)):
        own = units.select([unit])
        dense = np.zeros(len(cells), np.int64)
        dense[own.cells] = own.counts
        choices = np.array(list(np.ndindex((2,) * len(cells))))
        shared, pixels = choices @ dense, choices @ cells.counts
        assert got == (shared / np.maximum(dense.sum() + pixels - shared, 1)).max()


def test_a_planted_formula_is_found():
    sets = [(), (0,), (0, 1), (0, 2), (1,), (1, 2), (2,)]
    names = tuple(Concept(name, "object") for name in ("red", "circle", "sky"))
    indptr = np.cumsum([0, *map(len, sets)]).astype(np.int64)
    indices = np.array([number for row in sets for number in row], np.int32)
    cells = Cells(names, np.array([90, 40, 20, 10, 30, 7, 5], np.int64), indptr, indices)
    planted = np.where(formula_cells(cells, parse("red AND NOT circle")), cells.counts, 0)
    (got,) = beam_search(cells, unit_counts(planted[None]))
    assert (str(got.formula), got.iou, got.length) == ("red AND NOT circle", 1.0, 2)
    assert (got.active, got.intersection, got.pixels) == (50, 50, 50)
    assert [one.iou for one in got.by_length] == [50 / 70, 1.0, 1.0]


def test_a_silent_unit_has_no_formula():
    _, _, cells, _ = problem(0)
    silent, empty = np.zeros(len(cells), np.int64), np.zeros(len(cells), np.int64)
    empty[0] = cells.counts[0]  # fires where nothing is labelled
    assert cells.labels(0) == ()
    results = beam_search(cells, unit_counts(np.array([silent, empty])))
    assert [(one.formula, one.iou, one.length, one.beam, one.by_length) for one in results] == [
        (None, 0, 0, (), ())
    ] * 2
    assert [one.active for one in results] == [0, cells.counts[0]]


def test_formulas_with_the_same_cells_take_one_slot():
    masks = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]], bool)
    cells, units = as_cells(masks, np.array([[1, 1, 1, 0]], bool))
    (got,) = beam_search(cells, units, length=2, beam=10)
    assert [str(one.formula) for one in got.beam] == ["c0 OR c2", "c0", "c2"]


def test_equal_counts_alone_are_no_duplicate():
    masks = np.array([[1, 1, 0, 0], [0, 0, 1, 1]], bool)
    cells, units = as_cells(masks, np.array([[1, 0, 1, 0]], bool))
    (got,) = beam_search(cells, units, length=1)
    assert [str(one.formula) for one in got.beam] == ["c0", "c1"]


def test_many_cells_and_units_are_searched_in_chunks():
    _, _, cells, units = problem(11, concepts=9, pixels=1500, units=100)
    assert len(cells) > 64  # more than one word of bits
    steps = []
    results = beam_search(cells, units, progress=lambda done, total: steps.append((done, total)))
    assert steps[-1] == (100, 100)
    assert len(steps) > 2
    assert results[77] == beam_search(cells, units.select([77]))[0]
    assert beam_search(cells, units.select([])) == []


def test_counts_beyond_32_bits_stay_exact():
    big = 1 << 40
    cells = Cells(
        (Concept("a", "o"), Concept("b", "o")), np.array([big + 1, big], np.int64), np.array([0, 1, 2]),
        np.array([0, 1], np.int32),
    )  # fmt: skip
    (got,) = beam_search(cells, unit_counts(np.array([[big + 1, big]])))
    assert (str(got.formula), got.intersection, got.iou) == ("a OR b", 2 * big + 1, 1.0)


def test_bad_options_are_refused():
    _, _, cells, units = problem(0)
    for wrong in ({"length": 0}, {"beam": 0}, {"min_pixels": -1}):
        with pytest.raises(InputError, match="at least"):
            beam_search(cells, units, **wrong)
    with pytest.raises(InputError, match="units name cell"):
        beam_search(cells, unit_counts(np.ones((1, len(cells) + 1))))
