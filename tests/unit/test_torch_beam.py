"""The beam search in torch against the compiled one: every number of every row, in every mode."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explain.neurons import _torch_beam, _torch_cells
from explain.neurons._beam_state import HEAD, LENGTH
from explain.neurons.cells import build_index, formula_cells
from explain.neurons.counts import UnitCounts, unit_counts
from explain.neurons.formula import parse
from explain.neurons.search import beam_search
from explain.types import Concept, Labels

OPTIONS = st.fixed_dictionaries(
    {
        "length": st.integers(1, 6),
        "beam": st.integers(1, 11),
        "penalty": st.sampled_from([1.0, 0.97, 0.9, 0.5, 1e-100]),
        "limit": st.sampled_from([None, 1, 3]),
        "or_not": st.booleans(),
        "min_pixels": st.sampled_from([0, 10]),
        "compat": st.sampled_from([None, "compexp"]),
    }
)


def problem(seed, concepts, pixels, units=4):
    """Cells of overlapping concepts, some alike, and units near formulas of them; some are active nowhere."""
    rng = np.random.default_rng(seed)
    masks = rng.random((concepts, pixels)) < rng.choice([0.02, 0.2, 0.5], concepts)[:, None]
    for number in range(concepts):
        if rng.random() < 0.25:  # ties
            masks[number] = masks[rng.integers(concepts)]
    active = np.zeros((units, pixels), bool)
    for unit in range(units):
        a, b, c = masks[rng.integers(0, concepts, 3)]
        mask = [(a | b) & ~c, a & b, (a & ~b) | c, a & ~a][rng.integers(4)]
        active[unit] = mask ^ (rng.random(pixels) < rng.choice([0, 0.1]))
    names = tuple(Concept(f"c{number}", "object") for number in range(concepts))
    maps = np.where(masks, np.arange(concepts)[:, None], -1).astype(np.int32)[:, None]
    index = build_index(names, [Labels(maps)])
    ids = index.cell_ids(0)[0]
    return index.cells, unit_counts(np.array([np.bincount(ids[mask], minlength=len(index.cells)) for mask in active]))


def rows_of(cells, units, backend, **options):
    return np.array([got.rows for got in beam_search(cells, units, backend=backend, **options)])


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10**6), st.integers(1, 9), st.sampled_from([8, 60, 300]), st.booleans(), OPTIONS)
def test_all_rows_equal_those_of_the_compiled_search(seed, concepts, pixels, some, options):
    cells, units = problem(seed, concepts, pixels)
    allowed = np.random.default_rng(seed).random((len(units), concepts)) < 0.7 if some else None
    wanted = rows_of(cells, units, "numba", allowed=allowed, **options)
    np.testing.assert_array_equal(rows_of(cells, units, "torch", allowed=allowed, **options), wanted)


def many_cells(seed, concepts=100, cells=1500, units=20):
    """More concepts than a block and more cells than a word: a colour for every pixel, things, parts of things."""
    rng = np.random.default_rng(seed)
    pixels = 4 * cells
    thing = rng.zipf(1.3, pixels) % (concepts - 31)
    maps = np.stack(
        [
            rng.integers(0, 11, pixels),
            np.where(rng.random(pixels) < 0.8, 11 + thing, -1),
            np.where(rng.random(pixels) < 0.3, concepts - 20 + thing % 20, -1),
        ]
    )
    names = tuple(Concept(f"c{number}", "object") for number in range(concepts))
    index = build_index(names, [Labels(maps.astype(np.int32)[:, None])])
    ids = index.cell_ids(0)[0]
    active = []
    for _ in range(units):
        a, b, c = ((maps == number).any(0) for number in (rng.integers(11, 40), rng.integers(11, 40), rng.integers(11)))
        active.append(((a | b) & ~c) ^ (rng.random(pixels) < 0.01))
    return index.cells, unit_counts(np.array([np.bincount(ids[mask], minlength=len(index.cells)) for mask in active]))


MODES = [
    {},
    {"penalty": 0.95, "or_not": True},
    {"limit": 30, "min_pixels": 12},
    {"compat": "compexp"},
    {"compat": "compexp", "penalty": 0.95},
]


@pytest.mark.parametrize("options", MODES)
@pytest.mark.parametrize(("length", "beam"), [(3, 5), (8, 10)])
def test_many_concepts_and_cells(length, beam, options):
    cells, units = many_cells(0)
    wanted = rows_of(cells, units, "numba", length=length, beam=beam, **options)
    assert (wanted[:, :beam, LENGTH] > 0).all()
    np.testing.assert_array_equal(rows_of(cells, units, "torch", length=length, beam=beam, **options), wanted)


def test_chunks_and_batches_change_nothing(monkeypatch):
    cells, units = many_cells(1)
    wanted = rows_of(cells, units, "numba", length=5, beam=4)
    seen = []
    monkeypatch.setattr(_torch_beam, "_MEMORY", 1 << 19)
    monkeypatch.setattr(_torch_cells, "_BATCH", {"cpu": 7})
    found = beam_search(cells, units, length=5, beam=4, backend="torch", progress=lambda *done: seen.append(done))
    np.testing.assert_array_equal([got.rows for got in found], wanted)
    assert len(seen) > 2
    assert seen[-1] == (len(units), len(units))
    assert seen == sorted(seen)


def test_a_planted_formula_is_found():
    cells, _ = many_cells(2)
    planted = parse("(c3 OR c15) AND NOT c5")
    inside = np.flatnonzero(formula_cells(cells, planted))
    units = UnitCounts(np.array([0, len(inside)]), inside, cells.counts[inside])
    (got,) = beam_search(cells, units, length=3, beam=10, backend="torch")
    assert got.iou == 1
    np.testing.assert_array_equal(formula_cells(cells, got.formula), formula_cells(cells, planted))


@pytest.mark.parametrize("compat", [None, "compexp"])
def test_nothing_to_find(compat):
    cells, units = problem(0, 4, 60)
    nowhere = UnitCounts(np.zeros(3, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert [got.formula for got in beam_search(cells, nowhere, backend="torch", compat=compat)] == [None, None]
    assert beam_search(cells, units.select([]), backend="torch", compat=compat) == []
    found = beam_search(cells, units, backend="torch", compat=compat, min_pixels=10**6)
    assert [got.formula for got in found] == [None] * len(units)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("options", MODES)
def test_a_graphics_card_gives_the_same(options):
    cells, units = many_cells(0)
    wanted = rows_of(cells, units, "numba", length=8, beam=10, **options)
    for _ in range(2):
        found = rows_of(cells, units, "torch", length=8, beam=10, device="cuda", **options)
        np.testing.assert_array_equal(found, wanted)
    assert wanted.shape[2] == HEAD + 16


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 9), OPTIONS)
def test_a_graphics_card_gives_the_same_on_small_sets(seed, concepts, options):
    cells, units = problem(seed, concepts, 60)
    wanted = rows_of(cells, units, "numba", **options)
    np.testing.assert_array_equal(rows_of(cells, units, "torch", device="cuda", **options), wanted)
