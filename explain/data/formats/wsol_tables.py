"""The text files of wsolevaluation: lines that begin with an image id, held against the list of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from explain.data.formats.lines import Lines, listed, read_lines
from explain.data.tables import Report
from explain.errors import DataError

__all__ = ["IDS", "Split", "numbers_of", "owners_of", "per_image", "read_split", "rows_of"]

IDS = "image_ids.txt"


@dataclass(frozen=True)
class Split:
    """A folder of metadata and the images that it names, with the place of each."""

    folder: Path
    lines: Lines
    ids: tuple[str, ...]
    position: Mapping[str, int]

    def lacking(self, path: Path, what: str, indices: Sequence[int]) -> str:
        """Return the line that says of which images a file or folder lacks something."""
        names = listed([self.ids[index] for index in indices])
        return f"{path} lacks {what} of {len(indices)} of the {len(self.ids)} images in {IDS} ({names})"


def read_split(folder: Path, report: Report) -> Split:
    """Read the list of images of a folder; empty and repeated lines are told and left out."""
    lines = read_lines(folder / IDS)
    position: dict[str, int] = {}
    line_of: dict[str, int] = {}
    for number, name in enumerate(lines.texts):
        if not name.strip():
            report(f"{lines.where(number)} is empty: name an image")
        elif name in position:
            report(f"{lines.where(number)}: {name!r} is already on line {line_of[name] + 1}: keep one of them")
        else:
            position[name], line_of[name] = len(position), number
    if not position:
        raise DataError(f"{lines.path} names no image")
    return Split(folder, lines, tuple(position), position)


def rows_of(lines: Lines, shape: str, report: Report) -> list[list[str]]:
    """Return the cells of every line; a line of another shape is told and gets an empty id."""
    cells = shape.count(",")
    rows = [text.rsplit(",", cells) for text in lines.texts]
    for number, row in enumerate(rows):
        if len(row) != cells + 1:
            report(f"{lines.where(number)}: {lines.texts[number][:80]!r} is not {shape}")
            rows[number] = ["", *["0"] * cells]
    return rows


def numbers_of(lines: Lines, rows: list[list[str]], shape: str, report: Report) -> NDArray[np.int64]:
    """Return the numbers of every line ``(lines, cells)``; a line that holds something else gets an empty id."""
    cells = shape.count(",")
    try:
        flat = (int(cell) for row in rows for cell in islice(row, 1, None))
        return np.fromiter(flat, np.int64, len(rows) * cells).reshape(-1, cells)
    except ValueError:
        pass  # slowly, to say which line it is
    numbers = np.zeros((len(rows), cells), np.int64)
    for number, row in enumerate(rows):
        try:
            numbers[number] = [int(cell) for cell in row[1:]]
        except ValueError:
            report(f"{lines.where(number)}: {','.join(row[1:])!r} are no whole numbers; a line is {shape}")
            row[0] = ""
    return numbers


def owners_of(lines: Lines, rows: list[list[str]], split: Split, report: Report) -> NDArray[np.int64]:
    """Return the image of each line, -1 for lines without one; unknown images are told."""
    owners = np.array([split.position.get(row[0], -1) for row in rows], np.int64)
    for number in np.flatnonzero(owners < 0).tolist():
        if rows[number][0]:
            report(f"{lines.where(number)}: {rows[number][0]!r} is not in {IDS}: add it there or drop the line")
    return owners


def per_image(lines: Lines, shape: str, split: Split, report: Report) -> tuple[NDArray[np.int64], list[int]]:
    """Return the numbers of every image ``(images, cells)`` and the line each stands on; -1 where there is none."""
    rows = rows_of(lines, shape, report)
    numbers = numbers_of(lines, rows, shape, report)
    line_of = [-1] * len(split.ids)
    for number, owner in enumerate(owners_of(lines, rows, split, report).tolist()):
        if owner < 0:
            continue
        if line_of[owner] >= 0:
            first = line_of[owner] + 1
            report(f"{lines.where(number)}: {split.ids[owner]!r} is already on line {first}: keep one of them")
        else:
            line_of[owner] = number
    missing = [index for index, number in enumerate(line_of) if number < 0]
    if missing:
        report(split.lacking(lines.path, "a line", missing))
    found = np.full((len(split.ids), shape.count(",")), -1, np.int64)
    there = np.array(line_of) >= 0
    found[there] = numbers[np.array(line_of)[there]]
    return found, line_of
