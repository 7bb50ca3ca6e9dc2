"""A handful of photos that come with scikit-image, with ImageNet classes and boxes drawn by hand.

The photos stay where scikit-image installed them; the recipe ``sample`` holds only the tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from explain.data.recipes import recipe_path
from explain.data.tables import Row, Table, files_hash, header_size, read_table
from explain.errors import DataError, DependencyError
from explain.types import LocalizationSet

__all__ = ["SamplePhoto", "sample_photos", "sample_set"]


@dataclass(frozen=True)
class SamplePhoto:
    """One photo with what is known of it."""

    name: str
    """The file name without its ending."""
    path: Path
    accepted: tuple[int, ...]
    """ImageNet classes that are right for its object, the likeliest first."""
    box: tuple[int, int, int, int] | None
    """The object: x0, y0, x1, y1 in pixels of the file, half-open."""


def _photo_folder() -> Path:
    # find_spec finds the package without running it: skimage.data may want to download.
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise DependencyError("the sample photos come with scikit-image, which is missing: pip install scikit-image")
    return Path(spec.origin).parent / "data"


def _accepted(table: Table, row: Row) -> tuple[int, ...]:
    parts = [row.cells["class_index"], *row.cells["accepted"].split(";")]
    try:
        return tuple(dict.fromkeys(int(part) for part in parts if part))
    except ValueError:
        raise DataError(f"{table.where(row)}: class_index and accepted hold whole numbers, a;b;c") from None


def _tables() -> tuple[Table, Table]:
    recipe = recipe_path("sample")
    return (
        read_table(recipe / "images.csv", ["image", "class_index", "name", "accepted"]),
        read_table(recipe / "boxes.csv", ["image", "x0", "y0", "x1", "y1"]),
    )


def _photo_path(table: Table, row: Row) -> Path:
    path = _photo_folder() / row.cells["image"]
    if not path.is_file():
        raise DataError(
            f"{table.where(row)}: scikit-image has no {path}: install the wheel of scikit-image 0.25 or later"
        )
    return path


def sample_photos() -> list[SamplePhoto]:
    """Return the sample photos, as files inside the installed scikit-image.

    Raises
    ------
    DependencyError
        Where scikit-image is not installed.
    DataError
        Where this scikit-image came without a photo.
    """
    images, boxes = _tables()
    box_of = {
        row.cells["image"]: tuple(int(row.cells[edge]) for edge in ("x0", "y0", "x1", "y1")) for row in boxes.rows
    }
    photos = []
    for row in images.rows:
        path = _photo_path(images, row)
        edges = box_of.get(row.cells["image"])
        box = (edges[0], edges[1], edges[2], edges[3]) if edges else None
        photos.append(SamplePhoto(path.stem, path, _accepted(images, row), box))
    return photos


def sample_set() -> LocalizationSet:
    """Return the sample photos as a localization set; the class is the first accepted one."""
    photos = sample_photos()
    sizes = []
    for photo in photos:
        size = header_size(photo.path)
        if size is None:
            raise DataError(f"{photo.path} cannot be opened as an image: install scikit-image again")
        sizes.append(size)
    names = tuple(photo.path.name for photo in photos)
    return LocalizationSet(
        name="sample",
        images=tuple(photo.path for photo in photos),
        classes=tuple(photo.accepted[0] for photo in photos),
        boxes=tuple(np.array([photo.box] if photo.box else [], np.float64).reshape(-1, 4) for photo in photos),
        sizes=tuple(sizes),
        names=names,
        hash=files_hash([table.text for table in _tables()], ((p.path.name, p.path) for p in photos)),
    )
