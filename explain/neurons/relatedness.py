"""Which concepts are related: by word vectors, or by their distance in a taxonomy.

By vectors, two concepts are related where the cosine of their vectors is at least a threshold. By a taxonomy, where the
edges between them, through their lowest common ancestor, are at most a number. Where a file does not know one of the
two, they are related where they share a category.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from explain.data.vectors import read_taxonomy, read_vectors, taxonomy_distance, taxonomy_names
from explain.errors import DataError, InputError
from explain.types import Concept

__all__ = ["COSINE", "EDGES", "Relatedness", "name_words", "relatedness"]

COSINE = 0.5
"""With GloVe (6B, 50 dimensions) half of the pairs of COCO names that share a supercategory lie above, and one in
eight of the others."""

EDGES = 2
"""Names with a common parent, or one the parent or grandparent of the other."""

_QUALIFIERS = frozenset({"merged", "other", "stuff"})
"""Words that data sets add to names, as in ``floor-other-merged``; they say nothing and would make all alike."""


@dataclass(frozen=True, eq=False)
class Relatedness:
    """Which of a probe set's concepts are related."""

    kind: Literal["vectors", "taxonomy"]
    file: str
    """The file's name."""
    hash: str
    """Of the file's bytes (SHA-256)."""
    at: float
    """Cosine from which, or edges up to which, two concepts are related."""
    concepts: tuple[Concept, ...] = field(repr=False)
    unknown: tuple[str, ...] = field(repr=False)
    """Names that the file does not know: their category decides."""
    pairs: NDArray[np.bool_] = field(repr=False)
    """bool ``(C, C)``: related, by the file or by category."""

    def __str__(self) -> str:
        rule = f"cosine from {self.at:g} on" if self.kind == "vectors" else f"at most {self.at:g} edges"
        count, total = len(self.unknown), len(self.concepts)
        return (
            f"{self.kind} ({self.file}, {rule}; {count} of {total} names ({100 * count / total:.0f} %) are not in it"
            " and go by category)"
        )

    def near(self, one: str, other: str) -> bool:
        """Tell whether two concepts, by name, are related."""
        return bool(self.pairs[self._numbers[one], self._numbers[other]])

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {concept.name: number for number, concept in enumerate(self.concepts)}

    def describe(self) -> dict[str, Any]:
        """Return what a run records."""
        return {
            "kind": self.kind,
            "file": self.file,
            "hash": self.hash,
            "at": self.at,
            "concepts": len(self.concepts),
            "unknown": list(self.unknown),
            "words": str(self),
        }


def relatedness(path: str | Path | None, concepts: Sequence[Concept], at: float | None = None) -> Relatedness | None:
    """Return which concepts are related by a file; None without a file, where categories decide.

    Parameters
    ----------
    path
        ``.csv``: a taxonomy (`explain.data.vectors.read_taxonomy`); else word vectors (`read_vectors`). A concept's
        vector is that of its name or, where there is none, the mean of the known words of its name.
    at
        Cosine from which two concepts are related (`COSINE` where None), or edges up to which (`EDGES`).

    Raises
    ------
    InputError
        ``at`` is out of range, or given without a file.
    DataError
        The file cannot be read, or knows none of the concepts.
    """
    if path is None:
        if at is not None:
            raise InputError(f"related_at {at:g} needs related_by: a file of word vectors or a taxonomy")
        return None
    file = Path(path)
    kind: Literal["vectors", "taxonomy"] = "taxonomy" if file.suffix == ".csv" else "vectors"
    level = _level(kind, at)
    if not concepts:
        raise InputError("there are no concepts that could be related")
    near, known = _by_taxonomy(file, concepts, level) if kind == "taxonomy" else _by_vectors(file, concepts, level)
    unknown = tuple(concept.name for concept, there in zip(concepts, known.tolist(), strict=True) if not there)
    if not known.any():
        listed = ", ".join(map(repr, unknown[:3]))
        raise DataError(f"{file} knows none of the {len(concepts)} concepts ({listed}, …): is it in their language?")
    category = np.array([concept.category for concept in concepts])
    both = known[:, None] & known[None]
    pairs = np.where(both, near, category[:, None] == category[None])
    np.fill_diagonal(pairs, True)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return Relatedness(kind, file.name, digest, level, tuple(concepts), unknown, pairs)


def _level(kind: str, at: float | None) -> float:
    if kind == "vectors":
        level = COSINE if at is None else float(at)
        if not -1 < level <= 1:
            raise InputError(f"related_at {level:g}: give a cosine above -1 and at most 1 for word vectors")
        return level
    edges = EDGES if at is None else at
    if not (edges >= 1 and float(edges).is_integer()):
        raise InputError(f"related_at {edges:g}: give a whole number of edges from 1 on for a taxonomy")
    return float(edges)


def _by_taxonomy(file: Path, concepts: Sequence[Concept], level: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    taxonomy = read_taxonomy(file)
    names = taxonomy_names(taxonomy)
    known = np.array([concept.name.casefold() in names for concept in concepts])
    near = np.zeros((len(concepts),) * 2, np.bool_)
    for one in np.flatnonzero(known).tolist():
        for other in np.flatnonzero(known[:one]).tolist():
            distance = taxonomy_distance(taxonomy, concepts[one].name, concepts[other].name)
            near[one, other] = near[other, one] = distance <= level
    return near, known


def _by_vectors(file: Path, concepts: Sequence[Concept], level: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    parts = [name_words(concept.name) for concept in concepts]
    vectors = read_vectors(file, {word for forms, words in parts for word in (*forms, *words)})
    size = len(next(iter(vectors.values()), np.zeros(1)))
    found = np.zeros((len(concepts), size), np.float64)
    for number, (forms, words) in enumerate(parts):
        rows = [vectors[form] for form in forms if form in vectors][:1] or [vectors[w] for w in words if w in vectors]
        if rows:
            found[number] = np.mean(np.array(rows, np.float64), axis=0)
    norms = np.sqrt((found**2).sum(1))
    known = norms > 0
    unit = found / np.where(known, norms, 1)[:, None]
    return unit @ unit.T >= level, known


def name_words(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the forms in which a whole name may be one word, and its words, all without capitals.

    Words that data sets add (``other``, ``merged``, ``stuff``, single letters as in ``sky-c``) are left out where any
    other is left.
    """
    whole = name.strip().lower()
    words = [word for word in re.split(r"[\W_]+", whole) if word]
    forms = dict.fromkeys((whole, "-".join(words), "_".join(words)))
    telling = [word for word in words if len(word) > 1 and word not in _QUALIFIERS]
    return tuple(forms), tuple(telling or words)
