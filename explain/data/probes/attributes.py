"""Attributes of whole images: a table with a column for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from explain.data.probes.assembling import Item, Vocabulary, assembled
from explain.data.tables import Report, Row, Table, find_image, read_table, refuse
from explain.errors import DataError
from explain.types import ProbeSet

__all__ = ["CATEGORY", "is_attributes", "listed_attributes", "open_attributes", "spoken"]

CATEGORY = "attribute"


def is_attributes(root: Path) -> bool:
    """Say whether a folder holds ``attributes.csv``."""
    return (root / "attributes.csv").is_file()


def spoken(name: str) -> str:
    """Return a name with blanks for underscores."""
    return name.replace("_", " ")


def listed_attributes(
    name: str,
    root: Path,
    names: Iterable[str],
    rows: Mapping[str, tuple[str, Sequence[str]]],
    folder: Path,
    report: Report,
    *,
    splits: Mapping[str, str],
    split: str | None,
    categories: Sequence[str] | None,
    text: bytes,
) -> ProbeSet:
    """Put together a published set of attributes; its name ends with the split.

    Parameters
    ----------
    names, rows, folder
        All attributes; by the name of each image in ``folder``, where it is listed and the attributes it has.
    splits, split
        The split of each image, where they are known, and the only one that is wanted.
    text
        What goes into the hash besides images and attributes.
    """
    words = Vocabulary()
    words.numbers(names, CATEGORY)
    items = [
        Item(
            name=image,
            image=folder / image,
            where=where,
            whole=tuple(words.numbers(held, CATEGORY)),
            columns={"split": splits.get(image, "")} if splits else {},
        )
        for image, (where, held) in rows.items()
        if split is None or splits.get(image) == split
    ]
    label, concepts = f"{name}-{split or 'all'}", words.concepts.values()
    return assembled(label, root, items, concepts, report, categories=categories, texts=[text])


def _attribute_columns(table: Table) -> list[str]:
    """Return the columns that hold nothing but 0 and 1 (some lists write -1 for 0), and one of them at least."""
    names = [name for name in table.columns if name not in ("image", "split")]
    values = {name: {row.cells[name] for row in table.rows} for name in names}
    return [name for name in names if values[name] <= {"0", "1", "-1", ""} and values[name] != {""}]


def _held(table: Table, row: Row, columns: Sequence[str], report: Report) -> list[str]:
    """Return the attributes that an image has: 1; it lacks those with 0 or -1, and an empty cell is a problem."""
    for name in columns:
        if row.cells[name] not in ("0", "1", "-1"):
            report(f"{table.where(row)}: {name} {row.cells[name]!r} is neither 1 (it has the attribute) nor 0 or -1")
    return [name for name in columns if row.cells[name] == "1"]


def open_attributes(
    path: str | Path,
    *,
    split: str | None = None,
    images: str | Path | None = None,
    categories: Sequence[str] | None = None,
    report: Report = refuse,
) -> ProbeSet:
    """Open a table ``image,striped,furry,…`` with 1 where an image has an attribute, else 0 (or -1).

    Parameters
    ----------
    path : str or Path
        The folder with ``attributes.csv`` and ``images``, or the table itself, beside its images. Columns with
        anything else than 0 and 1 are text, kept in ``columns``.
    split : str, optional
        Only images with this in the column ``split``.
    images : str or Path, optional
        The folder of the images, where they lie elsewhere.
    categories : sequence of str, optional
        There is only ``"attribute"``.
    report : callable
        Told of every problem that leaves the rest readable; without it, the first one is raised.

    Raises
    ------
    DataError
        No column of attributes, empty cells in one, missing images; with file and line.
    """
    file = Path(path) if Path(path).is_file() else Path(path) / "attributes.csv"
    root = file.parent
    table = read_table(file, ["image"], report)
    columns = _attribute_columns(table)
    if not columns:
        raise DataError(f"{file} has no column of attributes: one that holds nothing but 0 and 1")
    words = Vocabulary()
    words.numbers(map(spoken, columns), CATEGORY)
    texts = [name for name in table.columns if name != "image" and name not in columns]
    items = []
    for row in _rows_of(table, split):
        name = row.cells["image"]
        found = Path(images) / name if images is not None else find_image(root, name)
        held = _held(table, row, columns, report)
        items.append(
            Item(
                name=name,
                image=found or root / "images" / name,
                where=table.where(row),
                whole=tuple(words.numbers(map(spoken, held), CATEGORY)),
                columns={each: row.cells[each] for each in texts},
            )
        )
    label = f"{root.resolve().name}{'' if split is None else '-' + split}"
    return assembled(label, root, items, words.concepts.values(), report, categories=categories, texts=[table.text])


def _rows_of(table: Table, split: str | None) -> list[Row]:
    if split is None:
        return list(table.rows)
    if "split" not in table.columns:
        raise DataError(f"{table.path} line 1 has no column 'split': open it without split=")
    found = [row for row in table.rows if row.cells["split"] == split]
    if not found:
        known = ", ".join(dict.fromkeys(row.cells["split"] for row in table.rows))
        raise DataError(f"{table.path} has no image of split {split!r} (it has: {known})")
    return found
