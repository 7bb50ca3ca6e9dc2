"""COCO's instances: one JSON file with boxes, polygons and run lengths."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.data.formats.assembling import FoundBox, Item, assembled, boxes_of
from explain.data.formats.coco_json import (
    Picture,
    by_id,
    category_names,
    image_folder,
    load_coco,
    read_picture,
    region_mask,
)
from explain.data.formats.lines import listed, need_folder
from explain.data.object_masks import opencv_nearest
from explain.data.tables import Report, refuse
from explain.errors import DataError
from explain.types import LocalizationSet

__all__ = ["CocoMasks", "coco_parts", "is_coco", "open_coco"]


@dataclass(frozen=True)
class _Region:
    """One entry of ``annotations``: an object, or a crowd of them."""

    where: str
    image: int
    label: int
    box: tuple[float, float, float, float]
    """x, y, width, height"""
    segmentation: Any
    crowd: bool


@dataclass(frozen=True, eq=False)
class CocoMasks:
    """Object masks of COCO: instances of a row's class united, crowds of that class ignored."""

    objects: tuple[tuple[_Region, ...], ...]
    """Per row."""
    crowds: tuple[tuple[_Region, ...], ...]
    sizes: tuple[tuple[int, int], ...]

    def __call__(self, index: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Return the mask of row ``index`` at ``size = (height, width)``: 1 object, 0 background, 255 ignored."""
        mask = np.zeros(self.sizes[index], np.uint8)
        for regions, value in ((self.crowds[index], 255), (self.objects[index], 1)):
            for region in regions:
                mask[region_mask(region.where, region.segmentation, self.sizes[index])] = value
        return np.asarray(opencv_nearest(mask, size), np.uint8)


def _instance_files(root: Path) -> list[Path]:
    return sorted((root / "annotations").glob("instances_*.json"))


def is_coco(root: Path) -> bool:
    """Say whether a folder holds ``annotations/instances_….json``, or a file is such a JSON file by its name."""
    if root.is_file():
        return root.suffix == ".json" and root.name.startswith("instances_")
    return bool(_instance_files(root))


def coco_parts(path: Path) -> list[tuple[Path, str | None]]:
    """Return all instances files of a folder."""
    return [(file, None) for file in ([path] if path.is_file() else _instance_files(path))]


def _annotation_file(path: Path, split: str | None) -> Path:
    if path.is_file():
        return path
    files = _instance_files(need_folder(path, "give the folder with annotations/instances_val2017.json"))
    if not files:
        raise DataError(f"{path} has no annotations/instances_….json: give the folder that holds annotations")
    splits = [file.stem.removeprefix("instances_") for file in files]
    if split is None and len(files) > 1:
        raise DataError(f"{path} has several splits ({', '.join(splits)}): say which with split=")
    if split is not None and split not in splits:
        raise DataError(f"{path} has no split {split!r} (it has: {', '.join(splits)})")
    return files[0] if split is None else files[splits.index(split)]


def _numbers(value: Any) -> tuple[float, float, float, float] | None:
    if not isinstance(value, list) or len(value) != 4 or not all(isinstance(each, int | float) for each in value):
        return None
    return (value[0], value[1], value[2], value[3]) if all(map(math.isfinite, value)) else None


def _region(
    where: str,
    entry: Mapping[str, Any],
    pictures: Mapping[int, Picture],
    labels: Mapping[int, int],
    report: Report,
) -> _Region | None:
    image, category, box = entry.get("image_id"), entry.get("category_id"), _numbers(entry.get("bbox"))
    if not isinstance(image, int) or image not in pictures:
        report(f"{where}: image_id {image!r} is no image of this file")
    elif not isinstance(category, int) or category not in labels:
        report(f"{where}: category_id {category!r} is no category of this file")
    elif box is None:
        report(f"{where}: bbox {entry.get('bbox')!r} are no four numbers: x, y, width, height")
    else:
        return _Region(where, image, labels[category], box, entry.get("segmentation"), entry.get("iscrowd", 0) == 1)
    return None


def _need_images(pictures: Sequence[Picture], folder: Path, given: bool, report: Report) -> None:
    missing = [each.name for each in pictures if not (folder / each.name).is_file()]
    if missing and (given or len(missing) < len(pictures)):
        report(f"{folder} lacks {len(missing)} of {len(pictures)} images ({listed(missing)}): add them")


def open_coco(
    path: str | Path, *, split: str | None = None, images: str | Path | None = None, report: Report = refuse
) -> LocalizationSet:
    """Open an instances file of COCO, with one row per image and category that it shows.

    A row is named ``000000000139:person``; its class is the place of the category in the order of category ids (0 to
    79), not the id. Boxes are published as ``x, y, width, height``, floating point. Crowd regions are no objects: they
    make no row and no box, and are ignored in the masks of their category. Boxes without width or height (train2017
    has a few) are left out. Pictures need not be there: the file says their sizes.

    Parameters
    ----------
    path : str or Path
        The folder with ``annotations/instances_val2017.json``, or such a file.
    split : str, optional
        Which file, such as ``"val2017"``; needed where there are several.
    images : str or Path, optional
        The folder of the pictures; without it ``val2017``, ``images/val2017`` or ``images`` beside ``annotations``.
    report : callable
        Told of every problem that leaves the rest readable; without it, the first one is raised.

    Raises
    ------
    DataError
        Entries without id or of unknown images and categories, boxes that are inside out or leave their image,
        missing pictures where others are found; naming file and entry. Broken segmentations are told when a mask is
        asked for.
    """
    file = _annotation_file(Path(path), split)
    data = load_coco(file)
    shown = {
        identity: picture
        for identity, (where, entry) in by_id(file, "images", data["images"], report).items()
        if (picture := read_picture(where, entry, report)) is not None
    }
    categories = category_names(file, data["categories"], report)
    labels = {identity: label for label, identity in enumerate(categories)}
    regions: dict[tuple[int, int], list[_Region]] = {}
    for where, entry in by_id(file, "annotations", data["annotations"], report).values():
        region = _region(where, entry, shown, labels, report)
        if region is not None and (region.crowd or (region.box[2] != 0 and region.box[3] != 0)):
            regions.setdefault((region.image, region.label), []).append(region)
    folder = image_folder(images, file, file.stem.removeprefix("instances_"), list(shown.values()))
    _need_images(list(shown.values()), folder, images is not None, report)
    return _assembled(file, folder, shown, tuple(categories.values()), regions, report)


def _assembled(
    file: Path,
    folder: Path,
    shown: Mapping[int, Picture],
    names: tuple[str, ...],
    regions: Mapping[tuple[int, int], Sequence[_Region]],
    report: Report,
) -> LocalizationSet:
    items: list[Item] = []
    found: list[FoundBox] = []
    objects, crowds = [], []
    for (image, label), own in sorted(regions.items()):
        single = tuple(region for region in own if not region.crowd)
        if not single:
            continue  # a crowd alone is no object
        for region in single:
            x, y, width, height = region.box
            box = (x, y, x + width, y + height)
            found.append(FoundBox(len(items), box, f"{region.where}: bbox {list(region.box)} (x, y, width, height)"))
        name = Path(shown[image].name).with_suffix("").as_posix()
        items.append(Item(f"{name}:{names[label]}", folder / shown[image].name, label, shown[image].size, str(file)))
        objects.append(single)
        crowds.append(tuple(region for region in own if region.crowd))
    drawn = all(region.segmentation for own in (*objects, *crowds) for region in own)
    return assembled(
        f"coco-{file.stem.removeprefix('instances_')}",
        file.parent.parent,
        items,
        boxes_of(items, found, report),
        report,
        edges="exclusive",
        class_names=names,
        masks=CocoMasks(tuple(objects), tuple(crowds), tuple(item.size for item in items)) if drawn else None,
        files=[file],
    )
