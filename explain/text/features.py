"""Concepts of sentence pairs as binary columns: words, parts of speech, overlap, neighbours, features of one's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from explain.concepts import Concept
from explain.data.pairs import PairSet
from explain.data.tables import read_table
from explain.data.vectors import read_vectors
from explain.errors import DataError, InputError
from explain.text.neighbors import nearest_words, refuse_uncovered

__all__ = ["LEVELS", "STOP_WORDS", "Features", "Side", "TextConcept", "is_word", "overlap", "pair_features"]

Side = Literal["premise", "hypothesis", "pair"]
Kind = Literal["word", "tag", "overlap", "neighbors", "feature"]
LEVELS = (0, 25, 50, 75)
"""Percent of overlap of the words of premise and hypothesis."""
STOP_WORDS = frozenset({"a", "an", "the", "of"})
"""Words that are no concepts, as published; nor is what has neither letter nor digit."""

_SHORT = {"premise": "pre", "hypothesis": "hyp"}
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class TextConcept:
    """What a column stands for; ``name`` is what formulas call it."""

    side: Side
    kind: Kind
    word: str
    """The word (without capitals), the tag, the level in percent, or the name of a feature."""

    @property
    def name(self) -> str:
        """``pre:dog``, ``hyp:tag:NN``, ``overlap:50``, ``NEIGHBORS(hyp:dog)``; features keep their own names."""
        if self.kind == "feature":
            return self.word
        if self.kind == "overlap":
            return f"overlap:{self.word}"
        if self.kind == "tag":
            return f"{_SHORT[self.side]}:tag:{self.word}"
        plain = f"{_SHORT[self.side]}:{self.word}"
        return f"NEIGHBORS({plain})" if self.kind == "neighbors" else plain

    @property
    def category(self) -> str:
        """``premise word``, ``hypothesis tag``, ``overlap``, ``premise neighbors``, ``feature``."""
        return self.kind if self.side == "pair" else f"{self.side} {self.kind}"

    @property
    def concept(self) -> Concept:
        """As the engine knows it."""
        return Concept(self.name, self.category)

    @staticmethod
    def of(concept: Concept) -> TextConcept:
        """Return what a concept of a saved text run stands for."""
        if concept.category == "feature":
            return TextConcept("pair", "feature", concept.name)
        if concept.category == "overlap":
            return TextConcept("pair", "overlap", concept.name.partition(":")[2])
        side, _, kind = concept.category.partition(" ")
        plain = concept.name.removeprefix("NEIGHBORS(")[:-1] if kind == "neighbors" else concept.name
        word = plain.partition(":")[2]
        return TextConcept(side, kind, word.removeprefix("tag:") if kind == "tag" else word)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Features:
    """Which concepts hold for which pairs."""

    concepts: tuple[TextConcept, ...]
    indptr: Ints
    """int64 ``(N + 1,)``."""
    indices: NDArray[np.int32]
    """int32: pair i has the concepts ``indices[indptr[i]:indptr[i + 1]]``, ascending."""
    neighbors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The words that NEIGHBORS(word) holds for besides the word itself."""
    covered: float | None = None
    """Share of the data's words that have a vector; None without vectors."""
    notes: tuple[str, ...] = ()
    """What a reader must know: what is switched off."""

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def by_kind(self) -> dict[str, int]:
        """Return how many concepts each category has."""
        return dict(Counter(one.category for one in self.concepts))

    def row(self, pair: int) -> tuple[int, ...]:
        """Return the numbers of the concepts that hold for a pair."""
        return tuple(self.indices[self.indptr[pair] : self.indptr[pair + 1]].tolist())


def is_word(token: str) -> bool:
    """Tell whether a token is a word that concepts are made of, and that overlap counts."""
    return token not in STOP_WORDS and any(sign.isalnum() for sign in token)


def overlap(premise: Iterable[str], hypothesis: Iterable[str]) -> float:
    """Return the IoU of the two sets of words (Jaccard), 0 where there are none."""
    one, other = set(premise), set(hypothesis)
    union = len(one | other)
    return len(one & other) / union if union else 0.0


