"""Pascal-Context (Mottaghi et al., CVPR 2014): every pixel of VOC2010's photos, in 459 or 59 classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from explain.data.formats.lines import first_folder, read_lines
from explain.data.masks import IdTable, read_ids
from explain.data.probes.assembling import Item, Vocabulary, assembled, class_table
from explain.data.probes.mat import load_mat
from explain.data.probes.sources import IdSource
from explain.data.probes.voc import listed_images
from explain.data.tables import Report, refuse
from explain.errors import DataError
from explain.types import ProbeSet

__all__ = ["is_pascal_context", "open_pascal_context"]

_LISTS = ("59_labels.txt", "labels.txt", "459_labels.txt", "33_labels.txt")
_FOLDERS = ("59_context_labels", "33_context_labels", "trainval", "459_context_labels")
_BACKGROUND = ("background", "empty")


def _label_list(root: Path, masks: Path | None) -> Path | None:
    """Return the list of labels that belongs to a folder of masks: 59 to 59, else the only or the full one."""
    there = [root / name for name in _LISTS if (root / name).is_file()]
    start = masks.name.split("_")[0] if masks is not None else ""
    own = [path for path in there if start.isdecimal() and path.name == f"{start}_labels.txt"]
    full = [path for path in there if path.name in ("labels.txt", "459_labels.txt")]
    return next(iter([*own, *full, *there]), None)


def _mask_folder(root: Path) -> Path | None:
    return first_folder(root / name for name in _FOLDERS)


def is_pascal_context(root: Path) -> bool:
    """Say whether a folder holds a list of labels and a folder of Pascal-Context's masks."""
    return _label_list(root, _mask_folder(root)) is not None and _mask_folder(root) is not None


def _names(path: Path, report: Report) -> dict[int, str]:
    """Return the names of ``labels.txt`` by id: lines such as ``12: bag``."""
    lines, found = read_lines(path), dict[int, str]()
    for number, text in enumerate(lines.texts):
        identity, colon, name = text.partition(":")
        if not colon or not identity.strip().isdecimal() or not name.strip():
            report(f"{lines.where(number)}: {text[:60]!r} is no number and name, divided by a colon")
        elif int(identity) in found:
            report(f"{lines.where(number)}: label {int(identity)} is named twice: keep one of them")
        else:
            found[int(identity)] = name.strip()
    return found


def read_label_map(path: Path, where: str) -> NDArray[np.int32]:
    """Read the variable ``LabelMap`` of a ``.mat`` file."""
    found = np.asarray(load_mat(path, "LabelMap", where))
    if found.ndim != 2:
        raise DataError(f"{where}: LabelMap of {path} has shape {found.shape}: (height, width) is expected")
    return found.astype(np.int32)


def open_pascal_context(
    path: str | Path,
    *,
    split: str | None = None,
    images: str | Path | None = None,
    masks: str | Path | None = None,
    classes: str | Path | None = None,
    categories: Sequence[str] | None = None,
    report: Report = refuse,
) -> ProbeSet:
    """Open a folder of Pascal-Context; ``.mat`` files need SciPy.

    Id 0 is no concept, nor is a class named ``background`` or ``empty``.

    Parameters
    ----------
    path : str or Path
        The folder with ``labels.txt`` and ``trainval/*.mat`` (459 classes), or with ``59_labels.txt`` and
        ``59_context_labels/*.png``; where both are there, the 59.
    split : str, optional
        A list ``SPLIT.txt`` in the folder, ``ImageSets/Main`` or ``ImageSets/Segmentation``; without it all masks.
    images : str or Path, optional
        The folder of the images; without it ``JPEGImages``.
    masks : str or Path, optional
        The folder of the masks.
    classes : str or Path, optional
        The list of labels.
    categories : sequence of str, optional
        There is only ``"object"``.
    report : callable
        Told of every problem that leaves the rest readable; without it, the first one is raised.

    Raises
    ------
    DependencyError
        SciPy is not installed, and masks are ``.mat`` files.
    DataError
        Missing files, lines that cannot be read; ids and sizes when a mask is read.
    """
    root = Path(path)
    drawn = Path(masks) if masks is not None else _mask_folder(root)
    if drawn is None or not drawn.is_dir():
        raise DataError(f"{root} has no folder of masks ({', '.join(_FOLDERS)}): give masks=")
    listed = Path(classes) if classes is not None else _label_list(root, drawn)
    if listed is None:
        raise DataError(f"{root} has no list of labels ({', '.join(_LISTS)}): give classes=")
    words = Vocabulary()
    names = _names(listed, report)
    unnamed = [key for key, name in names.items() if name.lower() in _BACKGROUND]
    table = class_table(words, {key: names[key] for key in names if key not in unnamed}, unnamed=unnamed)
    files = {file.stem: file for file in sorted([*drawn.glob("*.mat"), *drawn.glob("*.png")])}
    chosen = {name: (str(file), "") for name, file in files.items()} if split is None else _list(root, split, report)
    folder = Path(images) if images is not None else root / "JPEGImages"
    items = [
        Item(
            name=name,
            image=folder / f"{name}.jpg",
            where=where,
            sources=(_source(files.get(name, drawn / f"{name}.png"), table, str(listed)),),
            columns={"split": own} if own else {},
        )
        for name, (where, own) in chosen.items()
    ]
    label = f"pascal-context-{len(words.concepts)}-{split or 'all'}"
    return assembled(label, root, items, words.concepts.values(), report, categories=categories)


def _source(path: Path, table: IdTable, named: str) -> IdSource:
    return IdSource(path, table, named, read_label_map if path.suffix == ".mat" else read_ids)


def _list(root: Path, split: str, report: Report) -> dict[str, tuple[str, str]]:
    places = [root, root / "ImageSets/Main", root / "ImageSets/Segmentation"]
    folder = next((place for place in places if (place / f"{split}.txt").is_file()), None)
    if folder is None:
        raise DataError(f"no list {split}.txt in {', '.join(map(str, places))}: leave split out, or add the list")
    return listed_images(folder, [split], report)
