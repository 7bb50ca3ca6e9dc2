"""Several probe sets as one: concepts by name, annotated categories, columns, names."""

import pickle
from dataclasses import replace

import numpy as np
import probe_layouts as layouts
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explain.data import open_probe, probe_from_arrays, united, with_pixel_concepts
from explain.errors import DataError
from explain.neurons.cells import build_index
from explain.types import Concept, Labels, ProbeSet

SIZE = (2, 3)


def made(name, concepts, maps, **more):
    """A set of one image per map; ``concepts`` are pairs of name and category."""
    images = [np.full((*SIZE, 3), 10 * number, np.uint8) for number in range(len(maps))]
    labels = [Labels(np.array(each, np.int32).reshape(-1, *SIZE), **more.get("labels", {})) for each in maps]
    return ProbeSet(
        name=name,
        images=images,
        concepts=tuple(Concept(*each) for each in concepts),
        labels=lambda index, _: labels[index],
        names=more.get("names", tuple(f"{name}{number}" for number in range(len(maps)))),
        hash=more.get("hash", name),
        columns=more.get("columns", {}),
    )


A = made("a", [("dog", "object"), ("ear", "part")], [[0, 0, -1, 1, -1, -1]], columns={"split": ("train",)})
B = made("b", [("sky", "object"), ("dog", "object")], [[0, 1, -1, -1, 0, 0], [1] * 6], columns={"city": ("x", "y")})


def test_concepts_are_united_by_name():
    data = united([A, B])
    assert data.name == "a+b"
    assert data.concepts == (Concept("dog", "object"), Concept("ear", "part"), Concept("sky", "object"))
    assert [data.labels(index, SIZE).maps.ravel().tolist() for index in range(3)] == [
        [0, 0, -1, 1, -1, -1],
        [2, 0, -1, -1, 2, 2],
        [0] * 6,
    ]
    assert [data.labels(index, SIZE).annotated for index in range(3)] == [("object", "part"), ("object",), ("object",)]
    assert data.columns == {"split": ("train", "", ""), "city": ("", "x", "y"), "set": ("a", "b", "b")}
    assert data.names == ("a0", "b0", "b1")
    assert [int(image[0, 0, 0]) for image in data.images] == [0, 0, 10]
    assert data.images[-1] is B.images[1]
    assert [image is own for image, own in zip(data.images[1:], B.images, strict=True)] == [True, True]
    with pytest.raises(IndexError):
        _ = data.images[3]
    assert build_index(data.concepts, (data.labels(index, SIZE) for index in range(3))).cells.counts.sum() == 18


def test_one_set_says_what_it_annotates():
    data = united([A])
    assert (data.concepts, data.names, data.name) == (A.concepts, A.names, "a")
    assert np.array_equal(data.labels(0, SIZE).maps, A.labels(0, SIZE).maps)


def test_what_an_image_is_annotated_for_is_kept():
    own = made("c", [("dog", "object"), ("beach", "scene")], [[0] * 6], labels={"annotated": ("scene",), "whole": (1,)})
    data = united([B, own])
    labels = data.labels(2, SIZE)
    assert labels.annotated == ("scene",)
    assert [data.concepts[number].name for number in labels.whole] == ["beach"]
    assert labels.ignored is None


def test_a_clash_of_categories_is_told_and_the_first_one_taken():
    other = made("c", [("dog", "animal"), ("cat", "animal")], [[0] * 6])
    with pytest.warns(UserWarning, match="'dog' is 'object' in a, 'animal' in c") as caught:
        data = united([A, other])
    assert len(caught) == 1
    assert [each.category for each in data.concepts] == ["object", "part", "animal"]
    # Its images are annotated for what dog is called here, too: else its dogs would count nowhere.
    assert data.labels(1, SIZE).annotated == ("animal", "object")


def test_names_that_clash_get_the_set_before_them():
    first, second = replace(A, names=("0.jpg",)), replace(B, names=("0.jpg", "1.jpg"))
    assert united([first, second]).names == ("a/0.jpg", "b/0.jpg", "1.jpg")
    twice = united([first, first])
    assert twice.names == ("a-1/0.jpg", "a-2/0.jpg")
    assert twice.columns["set"] == ("a-1", "a-2")


def test_the_hash_is_of_all_sets_in_order():
    hashes = [united(sets).hash for sets in ([A], [A, B], [B, A], [A, replace(B, hash="other")])]
    assert len(set(hashes)) == 4
    assert united([A, B]).hash == hashes[1]


def test_what_cannot_be_united():
    masks = np.ones((1, *SIZE), np.int64)
    tensors = probe_from_arrays(torch.zeros(1, 3, *SIZE), masks, ["dog"])
    with pytest.raises(DataError, match="the images of 'arrays' are preprocessed tensors, those of 'a' files"):
        united([A, tensors])
    assert len(united([tensors, tensors])) == 2
    with pytest.raises(DataError, match="there are no probe sets"):
        united([])
    with pytest.raises(DataError, match="probe set 'a' has no images"):
        united([B, replace(A, images=[], names=())])


def test_published_sets_are_united_and_travel(tmp_path):
    layouts.lay_out("voc", tmp_path / "voc")
    layouts.lay_out("dtd", tmp_path / "dtd")
    layouts.lay_out("broden", tmp_path / "broden")
    sets = [open_probe(tmp_path / name) for name in ("voc", "dtd", "broden")]
    data = with_pixel_concepts(united(sets), "position")
    assert len(data) == 8
    assert [concept.name for concept in data.concepts].count("cat") == 1
    assert data.columns["split"] == ("train", "val", "train", "val", "test", "train", "val", "val")
    assert data.labels(0, (3, 3)).annotated == ("object", "position")
    assert data.labels(7, (3, 3)).annotated == ("texture", "position")
    again = pickle.loads(pickle.dumps(data.labels))
    for index in range(len(data)):
        assert np.array_equal(again(index, (6, 8)).maps, data.labels(index, (6, 8)).maps)
    ignored = data.labels(0, (6, 8)).ignored
    assert np.array_equal(ignored, sets[0].labels(0, (6, 8)).ignored)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_pixel_keeps_its_concepts(data):
    names = list("abcde")
    sets = []
    for title in range(data.draw(st.integers(1, 3))):
        own = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=5, unique=True))
        numbers = st.lists(st.integers(-1, len(own) - 1), min_size=6, max_size=6)
        maps = data.draw(st.lists(numbers, min_size=1, max_size=3))
        sets.append(made(f"s{title}", [(name, "object") for name in own], maps))
    whole = united(sets)
    known = [*(concept.name for concept in whole.concepts), None]
    place = 0
    for each in sets:
        own = [*(concept.name for concept in each.concepts), None]
        for index in range(len(each)):
            found = [known[number] for number in whole.labels(place, SIZE).maps.ravel()]
            assert found == [own[number] for number in each.labels(index, SIZE).maps.ravel()]
            place += 1
    assert place == len(whole)
