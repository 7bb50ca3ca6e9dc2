from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_maps import saliency
from oracles import sweep as oracle
from skimage.measure import label, regionprops

import explain
from explain.errors import InputError
from explain.localization import threshold_sweep
from explain.localization._union import levels_of
from explain.localization.sweep import threshold_grid
from explain.opencv import largest_component
from explain.types import resize_maps

SHARES = torch.arange(100, dtype=torch.float64) / 100
shapes = st.tuples(st.integers(1, 8), st.integers(1, 8))


def one_by_one(plane, shares):
    """Threshold and label again for every threshold."""
    top = plane.max()
    rows = []
    for share in shares.tolist():
        box = largest_component((plane > share * top).numpy()) if top > 0 else None
        rows.append(box or (0, 0, 0, 0))
    return torch.tensor(rows)


@settings(deadline=None, max_examples=150)
@given(shapes.flatmap(lambda shape: arrays(np.int8, shape, elements=st.integers(-1, 4))))
def test_many_ties(plane):
    values = torch.from_numpy(plane.astype(np.float32))
    assert torch.equal(threshold_sweep(values[None], SHARES)[0], one_by_one(values, SHARES))


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([1e-38, 1e-6, 1.0, 1e30]))
def test_levels_count_the_thresholds_below(seed, steps, scale):
    rng = np.random.default_rng(seed)
    limits = (np.sort(rng.random(steps)).astype(np.float32) * np.float32(scale)).astype(np.float32)
    near = np.concatenate([limits, np.nextafter(limits, np.float32(-1)), np.nextafter(limits, np.float32(np.inf))])
    plane = np.concatenate([near, rng.normal(size=7).astype(np.float32) * np.float32(scale)])[None]
    assert np.array_equal(levels_of(plane, limits), (plane[..., None] > limits).sum(-1))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.booleans())
def test_upsampled_maps(seed, relu):
    plane = torch.randn(1, 1, 7, 7, generator=torch.Generator().manual_seed(seed))
    large = resize_maps(plane.relu() if relu else plane, (97, 64))[0]
    assert torch.equal(threshold_sweep(large, SHARES)[0], one_by_one(large[0], SHARES))


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10**6))
def test_the_same_boxes_as_locate(seed):
    plane = torch.randn(1, 1, 7, 7, generator=torch.Generator().manual_seed(seed))
    swept = threshold_sweep(resize_maps(plane, (97, 64))[0], SHARES)[0]
    maps = saliency(plane, size=(97, 64))
    for number in range(0, 100, 4):
        ((found,),) = explain.locate(maps, number / 100)
        assert found.xyxy.tolist() == [swept[number].tolist()]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6))
def test_scikit_image_finds_the_same(seed):
    plane = torch.randn(1, 12, 15, generator=torch.Generator().manual_seed(seed))
    shares = torch.tensor([0.0, 0.2, 0.5, 0.9])
    for box, share in zip(threshold_sweep(plane, shares)[0].tolist(), shares.tolist(), strict=True):
        regions = regionprops(label((plane[0] > share * plane.max()).numpy(), connectivity=2))
        most = max(region.area for region in regions)
        tied = [region for region in regions if region.area == most]
        first = min(tied, key=lambda region: region.coords.tolist()[0])
        y0, x0, y1, x1 = first.bbox
        assert box == [x0, y0, x1, y1]


@settings(deadline=None, max_examples=150)
@given(
    shapes.flatmap(lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 1, 2, 3, 50, 200, 255]))),
    st.lists(st.integers(0, 999), min_size=1, max_size=12, unique=True),
)
def test_opencv_finds_the_same(plane, chosen):
    grid = threshold_grid(1000)[sorted(chosen)]
    maps = torch.from_numpy(plane)[None]
    swept = threshold_sweep(maps, grid, semantics="opencv")[0].tolist()
    (every,) = threshold_sweep(maps, grid, semantics="opencv", components="all")
    for number, share in enumerate(grid.tolist()):
        largest = oracle.boxes_at(plane, share, every=False)
        assert swept[number] == list(largest[0] if largest else (0, 0, 0, 0))
        assert sorted(map(tuple, every.at(number).tolist())) == sorted(oracle.boxes_at(plane, share, every=True))


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 10**6))
def test_opencv_finds_the_same_in_noise(seed):
    rng = np.random.default_rng(seed)
    plane = rng.integers(0, rng.integers(2, 9), rng.integers(2, 26, 2)).astype(np.float64)
    plane /= max(1, plane.max())
    grid = torch.arange(0, 1, 0.03, dtype=torch.float64)
    swept = threshold_sweep(torch.from_numpy(plane)[None], grid, semantics="opencv")[0].tolist()
    for box, share in zip(swept, grid.tolist(), strict=True):
        largest = oracle.boxes_at(oracle.eight_bit(plane), share, every=False)
        assert box == list(largest[0] if largest else (0, 0, 0, 0))


