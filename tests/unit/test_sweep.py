from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_maps import saliency
from skimage.measure import label, regionprops

import explain
from explain.errors import InputError
from explain.localization import threshold_sweep
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
