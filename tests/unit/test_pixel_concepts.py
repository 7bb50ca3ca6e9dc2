"""Colours, places and brightness made from pixels: known colours, a slow oracle, and what happens to the set."""

import math
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor
from skimage.color import rgb2lab

from explain.data import open_probe, probe_from_arrays, recipe_path, with_pixel_concepts
from explain.data.pixel_concepts import _CSS, COLOR_TERMS, brightness_map, cielab, color_map, position_map
from explain.errors import DataError, InputError

KNOWN = {
    "black": [(0, 0, 0), (25, 25, 30), (10, 20, 10)],
    "blue": [(0, 0, 255), (120, 170, 220), (0, 120, 200), (0, 200, 255)],
    "brown": [(139, 69, 19), (120, 85, 55), (110, 90, 70), (141, 85, 54), (90, 50, 20)],
    "grey": [(128, 128, 128), (90, 90, 95), (180, 180, 180)],
    "green": [(0, 255, 0), (80, 120, 50), (0, 90, 0), (60, 200, 120), (60, 75, 45)],
    "orange": [(255, 165, 0), (250, 120, 20)],
    "pink": [(255, 192, 203), (255, 105, 180)],
    "purple": [(128, 0, 128), (90, 20, 140), (200, 100, 220)],
    "red": [(255, 0, 0), (200, 10, 40), (139, 0, 0)],
    "white": [(255, 255, 255), (235, 240, 245)],
    "yellow": [(255, 255, 0), (240, 215, 80)],
}


def one(colour):
    return np.array([[colour]], np.uint8)


