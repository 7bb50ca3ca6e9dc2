"""Drawn scenes: the same seed gives the same pixels, and the masks say what the picture shows."""

import json
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from explain.data import open_data, probe_column, recipe_path
from explain.data.scene_places import OBJECTS
from explain.data.scene_shapes import CLASSES, PARTS
from explain.data.scenes import LAYERS, SCENES, draw_scene, scenes_folder, write_scenes
from explain.errors import DataError

OF_OBJECT = {
    "house": {"roof", "wall", "door", "window"},
    "tree": {"trunk", "crown"},
    "car": {"body", "wheel", "window"},
    "boat": {"hull", "sail"},
    "flower": {"petals", "stem"},
}


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(np.random.default_rng([7, number]), number % len(CLASSES)) for number in range(44)]


def test_the_same_seed_gives_the_same_pixels(scenes):
    again = draw_scene(np.random.default_rng([7, 3]), 3)
    assert again.image.tobytes() == scenes[3].image.tobytes()
    assert all(again.masks[column].tobytes() == scenes[3].masks[column].tobytes() for column in LAYERS)
    assert draw_scene(np.random.default_rng(1)).scene in SCENES


def test_every_pixel_is_labelled(scenes):
    for scene in scenes:
        assert scene.image.shape == (224, 224, 3)
        assert scene.image.dtype == np.uint8
        for column in ("mask", "color_mask", "texture_mask"):
            assert scene.masks[column].min() >= 1
        for column, (_, names) in LAYERS.items():
            assert scene.masks[column].max() <= len(names)


def test_box_and_size_of_the_main_object(scenes):
    for scene in scenes:
        inside = scene.masks["mask"] == scene.label + 1
        ys, xs = np.nonzero(inside)
        assert scene.box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        assert 0.06 <= inside.mean() <= 0.30
        others = set(np.unique(scene.masks["mask"]).tolist()) - {scene.label + 1}
        assert all(identity > len(CLASSES) for identity in others)


def test_parts_lie_inside_their_object(scenes):
    for scene in scenes:
        parts = {PARTS[identity - 1] for identity in np.unique(scene.masks["part_mask"]) if identity}
        name = CLASSES[scene.label]
        assert parts == OF_OBJECT.get(name, set())
        if name in OF_OBJECT:
            inside = scene.masks["mask"] == scene.label + 1
            assert np.array_equal(scene.masks["part_mask"] > 0, inside)


def test_no_two_meanings_share_a_name():
    names = [name for _, layer in LAYERS.values() for name in layer] + list(SCENES)
    assert len(set(names)) == len(names)
    assert OBJECTS[: len(CLASSES)] == CLASSES


def test_the_colour_mask_is_what_one_sees(scenes):
    # The mean colour of the large areas named red, green and blue leans the way its name says.
    for name, channel in (("red", 0), ("green", 1), ("blue", 2)):
        identity = LAYERS["color_mask"][1].index(name) + 1
        means = [
            s.image[s.masks["color_mask"] == identity].mean(0)
            for s in scenes
            if (s.masks["color_mask"] == identity).sum() > 500
        ]
        assert means
        assert all(mean.argmax() == channel for mean in means)


def test_written_folder_is_both_plain_formats(tmp_path, scenes):
    seen = []
    folder = write_scenes(tmp_path / "out", 12, 7, lambda done, count: seen.append((done, count)))
    assert seen == [(number, 12) for number in range(1, 13)]
    probe, boxes = open_data(folder), open_data(folder, "localization")
    assert len(probe) == len(boxes) == 12
    assert boxes.class_names == CLASSES
    assert probe_column(folder) == boxes.subsets
    assert boxes.subsets.count("test") == 3
    assert np.array_equal(np.asarray(Image.open(probe.images[5])), scenes[5].image)
    assert boxes.boxes[5].tolist() == [list(scenes[5].box)]
    labels = probe.labels(5, (224, 224))
    assert np.array_equal(labels.maps[0] + 1, scenes[5].masks["mask"])
    assert probe.concepts[labels.whole[0]].name == scenes[5].scene
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_bad_requests(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is not an empty folder"):
        write_scenes(tmp_path, 1)
    with pytest.raises(DataError, match="cannot draw 0 scenes"):
        write_scenes(tmp_path / "new", 0)


def test_nothing_is_left_behind_when_drawing_stops(tmp_path):
    def stop(done, count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path / "out", 3, 0, stop)
    assert list(tmp_path.iterdir()) == []


def test_scenes_are_kept_in_the_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("EXPLAIN_DATA", str(tmp_path))
    folder = scenes_folder(2, 5)
    assert folder.parent == tmp_path
    before = (folder / "index.csv").stat().st_mtime_ns
    assert scenes_folder(2, 5) == folder
    assert (folder / "index.csv").stat().st_mtime_ns == before


def test_the_sample_is_what_prepare_writes(tmp_path):
    sample = recipe_path("scenes") / "sample"
    files = sorted(path.relative_to(sample) for path in sample.rglob("*") if path.is_file())
    assert sum((sample / path).stat().st_size for path in files) < 200_000
    fresh = write_scenes(tmp_path / "fresh", 3, 0)
    for path in files:
        if path.suffix == ".png":  # the compression may differ between versions of zlib, the pixels may not
            assert np.array_equal(np.asarray(Image.open(sample / path)), np.asarray(Image.open(fresh / path)))
        else:
            assert (sample / path).read_text() == (fresh / path).read_text()
    assert json.loads((sample / "classes.json").read_text())["ignored"] == {}


def test_drawing_is_quick():
    start = time.process_time()
    for number in range(8):
        draw_scene(np.random.default_rng([0, number]))
    assert (time.process_time() - start) / 8 < 0.25  # measured 0.03; a loaded machine may take longer


def test_no_function_has_the_name_of_a_module():
    package = import_module("explain.data")
    modules = {path.stem for path in Path(package.__file__).parent.glob("*.py")}
    assert not modules & set(package.__all__)
