import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.neurons import dense_iou, pillow_mask

from explain.errors import InputError
from explain.neurons.cells import build_index, cell_map, merge_cells
from explain.neurons.counts import (
    CountAccumulator,
    active_masks,
    count_units,
    intersections,
    iou,
    merge_counts,
    unit_counts,
    upsample,
)
from explain.neurons.formula import evaluate, parse
from explain.types import Concept, Labels

CONCEPTS = tuple(Concept(f"c{number}", "object") for number in range(4))
SIZE = (9, 10)


def probe(seed, images=4, units=3, grid=(3, 4), ties=False):
    """Labels, maps and thresholds; with ties, many values equal the threshold."""
    rng = np.random.default_rng(seed)
    labels = [
        Labels(rng.integers(-1, 4, (2, *SIZE)).astype(np.int32), (), rng.random(SIZE) < 0.1) for _ in range(images)
    ]
    maps = rng.standard_normal((images, units, *grid)).astype(np.float32)
    maps = np.round(maps * 2) / np.float32(3) if ties else maps
    limits = np.quantile(maps, 0.8, axis=(0, 2, 3), method="higher").astype(np.float32)
    return labels, torch.from_numpy(maps), torch.from_numpy(limits)


def dense_counts(masks, index):
    """(U, M) by a plain loop over pixels; masks are (b, u, H, W)."""
    counts = np.zeros((masks.shape[1], len(index.cells)), np.int64)
    for image, unit, y, x in np.argwhere(masks):
        cell = index.cell_ids(image)[y, x]
        if cell >= 0:
            counts[unit, cell] += 1
    return counts


def stacked(index):
    return np.stack([index.cell_ids(image) for image in range(len(index))])


def as_dense(counts, cells):
    dense = np.zeros((len(counts), cells), np.int64)
    rows = np.repeat(np.arange(len(counts)), np.diff(counts.indptr))
    dense[rows, counts.cells] = counts.counts
    return dense


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([(3, 4), (1, 1), (9, 10), (20, 11)]))
def test_counts_equal_dense_masks(seed, ties, grid):
    labels, maps, limits = probe(seed, grid=grid, ties=ties)
    index = build_index(CONCEPTS, labels)
    large = upsample(maps.flatten(0, 1), SIZE).unflatten(0, maps.shape[:2])
    expected = dense_counts((large > limits[:, None, None]).numpy(), index)
    got = count_units(maps, limits, stacked(index), len(index.cells))
    assert np.array_equal(as_dense(got, len(index.cells)), expected)
    assert (np.diff(got.cells[got.indptr[1] : got.indptr[2]]) > 0).all()
    assert (got.counts > 0).all()
    assert got.active.tolist() == expected.sum(1).tolist()
    assert [part.dtype for part in (got.indptr, got.cells, got.counts, got.active)] == [np.int64] * 4


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("grid", [(7, 7), (1, 1), (14, 13), (150, 40)])
def test_interpolate_gives_the_same_masks(seed, grid):
    _, maps, limits = probe(seed, images=6, units=4, grid=grid)
    large = F.interpolate(maps, size=(112, 112), mode="bilinear", align_corners=False)
    got = upsample(maps.flatten(0, 1), (112, 112)).unflatten(0, (6, 4))
    # interpolate keeps source positions in float32, which costs more digits the larger the map
    close = 1e-6 * max(grid)
    assert (got - large).abs().max() < close
    limit = limits[:, None, None]
    differing = (got > limit) != (large > limit)
    assert (large - limit).abs()[differing].max() < close if differing.any() else True


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 40))
def test_upsampled_values_stay_between_their_corners(seed, old, new):
    rng = np.random.default_rng(seed)
    maps = torch.from_numpy((rng.standard_normal((3, old, old)) * 10 ** rng.uniform(-9, 9)).astype(np.float32))
    large = upsample(maps, (new, new))
    assert (large.amax((1, 2)) <= maps.amax((1, 2))).all()
    assert (large.amin((1, 2)) >= maps.amin((1, 2))).all()
    assert torch.equal(large[1], upsample(maps[1:2], (new, new))[0])
    flat = torch.full((1, old, old), float(maps[0, 0, 0]))
    assert (upsample(flat, (new, new)) == maps[0, 0, 0]).all()


@pytest.mark.parametrize("seed", range(5))
def test_pillow_gives_the_same_masks(seed):
    _, maps, limits = probe(seed, images=6, units=4, grid=(7, 7))
    masks = np.zeros((6, 4, 112, 112), bool)
    for image, unit, mask in active_masks(maps, limits, (112, 112)):
        masks[image.numpy(), unit.numpy()] = mask.numpy()
    for image, unit in np.ndindex(6, 4):
        expected = pillow_mask(maps[image, unit].numpy(), limits[unit].item(), (112, 112))
        assert np.array_equal(masks[image, unit], expected)


