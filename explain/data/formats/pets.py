"""Oxford-IIIT Pet: lists of images, trimaps, and boxes of heads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from explain.data.formats.assembling import FoundBox, Item, assembled, boxes_of
from explain.data.formats.lines import Line, need_folder, read_keyed
from explain.data.formats.vocxml import one_based, read_voc_xml
from explain.data.object_masks import IdMasks, in_threads, mask_boxes
from explain.data.tables import Report, header_size, refuse
from explain.errors import DataError
from explain.types import LocalizationSet

__all__ = ["PetBoxes", "is_pets", "open_pets", "pets_parts"]

PetBoxes = Literal["trimap", "head"]

_LISTS = {"test": "test.txt", "trainval": "trainval.txt", "all": "list.txt"}
_OBJECT, _BACKGROUND, _UNKNOWN = 1, 2, 3


def is_pets(root: Path) -> bool:
    """Say whether a folder is laid out as Oxford-IIIT Pet."""
    annotations = root / "annotations"
    return (annotations / "trimaps").is_dir() and any((annotations / name).is_file() for name in _LISTS.values())


def pets_parts(root: Path) -> list[tuple[Path, str | None]]:
    """Return the lists of images that a folder has; the list of all of them where it is there."""
    there = [split for split, name in _LISTS.items() if (root / "annotations" / name).is_file()]
    return [(root, split) for split in (["all"] if "all" in there else there)]


def _label(line: Line, report: Report) -> int | None:
    if not line.cells[0].isdecimal() or int(line.cells[0]) < 1:
        report(f"{line.where}: class {line.cells[0]!r} is not a whole number from 1 on")
        return None
    return int(line.cells[0]) - 1


def _class_names(items: Sequence[Item], report: Report) -> tuple[str, ...] | None:
    """Return the breeds, which stand in the files' names (``Abyssinian_201``); None where not all of them occur."""
    names: dict[int, str] = {}
    for item in items:
        breed = item.name.rpartition("_")[0].replace("_", " ")
        if names.setdefault(item.label, breed) != breed:
            report(f"{item.where}: class {item.label + 1} is {breed!r} here, {names[item.label]!r} on an earlier line")
    return tuple(names[label] for label in range(len(names))) if set(names) == set(range(len(names))) else None


def _items(root: Path, lines: dict[str, Line], report: Report) -> list[Item]:
    pictures = [root / "images" / f"{name}.jpg" for name in lines]
    items = []
    for (name, line), picture, size in zip(lines.items(), pictures, in_threads(header_size, pictures), strict=True):
        label = _label(line, report)
        if size is None:
            report(f"{line.where}: no image {picture}, or it cannot be opened: add the file")
        elif label is not None:
            items.append(Item(name, picture, label, size, line.where))
    return items


def _trimaps(root: Path, items: Sequence[Item], report: Report) -> IdMasks:
    paths = tuple(root / "annotations" / "trimaps" / f"{item.name}.png" for item in items)
    for item, path, size in zip(items, paths, in_threads(header_size, paths), strict=True):
        if size is None:
            report(f"{item.where}: no trimap {path}, or it cannot be opened: add the file")
        elif size != item.size:
            height, width = item.size
            report(f"{item.where}: trimap {path} is {size[1]}x{size[0]} pixels, its image {width}x{height}")
    return IdMasks(
        paths,
        ((_OBJECT,),) * len(paths),
        (_UNKNOWN,),
        tuple(item.where for item in items),
        known=(_OBJECT, _BACKGROUND, _UNKNOWN),
    )


def _head_boxes(root: Path, items: Sequence[Item], report: Report) -> tuple[NDArray[np.float64], ...]:
    found = []
    for number, item in enumerate(items):
        path = root / "annotations" / "xmls" / f"{item.name}.xml"
        if path.is_file():
            image = read_voc_xml(path, report)
            found += [FoundBox(number, one_based(each.box), image.told(each)) for each in image.objects]
    if items and not found:
        raise DataError(f"{root / 'annotations' / 'xmls'} has no heads of this split: only split='trainval' has them")
    return boxes_of(items, found, report, origin=1)


def open_pets(
    path: str | Path, *, split: str | None = None, boxes: PetBoxes | None = None, report: Report = refuse
) -> LocalizationSet:
    """Open Oxford-IIIT Pet, with masks from its trimaps.

    Masks hold 1 for the pet, 0 for the background, 255 for the border between them, which the trimaps call unknown.

    Parameters
    ----------
    path : str or Path
        The folder with ``images`` and ``annotations``.
    split : {"test", "trainval", "all"}, optional
        Which list in ``annotations``; "test" where it is not given.
    boxes : {"trimap", "head"}, optional
        "trimap" (where it is not given): the tight box of the pet, without the unknown border; every trimap is
        decoded. "head": the published boxes of heads, pixels counted from 1; trainval only, and a few images of it
        have none.
    report : callable
        Told of every problem that leaves the rest readable; without it, the first one is raised.

    Raises
    ------
    DataError
        Missing pictures or trimaps, sizes or classes that differ, ids other than 1, 2, 3, boxes that leave their
        image; with file and line.
    """
    root = need_folder(Path(path), "give the folder with images and annotations")
    chosen = "test" if split is None else split
    if chosen not in _LISTS or boxes not in (None, "trimap", "head"):
        raise DataError(
            f"split {chosen!r} with boxes {boxes!r}: use a split of {', '.join(_LISTS)}, and boxes 'trimap' or 'head'"
        )
    # name CLASS SPECIES BREED
    items = _items(root, read_keyed(root / "annotations" / _LISTS[chosen], 3, report), report)
    masks = _trimaps(root, items, report)
    sizes = [item.size for item in items]
    found = _head_boxes(root, items, report) if boxes == "head" else mask_boxes(masks, sizes, report)
    return assembled(
        f"pets-{chosen}",
        root,
        items,
        found,
        report,
        edges="inclusive",
        class_names=_class_names(items, report),
        masks=masks,
        files=masks.paths,
    )
