"""Counts from the maps that fire, against masks made pixel by pixel."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.neurons import pillow_mask

from explain.errors import InputError
from explain.maps import Cells as Centres
from explain.maps import resize_aligned
from explain.neurons.cells import build_index
from explain.neurons.firing import Firing, _count_dense, _limits, count_firing, firing_from_pieces, merge_firing
from explain.neurons.upsampling import Taps, make_axes, upsample
from explain.types import Concept, Labels

CONCEPTS = tuple(Concept(f"c{number}", "object") for number in range(4))
SIZE = (13, 19)


def probe(seed, images=5, units=3, grid=(3, 4), ties=False, size=SIZE):
    """An index, all maps (n, u, h, w), thresholds (u,) and the store of the maps above them."""
    rng = np.random.default_rng(seed)
    labels = [
        Labels(rng.integers(-1, 4, (2, *size)).astype(np.int32), (), rng.random(size) < 0.1) for _ in range(images)
    ]
    maps = rng.standard_normal((images, units, *grid)).astype(np.float32)
    maps = np.round(maps * 2) / np.float32(3) if ties else maps * np.float32(10.0 ** rng.integers(-3, 4))
    limits = np.quantile(maps, 0.8, axis=(0, 2, 3), method="higher").astype(np.float32)
    return build_index(CONCEPTS, labels), maps, limits, store(maps, limits)


def store(maps, limits):
    image, unit = np.nonzero(maps.max((2, 3)) > limits)
    return firing_from_pieces([(unit, image, maps[image, unit])], maps.shape[2:])


def by_pixel(masks, index, images=None, weights=None):
    """(U, M) by a plain loop over pixels of bool (n, u, H, W)."""
    counts = np.zeros((masks.shape[1], len(index.cells)), np.int64)
    for number, unit, y, x in np.argwhere(masks):
        image = number if images is None else images[number]
        if image >= 0 and index.cell_ids(image)[y, x] >= 0:
            counts[unit, index.cell_ids(image)[y, x]] += 1 if weights is None else weights[image]
    return counts


def dense(counts, cells):
    table = np.zeros((len(counts), cells), np.int64)
    for unit in range(len(counts)):
        row = slice(counts.indptr[unit], counts.indptr[unit + 1])
        assert (np.diff(counts.cells[row]) > 0).all()
        table[unit, counts.cells[row]] = counts.counts[row]
    assert (counts.counts > 0).all()
    return table


def lerp_mask(grid, limit, size):
    """Bilinear, pixel by pixel: columns first, float32 throughout, from the nearer value."""
    one = np.float32

    def taps(old, new, at):
        place = min(max((at + 0.5) * old / new - 0.5, 0), old - 1)
        near = round(place)  # half to even
        return near, near + int(np.sign(place - near)), one(abs(place - near))

    out = np.zeros(size, bool)
    for y in range(size[0]):
        a, b, down = taps(grid.shape[0], size[0], y)
        for x in range(size[1]):
            c, d, right = taps(grid.shape[1], size[1], x)
            top, bottom = (one(row[c] + one(one(row[d] - row[c]) * right)) for row in (grid[a], grid[b]))
            out[y, x] = one(top + one(one(bottom - top) * down)) > limit
    return out


def masks_of(maps, limits, size, mask):
    return np.array([[mask(one, limit, size) for one, limit in zip(row, limits, strict=True)] for row in maps])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([(3, 4), (1, 1), (13, 19), (20, 21), (7, 1), (5, 19)]))
def test_bilinear_counts_are_those_of_a_loop_over_pixels(seed, ties, grid):
    index, maps, limits, firing = probe(seed, 3, 2, grid, ties)
    expected = by_pixel(masks_of(maps, limits, SIZE, lerp_mask), index)
    got = count_firing(firing, limits, index, units=2, workers=2)
    assert np.array_equal(dense(got, len(index.cells)), expected)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([(3, 4), (1, 1), (13, 19), (7, 7), (12, 18)]))
def test_pil_counts_are_those_of_pillow(seed, ties, grid):
    index, maps, limits, firing = probe(seed, 4, 2, grid, ties)
    expected = by_pixel(masks_of(maps, limits, SIZE, pillow_mask), index)
    got = count_firing(firing, limits, index, units=2, upsampling="pil")
    assert np.array_equal(dense(got, len(index.cells)), expected)


@pytest.mark.parametrize("size", [(112, 112), (113, 113), (40, 7)])
def test_pil_gives_the_bits_of_pillow(size):
    from PIL import Image

    rng = np.random.default_rng(0)
    for grid in ((7, 7), (6, 6), (14, 3)):
        maps = (rng.standard_normal((20, *grid)) * 10.0 ** rng.integers(-6, 6, (20, 1, 1))).astype(np.float32)
        large = upsample(torch.from_numpy(maps), size, "pil").numpy()
        for one, got in zip(maps, large, strict=True):
            expected = np.asarray(Image.fromarray(one).resize(size[::-1], Image.Resampling.BILINEAR))
            assert np.array_equal(got, expected)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([(3, 4), (13, 19), (20, 30), (2, 7)]))
def test_nearest_counts_take_the_cell_that_the_centre_lies_in(seed, grid):
    index, maps, limits, firing = probe(seed, 3, 2, grid)

    def nearest(one, limit, size):
        rows, columns = (
            [int((at + 0.5) * old / new) for at in range(new)] for old, new in zip(grid, size, strict=True)
        )
        return np.array([[one[y, x] > limit for x in columns] for y in rows])

    got = count_firing(firing, limits, index, units=2, upsampling="nearest")
    assert np.array_equal(dense(got, len(index.cells)), by_pixel(masks_of(maps, limits, SIZE, nearest), index))


def test_receptive_fields_lie_where_maps_are_drawn():
    index, maps, limits, firing = probe(3, 4, 2, (4, 5))
    centres, inside = Centres((11.0, 3.0), (9.0, 12.0)), (64, 96)
    axes = make_axes("receptive-field", (4, 5), SIZE, centres=centres, input_size=inside)
    got = count_firing(firing, limits, index, units=2, upsampling=axes)
    large = resize_aligned(torch.from_numpy(maps), SIZE, centres, inside)
    assert (upsample(torch.from_numpy(maps[0]), SIZE, axes) - large[0]).abs().max() < 1e-5 * np.abs(maps).max()
    assert np.array_equal(dense(got, len(index.cells)), by_pixel((large.numpy() > limits[:, None, None]), index))
    assert not np.array_equal(got.counts, count_firing(firing, limits, index, units=2).counts)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 10**6),
    st.booleans(),
    st.sampled_from([(3, 4), (7, 7), (13, 19), (30, 30)]),
    st.sampled_from(["bilinear", "nearest", "pil"]),
)
def test_the_compiled_loop_and_the_dense_way_agree(seed, ties, grid, how):
    if how == "pil" and grid == (30, 30):
        how = "bilinear"
    index, maps, limits, firing = probe(seed, 6, 3, grid, ties)
    rng = np.random.default_rng(seed)
    images, weights = rng.integers(-1, 6, 6), rng.integers(0, 4, 6)
    upper = (limits + np.abs(limits) * rng.random(3)).astype(np.float32)
    options = {"images": images, "weights": weights, "upper": upper}
    got = count_firing(firing, limits, index, units=3, upsampling=how, **options)
    axes = make_axes(how, grid, SIZE)
    both = _limits(limits, upper, 3)
    device = torch.device("cpu")
    other = _count_dense(firing, both, images[firing.image], weights, index, 3, axes, device)
    large = np.stack([upsample(torch.from_numpy(one), SIZE, how).numpy() for one in maps])
    masks = (large > limits[:, None, None]) & (large <= upper[:, None, None])
    expected = by_pixel(masks, index, images, weights)
    for counts in (got, other):
        assert np.array_equal(dense(counts, len(index.cells)), expected)
        assert [part.dtype for part in (counts.indptr, counts.cells, counts.counts)] == [np.int64] * 3


def test_values_on_the_threshold_and_just_above():
    """Flat maps, and slopes of single bits: nothing is skipped that counts."""
    index, maps, _, _ = probe(0, 4, 1, (3, 4))
    maps[:] = np.float32(0.1)
    maps[1, 0, 1, 1] = np.nextafter(np.float32(0.1), np.float32(1))
    maps[2, 0] = np.nextafter(np.float32(0.1), np.float32(1))
    limits = np.array([0.1], np.float32)
    firing = store(maps, limits)
    assert firing.image.tolist() == [1, 2]
    for how in ("bilinear", "pil", "nearest"):
        large = np.stack([upsample(torch.from_numpy(one), SIZE, how).numpy() for one in maps])
        got = count_firing(firing, limits, index, units=1, upsampling=how)
        assert np.array_equal(dense(got, len(index.cells)), by_pixel(large > limits[0], index))
        assert got.active[0] > 0


def test_shuffled_labels_subsets_and_bootstraps():
    index, maps, limits, firing = probe(7, 6, 3)
    large = np.stack([upsample(torch.from_numpy(one), SIZE).numpy() for one in maps]) > limits[:, None, None]
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(6)
    got = count_firing(firing, limits, index, units=3, images=shuffled)
    assert np.array_equal(dense(got, len(index.cells)), by_pixel(large, index, shuffled))
    held = np.array([0, -1, 2, -1, -1, 5])
    rest = np.array([-1, 1, -1, 3, 4, -1])
    parts = [
        dense(count_firing(firing, limits, index, units=3, images=part), len(index.cells)) for part in (held, rest)
    ]
    assert np.array_equal(parts[0] + parts[1], by_pixel(large, index))
    drawn = np.bincount(rng.integers(0, 6, 6), minlength=6)
    got = count_firing(firing, limits, index, units=3, weights=drawn)
    assert np.array_equal(dense(got, len(index.cells)), by_pixel(large, index, None, drawn))


def test_units_of_a_range_are_between_two_thresholds():
    index, maps, limits, firing = probe(8, 6, 2)
    upper = np.quantile(maps, 0.95, axis=(0, 2, 3), method="higher").astype(np.float32)
    parts = [
        count_firing(firing, limits, index, units=2, upper=upper),
        count_firing(firing, upper, index, units=2),
    ]
    whole = dense(count_firing(firing, limits, index, units=2), len(index.cells))
    assert np.array_equal(sum(dense(part, len(index.cells)) for part in parts), whole)
    assert all(part.active.min() > 0 for part in parts)


def test_workers_change_nothing_and_units_may_be_silent():
    index, _, limits, firing = probe(1, 6, 3)
    firing = Firing(firing.unit * 3 + 1, firing.image, firing.maps)
    limits = np.repeat(limits, 3)
    one, many = (count_firing(firing, limits, index, units=9, workers=workers) for workers in (1, 5))
    assert np.array_equal(one.indptr, many.indptr)
    assert np.array_equal(one.cells, many.cells)
    assert np.array_equal(one.counts, many.counts)
    assert (np.diff(one.indptr)[[0, 2, 3, 5, 6, 8]] == 0).all()
    told = []
    none = count_firing(store(np.zeros((6, 2, 3, 4), np.float32), np.zeros(2)), np.zeros(2), index, units=2)
    assert none.indptr.tolist() == [0, 0, 0]
    count_firing(firing, limits, index, units=9, progress=lambda *done: told.append(done))
    assert told[-1] == (9, 9)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32])
def test_label_numbers_may_be_wide(kind):
    index, maps, limits, firing = probe(4, 2, 1, (3, 3), size=(256, 257))
    assert index.local.dtype == np.uint8
    marked = index.local == 255  # ignored
    index = replace(index, local=np.where(marked, np.iinfo(kind).max, index.local).astype(kind))
    large = np.stack([upsample(torch.from_numpy(one), (256, 257)).numpy() for one in maps]) > limits[:, None, None]
    got = count_firing(firing, limits, index, units=1)
    expected = np.zeros(len(index.cells) + 1, np.int64)
    for image in range(2):
        np.add.at(expected, index.cell_ids(image)[large[image, 0]], 1)
    assert np.array_equal(dense(got, len(index.cells))[0], expected[:-1])


def test_the_store_is_sorted_selected_and_merged():
    _, maps, limits, firing = probe(2, 8, 4)
    pairs = list(zip(firing.unit.tolist(), firing.image.tolist(), strict=True))
    assert pairs == sorted(pairs)
    assert all((firing.maps[at] == maps[image, unit]).all() for at, (unit, image) in enumerate(pairs))
    assert firing.indptr(5).tolist() == [sum(unit < u for unit, _ in pairs) for u in range(6)]
    few = firing.select([3, 1])
    assert list(zip(few.unit, few.image, strict=True)) == [
        *((0, image) for unit, image in pairs if unit == 3),
        *((1, image) for unit, image in pairs if unit == 1),
    ]
    assert (few.maps[0] == maps[few.image[0], 3]).all()
    halves = [store(maps[part], limits) for part in (slice(0, 3), slice(3, 8))]
    shards = [Firing(half.unit, half.image + first, half.maps) for half, first in zip(halves, (0, 3), strict=True)]
    merged = merge_firing(shards[::-1])
    for name in ("unit", "image", "maps"):
        assert np.array_equal(getattr(merged, name), getattr(firing, name))
    assert firing.nbytes == firing.maps.nbytes + 16 * len(firing)


def test_errors():
    index, _, limits, firing = probe(0, 3, 2)
    for options, message in [
        ({"units": 1}, "1 units need as many thresholds"),
        ({"units": 2, "upper": limits[:1]}, "2 units need as many"),
        ({"units": 2, "images": np.array([0, 1])}, "name image 2, but there are 2"),
        ({"units": 2, "images": np.array([0, 1, 9])}, "labels of image 9"),
        ({"units": 2, "weights": np.array([0, -1, 2])}, "3 whole numbers"),
        ({"units": 2, "upsampling": "bilinea"}, "near: bilinear"),
        ({"units": 2, "upsampling": "receptive-field"}, "where the cells look"),
        ({"units": 2, "upsampling": make_axes("nearest", (9, 9), SIZE)}, "do not fit"),
    ]:
        with pytest.raises(InputError, match=message):
            count_firing(firing, limits, index, **options)
    with pytest.raises(InputError, match="Pillow's filter averages"):
        make_axes("pil", (20, 20), SIZE)
    with pytest.raises(InputError, match="name unit 1, but there are 1"):
        count_firing(firing, limits[:1], index, units=1)
    with pytest.raises(InputError, match="cannot be merged"):
        merge_firing([firing, store(np.ones((1, 1, 2, 2), np.float32), np.zeros(1))])
    bad = Taps(np.array([0]), np.array([5]), np.zeros(1), np.ones(1))
    with pytest.raises(InputError, match="do not fit"):
        make_axes((bad, bad), (3, 4), (1, 1))
