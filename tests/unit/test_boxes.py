from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_maps import saliency
from oracles.boxes import box_at, pixel_iou
from oracles.cam import bilinear

import explain
from explain.errors import InputError
from explain.localization import box_iou
from explain.localization.boxes import image_maps
from explain.nets import Preprocess
from explain.types import Boxes, Geometry

small = st.tuples(st.integers(1, 7), st.integers(1, 7))


@pytest.mark.filterwarnings("ignore:1 map.* nowhere positive")
@settings(deadline=None, max_examples=200)
@given(
    small.flatmap(lambda shape: arrays(np.int8, shape, elements=st.integers(-2, 4))),
    st.sampled_from([0, 0.2, 0.25, 0.5, 0.75]),
)
def test_boxes_equal_those_of_flood_fill(plane, threshold):
    ((found,),) = explain.locate(saliency(plane[None, None]), threshold)
    expected = box_at(plane.astype(np.float32), threshold)
    assert found.xyxy.tolist() == ([] if expected is None else [list(map(float, expected))])
    assert len(found) == len(found.scores) == (expected is not None)
    assert found.xyxy.shape[1] == 4


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([(9, 13), (20, 11)]))
def test_maps_are_upsampled_before_they_are_cut(seed, size):
    plane = np.random.default_rng(seed).standard_normal((3, 4)).astype(np.float32)
    plane[0, 0] = 3.0
    large = bilinear(plane, size)
    if np.abs(large - np.float32(0.2) * large.max()).min() < 1e-5:
        return  # rounding decides
    ((found,),) = explain.locate(saliency(plane[None, None], size=size))
    assert found.xyxy.tolist() == [list(map(float, box_at(large, 0.2)))]
    geometry = Geometry(size, (7, 7), (size[0] / 7, size[1] / 7))
    ((same,),) = explain.locate(saliency(plane[None, None], (geometry,), (7, 7)))
    assert same.xyxy.tolist() == found.xyxy.tolist()
    assert (same.frame, found.frame) == ("original", "input")


def test_by_hand():
    plane = np.zeros((4, 6))
    plane[1:3, 1:3] = 1.0  # 4 pixels
    plane[0:3, 4] = 5.0  # 3 pixels, higher
    ((found,),) = explain.locate(saliency(plane[None, None]), 0.1)
    assert found.xyxy.tolist() == [[1, 1, 3, 3]]
    ((found,),) = explain.locate(saliency(plane[None, None]), 0.2)  # 1 is not above 0.2 * 5
    assert found.xyxy.tolist() == [[4, 0, 5, 3]]
    assert repr(found) == "Boxes([[4, 0, 5, 3]], frame='input')"


def test_ties_and_corners():
    plane = np.zeros((3, 5))
    plane[2, 0] = plane[0, 4] = 1
    ((found,),) = explain.locate(saliency(plane[None, None]))
    assert found.xyxy.tolist() == [[4, 0, 5, 1]]
    ((diagonal,),) = explain.locate(saliency(np.eye(3)[None, None]))
    assert diagonal.xyxy.tolist() == [[0, 0, 3, 3]]


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_a_map_that_is_nowhere_positive_has_no_box(value):
    maps = saliency(np.full((2, 1, 3, 3), value))
    with pytest.warns(UserWarning, match="2 map"):
        found = explain.locate(maps)
    assert [len(row[0]) for row in found] == [0, 0]
    ((flat,),) = explain.locate(saliency(np.full((1, 1, 3, 4), 2.0)))
    assert flat.xyxy.tolist() == [[0, 0, 4, 3]]


def test_every_image_and_class_has_its_box_and_score():
    values = np.zeros((2, 3, 4, 4))
    for b, k in np.ndindex(2, 3):
        values[b, k, b, k] = 1
    found = explain.locate(saliency(values))
    assert [[boxes.xyxy.tolist() for boxes in row] for row in found] == [
        [[[k, b, k + 1, b + 1]] for k in range(3)] for b in range(2)
    ]
    assert [[float(boxes.scores[0]) for boxes in row] for row in found] == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("scale", [1e-30, 1e20])
def test_boxes_do_not_depend_on_the_scale(scale):
    plane = np.random.default_rng(0).standard_normal((1, 1, 9, 9)).astype(np.float32)
    assert (
        explain.locate(saliency(plane))[0][0].xyxy.tolist()
        == explain.locate(saliency(plane * np.float32(scale)))[0][0].xyxy.tolist()
    )


def test_what_cannot_be_cut():
    for threshold in (-0.1, 1.0, 20):
        with pytest.raises(InputError, match="out of range"):
            explain.locate(saliency(np.eye(2)[None, None]), threshold)
    for value in (np.nan, np.inf):
        with pytest.raises(InputError, match="NaN or infinity"):
            explain.locate(saliency(np.full((1, 1, 2, 2), value)))


def test_boxes_of_a_crop_lie_in_the_image():
    """A crop of the middle 30x30 of 40x60, shown at 10x10: region pixels are image pixels."""
    geometry = Geometry((40, 60), (10, 10), (3.0, 3.0), (5.0, 15.0))
    assert geometry.region == (5, 15, 35, 45)
    plane = np.zeros((1, 1, 10, 10))
    plane[0, 0, 2:4, 6:9] = 1
    ((found,),) = explain.locate(saliency(plane, (geometry,), (10, 10)), 0.5)
    assert found.frame == "original"
    assert found.xyxy.tolist() == [[15 + 18, 5 + 6, 15 + 27, 5 + 12]]
    known = Preprocess((16, 16), crop_from=20).geometry((100, 50))
    assert not known.covers
    assert image_maps(torch.ones(1, 2, 2), known, (16, 16)).shape == (1, 40, 40)


def as_boxes(rows, frame="input"):
    xyxy = torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)
    return Boxes(xyxy, torch.zeros(len(xyxy)), frame)


corners = st.tuples(*[st.integers(0, 6)] * 4).map(
    lambda c: [min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3])]
)


@settings(deadline=None, max_examples=100)
@given(st.lists(corners, min_size=1, max_size=3), st.lists(corners, min_size=1, max_size=3))
def test_iou_counts_pixels(first, second):
    found = box_iou(as_boxes(first), as_boxes(second))
    expected = [[pixel_iou(a, b) for b in second] for a in first]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_frames_do_not_mix():
    with pytest.raises(InputError, match="frame 'input' cannot be compared with boxes of frame 'original'"):
        box_iou(as_boxes([[0, 0, 1, 1]]), as_boxes([[0, 0, 1, 1]], "original"))
    assert box_iou(as_boxes([]), as_boxes([[0, 0, 1, 1]])).shape == (0, 1)
