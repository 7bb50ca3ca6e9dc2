"""Text files without a header, as data sets of the field publish them: lines that know where they stand."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from explain.data.tables import Report, read_text
from explain.errors import DataError

__all__ = ["Line", "Lines", "cover", "first_folder", "listed", "need_folder", "read_keyed", "read_lines"]


@dataclass(frozen=True)
class Lines:
    """A text file in lines; blank ones at its end are left out (wsolevaluation ends files without a newline)."""

    path: Path
    raw: bytes
    """The file as it lies there, for the data hash."""
    texts: tuple[str, ...]

    def where(self, number: int) -> str:
        """Return ``"folder/images.txt line 7"`` for the line with index 6."""
        return f"{self.path} line {number + 1}"


@dataclass(frozen=True)
class Line:
    """One line of a file whose first word is a key."""

    where: str
    cells: tuple[str, ...]
    """The words after the key."""


def read_lines(path: Path) -> Lines:
    """Read a UTF-8 text file."""
    raw, text = read_text(path)
    return Lines(path, raw, tuple(text.rstrip().splitlines()))


def read_keyed(path: Path, cells: int, report: Report) -> dict[str, Line]:
    """Read lines of a key and ``cells`` words, separated by blanks; the last word may hold blanks itself.

    Lines that begin with ``#`` are left out; repeated keys and lines of another length are told, and left out.
    """
    lines, found = read_lines(path), dict[str, Line]()
    for number, text in enumerate(lines.texts):
        if text.startswith("#"):
            continue
        words = text.strip().split(maxsplit=cells)
        where = lines.where(number)
        if len(words) != cells + 1:
            report(f"{where}: {len(words)} words where {cells + 1} are expected: {text[:60]!r}")
        elif words[0] in found:
            report(f"{where}: {words[0]!r} is already in {found[words[0]].where}: keep one of them")
        else:
            found[words[0]] = Line(where, tuple(words[1:]))
    return found


def cover(wanted: Collection[str], found: Mapping[str, Line], path: Path, source: str, report: Report) -> None:
    """Tell which keys of ``source`` a file lacks, and which it has beyond them."""
    for key in wanted:
        if key not in found:
            report(f"{path} has no line for {key!r} of {source}: the files are not of one release, or cut short")
    known = set(wanted)
    for key, line in found.items():
        if key not in known:
            report(f"{line.where}: {key!r} is not in {source}: add it there or drop the line")


def need_folder(path: Path, what: str) -> Path:
    """Return a folder that must exist."""
    if not path.is_dir():
        raise DataError(f"no folder {path}: {what}")
    return path


def first_folder(candidates: Iterable[Path]) -> Path | None:
    """Return the first candidate that is a folder."""
    return next((folder for folder in candidates if folder.is_dir()), None)


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return ``"a, b, c, …"``."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