def test_every_component_in_pixels_has_no_holes():
    plane = torch.zeros(1, 7, 9)
    plane[0, 1:6, 1:6] = 2
    plane[0, 3, 3] = 0
    plane[0, 2, 7] = 1
    (found,) = threshold_sweep(plane, torch.tensor([0.2, 0.7]), components="all")
    assert found.at(0).tolist() == [[1, 1, 6, 6], [7, 2, 8, 3]]
    assert found.at(1).tolist() == [[1, 1, 6, 6]]
    assert found.pixels.tolist() == [24, 1] and not found.holes.any()
    (found,) = threshold_sweep(plane / 2, torch.tensor([0.2, 0.7]), semantics="opencv", components="all")
    assert found.at(0).tolist() == [[1, 1, 6, 6], [7, 2, 8, 3], [2, 2, 5, 5]]  # the hole's border comes last
    with pytest.raises(InputError, match="there are 2"):
        found.at(2)


def test_a_thousand_thresholds_by_default():
    maps = torch.rand(2, 12, 9, generator=torch.Generator().manual_seed(0))
    for semantics in ("pixels", "opencv"):
        found = threshold_sweep(maps, semantics=semantics)
        assert found.shape == (2, 1000, 4)
        assert torch.equal(found, threshold_sweep(maps, threshold_grid(), semantics=semantics, workers=2))
    assert threshold_grid()[350] == 350 * 0.001  # as numpy.arange(0, 1, 0.001)


def test_opencv_takes_maps_within_one():
    with pytest.raises(InputError, match="within 0…1"):
        threshold_sweep(torch.full((1, 3, 3), 2.0), semantics="opencv")
    with pytest.raises(InputError, match="'pixels' or 'opencv'"):
        threshold_sweep(torch.zeros(1, 3, 3), semantics="clean")
    with pytest.raises(InputError, match="'largest' or 'all'"):
        threshold_sweep(torch.zeros(1, 3, 3), components="some")


def test_maps_without_positive_values_have_zeros():
    maps = torch.stack([torch.zeros(4, 5), -torch.ones(4, 5), torch.ones(4, 5)])
    found = threshold_sweep(maps, SHARES)
    assert found.dtype == torch.int64
    assert found.shape == (3, 100, 4)
    assert (found[:2] == 0).all()
    assert (found[2] == torch.tensor([0, 0, 5, 4])).all()


def test_threads_and_precision_change_nothing():
    maps = torch.randn(6, 30, 31, generator=torch.Generator().manual_seed(0))
    expected = threshold_sweep(maps, SHARES)
    assert torch.equal(threshold_sweep(maps, SHARES, workers=3), expected)
    assert torch.equal(threshold_sweep(maps, SHARES.float()), expected)
    assert torch.equal(threshold_sweep(maps.requires_grad_(), SHARES), expected)


@pytest.mark.parametrize(
    ("maps", "shares", "message"),
    [
        (torch.ones(2, 2), [0.2], "needs"),
        (torch.ones(1, 2, 2), [], "shares of the maximum"),
        (torch.ones(1, 2, 2), [0.2, 1.0], "shares of the maximum"),
        (torch.ones(1, 2, 2), [-0.1, 0.2], "shares of the maximum"),
        (torch.ones(1, 2, 2), [0.3, 0.2], "rise strictly"),
        (torch.full((1, 2, 2), torch.nan), [0.2], "NaN"),
        (torch.full((1, 2, 2), torch.inf), [0.2], "infinity"),
    ],
)
def test_wrong_input(maps, shares, message):
    with pytest.raises(InputError, match=message), warnings.catch_warnings():
        threshold_sweep(maps, torch.tensor(shares))
