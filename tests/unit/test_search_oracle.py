"""The searches against literal oracles: the published beam mask by mask, and brute force over the whole grammar."""

import numpy as np
import pytest
from formula_sets import as_cells, deep_best, flat, formula_mask, scene
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import compexp
from oracles.compexp import OPS, Masks, allowed_labels, apply, brute_ceiling, brute_force, encoded, text_of

from explain.neurons.cells import cell_map, formula_cells, merge_cells
from explain.neurons.counts import iou, merge_counts
from explain.neurons.formula import And, Leaf, Not, Or, parse
from explain.neurons.search import beam_search, ceiling

SEEDS = st.integers(0, 10**6)
PENALTIES = st.sampled_from([1.0, 0.97, 0.9])


def stacked(mask):
    """(N, h, w) as one (N * h, w) mask."""
    return mask.reshape(-1, mask.shape[-1])


def score_of(one, active, penalty):
    nodes = one.length + one.text.count("(NOT ")
    return penalty ** (nodes - 1) * (one.intersection / (active + one.pixels - one.intersection + 1e-10))


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.integers(1, 6), st.integers(1, 8), st.integers(2, 6), PENALTIES)
def test_the_published_beam_is_reproduced_slot_by_slot(seed, concepts, beam, length, penalty):
    masks, active = scene(seed, concepts)
    raw = active.any((2, 3)) & (np.random.default_rng(seed).random(active.shape[:2]) < 0.7)  # not all masks fire raw
    allowed = allowed_labels(raw, masks.any((2, 3)).T)
    seen = np.flatnonzero(masks.any((1, 2, 3)))  # their labels are those that occur
    cells, units = as_cells(masks, active)
    found = beam_search(
        cells, units, length=length, beam=beam, penalty=penalty, compat="compexp", allowed=allowed
    )  # fmt: skip
    coded = Masks((f"c{number}", encoded(stacked(masks[number]))) for number in seen)
    for unit, got in enumerate(found):
        wanted = compexp.search(
            encoded(stacked(active[unit])), coded, allowed[unit, seen], length=length, beam=beam, penalty=penalty
        )
        assert [
            (one.text, score_of(one, got.active, penalty), one.intersection, one.pixels) for one in got.beam
        ] == [(one.text, one.score, one.intersection, one.pixels) for one in wanted]  # fmt: skip


def test_the_published_beam_fills_with_duplicates():
    masks = np.zeros((2, 1, 2, 4), bool)
    masks[0, 0, 0], masks[1, 0, 1, :2] = True, True
    unit = masks.any(0)
    coded = Masks((f"c{number}", encoded(stacked(mask))) for number, mask in enumerate(masks))
    items = compexp.search(encoded(stacked(unit)), coded, [True, True], length=3, beam=4)
    assert [one.text for one in items] == [
        "(c0 OR c1)", "(c1 OR c0)", "((c0 OR c1) OR c0)", "((c0 OR c1) OR c1)",
    ]  # fmt: skip
    got = beam_search(*as_cells(masks, unit[None]), length=3, beam=4, compat="compexp")[0]
    assert [one.text for one in got.beam] == [one.text for one in items]
    assert len({formula_cells(as_cells(masks, unit[None])[0], one.formula).tobytes() for one in got.beam}) == 1


def test_run_length_masks_count_as_dense_ones():
    masks, active = scene(3, 4)
    coded = Masks((f"c{number}", encoded(stacked(mask))) for number, mask in enumerate(masks))
    left, right = compexp.Leaf(0), compexp.Not(compexp.Leaf(1))
    for node, dense in (
        (compexp.And(left, right), masks[0] & ~masks[1]),
        (compexp.Or(compexp.And(left, right), compexp.Leaf(2)), (masks[0] & ~masks[1]) | masks[2]),
    ):
        _, shared, pixels = compexp.overlap(node, encoded(stacked(active[0])), int(active[0].sum()), coded)
        assert (shared, pixels) == ((dense & active[0]).sum(), dense.sum())
    assert (len(right), len(compexp.Or(compexp.And(left, right), left))) == (2, 4)


