"""Evidence against literal counts over dense masks, and against what statistics demand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explain.errors import InputError
from explain.neurons.cells import build_index, formula_cells
from explain.neurons.counts import upsample
from explain.neurons.evidence.chance import against_untrained, by_chance, corrected
from explain.neurons.evidence.gathering import Asked, gather, held_out_images, with_q_values
from explain.neurons.evidence.heldout import cross_fitted, on_part
from explain.neurons.evidence.parts import (
    Measured,
    cells_of_images,
    count_images,
    image_pixels,
    share_at_random,
    share_by_column,
)
from explain.neurons.evidence.resampling import draw_images, image_counts, resampled
from explain.neurons.evidence.scores import scores_of
from explain.neurons.finding import Finder, chosen_search, concepts_where_firing, find, find_by_beam
from explain.neurons.firing import Firing, count_firing
from explain.neurons.formula import evaluate, parse
from explain.types import Concept, Labels, ProbeSet

SIZE, GRID = (12, 10), (4, 3)
CONCEPTS = tuple(Concept(f"c{number}", "even" if number % 2 == 0 else "odd") for number in range(5))


def made(seed, images=16, units=4, *, planted=0, quantile=0.2):
    """Return dense concept masks ``(C, N, H, W)``, dense unit masks ``(U, N, H, W)``, and the same as `Measured`."""
    random = np.random.default_rng(seed)
    maps = random.integers(-1, len(CONCEPTS), (images, 2, *SIZE)).astype(np.int32)
    maps[:, :, :, ::2] = maps[:, :, :, 1::2]  # some neighbours alike
    ignored = random.random((images, *SIZE)) < 0.1
    index = build_index(CONCEPTS, [Labels(maps[i], ignored=ignored[i]) for i in range(images)])
    dense = np.stack([(maps == number).any(1) for number in range(len(CONCEPTS))]) & ~ignored
    values = random.normal(size=(images, units, *GRID)).astype(np.float32)
    for unit in range(planted):  # follows concept 0 or 1
        held = dense[unit % 2].reshape(images, GRID[0], SIZE[0] // GRID[0], -1).mean(2)[..., : GRID[1] * 3]
        values[:, unit] = held.reshape(images, GRID[0], GRID[1], 3).mean(3) * 9 + values[:, unit] * 0.1
    thresholds = np.quantile(values, 1 - quantile, axis=(0, 2, 3)).astype(np.float32)
    image, unit = np.nonzero(values.max((2, 3)) > thresholds)
    order = np.lexsort((image, unit))
    firing = Firing(unit[order], image[order], values[image[order], unit[order]])
    import torch

    active = np.stack(
        [(upsample(torch.from_numpy(values[:, u]), SIZE) > thresholds[u]).numpy() & ~ignored for u in range(units)]
    )
    return dense, active, ignored, Measured(index, firing, thresholds, image_pixels(index))


def literal_iou(dense, active, formula, images):
    mask = evaluate(formula, lambda name: dense[int(name[1:])])
    return [int((mask & row)[images].sum()) / max(1, int((mask | row)[images].sum())) for row in active]


FINDER = Finder(length=2, beam=3, search="beam")


def search(cells, units):
    return find_by_beam(FINDER, cells, units)


@given(st.integers(0, 50))
@settings(max_examples=10, deadline=None)
def test_part_of_the_images_has_the_pixels_of_a_dense_count(seed):
    dense, active, ignored, measured = made(seed)
    images = np.random.default_rng(seed).random(16) < 0.5
    cells, counts = count_images(measured, images)
    formula = parse("(c0 OR c1) AND NOT c2")
    holds = formula_cells(cells, formula)
    mask = evaluate(formula, lambda name: dense[int(name[1:])]) & ~ignored
    assert cells.total == int((~ignored)[images].sum())
    assert int(cells.counts[holds].sum()) == int(mask[images].sum())
    assert counts.active.tolist() == active[:, images].sum((1, 2, 3)).tolist()
    assert counts.within(holds).tolist() == (active & mask)[:, images].sum((1, 2, 3)).tolist()
    whole = cells_of_images(measured.index, measured.pixels, np.ones(16, bool))
    assert whole.counts.tolist() == measured.index.cells.counts.tolist()


def test_a_split_scores_on_the_images_that_the_search_did_not_see():
    dense, active, _, measured = made(3, planted=2)
    held = share_at_random(16, 0.3, 7)
    assert held.sum() == 5
    results = search(*count_images(measured, ~held))
    found = on_part(results, *count_images(measured, held))
    for unit, (result, one) in enumerate(zip(results, found, strict=True)):
        for row, score in zip(result.by_length, one.by_length, strict=True):
            assert score == literal_iou(dense, active, row.formula, held)[unit]
        assert one.iou == one.by_length[-1]
        assert one.by_length[one.length - 1] == max(one.by_length)


def test_both_halves_are_held_out_in_turn():
    dense, active, _, measured = made(5, planted=2)
    first = share_at_random(16, 0.5, 11)
    parts = [search(*count_images(measured, part)) for part in (first, ~first)]
    for unit, one in enumerate(cross_fitted(measured, search, seed=11)):
        shared = union = 0
        for results, unseen in zip(parts, (~first, first), strict=True):
            mask = evaluate(results[unit].formula, lambda name: dense[int(name[1:])])
            shared += int((mask & active[unit])[unseen].sum())
            union += int((mask | active[unit])[unseen].sum())
        assert one.iou == shared / union
        masks = [evaluate(results[unit].formula, lambda name: dense[int(name[1:])]) for results in parts]
        assert one.stability == (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()


def test_a_unit_that_never_fires_has_nothing_held_out():
    _, _, _, measured = made(1)
    fires = measured.firing
    none = Firing(fires.unit[:0], fires.image[:0], fires.maps[:0])
    silent = Measured(measured.index, none, measured.thresholds, measured.pixels)
    for one in cross_fitted(silent, search):
        assert (one.iou, one.by_length, one.length, one.stability) == (0.0, (), 0, None)


def test_splits_that_leave_a_part_empty_are_refused():
    with pytest.raises(InputError, match="one part would be empty"):
        share_at_random(3, 0.01, 0)
    with pytest.raises(InputError, match="holds a, b"):
        share_by_column(["a", "b"])
    assert share_by_column(["train", "val", " Train "]).tolist() == [False, True, False]
    with pytest.raises(InputError, match="give one"):
        Asked(held_out=0.3, split_column="split")
    probe = ProbeSet("p", [0, 1], (), None, ("a", "b"), "", columns={"split": ("train", "val")})
    assert held_out_images(Asked(split_column="split"), probe).tolist() == [False, True]
    assert held_out_images(Asked(), probe) is None
    with pytest.raises(InputError, match="no column 'fold'"):
        held_out_images(Asked(split_column="fold"), probe)


def test_shuffles_are_those_of_a_literal_search():
    dense, active, ignored, measured = made(2, images=8, units=2, planted=1)
    counts = count_firing(measured.firing, measured.thresholds, measured.index, units=2)
    wide = Finder(length=2, beam=100, search="beam")  # loses nothing at length 2
    observed = np.array([result.iou for result in find(wide, measured.index.cells, counts)])
    found = by_chance(
        measured, observed, lambda *part: find(wide, *part), shuffles=7, seed=3, numbers=np.array([40, 2])
    )
    for unit, number in enumerate((40, 2)):
        random = np.random.default_rng([3, number])
        null = []
        for _ in range(7):
            order = random.permutation(8)
            best = 0.0
            moved = np.zeros_like(active[unit])
            for image in range(8):  # the map of an image lies on another's labels, and its ignored pixels
                values = measured.firing
                row = np.flatnonzero((values.unit == unit) & (values.image == image))
                if len(row):
                    import torch

                    up = upsample(torch.from_numpy(values.maps[row]), SIZE)[0].numpy()
                    moved[order[image]] = (up > measured.thresholds[unit]) & ~ignored[order[image]]
            for a in range(5):
                for b in range(5):
                    for text in (f"c{a}", f"c{a} OR c{b}", f"c{a} AND c{b}", f"c{a} AND NOT c{b}"):
                        mask = evaluate(parse(text), lambda name: dense[int(name[1:])])
                        best = max(best, (mask & moved).sum() / (mask | moved).sum())
            null.append(best)
        assert found[unit].mean == pytest.approx(np.mean(null))
        assert found[unit].quantile95 == pytest.approx(np.quantile(null, 0.95))
        assert found[unit].p_value == (1 + sum(value >= observed[unit] - 1e-12 for value in null)) / 8


def test_chance_rejects_noise_at_its_own_rate_and_finds_what_is_planted():
    _, _, _, measured = made(9, images=24, units=60, planted=4)
    counts = count_firing(measured.firing, measured.thresholds, measured.index, units=60)
    observed = np.array([result.iou for result in search(measured.index.cells, counts)])
    found = by_chance(measured, observed, search, shuffles=59, seed=0)
    p_values = np.array([one.p_value for one in found])
    assert (p_values[:4] == 1 / 60).all()
    rejected = int((p_values[4:] <= 0.05).sum())
    # 56 noise units at 0.05: more than 8 has probability below 0.002.
    assert rejected <= 8
    assert 0.35 < p_values[4:].mean() < 0.65
    again = by_chance(measured, observed, search, shuffles=59, seed=0)
    assert again == found
    alone = Measured(measured.index, measured.firing.select([7]), measured.thresholds[7:8], measured.pixels)
    assert by_chance(alone, observed[7:8], search, shuffles=59, seed=0, numbers=np.array([7])) == [found[7]]
    assert by_chance(measured, observed, search, shuffles=59, seed=1)[7] != found[7]


def test_no_shuffles_are_refused():
    _, _, _, measured = made(0)
    with pytest.raises(InputError, match="at least 1"):
        by_chance(measured, np.zeros(4), search, shuffles=0)


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=12))
def test_correction_is_benjamini_and_hochbergs(values):
    p_values = np.array(values)
    got = corrected(p_values)
    for place, p in enumerate(values):
        # The smallest m p(k) / k over all k with p(k) >= p.
        ranked = sorted(values)
        steps = [len(values) * ranked[k - 1] / k for k in range(1, len(values) + 1) if ranked[k - 1] >= p]
        assert got[place] == pytest.approx(min(1.0, *steps) if steps else 1.0)


def test_against_untrained_units():
    assert against_untrained(np.array([0.5, 0.1]), np.array([0.1, 0.2, 0.3])).tolist() == [1 / 4, 1.0]


def test_resampling_counts_images_and_covers():
    dense, active, _, measured = made(4, images=40, planted=2)
    formulas = [parse("c0"), parse("c0 OR c3")]
    shared, pixels, own = image_counts(measured, 0, formulas)
    for row, formula in enumerate(formulas):
        mask = evaluate(formula, lambda name: dense[int(name[1:])])
        assert shared[row].tolist() == (mask & active[0]).sum((1, 2)).tolist()
        assert pixels[row].tolist() == mask.sum((1, 2)).tolist()
    assert own.tolist() == active[0].sum((1, 2)).tolist()
    draws = draw_images(40, 300, 1)
    assert (draws.sum(1) == 40).all()
    found = resampled(measured, 0, formulas, draws)
    value = literal_iou(dense, active, formulas[0], slice(None))[0]
    assert found.low < value < found.high
    scores = []
    for times in draws.astype(int):
        order = np.repeat(np.arange(40), times)
        scores.append([literal_iou(dense, active, formula, order)[0] for formula in formulas])
    scores = np.array(scores)
    assert [found.low, found.high] == pytest.approx(np.quantile(scores[:, 0], [0.025, 0.975]))
    assert found.win_probability == ((scores[:, 0] > scores[:, 1]) + (scores[:, 0] == scores[:, 1]) / 2).mean()
    assert resampled(measured, 0, formulas[:1], draws).win_probability is None


@given(st.integers(0, 200))
def test_scores_are_those_of_two_binary_variables(seed):
    random = np.random.default_rng(seed)
    formula, unit = random.random((2, 60)) < random.random((2, 1))
    found = scores_of(int((formula & unit).sum()), int(formula.sum()), int(unit.sum()), 60)
    both = int((formula & unit).sum())
    assert found.precision == (both / formula.sum() if formula.any() else 0)
    assert found.recall == (both / unit.sum() if unit.any() else 0)
    if formula.any() or unit.any():
        assert found.f1 == pytest.approx(2 * both / (formula.sum() + unit.sum()))
    if 0 < formula.sum() < 60 and 0 < unit.sum() < 60:
        assert found.correlation == pytest.approx(np.corrcoef(formula, unit)[0, 1], abs=1e-12)
    else:
        assert found.correlation == 0
    assert scores_of(0, 0, 0, 0).f1 == 0
    assert math.isfinite(scores_of(10**9, 10**9 + 5, 10**9 + 7, 10**10).correlation)


def test_all_evidence_together():
    _, _, _, measured = made(6, images=20, planted=2)
    counts = count_firing(measured.firing, measured.thresholds, measured.index, units=4)
    cells = measured.index.cells
    results = find(FINDER, cells, counts)
    rows = with_q_values(
        gather(
            measured, cells, counts, results, FINDER, Asked(shuffles=19, draws=50), held_out=None, numbers=np.arange(4)
        )
    )
    for row, result in zip(rows, results, strict=True):
        assert row.low <= result.iou <= row.high
        assert row.q_value >= row.p_value
        assert row.chance_mean <= row.chance_95
    assert rows[0].p_value == 1 / 20
    held = share_at_random(20, 0.4, 0)
    part = count_images(measured, ~held)
    found = find(FINDER, *part)
    asked = Asked(held_out=0.4, shuffles=19, draws=50)
    split = gather(measured, *part, found, FINDER, asked, held_out=held, numbers=np.arange(4))
    for row, result in zip(split, found, strict=True):
        assert row.low <= result.iou <= row.high  # the interval is of the images that were searched
        assert row.stability is None
    none = gather(
        measured, cells, counts, results, FINDER, Asked(shuffles=0, draws=0), held_out=None, numbers=np.arange(4)
    )
    assert all(row.p_value is None and row.low is None for row in none)


def test_auto_is_optimal_where_that_is_cheap():
    assert chosen_search(Finder(length=3), 600, 64) == "optimal"
    assert chosen_search(Finder(length=4), 600, 64) == "beam"
    assert chosen_search(Finder(length=3), 1197, 2048) == "beam"
    assert chosen_search(Finder(length=3, penalty=0.9), 60, 64) == "beam"
    assert chosen_search(Finder(length=9, search="optimal"), 60, 64) == "optimal"
    with pytest.raises(InputError, match="unknown search 'best'"):
        Finder(search="best")
    with pytest.raises(InputError, match="go with search='beam'"):
        Finder(search="optimal", penalty=0.9)


def test_concepts_of_the_images_where_a_unit_fires():
    dense, _, _, measured = made(8, images=6)
    sparse = Measured(measured.index, measured.firing.select([0, 1]), measured.thresholds[:2], measured.pixels)
    found = concepts_where_firing(sparse.index, sparse.firing, 3)
    for unit in range(3):
        images = set(sparse.firing.image[sparse.firing.unit == unit].tolist())
        for concept in range(5):
            assert found[unit, concept] == any(dense[concept, image].any() for image in images)
    assert not found[2].any()


@pytest.mark.parametrize(
    ("options", "said"),
    [({"penalty": 0}, "penalty 0"), ({"limit": 0}, "limit 0"), ({"compat": "other"}, "unknown compat"),
     ({"min_pixels": -1}, "min_pixels=-1"), ({"length": 0}, "length=0")],
)  # fmt: skip
def test_rules_are_refused_before_any_pass(options, said):
    with pytest.raises(InputError, match=said):
        Finder(**options)


def test_the_first_images_keep_their_columns():
    probe = ProbeSet("p", [0, 1, 2], (), None, ("a", "b", "c"), "h", columns={"split": ("train", "val", "train")})
    assert held_out_images(Asked(split_column="split"), probe.first(2)).tolist() == [False, True]
    assert (len(probe.first(2)), probe.first(2).hash, probe.first(9)) == (2, "h:2", probe)
