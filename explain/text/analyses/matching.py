"""Control words: as frequent as a word, and of the same part of speech where tags are given."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from explain.data.pairs import Sentence

__all__ = ["Vocabulary", "control_words", "vocabulary_of"]


@dataclass(frozen=True)
class Vocabulary:
    """The words of one side of a data set."""

    counts: dict[str, int]
    """How often each word occurs, by falling frequency, then by name."""
    tags: dict[str, str]
    """The most frequent tag of each word; empty without tags."""


def vocabulary_of(sentences: Sequence[Sentence]) -> Vocabulary:
    """Count the words of sentences, without marks; tags are taken from the sentences that have them."""
    counts: Counter[str] = Counter()
    tagged: Counter[tuple[str, str]] = Counter()
    for sentence in sentences:
        words = sentence.words
        counts.update(word for word in words if any(sign.isalnum() for sign in word))
        tagged.update(zip(words, sentence.tags or (), strict=False))
    ordered = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    best: dict[str, str] = {}
    for (word, tag), _ in sorted(tagged.items(), key=lambda item: (-item[1], item[0])):
        best.setdefault(word, tag)
    return Vocabulary(ordered, best)


def control_words(
    word: str, vocabulary: Vocabulary, count: int, *, among: Iterable[str] | None = None, without: Iterable[str] = ()
) -> tuple[str, ...]:
    """Return up to ``count`` words nearest in log frequency, those of the same tag before all others.

    Parameters
    ----------
    among
        Choose from these only (the words of one sentence); the whole vocabulary where None.
    without
        Words that are no controls, such as those of the unit's own formula.
    """
    left = {word, *without}
    own, tag = math.log(1 + vocabulary.counts.get(word, 0)), vocabulary.tags.get(word)
    known = vocabulary.counts if among is None else dict.fromkeys(sorted(set(among) & set(vocabulary.counts)))

    def distance(other: str) -> tuple[bool, float]:
        return vocabulary.tags.get(other) != tag, abs(math.log(1 + vocabulary.counts[other]) - own)

    return tuple(sorted((other for other in known if other not in left), key=distance)[:count])  # sorted is stable
