"""CUB-200-2011 as it is published: text files by image number, one box per image, segmentations in an extra archive."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from explain.data.formats.assembling import FoundBox, Item, assembled, boxes_of
from explain.data.formats.lines import Line, cover, first_folder, need_folder, read_keyed
from explain.data.object_masks import IdMasks, in_threads
from explain.data.tables import Report, header_size, refuse
from explain.errors import DataError
from explain.types import LocalizationSet

__all__ = ["is_cub", "open_cub", "read_agreement"]

_IMAGES, _BOXES, _LABELS = "images.txt", "bounding_boxes.txt", "image_class_labels.txt"
_SPLIT, _CLASSES = "train_test_split.txt", "classes.txt"
_SPLITS = {"train": "1", "test": "0"}


def is_cub(root: Path) -> bool:
    """Say whether a folder holds the text files of CUB-200-2011."""
    return all((root / name).is_file() for name in (_IMAGES, _BOXES, _LABELS))


def read_agreement(path: Path, where: str) -> NDArray[np.int32]:
    """Read a segmentation of CUB: 1 where most annotators saw the bird.

    The grey level says how many of them did, of five (steps of 51); 128 and more are most.
    """
    try:
        with Image.open(path) as picture:
            return (np.asarray(picture.convert("L")) >= 128).astype(np.int32)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{where}: mask {path} cannot be read ({error}): replace the file") from None


def _class_of(line: Line, classes: int, report: Report) -> int | None:
    number = int(line.cells[0]) if line.cells[0].isdecimal() else 0
    if not 1 <= number <= classes:
        report(f"{line.where}: class {line.cells[0]!r} is none of {_CLASSES}: classes count from 1 to {classes}")
        return None
    return number - 1


def _box_of(line: Line, item: int, report: Report) -> FoundBox | None:
    try:
        x, y, width, height = map(float, line.cells)
    except ValueError:
        report(f"{line.where}: {' '.join(line.cells)!r} are no four numbers: x y width height")
        return None
    return FoundBox(item, (x, y, x + width, y + height), f"{line.where}: box {' '.join(line.cells)} (x y width height)")


def _chosen(split: str, root: Path, images: Mapping[str, Line], report: Report) -> list[str]:
    """Return the image numbers of a split, in the order of ``images.txt``."""
    if split not in (*_SPLITS, "all"):
        raise DataError(f"CUB has no split {split!r}: use 'test', 'train' or 'all'")
    splits = read_keyed(root / _SPLIT, 1, report)
    cover(images, splits, root / _SPLIT, _IMAGES, report)
    for line in splits.values():
        if line.cells[0] not in _SPLITS.values():
            report(f"{line.where}: {line.cells[0]!r} is neither 1 (train) nor 0 (test)")
    wanted = _SPLITS.values() if split == "all" else (_SPLITS[split],)
    return [key for key in images if key in splits and splits[key].cells[0] in wanted]


def _class_names(root: Path, report: Report) -> tuple[str, ...]:
    found = read_keyed(root / _CLASSES, 1, report)
    for number, key in enumerate(found, 1):
        if key != str(number):
            raise DataError(f"{found[key].where}: class {key!r} where {number} is expected: classes count from 1")
    return tuple(line.cells[0].partition(".")[2] or line.cells[0] for line in found.values())


def _segmentations(root: Path, items: list[Item], report: Report) -> IdMasks | None:
    folder = first_folder([root / "segmentations", root.parent / "segmentations"])
    if folder is None:
        return None
    paths = tuple(folder / Path(item.name).with_suffix(".png") for item in items)
    for item, path, size in zip(items, paths, in_threads(header_size, paths), strict=True):
        if size is None:
            report(f"{item.where}: no segmentation {path}: fetch it, or take away {folder} to do without")
        elif size != item.size:
            height, width = item.size
            report(f"{item.where}: segmentation {path} is {size[1]}x{size[0]} pixels, its image {width}x{height}")
    return IdMasks(paths, (None,) * len(paths), (), tuple(item.where for item in items), read=read_agreement)


def open_cub(
    path: str | Path, *, split: str | None = None, images: str | Path | None = None, report: Report = refuse
) -> LocalizationSet:
    """Open CUB-200-2011 from its text files.

    Boxes are published as ``x y width height``, floating point, counted from 0 (``x`` is 0 in 73 images). They
    become ``x, y, x + width, y + height``, half-open, cut to the image. The off-by-one of the field is this:
    wsolevaluation publishes the same ``x + width`` as a corner, cut to ``image width - 1``, and then calculates
    as if that pixel were the last of the box. The set says ``edges="exclusive"``, so that protocols that calculate
    with published corners take these numbers as they are; only where a bird touches the right or lower border
    (213 images of the test split at most) is our edge one pixel beyond wsolevaluation's.

    Parameters
    ----------
    path : str or Path
        The folder ``CUB_200_2011`` with ``images.txt, bounding_boxes.txt, image_class_labels.txt,
        train_test_split.txt, classes.txt``. If there is a folder ``segmentations`` in it or beside it, the set has
        masks: object is what most of the annotators marked.
    split : {"test", "train", "all"}, optional
        "test" where it is not given.
    images : str or Path, optional
        The folder of the pictures; without it, ``images`` in ``path``.
    report : callable
        Told of every problem that leaves the rest readable; without it, the first one is raised.

    Raises
    ------
    DataError
        Files that do not hold the same image numbers, missing pictures or segmentations, boxes that are empty or
        more than a pixel outside their image, an unknown class or split; with file and line.
    """
    root = need_folder(Path(path), f"give the folder with {_IMAGES} and {_BOXES}")
    listed = read_keyed(root / _IMAGES, 1, report)
    labels, boxes = read_keyed(root / _LABELS, 1, report), read_keyed(root / _BOXES, 4, report)
    cover(listed, labels, root / _LABELS, _IMAGES, report)
    cover(listed, boxes, root / _BOXES, _IMAGES, report)
    names = _class_names(root, report)
    folder = Path(images) if images is not None else root / "images"
    need_folder(folder, "give the folder of the pictures with images=")
    chosen = [key for key in _chosen(split or "test", root, listed, report) if key in labels and key in boxes]
    files = [folder / listed[key].cells[0] for key in chosen]
    items: list[Item] = []
    found: list[FoundBox] = []
    for key, file, size in zip(chosen, files, in_threads(header_size, files), strict=True):
        where = listed[key].where
        if size is None:
            report(f"{where}: no image {file}, or it cannot be opened: add the file")
            continue
        label, box = _class_of(labels[key], len(names), report), _box_of(boxes[key], len(items), report)
        if label is not None and box is not None:
            found.append(box)
            items.append(Item(listed[key].cells[0], file, label, size, where))
    masks = _segmentations(root, items, report)
    return assembled(
        f"cub-{split or 'test'}",
        root,
        items,
        boxes_of(items, found, report),
        report,
        edges="exclusive",
        class_names=names,
        masks=masks,
        files=masks.paths if masks is not None else (),
    )
