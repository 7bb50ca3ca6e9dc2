"""Copy-paste for text: whether the words that a unit's formula names move the answers more than other words do.

Mu & Andreas (2020), section 6, put a word of a formula into a few sentence pairs by hand. Here every word that a unit's
formula and class weights propose goes into, or out of, every correctly classified pair, and so do control words of the
same frequency (and tag), into the same pairs at the same place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from explain.errors import InputError, ModelError
from explain.findings.scores import Score, proportion
from explain.runs import Checkpoint
from explain.text.analyses.edits import Edit, Pair, Position, Proposal, Side, edited
from explain.text.analyses.flip_findings import FlipExample, FlipRow, Flips
from explain.text.analyses.gains import gain, mean_gain
from explain.text.analyses.matching import Vocabulary, control_words, vocabulary_of

__all__ = ["Answers", "flips"]

_TEXTS = 1 << 18  # edited pairs that are held at one time
_CHUNK = 1 << 13  # pairs handed to the model at a time
_UNKNOWN, _IMPOSSIBLE = -2, -1
_STAGE = "answers"

Ints = NDArray[np.int64]
Answers = Callable[[Sequence[Pair]], Ints]
"""From pairs to the predicted class of each, int64 ``(n,)``."""


@dataclass
class _Asked:
    """What the model answers to edits of the chosen pairs; each (edit, pair) is asked once."""

    answers: Answers
    pairs: Sequence[Pair]
    position: Position
    checkpoint: Checkpoint
    known: dict[Edit, Ints] = field(default_factory=dict)

    def after(self, wanted: Sequence[tuple[Edit, Ints]]) -> None:
        """Ask for edits of the pairs of some numbers; `known` then holds the answers, -1 where impossible."""
        places: list[tuple[Edit, int]] = []
        texts: list[Pair] = []
        for edit, numbers in dict(_united(wanted)).items():
            row = self.known.setdefault(edit, np.full(len(self.pairs), _UNKNOWN, np.int64))
            for number in numbers[row[numbers] == _UNKNOWN].tolist():
                made = edited(self.pairs[number], edit, self.position)
                row[number] = _IMPOSSIBLE
                if made is not None:
                    places.append((edit, number))
                    texts.append(made)
        order = sorted(range(len(texts)), key=lambda at: [len(sentence.tokens) for sentence in texts[at]])
        for begin in range(0, len(order), _CHUNK):  # of like length together: little padding
            chunk = order[begin : begin + _CHUNK]
            found = answered(self.answers, [texts[at] for at in chunk])
            for at, answer in zip(chunk, found.tolist(), strict=True):
                edit, number = places[at]
                self.known[edit][number] = answer
        if self.checkpoint.due(_STAGE):
            self.save()

    def save(self) -> None:
        """Keep the answers for a job that goes on."""
        edits = json.dumps(list(self.known))
        answers = np.stack(list(self.known.values())).astype(np.int8)
        self.checkpoint.save(_STAGE, {"edits": np.array(edits), "answers": answers})

    def restore(self) -> None:
        """Take up the answers of an interrupted job."""
        stored = self.checkpoint.load(_STAGE)
        if stored is not None:
            edits = [Edit(kind, side, tuple(words)) for kind, side, words in json.loads(str(stored["edits"]))]
            self.known |= dict(zip(edits, stored["answers"].astype(np.int64), strict=True))


def _united(wanted: Sequence[tuple[Edit, Ints]]) -> dict[Edit, Ints]:
    united: dict[Edit, list[Ints]] = {}
    for edit, numbers in wanted:
        united.setdefault(edit, []).append(numbers)
    return {edit: np.unique(np.concatenate(parts)) for edit, parts in united.items()}


def answered(answers: Answers, pairs: Sequence[Pair]) -> Ints:
    """Return the model's answers; `ModelError` where there is not one class per pair."""
    found = np.asarray(answers(pairs))
    if found.shape != (len(pairs),) or found.dtype.kind not in "iu":
        raise ModelError(f"the model answered {len(pairs)} pairs with {found.dtype} {found.shape}: want one class each")
    return found.astype(np.int64)