def slow_lab(colour):
    """CIELAB written out, colour by colour."""
    linear = [((v / 255 + 0.055) / 1.055) ** 2.4 if v / 255 > 0.04045 else v / 255 / 12.92 for v in colour]
    r, g, b = linear
    x = (0.4124564 * r + 0.3575761 * g + 0.1804375 * b) / 0.95047
    y = 0.2126729 * r + 0.7151522 * g + 0.0721750 * b
    z = (0.0193339 * r + 0.1191920 * g + 0.9503041 * b) / 1.08883
    fx, fy, fz = (t ** (1 / 3) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116 for t in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def slow_term(colour):
    middle = slow_lab([4 * (v // 4) + 2 for v in colour])
    grey_too = math.hypot(*middle[1:]) < 13
    distances = [
        (math.dist(middle, slow_lab(ImageColor.getrgb(name))), term)
        for term, names in _CSS.items()
        for name in names.split()
        if term != "grey" or grey_too
    ]
    return min(distances)[1]


@pytest.mark.parametrize(("term", "colour"), [(term, each) for term, own in KNOWN.items() for each in own])
def test_known_colours(term, colour):
    assert COLOR_TERMS[color_map(one(colour))[0, 0]] == term


def test_every_named_colour_has_its_term():
    names = [name for own in _CSS.values() for name in own.split()]
    known = {ImageColor.getrgb(name) for name in ImageColor.colormap if name != "rebeccapurple"}
    assert {ImageColor.getrgb(name) for name in names} == known
    assert len(names) == len(known) == 138
    for term, own in _CSS.items():
        found = [COLOR_TERMS[color_map(one(ImageColor.getrgb(name)))[0, 0]] for name in own.split()]
        assert found == [term] * len(found)


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_colours_are_those_of_the_slow_rule(colour):
    assert COLOR_TERMS[color_map(one(colour))[0, 0]] == slow_term(colour)
    assert np.allclose(cielab(one(colour))[0, 0], slow_lab(colour), atol=1e-9)
    assert np.allclose(cielab(one(colour)), rgb2lab(one(colour)), atol=2e-2)  # its white is rounded otherwise


def test_brightness_is_thirds_of_lightness():
    greys = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    lightness = [slow_lab((v, v, v))[0] for v in range(256)]
    assert brightness_map(greys)[0].tolist() == [min(int(value * 3 / 100), 2) for value in lightness]
    assert Counter(brightness_map(greys)[0].tolist()) == {0: 79, 1: 84, 2: 93}
    assert brightness_map(one((0, 0, 255)))[0, 0] == 0
    assert brightness_map(one((255, 255, 0)))[0, 0] == 2


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40))
def test_positions_are_those_of_centres(height, width):
    found = position_map((height, width))
    for y, x in np.ndindex(height, width):
        row, column = math.floor((y + 0.5) / height * 3 + 1e-12), math.floor((x + 0.5) / width * 3 + 1e-12)
        assert found[y, x] == 3 * row + column


@pytest.fixture
def probe():
    image = np.zeros((6, 6, 3), np.uint8)
    image[:3] = 255, 0, 0
    image[3:, :3] = 255, 255, 255
    masks = np.zeros((1, 6, 6), np.int64)
    masks[0, 0] = 1
    return probe_from_arrays([Image.fromarray(image)], masks, ["dog"])


def seen(data, size):
    labels = data.labels(0, size)
    names = [concept.name for concept in data.concepts] + ["-"]
    return [[[names[number] for number in row] for row in layer] for layer in labels.maps]


def test_layers_and_concepts(probe):
    data = with_pixel_concepts(probe)
    assert data.concepts[0] == probe.concepts[0]
    assert Counter(concept.category for concept in data.concepts) == {
        "object": 1, "color": 11, "position": 9, "brightness": 3,
    }  # fmt: skip
    assert seen(data, (2, 2)) == [
        [["dog", "dog"], ["-", "-"]] if probe.labels(0, (2, 2)).maps[0, 0, 0] == 0 else [["-", "-"], ["-", "-"]],
        [["red-c", "red-c"], ["white-c", "black-c"]],
        [["top left", "top right"], ["bottom left", "bottom right"]],
        [["mid", "mid"], ["bright", "dark"]],
    ]
    assert seen(data, (3, 3))[2] == [
        ["top left", "top", "top right"], ["left", "centre", "right"], ["bottom left", "bottom", "bottom right"],
    ]  # fmt: skip
    # The middle of the lower half covers as much white as black: grey of (128, 128, 128).
    assert seen(data, (2, 1))[1] == [["red-c"], ["grey-c"]]
    labels = data.labels(0, (6, 6))
    assert labels.maps.dtype == np.int32
    assert np.array_equal(labels.maps[0], probe.labels(0, (6, 6)).maps[0])
    assert (labels.maps[1:] >= 1).all()
    assert np.array_equal(pickle.loads(pickle.dumps(data.labels))(0, (5, 4)).maps, data.labels(0, (5, 4)).maps)


def test_kinds_are_chosen_and_hashed(probe):
    sets = [with_pixel_concepts(probe, kinds) for kinds in ("color", ["position"], ("position", "color"))]
    assert [len(data.concepts) for data in sets] == [12, 10, 21]
    assert [seen(data, (1, 1))[1:] for data in sets] == [
        [[["brown-c"]]], [[["centre"]]], [[["centre"]], [["brown-c"]]],
    ]  # fmt: skip
    assert len({probe.hash, *(data.hash for data in sets)}) == 4
    assert sets[0].hash == with_pixel_concepts(probe, ["color", "color"]).hash
    assert sets[0].names == probe.names


def test_annotated_categories_grow():
    data = open_probe(recipe_path("coco") / "sample")
    assert data.labels(0, (2, 2)).annotated == ("object",)
    more = with_pixel_concepts(data, ["color", "position"])
    assert more.labels(0, (2, 2)).annotated == ("object", "color", "position")
    assert more.labels(0, (2, 2)).maps.shape == (len(data.labels(0, (2, 2)).maps) + 2, 2, 2)


def test_wrong_kinds_and_images(probe, tmp_path):
    with pytest.raises(InputError, match="unknown kind 'colour'; near: color: give some of color, position"):
        with_pixel_concepts(probe, ["colour"])
    with pytest.raises(InputError, match="there are no kinds"):
        with_pixel_concepts(probe, [])
    with pytest.raises(DataError, match="has concept 'black-c' already"):
        with_pixel_concepts(with_pixel_concepts(probe, "color"), "color")
    tensors = probe_from_arrays(torch.zeros(1, 3, 6, 6), np.zeros((1, 6, 6), np.int64), ["dog"])
    with pytest.raises(DataError, match="preprocessed tensor, whose colours"):
        with_pixel_concepts(tensors, "brightness")
    assert with_pixel_concepts(tensors, "position").labels(0, (3, 3)).maps[1, 1, 1] == 5
    path = tmp_path / "a.png"
    Image.new("RGB", (6, 6)).save(path)
    data = with_pixel_concepts(probe_from_arrays([path], np.zeros((1, 6, 6), np.int64), ["dog"]), "color")
    assert seen(data, (1, 1))[1] == [["black-c"]]
    Path(path).write_bytes(b"no picture")
    with pytest.raises(DataError, match="cannot be read"):
        data.labels(0, (1, 1))