def test_the_budget_changes_nothing():
    _, maps, limits = probe(0, units=5)
    one, many = (list(active_masks(maps, limits, SIZE, budget=budget)) for budget in (1, 1 << 24))
    assert len(one) > len(many) == 1
    assert all(
        torch.equal(torch.cat(a), torch.cat(b))
        for a, b in zip(zip(*one, strict=True), zip(*many, strict=True), strict=True)
    )


def test_only_maps_that_fire_are_upsampled():
    maps = torch.zeros(2, 3, 2, 2)
    maps[1, 2, 0, 0] = 1.0
    ((image, unit, mask),) = active_masks(maps, torch.zeros(3), (4, 4))
    assert (image.tolist(), unit.tolist()) == ([1], [2])
    assert mask[0].tolist() == [[True, True, True, False]] * 3 + [[False] * 4]


def test_batches_add_up_in_any_order():
    labels, maps, limits = probe(5, images=6)
    index = build_index(CONCEPTS, labels)
    ids, cells = stacked(index), len(index.cells)
    whole = count_units(maps, limits, ids, cells)
    accumulator = CountAccumulator(3, cells)
    for batch in (slice(4, 6), slice(0, 1), slice(1, 4)):
        accumulator.add(maps[batch], limits, ids[batch])
    parts = [count_units(maps[batch], limits, ids[batch], cells) for batch in (slice(0, 2), slice(2, 6))]
    for got in (accumulator.finish(), accumulator.finish(), merge_counts(parts, cells)):
        for name in ("indptr", "cells", "counts"):
            assert np.array_equal(getattr(got, name), getattr(whole, name))


def test_shards_with_tables_of_their_own_merge():
    labels, maps, limits = probe(6, images=6)
    whole = build_index(CONCEPTS, labels)
    expected = count_units(maps, limits, stacked(whole), len(whole.cells))
    shards = [build_index(CONCEPTS, labels[:2]), build_index(CONCEPTS, labels[2:])]
    table = merge_cells(shards[0].cells, shards[1].cells)
    parts = [
        count_units(part, limits, stacked(shard), len(shard.cells)).mapped(cell_map(shard.cells, table), len(table))
        for part, shard in zip((maps[:2], maps[2:]), shards, strict=True)
    ]
    got = merge_counts(parts, len(table))
    assert np.array_equal(as_dense(got, len(table)), as_dense(expected, len(table)))


def test_a_unit_that_never_fires_has_an_empty_row():
    maps = torch.zeros(1, 2, 2, 2)
    maps[0, 1] = 1.0
    got = count_units(maps, torch.zeros(2), np.zeros((1, 4, 4), np.int64), 1)
    assert (got.indptr.tolist(), got.counts.tolist(), got.active.tolist()) == ([0, 0, 1], [16], [0, 16])
    none = count_units(maps, torch.ones(2), np.zeros((1, 4, 4), np.int64), 1)
    assert none.indptr.tolist() == [0, 0, 0]


def test_units_are_selected_in_order():
    dense = np.array([[1, 0, 2], [0, 0, 0], [0, 4, 5]])
    got = unit_counts(dense).select([2, 1, 0, 2])
    assert np.array_equal(as_dense(got, 3), dense[[2, 1, 0, 2]])


@pytest.mark.parametrize("text", ["c0", "c0 OR c1", "(c0 OR c1) AND NOT c2", "NOT c3", "c0 AND NOT c0"])
def test_iou_equals_that_of_dense_masks(text):
    labels, maps, limits = probe(8, images=5)
    labels = [Labels(one.maps) for one in labels]
    index = build_index(CONCEPTS, labels)
    counts = count_units(maps, limits, stacked(index), len(index.cells))
    units = (F.interpolate(maps, size=SIZE, mode="bilinear") > limits[:, None, None]).numpy()
    formula = parse(text)
    masks = {f"c{c}": np.stack([(one.maps == c).any(0) for one in labels]) for c in range(4)}
    mask = evaluate(formula, masks.__getitem__)
    assert iou(index.cells, formula, counts).tolist() == [dense_iou(units[:, u], mask) for u in range(3)]
    shared, pixels = intersections(index.cells, formula, counts)
    assert shared.tolist() == [(units[:, u] & mask).sum() for u in range(3)]
    assert pixels == mask.sum()


def test_errors():
    maps, limits, ids = torch.zeros(2, 3, 2, 2), torch.zeros(3), np.zeros((2, 4, 4), np.int64)
    with pytest.raises(InputError, match="linear units are"):
        count_units(maps[0], limits, ids[:3], 1)
    with pytest.raises(InputError, match="3 units need as many thresholds"):
        count_units(maps, limits[:2], ids, 1)
    with pytest.raises(InputError, match="2 images"):
        count_units(maps, limits, ids[:1], 1)
    with pytest.raises(InputError, match="but there are 0 cells"):
        count_units(maps, limits, ids, 0)
    with pytest.raises(InputError, match="3 units, 4 were announced"):
        CountAccumulator(4, 1).add(maps, limits, ids)
    with pytest.raises(InputError, match="cannot be merged"):
        merge_counts([unit_counts(np.ones((1, 2))), unit_counts(np.ones((2, 2)))], 2)