def flips(
    answers: Answers,
    pairs: Sequence[Pair],
    labels: Ints,
    predictions: Ints,
    proposed: Sequence[Proposal],
    *,
    controls: int = 5,
    position: Position = "end",
    examples: int = 3,
    limit: int | None = None,
    replicates: int = 10_000,
    seed: int = 0,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Flips:
    """Make every proposed edit in every correctly classified pair, and the same with control words.

    Parameters
    ----------
    answers
        The model: from edited pairs to classes.
    pairs, labels, predictions
        The data, its classes (``-1``: none) and the model's answers, int64 ``(N,)``.
    proposed
        Of `edits.proposals`, for as many units as wanted.
    controls
        Control words per edit, matched on frequency, and on tags where the sentences have them. An inserted word's
        controls are inserted; a removed word's are other words of the same sentence.
    position
        Where words are inserted; see `edits.edited`.
    examples
        Flips to keep of each edit.
    limit
        Edit at most this many correctly classified pairs, drawn with ``seed``; all where None.
    replicates
        Of the bootstrap.
    checkpoint
        Keeps what the model answered now and then.
    progress
        Called with the number of proposals done and in all.

    Raises
    ------
    InputError
        Nothing is classified correctly, or an option is out of range.
    """
    _check(pairs, labels, predictions, controls, position, limit)
    right = np.flatnonzero((labels >= 0) & (labels == predictions))
    if not len(right):
        raise InputError("no pair is classified correctly: there is nothing whose answer could flip")
    if limit is not None and limit < len(right):
        right = np.sort(np.random.default_rng(seed).choice(right, limit, replace=False))
    asked = _Asked(answers, [pairs[number] for number in right.tolist()], position, checkpoint or Checkpoint())
    asked.restore()
    words: dict[Side, Vocabulary] = {
        "premise": vocabulary_of([pair.premise for pair in pairs]),
        "hypothesis": vocabulary_of([pair.hypothesis for pair in pairs]),
    }
    own = _own_words(proposed)
    rows, sums, skipped = [], _Sums(len(right)), 0
    own_labels, step = labels[right], max(1, _TEXTS // (len(right) * (1 + controls)))
    for begin in range(0, len(proposed), step):
        block = proposed[begin : begin + step]
        for proposal, found in zip(block, _tried(block, asked, own_labels, words, own, controls), strict=True):
            if found is None:
                skipped += 1
                continue
            sums.add(proposal.edit.kind, found)
            rows.append(_row(proposal, found, asked, own_labels, right, examples, replicates, seed))
        if progress is not None:
            progress(begin + len(block), len(proposed))
    return Flips(tuple(rows), len(right), sums.gains(replicates, seed), skipped)


def _check(
    pairs: Sequence[Pair], labels: Ints, predictions: Ints, controls: int, position: str, limit: int | None
) -> None:
    if not len(pairs) == len(labels) == len(predictions):
        raise InputError(f"{len(pairs)} pairs, {len(labels)} labels, {len(predictions)} predictions: give one each")
    if controls < 1:
        raise InputError(f"controls {controls}: give at least 1 control word per edit")
    if position not in ("start", "end"):
        raise InputError(f"unknown position {position!r}: use 'start' or 'end'")
    if limit is not None and limit < 1:
        raise InputError(f"limit {limit}: give at least 1 pair, or None for all")


def _own_words(proposed: Sequence[Proposal]) -> dict[int, dict[Side, set[str]]]:
    """Return the words of each unit's formula, which are no controls for one another."""
    own: dict[int, dict[Side, set[str]]] = {}
    for one in proposed:
        own.setdefault(one.unit, {"premise": set(), "hypothesis": set()})[one.edit.side].update(one.edit.words)
    return own


@dataclass(frozen=True)
class _Tried:
    """What one proposal did: ``numbers`` of the chosen pairs, whether each flipped, its share with controls."""

    numbers: Ints
    answers: Ints
    flipped: NDArray[np.bool_]
    control: NDArray[np.float64]
    words: tuple[str, ...]


def _tried(
    block: Sequence[Proposal],
    asked: _Asked,
    labels: Ints,
    vocabularies: dict[Side, Vocabulary],
    own: dict[int, dict[Side, set[str]]],
    count: int,
) -> list[_Tried | None]:
    """Make edits and their controls in all pairs whose label they concern, all edits together."""
    concerned = [np.flatnonzero((labels != one.target) == one.toward) for one in block]
    asked.after([(one.edit, numbers) for one, numbers in zip(block, concerned, strict=True)])
    made = [
        numbers[asked.known[one.edit][numbers] != _IMPOSSIBLE] for one, numbers in zip(block, concerned, strict=True)
    ]
    shared = [
        _control_edits(one.edit, numbers, asked, vocabularies[one.edit.side], own[one.unit][one.edit.side], count)
        for one, numbers in zip(block, made, strict=True)
    ]
    asked.after([item for edits in shared for item in edits.items()])
    return [
        _compared(one, numbers, edits, asked, len(labels), count)
        for one, numbers, edits in zip(block, made, shared, strict=True)
    ]


def _control_edits(
    edit: Edit, numbers: Ints, asked: _Asked, vocabulary: Vocabulary, own: set[str], count: int
) -> dict[Edit, Ints]:
    """Return edits with control words, and the pairs of each."""
    if edit.kind == "remove":
        return _removals(edit, numbers, asked, vocabulary, own, count)
    words = control_words(edit.words[0], vocabulary, count, without=own)
    return {Edit("insert", edit.side, (word,)): numbers for word in words}


def _compared(
    proposal: Proposal, numbers: Ints, shared: dict[Edit, Ints], asked: _Asked, pairs: int, count: int
) -> _Tried | None:
    """Return what an edit did beside its controls; None where there is no pair with both."""
    hits, tries = np.zeros(pairs), np.zeros(pairs)
    for control, chosen in shared.items():
        answers = asked.known[control][chosen]
        hits[chosen] += (answers != _IMPOSSIBLE) & ((answers == proposal.target) == proposal.toward)
        tries[chosen] += answers != _IMPOSSIBLE
    numbers = numbers[tries[numbers] > 0]
    if not len(numbers):
        return None
    after = asked.known[proposal.edit][numbers]
    flipped = (after == proposal.target) == proposal.toward
    used = sorted(shared, key=lambda one: -len(shared[one]))
    return _Tried(numbers, after, flipped, hits[numbers] / tries[numbers], tuple(one.words[0] for one in used[:count]))


def _removals(
    edit: Edit, numbers: Ints, asked: _Asked, vocabulary: Vocabulary, own: set[str], count: int
) -> dict[Edit, Ints]:
    """Return the removals of other words of the same sentences, and the pairs of each."""
    found: dict[Edit, list[int]] = {}
    for number in numbers.tolist():
        among = asked.pairs[number].side(edit.side).words
        for word in control_words(edit.words[0], vocabulary, count, among=among, without=own):
            found.setdefault(Edit("remove", edit.side, (word,)), []).append(number)
    return {one: np.array(places, np.int64) for one, places in found.items()}


def _row(
    proposal: Proposal,
    found: _Tried,
    asked: _Asked,
    labels: Ints,
    right: Ints,
    examples: int,
    replicates: int,
    seed: int,
) -> FlipRow:
    shown = []
    for place in np.flatnonzero(found.flipped)[:examples].tolist():
        number = int(found.numbers[place])
        before = asked.pairs[number]
        after = edited(before, proposal.edit, asked.position)
        if after is not None:
            shown.append(FlipExample(int(right[number]), before, after, int(labels[number]), int(found.answers[place])))
    return FlipRow(
        proposal=proposal,
        flips=proportion(found.flipped),
        control=100 * float(found.control.mean()),
        gain=gain(found.flipped.astype(np.float64), found.control, replicates=replicates, seed=seed),
        changed=100 * float((found.answers != labels[found.numbers]).mean()),
        controls=found.words,
        examples=tuple(shown),
    )


class _Sums:
    """Sums of gains per pair, over the edits of each kind."""

    def __init__(self, pairs: int) -> None:
        self.sums = {kind: np.zeros((2, pairs)) for kind in ("all", "insert", "remove")}

    def add(self, kind: str, found: _Tried) -> None:
        for name in ("all", kind):
            self.sums[name][0, found.numbers] += found.flipped - found.control
            self.sums[name][1, found.numbers] += 1

    def gains(self, replicates: int, seed: int) -> dict[str, Score]:
        """Return the mean gain over (edit, pair) of each kind that there is; pairs are drawn with all their edits."""
        return {
            kind: mean_gain(sums[0], sums[1], replicates=min(replicates, 1000), seed=seed)
            for kind, sums in self.sums.items()
            if sums[1].any()
        }
