"""Broden, the broadly and densely labelled data set of network dissection (Bau et al., CVPR 2017).

``index.csv`` has one column per category beside ``image, split, ih, iw, sh, sw``; columns are found by the header. A
cell is empty (the category is not annotated in this image), a number (a label of the whole image) or the name of a
picture below ``images`` whose labels are ``R + 256 G``; several are joined by ``;``. ``label.csv`` names the labels,
``c_CATEGORY.csv`` says how much of each category they cover.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from explain.data.masks import IdTable, id_table
from explain.data.probes.assembling import Item, assembled
from explain.data.probes.sources import IdSource, read_red_green
from explain.data.tables import Report, Row, Table, read_table, refuse
from explain.errors import DataError, near
from explain.types import Concept, ProbeSet

__all__ = ["is_broden", "open_broden"]

_PLAIN_COLUMNS = ("image", "split", "ih", "iw", "sh", "sw")
_KNOWN_CATEGORIES = ("color", "object", "part", "material", "scene", "texture")


@dataclass(frozen=True)
class _Names:
    """The labels of ``label.csv`` that occur in the chosen categories."""

    path: Path
    concepts: tuple[Concept, ...]
    numbers: dict[int, int]
    """Concept number by label; -1 for labels that occur in other categories only."""
    table: IdTable


def is_broden(root: Path) -> bool:
    """Say whether a folder holds ``label.csv`` and ``images`` beside an index, as Broden does."""
    return all((root / name).is_file() for name in ("index.csv", "label.csv")) and (root / "images").is_dir()


def _whole(table: Table, row: Row, column: str, report: Report) -> int | None:
    text = row.cells[column]
    if text.isdecimal():
        return int(text)
    report(f"{table.where(row)}: {column} {text!r} is not a whole number from 0 on")
    return None


def _coverages(root: Path, categories: Sequence[str], report: Report) -> dict[int, dict[str, float]]:
    """Return how much of each category a label covers, by label, from ``c_CATEGORY.csv``."""
    found: dict[int, dict[str, float]] = {}
    for category in categories:
        path = root / f"c_{category}.csv"
        if not path.is_file():
            continue
        table = read_table(path, ["number", "coverage"], report)
        for row in table.rows:
            number = _whole(table, row, "number", report)
            try:
                coverage = float(row.cells["coverage"] or 0)
            except ValueError:
                report(f"{table.where(row)}: coverage {row.cells['coverage']!r} is not a number")
                continue
            if number is not None:
                found.setdefault(number, {})[category] = coverage
    return found


def _written(text: str) -> dict[str, float]:
    """Return the categories of a label with their frequencies, from a cell such as ``material(36);object(3)``."""
    return {name: float(count or 0) for name, count in re.findall(r"([^;()\s]+)(?:\((\d+)\))?", text)}


def _main_category(weights: dict[str, float], categories: Sequence[str]) -> str | None:
    """Return the chosen category of which a label covers most; of equals the later column, as published."""
    own = [(weights[category], place) for place, category in enumerate(categories) if category in weights]
    return categories[max(own)[1]] if own else None


def _names(root: Path, categories: Sequence[str], report: Report) -> _Names:
    table = read_table(root / "label.csv", ["number", "name"], report)
    covered = _coverages(root, categories, report)
    concepts: dict[str, Concept] = {}
    numbers: dict[int, int] = {}
    places: dict[str, int] = {}
    for row in table.rows:
        number = _whole(table, row, "number", report)
        if not number:  # label 0 is no concept, where a list has it at all
            continue
        if number in numbers:
            report(f"{table.where(row)}: label {number} is named twice: keep one of them")
            continue
        name = row.cells["name"]
        category = _main_category(covered.get(number) or _written(row.cells.get("category", "")), categories)
        if category is None or not name:
            numbers[number] = -1
            continue
        concepts.setdefault(name, Concept(name, category))
        numbers[number] = places.setdefault(name, len(places))
    return _Names(table.path, tuple(concepts.values()), numbers, id_table(numbers))


def _categories(table: Table, root: Path, wanted: Sequence[str] | None) -> list[str]:
    named = [column for column in table.columns if column not in _PLAIN_COLUMNS]
    found = [each for each in named if each in _KNOWN_CATEGORIES or (root / f"c_{each}.csv").is_file()]
    if not found:
        raise DataError(
            f"{table.path} line 1 has no column of a category ({', '.join(_KNOWN_CATEGORIES)}; it has:"
            f" {', '.join(table.columns)})"
        )
    for category in wanted or ():
        if category not in found:
            raise DataError(
                f"{table.path} line 1 has no category {category!r}{near(category, found)} (it has: {', '.join(found)})"
            )
    return found if wanted is None else [each for each in found if each in wanted]


def _mask_size(table: Table, row: Row, report: Report) -> tuple[int, int] | None:
    """Return (height, width) of an image's masks: about half of the image's, as the index says."""
    try:
        height, width = int(row.cells["sh"]), int(row.cells["sw"])
    except ValueError:
        height = width = 0
    if height < 1 or width < 1:
        report(f"{table.where(row)}: sh {row.cells['sh']!r}, sw {row.cells['sw']!r} are no size of masks")
        return None
    return height, width


def _cell(table: Table, row: Row, category: str, names: _Names, report: Report) -> tuple[list[str], list[int], bool]:
    """Return a cell's pictures, its concepts of the whole image, and whether it annotates the category at all."""
    pictures, whole, annotated = [], [], False
    for text in filter(None, map(str.strip, row.cells[category].split(";"))):
        if not text.isdecimal():
            pictures.append(text)
            annotated = True
        elif int(text) == 0:  # scene "0" occurs in no list of labels: the image was given no scene
            continue
        elif int(text) not in names.numbers:
            report(f"{table.where(row)}: {category} has label {text}, which {names.path} does not name")
        else:
            whole.append(names.numbers[int(text)])
            annotated = True
    return pictures, [number for number in whole if number >= 0], annotated


