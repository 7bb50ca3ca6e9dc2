"""Words put into and taken out of sentence pairs, and which edits a unit's formula and class weights propose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from explain.data.pairs import Sentence
from explain.errors import InputError
from explain.neurons.formula import And, Formula, Leaf, Not, Or

__all__ = ["Edit", "Pair", "Position", "Proposal", "Side", "WordConcept", "edited", "literals", "proposals"]

Side = Literal["premise", "hypothesis"]
Position = Literal["start", "end"]
_STOPS = frozenset(".!?")


class Pair(NamedTuple):
    """A premise and a hypothesis."""

    premise: Sentence
    hypothesis: Sentence

    def side(self, side: Side) -> Sentence:
        """Return one of the two."""
        return self.premise if side == "premise" else self.hypothesis


class WordConcept(NamedTuple):
    """A concept that holds where one of some words stands on one side of a pair."""

    side: Side
    words: tuple[str, ...]
    """The word itself first; NEIGHBORS has more."""


class Edit(NamedTuple):
    """A word that is put into a sentence, or all its occurrences taken out."""

    kind: Literal["insert", "remove"]
    side: Side
    words: tuple[str, ...]
    """One word to insert; all words to remove."""


@dataclass(frozen=True)
class Proposal:
    """An edit that should move predictions to or from the class that a unit speaks for."""

    unit: int
    concept: str
    """The leaf of the unit's formula that the edit makes true or false."""
    edit: Edit
    target: int
    """The class with the unit's largest weight."""
    toward: bool
    """True: the edit makes the formula truer, so pairs of other classes should go to ``target``; False: it makes it
    less true, so pairs of ``target`` should leave it."""


def edited(pair: Pair, edit: Edit, position: Position = "end") -> Pair | None:
    """Return the pair after an edit; None where it cannot be made.

    A word is not inserted where it stands already, and not removed where it does not stand or nothing would be left.
    Words are those of `Sentence.words`, as concepts call them. The sentence keeps its spacing and loses its tags.

    Parameters
    ----------
    position
        Where a word is inserted: before the first word, or after the last one, before a full stop.
    """
    sentence = pair.side(edit.side)
    found = [word in edit.words for word in sentence.words]
    changed = _inserted(sentence, edit.words[0], position) if edit.kind == "insert" else _removed(sentence, found)
    if any(found) == (edit.kind == "insert") or changed is None:
        return None
    return pair._replace(premise=changed) if edit.side == "premise" else pair._replace(hypothesis=changed)


def _inserted(sentence: Sentence, word: str, position: Position) -> Sentence:
    tokens, spans = sentence.tokens, _spans(sentence)
    at = 0 if position == "start" else len(tokens) - (bool(tokens) and tokens[-1] in _STOPS)
    if at == len(tokens):
        text = f"{sentence.text.rstrip()} {word}"
    elif at == 0:
        text = f"{word} {sentence.text.lstrip()}"
    else:
        end, stop = spans[at - 1][1], spans[at][0]
        text = f"{sentence.text[:end]} {word}{sentence.text[end:stop]}{sentence.text[stop:]}"
    lemmas = sentence.lemmas and (*sentence.lemmas[:at], word, *sentence.lemmas[at:])
    return Sentence(text, (*tokens[:at], word, *tokens[at:]), lemmas=lemmas)


def _removed(sentence: Sentence, gone: Sequence[bool]) -> Sentence | None:
    left = [at for at, away in enumerate(gone) if not away]
    tokens = tuple(sentence.tokens[at] for at in left)
    if all(token in _STOPS for token in tokens):
        return None
    parts, begin = [], 0
    for (start, end), away in zip(_spans(sentence), gone, strict=True):
        if away:
            parts.append(sentence.text[begin:start])
            begin = end
    text = " ".join("".join([*parts, sentence.text[begin:]]).split())
    return Sentence(text, tokens, lemmas=sentence.lemmas and tuple(sentence.lemmas[at] for at in left))


def _spans(sentence: Sentence) -> list[tuple[int, int]]:
    """Return where each token begins and ends in the text; a token that is not there in order has no length."""
    spans, end = [], 0
    for token in sentence.tokens:
        at = sentence.text.find(token, end)
        start, end = (end, end) if at < 0 else (at, at + len(token))
        spans.append((start, end))
    return spans


def literals(formula: Formula, positive: bool = True) -> Iterator[tuple[str, bool]]:
    """Yield the leaves from left to right, each with whether it makes the formula truer where it holds."""
    if isinstance(formula, Leaf):
        yield formula.name, positive
    elif isinstance(formula, Not):
        yield from literals(formula.part, not positive)
    elif isinstance(formula, And | Or):
        for part in formula.parts:
            yield from literals(part, positive)


def proposals(
    unit: int, formula: Formula, weights: NDArray[np.floating] | Sequence[float], words: Mapping[str, WordConcept]
) -> tuple[Proposal, ...]:
    """Propose edits from one unit's formula and its weights to the classes.

    A word that the formula asks for is inserted to move predictions to the class of the unit's largest weight, and
    removed to move them away from it; a word that it forbids, the other way round. Of NEIGHBORS the word itself is
    inserted, and all are removed. Leaves that are no words (tags, overlap) propose nothing.

    Parameters
    ----------
    weights
        ``(K,)``: from the unit to each class.
    words
        The concepts that words make true, by name.

    Raises
    ------
    InputError
        The weights are not finite numbers, one per class.
    """
    values = np.asarray(weights, np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise InputError(f"weights of unit {unit}: got shape {values.shape}; give one finite number per class")
    target = int(values.argmax())
    made = []
    for name, positive in dict.fromkeys(literals(formula)):
        if name not in words:
            continue
        side, own = words[name]
        made += [
            Proposal(unit, name, Edit("insert", side, own[:1]), target, toward=positive),
            Proposal(unit, name, Edit("remove", side, own), target, toward=not positive),
        ]
    return tuple(made)
