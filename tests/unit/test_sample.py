"""The sample photos are found in the installed scikit-image, with classes and boxes that fit."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from explain.data import open_data
from explain.data import sample as sample_module
from explain.data.sample import sample_photos, sample_set
from explain.errors import DataError, DependencyError


def test_photos():
    photos = sample_photos()
    assert [photo.name for photo in photos] == ["chelsea", "coffee", "rocket", "motorcycle_left", "camera"]
    for photo in photos:
        assert all(0 <= index < 1000 for index in photo.accepted)
        x0, y0, x1, y1 = photo.box
        with Image.open(photo.path) as picture:
            assert 0 <= x0 < x1 <= picture.width
            assert 0 <= y0 < y1 <= picture.height
    assert photos[0].accepted == (285, 281, 282)


def test_as_a_localization_set():
    data = open_data("sample")
    assert data.classes == (285, 967, 657, 665, 872)
    assert data.sizes[0] == (300, 451)
    assert data.hash == sample_set().hash
    with pytest.raises(DataError, match="no masks of concepts"):
        open_data("sample", "probe")


def test_skimage_data_is_not_run(monkeypatch):
    monkeypatch.delitem(sys.modules, "skimage.data", raising=False)
    sample_photos()
    assert "skimage.data" not in sys.modules


def test_missing_package_and_missing_photo(monkeypatch, tmp_path):
    monkeypatch.setattr(sample_module, "_photo_folder", lambda: Path(tmp_path))
    with pytest.raises(DataError, match=r"images.csv line 2: scikit-image has no .*chelsea.png"):
        sample_photos()
    monkeypatch.undo()
    monkeypatch.setattr(sample_module, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match="pip install scikit-image"):
        sample_photos()