def _item(
    images: Path, table: Table, row: Row, categories: Sequence[str], names: _Names, report: Report
) -> Item | None:
    size = _mask_size(table, row, report)
    if size is None:
        return None
    sources, whole, annotated = [], [], []
    for category in categories:
        pictures, numbers, known = _cell(table, row, category, names, report)
        for picture in pictures:
            sources.append(IdSource(images / picture, names.table, str(names.path), read_red_green))
        whole += numbers
        annotated += [category] if known else []
    return Item(
        name=row.cells["image"],
        image=images / row.cells["image"],
        where=table.where(row),
        sources=tuple(sources),
        whole=tuple(dict.fromkeys(whole)),
        annotated=tuple(annotated),
        size=size,
        columns={"split": row.cells["split"]} if "split" in table.columns else {},
    )


def open_broden(
    path: str | Path,
    *,
    split: str | None = None,
    categories: Sequence[str] | None = None,
    index: str | None = None,
    report: Report = refuse,
) -> ProbeSet:
    """Open a folder such as ``broden1_224``.

    Parameters
    ----------
    path : str or Path
        The folder with ``index.csv``, ``label.csv``, ``c_*.csv`` and ``images``.
    split : str, optional
        ``"train"`` or ``"val"``; without it both, told apart by ``columns["split"]``.
    categories : sequence of str, optional
        Columns of the index to read; without it all (Mu and Andreas leave ``material`` out). The category of a
        concept is the one, among these, of which it covers most (``c_*.csv``, else the counts in ``label.csv``).
    index : str, optional
        Another index in the folder, such as ``"index_ade20k.csv"``.
    report : callable
        Told of every problem that leaves the rest readable; without it, the first one is raised.

    Raises
    ------
    DataError
        Missing tables, columns, images or masks, sizes that are none, labels that nothing names; with file and line.
        Masks are held against ``sh, sw`` and ``label.csv`` when they are read.
    """
    root = Path(path)
    table = read_table(root / (index or "index.csv"), ["image", "sh", "sw"], report)
    chosen = _categories(table, root, categories)
    names = _names(root, chosen, report)
    rows = list(table.rows)
    if split is not None:
        splits = list(dict.fromkeys(row.cells.get("split", "") for row in rows))
        if split not in splits:
            raise DataError(f"{table.path} has no image of split {split!r} (it has: {', '.join(filter(None, splits))})")
        rows = [row for row in rows if row.cells["split"] == split]
    items = [_item(root / "images", table, row, chosen, names, report) for row in rows]
    tables = [root / "label.csv", *(root / f"c_{each}.csv" for each in chosen)]
    return assembled(
        f"{root.resolve().name}{'' if split is None else '-' + split}",
        root,
        [item for item in items if item is not None],
        names.concepts,
        report,
        texts=[table.text, *(each.read_bytes() for each in tables if each.is_file())],
    )
