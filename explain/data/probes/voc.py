"""Pascal VOC's segmentations: pixels of twenty classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from explain.data.formats.lines import read_lines
from explain.data.formats.voc import CLASSES
from explain.data.probes.assembling import Item, Vocabulary, assembled, class_table, pick_split
from explain.data.probes.sources import IdSource
from explain.data.tables import Report, refuse
from explain.errors import DataError
from explain.types import ProbeSet

__all__ = ["is_voc_segmentation", "listed_images", "open_voc_segmentation", "voc_splits"]

_VOID = 255
_LISTS = Path("ImageSets/Segmentation")


def is_voc_segmentation(root: Path) -> bool:
    """Say whether a folder is laid out as ``VOC2012``, with segmentations."""
    folders = ("JPEGImages", "SegmentationClass", str(_LISTS))
    return all((root / name).is_dir() for name in folders)


def voc_splits(folder: Path) -> list[str]:
    """Return the lists in a folder of lists; ``trainval`` only where neither train nor val is there."""
    known = [name for name in ("train", "val", "test") if (folder / f"{name}.txt").is_file()]
    if not {"train", "val"} & set(known) and (folder / "trainval.txt").is_file():
        return ["trainval", *known]
    return known


def listed_images(folder: Path, splits: Sequence[str], report: Report) -> dict[str, tuple[str, str]]:
    """Return where each image of some lists stands, and its split, by its name."""
    found: dict[str, tuple[str, str]] = {}
    for split in splits:
        lines = read_lines(folder / f"{split}.txt")
        for number, text in enumerate(lines.texts):
            name, where = text.strip(), lines.where(number)
            if not name or len(name.split()) > 1:
                report(f"{where}: {text[:40]!r} is no name of an image")
            elif name in found:
                report(f"{where}: {name!r} is already in {found[name][0]}: keep one of them")
            else:
                found[name] = where, split
    return found


def _class_names(given: str | Path | None) -> tuple[tuple[str, ...], str]:
    if given is None:
        return CLASSES, "the list of Pascal VOC's classes"
    lines = read_lines(Path(given))
    for number, name in enumerate(lines.texts):
        if not name.strip():
            raise DataError(f"{lines.where(number)} is empty: give one class name per line")
    return tuple(name.strip() for name in lines.texts), str(given)


def open_voc_segmentation(
    path: str | Path,
    *,
    split: str | None = None,
    classes: str | Path | None = None,
    categories: Sequence[str] | None = None,
    report: Report = refuse,
) -> ProbeSet:
    """Open the segmented images of a folder such as ``VOCdevkit/VOC2012``.

    Ids of ``SegmentationClass`` count classes from 1; 0 is background (no concept, counted), 255 the border (left out
    of every count).

    Parameters
    ----------
    path : str or Path
        The folder with ``JPEGImages``, ``SegmentationClass`` and ``ImageSets/Segmentation``.
    split : str, optional
        A list in ``ImageSets/Segmentation``; without it train and val, told apart by ``columns["split"]``.
    classes : str or Path, optional
        A file with one class name per line, for other data in this layout.
    categories : sequence of str, optional
        There is only ``"object"``.
    report : callable
        Told of every problem that leaves the rest readable; without it, the first one is raised.

    Raises
    ------
    DataError
        Missing files, lines that name no image; ids and sizes when a mask is read.
    """
    root = Path(path)
    known = voc_splits(root / _LISTS)
    if split is not None and (root / _LISTS / f"{split}.txt").is_file():
        known = [*known, split]
    names, named = _class_names(classes)
    words = Vocabulary()
    table = class_table(words, dict(enumerate(names, 1)), ignored=[_VOID])
    items = [
        Item(
            name=name,
            image=root / "JPEGImages" / f"{name}.jpg",
            where=where,
            sources=(IdSource(root / "SegmentationClass" / f"{name}.png", table, named),),
            columns={"split": own},
        )
        for name, (where, own) in listed_images(root / _LISTS, pick_split(split, known, root), report).items()
    ]
    label = f"{root.resolve().name.lower()}-{split or 'all'}"
    return assembled(label, root, items, words.concepts.values(), report, categories=categories)