OPTIONS = st.fixed_dictionaries(
    {
        "length": st.integers(1, 5),
        "beam": st.integers(1, 8),
        "penalty": PENALTIES,
        "limit": st.sampled_from([None, 2]),
        "min_pixels": st.sampled_from([0, 6]),
        "or_not": st.booleans(),
    }
)


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(1, 7), OPTIONS, st.booleans())
def test_torch_finds_the_same_as_numba(seed, concepts, options, compat):
    cells, units = as_cells(*scene(seed, concepts, units=3))
    if compat:
        options = {**options, "compat": "compexp", "or_not": False}
    assert beam_search(cells, units, backend="torch", **options) == beam_search(
        cells, units, backend="numba", **options
    )


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.integers(1, 6), st.integers(1, 3))
def test_optimal_is_the_best_of_the_whole_grammar(seed, concepts, length):
    masks, active = scene(seed, concepts)
    cells, units = as_cells(masks, active)
    beams = beam_search(cells, units, length=length, beam=5)
    for unit, (got, beam) in enumerate(zip(optimal(cells, units, length=length), beams, strict=True)):
        wanted = brute_force(flat(active)[unit], flat(masks), length)
        assert got.iou == wanted.iou >= beam.iou
        assert got.certified
        assert (got.bound, got.gap) == (got.iou, 0)
        assert got.iou <= ceiling(cells, units)[unit]
        if wanted.iou > 0:
            assert got.length == wanted.length  # of equal ones the shorter
            assert iou(cells, got.formula, units)[unit] == got.iou
            names = [f"c{number}" for number in range(concepts)]
            assert got.beam[0].text in {text_of(chain, names) for chain in wanted.chains}
        else:
            assert got.formula is None


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_optimal_is_the_best_on_hundreds_of_sets(part):
    for seed in range(30 * part, 30 * part + 30):
        masks, active = scene(seed, 2 + seed % 7, images=1 + seed % 3)
        cells, units = as_cells(masks, active)
        for unit, got in enumerate(optimal(cells, units, length=3)):
            assert got.iou == brute_force(flat(active)[unit], flat(masks), 3).iou
            assert got.certified


