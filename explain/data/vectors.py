"""Word vectors and taxonomies from files: what tells how near two words are."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from explain.errors import DataError

__all__ = ["read_taxonomy", "read_vectors", "taxonomy_distance", "taxonomy_names"]

Vector = NDArray[np.float32]


def read_vectors(path: str | Path, words: Collection[str] | None) -> dict[str, Vector]:
    """Return float32 ``(d,)`` of those of ``words`` (all where None) that a file of word vectors holds, in its order.

    Parameters
    ----------
    path
        GloVe's text format (a line per word: the word, then d numbers; a first line of two whole numbers, as word2vec
        writes it, is skipped), or ``.npz`` with ``words`` (an array of strings, or one string of lines) and
        ``vectors (n, d)``.

    Raises
    ------
    DataError
        There is no such file, or it is none of these; with the line.
    """
    file, wanted = Path(path), None if words is None else set(words)
    if not file.is_file():
        raise DataError(f"no file {file}: give word vectors as GloVe text or .npz")
    rows = _npz_rows(file, wanted) if file.suffix == ".npz" else _text_rows(file, wanted)
    found: dict[str, Vector] = {}
    for word, vector in rows:
        if not np.isfinite(vector).all():
            raise DataError(f"{file}: the vector of {word!r} is not finite: the file is broken, get it again")
        found.setdefault(word, vector)
    return found


def _npz_rows(file: Path, wanted: set[str] | None) -> Iterator[tuple[str, Vector]]:
    try:
        with np.load(file, allow_pickle=False) as stored:
            listed, vectors = stored["words"], stored["vectors"]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} holds no word vectors ({error}): it needs the arrays 'words' and 'vectors'") from None
    words = str(listed).split("\n") if listed.ndim == 0 else [str(word) for word in listed.tolist()]
    if vectors.ndim != 2 or len(words) != len(vectors) or vectors.dtype.kind != "f":
        raise DataError(
            f"{file}: {len(words)} words and vectors {vectors.shape} {vectors.dtype}: give floats (words, dimensions)"
        )
    for number, word in enumerate(words):
        if wanted is None or word in wanted:
            yield word, vectors[number].astype(np.float32)


def _text_rows(file: Path, wanted: set[str] | None) -> Iterator[tuple[str, Vector]]:
    size = 0
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                parts = line.rstrip().split(" ") if not size else line.rstrip().rsplit(" ", size)
                if number == 1 and len(parts) == 2 and all(part.isdecimal() for part in parts):
                    continue
                size = size or len(parts) - 1
                if size < 2 or len(parts) != size + 1:
                    raise DataError(f"{file} line {number}: not a word and {size or 'its'} numbers, as in GloVe's text")
                if wanted is None or parts[0] in wanted:
                    yield parts[0], _numbers(parts[1:], f"{file} line {number}")
    except UnicodeDecodeError:
        raise DataError(f"{file} is no UTF-8 text: give word vectors as GloVe text or .npz") from None
    if not size:
        raise DataError(f"{file} is empty: give word vectors as GloVe text or .npz")


def _numbers(parts: list[str], where: str) -> Vector:
    try:
        return np.array([float(part) for part in parts], np.float32)
    except ValueError as error:
        raise DataError(f"{where}: {error}: give a word and its numbers") from None


Taxonomy = Mapping[str, tuple[str, ...]]
"""The parents of each name, which is written without capitals."""


def read_taxonomy(path: str | Path) -> Taxonomy:
    """Read a taxonomy: a CSV with the columns ``child,parent``, one edge a line; a child may have several parents.

    Raises
    ------
    DataError
        There is no such file, a column or a cell is missing, or a name is its own ancestor.
    """
    file = Path(path)
    if not file.is_file():
        raise DataError(f"no file {file}: give a taxonomy as CSV with the columns child,parent")
    parents: dict[str, tuple[str, ...]] = {}
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            reader = csv.DictReader(text)
            missing = {"child", "parent"} - set(reader.fieldnames or ())
            if missing:
                raise DataError(f"{file} line 1 lacks the column {', '.join(sorted(missing))}: write child,parent")
            for row in reader:
                child, parent = ((row[name] or "").strip().casefold() for name in ("child", "parent"))
                if not child or not parent:
                    raise DataError(f"{file} line {reader.line_num}: child or parent is empty; leave roots out")
                parents[child] = tuple(dict.fromkeys((*parents.get(child, ()), parent)))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} is no CSV in UTF-8 ({error})") from None
    if not parents:
        raise DataError(f"{file} holds no edge: write one child,parent a line")
    _refuse_circles(parents, file)
    return parents


def _refuse_circles(parents: Taxonomy, file: Path) -> None:
    waiting = {child: set(above) & set(parents) for child, above in parents.items()}
    while waiting:
        free = {child for child, above in waiting.items() if not above}
        if not free:
            raise DataError(f"{file}: {min(waiting)!r} lies on or below a circle: no name may be its own ancestor")
        waiting = {child: above - free for child, above in waiting.items() if child not in free}


def taxonomy_names(taxonomy: Taxonomy) -> set[str]:
    """Return all names, of children and parents."""
    return set(taxonomy) | {parent for above in taxonomy.values() for parent in above}


def taxonomy_distance(taxonomy: Taxonomy, one: str, other: str) -> float:
    """Return the edges from one name to another through their lowest common ancestor; infinite where none is common."""
    left, right = (_ancestors(taxonomy, name.casefold()) for name in (one, other))
    return min((left[name] + right[name] for name in left if name in right), default=float("inf"))


def _ancestors(taxonomy: Taxonomy, name: str) -> dict[str, int]:
    """Return the edges up to each ancestor, the name itself included."""
    found, level = {name: 0}, [name]
    while level:
        above = [parent for child in level for parent in taxonomy.get(child, ()) if parent not in found]
        steps = found[level[0]] + 1
        level = list(dict.fromkeys(above))
        found.update(dict.fromkeys(level, steps))
    return found
