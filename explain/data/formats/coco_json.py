"""What COCO's JSON files have in common: images, categories, segmentations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.data.formats.lines import need_folder
from explain.data.formats.rle import polygon_mask, rle_mask
from explain.data.tables import Report, read_text
from explain.errors import DataError

__all__ = ["Picture", "by_id", "category_names", "image_folder", "load_coco", "read_picture", "region_mask"]


@dataclass(frozen=True)
class Picture:
    """One entry of ``images``."""

    name: str
    size: tuple[int, int]


def region_mask(where: str, shape: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels of a segmentation (polygons, or size and run lengths) in an image of ``size``."""
    try:
        if isinstance(shape, Mapping):
            if tuple(shape["size"]) != size:
                raise DataError(f"its run lengths are of {shape['size']} pixels, its image {list(size)}")
            return rle_mask(shape["counts"], size)
        return polygon_mask(shape, size)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    except (KeyError, TypeError, ValueError, IndexError):
        raise DataError(f"{where}: its segmentation is neither polygons nor size and counts") from None


def load_coco(path: Path, kind: str = "an instances file") -> dict[str, list[Any]]:
    """Return the lists ``images``, ``annotations`` and ``categories`` of one of COCO's JSON files."""
    try:
        data = json.loads(read_text(path)[1])
    except json.JSONDecodeError as error:
        raise DataError(f"{path} line {error.lineno} is not valid JSON: {error.msg}") from None
    for key in ("images", "annotations", "categories"):
        if not isinstance(data, dict) or not isinstance(data.get(key), list):
            raise DataError(f"{path} has no list {key!r}: give {kind} of COCO")
    return {key: data[key] for key in ("images", "annotations", "categories")}


def by_id(path: Path, key: str, entries: Sequence[Any], report: Report) -> dict[int, tuple[str, dict[str, Any]]]:
    """Return where each entry stands and the entry, by its id; what has none, or a repeated one, is told."""
    found: dict[int, tuple[str, dict[str, Any]]] = {}
    for number, entry in enumerate(entries):
        identity = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(identity, int):
            report(f"{path} {key}[{number}] has no whole number as id")
        elif identity in found:
            report(f"{found[identity][0]} and {key}[{number}] have the same id: keep one of them")
        else:
            found[identity] = f"{path} {key}[{number}] (id {identity})", entry
    return found


def read_picture(where: str, entry: Mapping[str, Any], report: Report) -> Picture | None:
    """Return what an entry of ``images`` says; what lacks something is told."""
    name, height, width = (entry.get(key) for key in ("file_name", "height", "width"))
    if not isinstance(name, str) or not isinstance(height, int) or not isinstance(width, int) or min(height, width) < 1:
        report(f"{where} lacks file_name, width or height")
        return None
    return Picture(name, (height, width))


def category_names(path: Path, entries: Sequence[Any], report: Report) -> dict[int, str]:
    """Return the names of the categories by id, in the order of ids: a class index is the place in that order."""
    found = {}
    for identity, (where, entry) in sorted(by_id(path, "categories", entries, report).items()):
        if not isinstance(entry.get("name"), str):
            report(f"{where} has no name")
        else:
            found[identity] = entry["name"]
    return found


def image_folder(given: str | Path | None, file: Path, split: str, pictures: Sequence[Picture]) -> Path:
    """Return the folder of the images: the first place that holds the first of them, else where COCO unpacks them."""
    if given is not None:
        return need_folder(Path(given), "give the folder of the images")
    root = file.parent.parent
    places = [root / split, root / "images" / split, root / "images", file.parent, root]
    return next((place for place in places if pictures and (place / pictures[0].name).is_file()), places[0])
