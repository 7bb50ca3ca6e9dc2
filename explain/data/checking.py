"""``check``: everything that is wrong with a data folder, line by line."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from PIL import Image

from explain.data.classes import is_mask_column, layer_tables
from explain.data.masks import read_ids, unknown_ids, unknown_problem
from explain.data.plain import LocalizationFolder, ProbeFolder, read_localization, read_probe
from explain.data.tables import Row, Table
from explain.errors import DataError

__all__ = ["check"]

# Any further columns are fine; one that looks like a misspelling of these would be overlooked silently.
_PROBE_COLUMNS = ("image", "mask", "part_mask", "scene", "texture", "split")
_IMAGE_COLUMNS = ("image", "class_index", "name", "subset")


def check(path: str | Path) -> list[str]:
    """Return all problems of a plain data folder, each with file and line; an empty list means it is fine.

    Every image and mask is decoded, every id looked up and every box held against its image.
    """
    root = Path(path)
    if not root.is_dir():
        return [f"no folder {root}: give a folder with index.csv or images.csv"]
    problems: list[str] = []
    found = False
    for table, checker in (("index.csv", _check_probe), ("images.csv", _check_localization)):
        if (root / table).is_file():
            found = True
            try:
                checker(root, problems)
            except DataError as error:  # what makes a whole table unreadable ends the check of that table
                problems.append(str(error))
    if not found:
        problems.append(f"{root} has neither index.csv (probe set) nor images.csv (labelled images)")
    return list(dict.fromkeys(problems))


def _decode_problem(path: Path) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Pillow only warns of a truncated or suspicious file
            with Image.open(path) as picture:
                picture.load()
    except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError) as error:
        return str(error)
    return None


def _check_images(table: Table, rows: Iterable[tuple[Row, Path, object]], problems: list[str]) -> None:
    for row, path, _ in rows:
        wrong = _decode_problem(path)
        if wrong:
            problems.append(f"{table.where(row)}: {path} cannot be decoded ({wrong}): replace the file")


def _check_columns(table: Table, known: Sequence[str], problems: list[str]) -> None:
    for column in table.columns:
        if column in known or is_mask_column(column):
            continue
        close = get_close_matches(column.lower(), known, n=1, cutoff=0.8)
        if close:
            problems.append(f"{table.path} line 1: column {column!r} is not read: is {close[0]!r} meant?")


def _check_probe(root: Path, problems: list[str]) -> None:
    folder = read_probe(root, problems.append)
    _check_images(folder.index, folder.rows, problems)
    _check_masks(folder, root, problems)
    _check_columns(folder.index, _PROBE_COLUMNS, problems)


def _check_masks(folder: ProbeFolder, root: Path, problems: list[str]) -> None:
    tables = layer_tables(folder.layers, folder.concepts)
    for (row, _, _), masks in zip(folder.rows, folder.masks, strict=True):
        where = folder.index.where(row)
        for mask, table in zip(masks, tables, strict=True):
            if mask is None:
                continue
            try:
                unknown = unknown_ids(read_ids(mask, where), table)
            except DataError as error:
                problems.append(str(error))
                continue
            if unknown:
                problems.append(unknown_problem(where, mask, unknown, str(root / "classes.json")))


def _check_localization(root: Path, problems: list[str]) -> None:
    folder = read_localization(root, problems.append)
    _check_images(folder.images, folder.rows, problems)
    _check_boxes(folder, problems)
    _check_columns(folder.images, _IMAGE_COLUMNS, problems)


def _check_boxes(folder: LocalizationFolder, problems: list[str]) -> None:
    table = folder.boxes_table
    if table is None:
        return
    for (_, _, (height, width)), boxes in zip(folder.rows, folder.boxes, strict=True):
        for row, (x0, y0, x1, y1) in boxes:
            if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
                problems.append(
                    f"{table.where(row)}: box {x0:g},{y0:g},{x1:g},{y1:g} leaves its image of"
                    f" {width}x{height} pixels: clip it"
                )