def pair_features(
    pairs: PairSet,
    *,
    words: int = 2000,
    vectors: str | Path | None = None,
    table: str | Path | None = None,
) -> Features:
    """Return the concepts of sentence pairs.

    Parameters
    ----------
    words
        The most frequent so many words (lemmas where they are known) of premises and hypotheses together, each as a
        concept of either side; of equally frequent ones the first by alphabet.
    vectors
        A file of word vectors, for NEIGHBORS; off where None.
    table
        A CSV of features of one's own: a column of 0 and 1 for each, a row for each data row of the pairs' file.

    Raises
    ------
    DataError
        Vectors that cover less than half of the words, a table of another length, cells other than 0 and 1.
    """
    if words < 1:
        raise InputError(f"words {words}: give at least 1")
    sides: dict[Side, list[tuple[str, ...]]] = {
        "premise": [tuple(filter(is_word, one.words)) for one in pairs.premises],
        "hypothesis": [tuple(filter(is_word, one.words)) for one in pairs.hypotheses],
    }
    counts = Counter(word for rows in sides.values() for row in rows for word in row)
    vocabulary = sorted(counts, key=lambda word: (-counts[word], word))[:words]
    near, covered, notes = _neighbors(vocabulary, counts, vectors, pairs.name)
    columns = _Columns(len(pairs))
    for side, rows in sides.items():
        columns.add_words(side, rows, vocabulary)
    for side, sentences in (("premise", pairs.premises), ("hypothesis", pairs.hypotheses)):
        tags = [one.tags or () for one in sentences]
        columns.add_tags("premise" if side == "premise" else "hypothesis", tags)
    columns.add_overlap([overlap(*both) for both in zip(sides["premise"], sides["hypothesis"], strict=True)])
    for side, rows in sides.items():
        columns.add_neighbors(side, rows, vocabulary, near)
    if all(one.tags is None for one in (*pairs.premises, *pairs.hypotheses)):
        notes = (*notes, "there are no parts of speech: the file has none, and no tagger was asked for")
    if table is not None:
        columns.add_table(Path(table), pairs)
    return columns.features(near, covered, notes)


def _neighbors(
    vocabulary: Sequence[str], counts: Mapping[str, int], vectors: str | Path | None, data: str
) -> tuple[dict[str, tuple[str, ...]], float | None, tuple[str, ...]]:
    if vectors is None:
        return {}, None, ("NEIGHBORS is switched off: no word vectors were given",)
    known = read_vectors(vectors, set(counts))
    covered = refuse_uncovered(counts, known, f"the vectors of {vectors}", data)
    return nearest_words(vocabulary, known), covered, ()


class _Columns:
    """Collects columns, each as the pairs where it holds."""

    def __init__(self, pairs: int) -> None:
        self._pairs = pairs
        self._concepts: list[TextConcept] = []
        self._holds: list[Ints] = []

    def _add(self, concept: TextConcept, holds: Ints) -> None:
        if len(holds):  # what never holds is no concept
            self._concepts.append(concept)
            self._holds.append(holds)

    def add_words(self, side: Side, rows: Sequence[tuple[str, ...]], vocabulary: Sequence[str]) -> None:
        places = _places(rows)
        for word in vocabulary:
            self._add(TextConcept(side, "word", word), places.get(word, _NONE))

    def add_tags(self, side: Side, rows: Sequence[tuple[str, ...]]) -> None:
        for tag, holds in sorted(_places(rows).items()):
            self._add(TextConcept(side, "tag", tag), holds)

    def add_overlap(self, values: Sequence[float]) -> None:
        for level in LEVELS:  # more than so much, so that 0 % says: some word is shared
            self._add(TextConcept("pair", "overlap", str(level)), np.flatnonzero(np.array(values) > level / 100))

    def add_neighbors(
        self,
        side: Side,
        rows: Sequence[tuple[str, ...]],
        vocabulary: Sequence[str],
        near: Mapping[str, tuple[str, ...]],
    ) -> None:
        places = _places(rows)
        for word in vocabulary:
            if word in near:
                parts = [places.get(one, _NONE) for one in (word, *near[word])]
                self._add(TextConcept(side, "neighbors", word), np.unique(np.concatenate(parts)))

    def add_table(self, path: Path, pairs: PairSet) -> None:
        table = read_table(path, ())
        if len(table.rows) != pairs.total:
            raise DataError(
                f"{path} has {len(table.rows)} rows, {pairs.name} {pairs.total}: give one for each data row of the file"
            )
        names = {one.name for one in self._concepts}
        for column in table.columns:
            if column in names:
                raise DataError(f"{path} names a column {column!r}, which is a concept already: rename it")
            cells = [row.cells[column] for row in table.rows]
            for row, cell in zip(table.rows, cells, strict=True):
                if cell not in ("0", "1"):
                    raise DataError(f"{table.where(row)}: {cell!r} in column {column!r}: features are 0 or 1")
            holds = np.array([cell == "1" for cell in cells])[pairs.rows]
            self._add(TextConcept("pair", "feature", column), np.flatnonzero(holds))

    def features(self, near: Mapping[str, tuple[str, ...]], covered: float | None, notes: tuple[str, ...]) -> Features:
        sizes = [len(holds) for holds in self._holds]
        pair = np.concatenate([_NONE, *self._holds])
        number = np.repeat(np.arange(len(sizes)), sizes)
        order = np.lexsort((number, pair))
        indptr = np.searchsorted(pair[order], np.arange(self._pairs + 1)).astype(np.int64)
        return Features(tuple(self._concepts), indptr, number[order].astype(np.int32), near, covered, notes)


_NONE = np.zeros(0, np.int64)


def _places(rows: Sequence[tuple[str, ...]]) -> dict[str, Ints]:
    """Return the pairs in which each word occurs, ascending."""
    found: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        for word in set(row):
            found.setdefault(word, []).append(number)
    return {word: np.array(numbers, np.int64) for word, numbers in found.items()}