@settings(deadline=None, max_examples=15)
@given(SEEDS, st.integers(2, 4), st.sampled_from([4, 5]))
def test_longer_optimal_searches_never_claim_too_much(seed, concepts, length):
    masks, active = scene(seed, concepts)
    cells, units = as_cells(masks, active)
    limits = ceiling(cells, units)
    for unit, got in enumerate(optimal(cells, units, length=length)):
        best = deep_best(flat(active)[unit], flat(masks), length)
        assert got.iou <= best <= got.bound <= max(limits[unit], got.iou)
        assert not got.certified or got.iou == best


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_an_unlimited_beam_holds_every_set_once(seed, concepts, length, or_not):
    masks, active = scene(seed, concepts, units=1)
    cells, units = as_cells(masks, active)
    (got,) = beam_search(cells, units, length=length, beam=1100, or_not=or_not)
    ops = (*OPS, "OR NOT") if or_not else OPS
    unit, whole = flat(active)[0], flat(masks)
    level = {mask.tobytes(): mask for mask in whole if (mask & unit).any()}
    wanted = dict(level)
    for _ in range(length - 1):
        # What holds for no active pixel is not followed: nothing that grows from it is better than the same without.
        new = [apply(op, g, c) for g in level.values() for c in whole if c.any() for op in ops]
        level = {mask.tobytes(): mask for mask in new if (mask & unit).any()}
        wanted |= level
    texts = [one.formula for one in got.beam]
    sets = {formula_mask(formula, whole).tobytes() for formula in texts}
    assert len(sets) == len(texts)
    assert sets == set(wanted)
    if wanted and not or_not:
        assert got.iou == brute_force(unit, whole, length).iou


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(2, 7), st.booleans())
def test_found_formulas_print_count_and_grow(seed, concepts, or_not):
    masks, active = scene(seed, concepts)
    cells, units = as_cells(masks, active)
    for unit, got in enumerate(beam_search(cells, units, length=4, beam=6, or_not=or_not)):
        assert [one.iou for one in got.by_length] == sorted(one.iou for one in got.by_length)
        for one in got.beam:
            assert parse(str(one.formula)) == one.formula
            mask = formula_mask(one.formula, flat(masks))
            assert (one.intersection, one.pixels) == ((mask & flat(active)[unit]).sum(), mask.sum())
    shorter = [0.0] * len(units)
    for length in (1, 2, 3):
        best = [one.iou for one in optimal(cells, units, length=length)]
        assert all(more >= less for more, less in zip(best, shorter, strict=True))
        shorter = best


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(2, 5))
def test_de_morgan_holds_on_cells(seed, concepts):
    masks, active = scene(seed, concepts)
    cells, _ = as_cells(masks, active)
    a, b = Leaf("c0"), Leaf("c1")
    for one, other in (
        (Not(Or((a, b))), And((Not(a), Not(b)))),
        (Not(And((a, b))), Or((Not(a), Not(b)))),
        (Not(Or((a, Not(b)))), And((Not(a), b))),
    ):
        assert np.array_equal(formula_cells(cells, one), formula_cells(cells, other))
        assert np.array_equal(formula_cells(cells, parse(str(one))), formula_cells(cells, one))


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.integers(2, 6), st.integers(1, 3))
def test_merged_shards_are_searched_as_the_whole(seed, concepts, cut):
    masks, active = scene(seed, concepts, images=4)
    cells, units = as_cells(masks, active)
    shards = [as_cells(masks[:, part], active[:, part]) for part in (slice(None, cut), slice(cut, None))]
    merged = merge_cells(*(shard for shard, _ in shards))
    counts = merge_counts([own.mapped(cell_map(shard, merged), len(merged)) for shard, own in shards], len(merged))
    options = {"length": 3, "beam": 5}
    assert beam_search(merged, counts, **options) == beam_search(cells, units, **options)
    assert optimal(merged, counts, length=2) == optimal(cells, units, length=2)
    assert np.array_equal(ceiling(merged, counts), ceiling(cells, units))


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.integers(1, 3))
def test_the_ceiling_is_the_best_of_all_sets_of_cells(seed, concepts):
    cells, units = as_cells(*scene(seed, concepts, images=2, side=5))
    for unit, got in enumerate(ceiling(cells, units)):
        own = np.zeros(len(cells), np.int64)
        part = slice(units.indptr[unit], units.indptr[unit + 1])
        own[units.cells[part]] = units.counts[part]
        assert got == brute_ceiling(own.tolist(), cells.counts.tolist())


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(3, 8))
def test_a_planted_unit_is_found_with_gap_0(seed, concepts):
    masks, _ = scene(seed, concepts)
    rng = np.random.default_rng(seed)
    ops, chosen = rng.integers(0, 3, 2), rng.integers(0, concepts, 3)
    planted = masks[chosen[0]]
    for op, concept in zip(ops, chosen[1:], strict=True):
        planted = apply(OPS[op], planted, masks[concept])
    cells, units = as_cells(masks, planted[None])
    (got,) = optimal(cells, units, length=3)
    if not planted.any():
        assert got.formula is None
        return
    assert (got.iou, got.bound, got.gap, got.certified) == (1.0, 1.0, 0.0, True)
    assert ceiling(cells, units)[0] == 1.0
    assert np.array_equal(formula_mask(got.formula, flat(masks)), planted.ravel())


def optimal(cells, units, **options):
    from explain.neurons.optimal import optimal_search

    return optimal_search(cells, units, **options)
