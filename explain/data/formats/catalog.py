"""All published formats: how a folder of each is told, and which options its reader takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import cast

from explain.data.formats.coco import coco_parts, is_coco, open_coco
from explain.data.formats.cub import is_cub, open_cub
from explain.data.formats.ilsvrc import is_ilsvrc, is_ilsvrc_csv, open_ilsvrc, open_ilsvrc_csv
from explain.data.formats.imagenet_s import imagenet_s_parts, is_imagenet_s, open_imagenet_s
from explain.data.formats.pets import PetBoxes, is_pets, open_pets, pets_parts
from explain.data.formats.places import (
    is_places365,
    is_sun397,
    open_places365,
    open_sun397,
    places365_parts,
    sun397_parts,
)
from explain.data.formats.voc import is_voc, open_voc, voc_parts
from explain.data.formats.wsol import is_wsol, open_wsol, wsol_parts
from explain.data.tables import Report
from explain.errors import DataError, near
from explain.types import LocalizationSet

__all__ = ["FORMATS", "Format", "Options", "detect", "format_named", "need_options"]


@dataclass(frozen=True)
class Options:
    """What a caller may say of a data set; None: not said. Each reader's docstring says what it means there."""

    split: str | None = None
    dataset: str | None = None
    images: str | Path | None = None
    masks: str | Path | None = None
    classes: str | Path | None = None
    boxes: str | None = None
    difficult: bool | None = None

    def given(self) -> list[str]:
        """Return the names of the options that were said."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]


@dataclass(frozen=True)
class Format:
    """One published format."""

    name: str
    marks: str
    """What tells its folder, for messages."""
    recognises: Callable[[Path], bool]
    opens: Callable[[Path, Options, Report], LocalizationSet]
    parts: Callable[[Path], list[tuple[Path, str | None]]]
    """What a folder holds, as paths and splits to open; for checks of all of it."""
    options: tuple[str, ...]


def _whole(root: Path) -> list[tuple[Path, str | None]]:
    return [(root, None)]


def _train_and_test(root: Path) -> list[tuple[Path, str | None]]:
    return [(root, "all")]


def _wsol(path: Path, chosen: Options, report: Report) -> LocalizationSet:
    return open_wsol(
        path,
        split=chosen.split,
        dataset=chosen.dataset,
        images=chosen.images,
        masks=chosen.masks,
        report=report,
    )


def _cub(path: Path, chosen: Options, report: Report) -> LocalizationSet:
    return open_cub(path, split=chosen.split, images=chosen.images, report=report)


def _voc(path: Path, chosen: Options, report: Report) -> LocalizationSet:
    difficult = bool(chosen.difficult)
    return open_voc(path, split=chosen.split, difficult=difficult, classes=chosen.classes, report=report)


def _coco(path: Path, chosen: Options, report: Report) -> LocalizationSet:
    return open_coco(path, split=chosen.split, images=chosen.images, report=report)


def _pets(path: Path, chosen: Options, report: Report) -> LocalizationSet:
    return open_pets(path, split=chosen.split, boxes=cast(PetBoxes | None, chosen.boxes), report=report)


def _imagenet_s(path: Path, chosen: Options, report: Report) -> LocalizationSet:
    return open_imagenet_s(path, split=chosen.split, classes=chosen.classes, report=report)


def _ilsvrc(path: Path, chosen: Options, report: Report) -> LocalizationSet:
    return open_ilsvrc(path, images=chosen.images, classes=chosen.classes, report=report)


def _ilsvrc_csv(path: Path, chosen: Options, report: Report) -> LocalizationSet:
    return open_ilsvrc_csv(path, images=chosen.images, classes=chosen.classes, report=report)


def _places365(path: Path, chosen: Options, report: Report) -> LocalizationSet:
    return open_places365(path, split=chosen.split, images=chosen.images, report=report)


def _sun397(path: Path, chosen: Options, report: Report) -> LocalizationSet:
    return open_sun397(path, split=chosen.split, report=report)


FORMATS = (
    Format("cub", "bounding_boxes.txt", is_cub, _cub, _train_and_test, ("split", "images")),
    Format("voc", "Annotations, ImageSets, JPEGImages", is_voc, _voc, voc_parts, ("split", "difficult", "classes")),
    Format("coco", "annotations/instances_….json", is_coco, _coco, coco_parts, ("split", "images")),
    Format("pets", "annotations/trimaps", is_pets, _pets, pets_parts, ("split", "boxes")),
    Format("imagenet-s", "validation-segmentation", is_imagenet_s, _imagenet_s, imagenet_s_parts, ("split", "classes")),
    Format("ilsvrc", "ILSVRC2012_val_….xml", is_ilsvrc, _ilsvrc, _whole, ("images", "classes")),
    Format("ilsvrc-csv", "LOC_val_solution.csv", is_ilsvrc_csv, _ilsvrc_csv, _whole, ("images", "classes")),
    Format("places365", "categories_places365.txt", is_places365, _places365, places365_parts, ("split", "images")),
    Format("sun397", "ClassName.txt", is_sun397, _sun397, sun397_parts, ("split",)),
    Format("wsol", "image_ids.txt", is_wsol, _wsol, wsol_parts, ("split", "dataset", "images", "masks")),
)
"""In the order in which a folder is held against them; Kaggle's folder has XML and table, which hold the same."""


def detect(path: Path) -> Format | None:
    """Return the published format of a folder (or of COCO's file), by what lies in it; None if it is none."""
    if path.is_file():
        return next((each for each in FORMATS if each.name == "coco" and each.recognises(path)), None)
    return next((each for each in FORMATS if each.recognises(path)), None) if path.is_dir() else None


def format_named(name: str) -> Format:
    """Return a format by its name."""
    for each in FORMATS:
        if each.name == name:
            return each
    names = ["plain", *(each.name for each in FORMATS)]
    raise DataError(f"unknown format {name!r}{near(name, names)} (known: {', '.join(names)})")


def need_options(name: str, taken: Sequence[str], given: Iterable[str]) -> None:
    """Refuse options that a format does not take."""
    wrong = [option for option in given if option not in taken]
    if wrong:
        takes = f"it takes {', '.join(taken)}" if taken else "it takes no options"
        raise DataError(f"format {name!r} has no option {', '.join(map(repr, wrong))}: {takes}")
