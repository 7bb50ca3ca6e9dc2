"""COCO as a probe set: things (polygons and run lengths), stuff (run lengths) and panoptic pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.data.formats.coco_json import (
    Picture,
    by_id,
    category_names,
    image_folder,
    load_coco,
    read_picture,
    region_mask,
)
from explain.data.formats.lines import need_folder
from explain.data.masks import nearest
from explain.data.probes.assembling import Item, Vocabulary, assembled
from explain.data.probes.sources import SegmentSource, class_layers, need_size
from explain.data.tables import Report, refuse
from explain.errors import DataError
from explain.types import ProbeSet

__all__ = ["has_annotations", "json_parts", "open_coco_panoptic", "open_coco_regions"]

_OTHER = "other"
"""Class 183 of COCO-Stuff: whatever is no stuff, so no concept."""


@dataclass(frozen=True, eq=False)
class RegionSource:
    """The regions of one image in a JSON file; regions of several classes may overlap."""

    path: Path
    regions: tuple[tuple[str, int, Any], ...]
    """Where each stands, its concept, its segmentation."""
    size: tuple[int, int]
    """(height, width) that the file says."""

    def __call__(self, where: str, own: tuple[int, int], size: tuple[int, int]) -> NDArray[np.int32]:
        """Return the labels ``(layers, h, w)``, with as many layers as overlapping classes need; see `Source`."""
        need_size(self.path, self.size, own, where)
        masks = [(number, region_mask(told, shape, own)) for told, number, shape in self.regions]
        return np.asarray(nearest(class_layers(masks, own), size), np.int32)


def _files(root: Path, kind: str) -> list[Path]:
    return sorted((root / "annotations").glob(f"{kind}_*.json"))


def has_annotations(path: Path, kind: str) -> bool:
    """Say whether a folder holds ``annotations/KIND_….json``, or a file is one by its name."""
    if path.is_file():
        return path.suffix == ".json" and path.name.startswith(f"{kind}_")
    return bool(_files(path, kind))


def json_parts(path: Path, kind: str) -> list[str | None]:
    """Return the splits of a folder, for checks of all of it."""
    return [None] if path.is_file() else [_split_of(file, kind) for file in _files(path, kind)]


def _split_of(file: Path, kind: str) -> str:
    return file.stem.removeprefix(f"{kind}_")


def _one_file(path: Path, kind: str, split: str | None) -> Path:
    if path.is_file():
        return path
    files = {_split_of(file, kind): file for file in _files(need_folder(path, "give the folder of COCO"), kind)}
    if not files:
        raise DataError(f"{path} has no annotations/{kind}_….json: give the folder that holds annotations")
    if split is None and len(files) > 1:
        raise DataError(f"{path} has several splits ({', '.join(files)}): say which with split=")
    if split is not None and split not in files:
        raise DataError(f"{path} has no split {split!r} (it has: {', '.join(files)})")
    return next(iter(files.values())) if split is None else files[split]


def _pictures(file: Path, entries: Sequence[Any], report: Report) -> dict[int, tuple[str, Picture]]:
    return {
        identity: (where, picture)
        for identity, (where, entry) in by_id(file, "images", entries, report).items()
        if (picture := read_picture(where, entry, report)) is not None
    }


def _known(where: str, entry: Mapping[str, Any], key: str, known: Mapping[int, Any], report: Report) -> int | None:
    value = entry.get(key)
    if isinstance(value, int) and value in known:
        return value
    report(f"{where}: {key} {value!r} is none of this file")
    return None


def _regions(
    file: Path, entries: Sequence[Any], images: Mapping[int, Any], numbers: Mapping[int, int], report: Report
) -> dict[int, list[tuple[str, int, Any]]]:
    found: dict[int, list[tuple[str, int, Any]]] = {}
    for where, entry in by_id(file, "annotations", entries, report).values():
        image = _known(where, entry, "image_id", images, report)
        category = _known(where, entry, "category_id", numbers, report)
        if image is None or category is None:
            continue
        if not entry.get("segmentation"):
            report(f"{where} has no segmentation: a box alone labels no pixels")
        elif numbers[category] >= 0:
            found.setdefault(image, []).append((where, numbers[category], entry["segmentation"]))
    return found


def open_coco_regions(
    path: str | Path,
    kind: str = "instances",
    *,
    split: str | None = None,
    images: str | Path | None = None,
    categories: Sequence[str] | None = None,
    report: Report = refuse,
) -> ProbeSet:
    """Open COCO's things (``instances_*.json``) or stuff (``stuff_*.json``): one JSON file with regions.

    Regions of one class are united, crowds with them; classes that overlap go to several label layers. Things are of
    category ``"object"``, stuff of category ``"stuff"``; stuff's class ``other`` is no concept.

    Parameters
    ----------
    path : str or Path
        The folder with ``annotations``, or the JSON file.
    kind : {"instances", "stuff"}
        Which files.
    split : str, optional
        Which file, such as ``"val2017"``; needed where there are several.
    images : str or Path, optional
        The folder of the images; without it ``val2017``, ``images/val2017`` or ``images`` beside ``annotations``.
    categories : sequence of str, optional
        There is only one: ``"object"`` or ``"stuff"``.
    report : callable
        Told of every problem that leaves the rest readable; without it, the first one is raised.

    Raises
    ------
    DataError
        Entries of unknown images and categories, or without segmentation, missing images, naming file and entry;
        sizes and broken segmentations when labels are read.
    """
    file = _one_file(Path(path), kind, split)
    data, own = load_coco(file), _split_of(file, kind)
    category = "stuff" if kind == "stuff" else "object"
    shown = _pictures(file, data["images"], report)
    words = Vocabulary()
    numbers = {
        identity: -1 if kind == "stuff" and name == _OTHER else words.number(name, category)
        for identity, name in category_names(file, data["categories"], report).items()
    }
    regions = _regions(file, data["annotations"], shown, numbers, report)
    folder = image_folder(images, file, own, [picture for _, picture in shown.values()])
    items = [
        Item(
            name=Path(picture.name).stem,
            image=folder / picture.name,
            where=where,
            sources=(RegionSource(file, tuple(regions.get(identity, ())), picture.size),),
            annotated=(category,),
            columns={"split": own},
        )
        for identity, (where, picture) in sorted(shown.items())
    ]
    name = f"coco-{'things' if kind == 'instances' else kind}-{own}"
    return assembled(name, file.parent.parent, items, words.concepts.values(), report, categories=categories)


def _segments(
    where: str, entry: Mapping[str, Any], numbers: Mapping[int, int], report: Report
) -> tuple[NDArray[np.int32], NDArray[np.int32]] | None:
    """Return the segments of a panoptic picture, ascending, and the concept of each; 0 is not labelled."""
    listed = entry.get("segments_info")
    if not isinstance(listed, list):
        report(f"{where} has no list segments_info: give a panoptic file of COCO")
        return None
    found = {0: -1}
    for place, segment in enumerate(listed):
        told = f"{where} segments_info[{place}]"
        identity = segment.get("id") if isinstance(segment, dict) else None
        if not isinstance(identity, int) or not 0 < identity < 1 << 24:
            report(f"{told} has no whole number from 1 on as id")
            continue
        category = _known(told, segment, "category_id", numbers, report)
        if category is not None:
            found[identity] = numbers[category]
    order = sorted(found)
    return np.array(order, np.int32), np.array([found[each] for each in order], np.int32)


def _panoptic_numbers(file: Path, entries: Sequence[Any], words: Vocabulary, report: Report) -> dict[int, int]:
    """Return the concept of each category id; ``isthing`` tells things from stuff."""
    names = category_names(file, entries, report)
    things = {
        entry["id"]: bool(entry.get("isthing", 1))
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("id"), int)
    }
    return {key: words.number(name, "object" if things[key] else "stuff") for key, name in names.items()}


def open_coco_panoptic(
    path: str | Path,
    *,
    split: str | None = None,
    images: str | Path | None = None,
    masks: str | Path | None = None,
    categories: Sequence[str] | None = None,
    report: Report = refuse,
) -> ProbeSet:
    """Open COCO's panoptic pictures: segments ``R + 256 G + 65536 B``, with a JSON file that says what each is.

    Things are of category ``"object"``, stuff of category ``"stuff"``. Segment 0 is not labelled: no concept, counted.

    Parameters
    ----------
    path : str or Path
        The folder with ``annotations/panoptic_val2017.json`` and ``annotations/panoptic_val2017``, or the JSON file.
    split : str, optional
        Which file, such as ``"val2017"``; needed where there are several.
    images, masks : str or Path, optional
        Folders of the images and of the panoptic pictures; without ``masks`` the one of the JSON file's name, beside
        it or beside ``annotations``.
    categories : sequence of str, optional
        ``"object"``, ``"stuff"``.
    report : callable
        Told of every problem that leaves the rest readable; without it, the first one is raised.

    Raises
    ------
    DataError
        Entries of unknown images and categories, missing images and pictures, naming file and entry; sizes and
        segments that are not listed when labels are read.
    """
    file = _one_file(Path(path), "panoptic", split)
    data, own = load_coco(file, "a panoptic file"), _split_of(file, "panoptic")
    shown = _pictures(file, data["images"], report)
    words = Vocabulary()
    numbers = _panoptic_numbers(file, data["categories"], words, report)
    folder = image_folder(images, file, own, [picture for _, picture in shown.values()])
    beside = (file.parent / file.stem, file.parent.parent / file.stem)
    drawn = Path(masks) if masks is not None else next((each for each in beside if each.is_dir()), beside[0])
    items = []
    for place, entry in enumerate(data["annotations"]):
        where = f"{file} annotations[{place}]"
        image = _known(where, entry, "image_id", shown, report) if isinstance(entry, dict) else None
        segments = _segments(where, entry, numbers, report) if image is not None else None
        if image is None or segments is None:
            continue
        picture = shown[image][1]
        source = SegmentSource(drawn / str(entry.get("file_name")), *segments, where, _segment_told)
        items.append(
            Item(
                name=Path(picture.name).stem,
                image=folder / picture.name,
                where=where,
                sources=(source,),
                columns={"split": own},
            )
        )
    items.sort(key=lambda item: item.name)
    label = f"coco-panoptic-{own}"
    concepts = words.concepts.values()
    return assembled(label, file.parent.parent, items, concepts, report, categories=categories, files=[file])


def _segment_told(identity: int) -> str:
    return f"segment {identity}"
