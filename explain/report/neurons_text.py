"""What the page of a run over sentence pairs says besides: words of the formula, PMI, words that flip answers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explain.errors import ExplainError, RunError
from explain.neurons.formula import And, Formula, Leaf, Not, Or, leaves, parse
from explain.report.formatting import number
from explain.runs import read_arrays

__all__ = ["SITES", "Texts", "confusion_rows", "flip_rows", "marked_pair", "pmi_table", "read_texts", "weight_text"]

SITES = {
    "vision": {"image": "image", "pixel": "pixel", "maps": "each image’s maps on another’s labels"},
    "text": {"image": "pair", "pixel": "pair", "maps": "each pair’s activations on another’s words"},
}
"""What a unit is compared on: the words of the page."""
_SHORT = {"premise": "pre", "hypothesis": "hyp"}
_SIDES = tuple(_SHORT)
_CLASSES = {"entail": "entailment", "neutral": "neutral", "contra": "contradiction"}
_UNCOUNTED = frozenset({"a", "an", "the", "of"})
"""Words that overlap does not count (`explain.text.features.STOP_WORDS`)."""
_FLIPS = 3
"""Edits that a unit's view tells."""


@dataclass(frozen=True, eq=False)
class Texts:
    """What the views of a text run need; empty for a run over images."""

    neighbors: Mapping[str, Sequence[str]]
    categories: Mapping[str, str]
    """Of concepts, by name: they tell a word from a tag."""
    pmi: Mapping[str, Sequence[float]]
    """Of each concept with the three classes, where ``explain text effects RUN pmi`` was run."""


def read_texts(folder: Path, run: Mapping[str, Any]) -> Texts | None:
    """Return what is known of a text run; None for a run over images."""
    if run.get("domain") != "text":
        return None
    concepts = run["concepts"]
    names = {row["name"]: row["category"] for row in concepts}
    pmi = _pmi(folder / "effects" / "pmi" / "arrays" / "records.npz", [row["name"] for row in concepts])
    return Texts((run.get("text") or {}).get("neighbors") or {}, names, pmi)


def _pmi(path: Path, names: Sequence[str]) -> dict[str, Sequence[float]]:
    """Return the PMI of concepts with the classes; empty where it was not asked for."""
    if not path.is_file():
        return {}
    try:
        values, numbers = read_arrays(path, ("pmi", "concepts"))
    except RunError:
        return {}
    rows = zip(numbers.tolist(), values.tolist(), strict=True)
    return {names[number]: row for number, row in rows if number < len(names)}


def weight_text(more: Mapping[str, Any]) -> str:
    """Return a unit's weights to the classes; empty where the last layer does not read it."""
    weights = more.get("weights") or {}
    return ", ".join(f"{_CLASSES.get(name, name)} {'+' if w > 0 else ''}{number(w)}" for name, w in weights.items())


def pmi_table(formula: str | None, texts: Texts) -> list[tuple[str, list[str]]]:
    """Return the PMI of a formula's concepts with the three classes; NEIGHBORS have none."""
    rows = [(name, texts.pmi[name]) for name in _leaves(formula) if name in texts.pmi]
    return [(name, [_signed(value) for value in values]) for name, values in rows]


def flip_rows(findings: Mapping[str, Any]) -> dict[str, list[tuple[str, str, str]]]:
    """Return (job, edit, how many answers it moved) for the units of ``explain text effects RUN flips``.

    The edits stand in the order of the job, those that surely exceed their controls first.
    """
    found: dict[str, list[tuple[str, str, str]]] = {}
    for row in findings.get("rows") or ():
        own = found.setdefault(str(row["unit"]), [])
        if len(own) < _FLIPS:
            words = " ".join(row["words"]) if row["edit"] == "insert" else ", ".join(row["words"])
            where = f"{row['edit']} “{words}” {'into' if row['edit'] == 'insert' else 'from'} the {row['side']}"
            goal = f"{'to' if row['toward'] else 'away from'} {row['label']}"
            gain = row["gain"]
            ends = "" if gain["low"] is None else f" [{_signed(gain['low'], 1)}, {_signed(gain['high'], 1)}]"
            told = (
                f"{number(row['flips']['value'], 1)} % of {gain['n']} answers go {goal};"
                f" with control words {number(row['control'], 1)} %: {_signed(gain['value'], 1)}{ends} points"
            )
            own.append(("flips", where, told))
    return found


def confusion_rows(findings: Mapping[str, Any]) -> dict[str, list[tuple[str, str, str]]]:
    """Return (job, what, text) for the units of ``explain text effects RUN confusion``."""
    found = {}
    for unit, facts in (findings.get("units") or {}).items():
        there = facts["confusion"]
        entropies = f"{number(there['label_entropy'], 2)} and {number(there['prediction_entropy'], 2)} bits"
        found[str(unit)] = [
            ("confusion", "pairs where the formula holds", f"{there['pairs']}"),
            ("confusion", "percent right there", number(100 * there["accuracy"], 1)),
            ("confusion", "entropy of labels and of answers there", entropies),
        ]
    return found


def marked_pair(image: Mapping[str, Any], formula: str | None, texts: Texts) -> dict[str, Any]:
    """Return both sentences of a pair as runs of (text, how), with its label and the model's answer.

    ``how`` is ``"yes"`` for words that a concept of the formula holds for, ``"not"`` for those of a concept that the
    formula forbids, else empty. Overlap marks the words that both sentences share.
    """
    wanted = _polarity(formula)
    words = {side: _words(image[side]) for side in _SIDES}
    shared = {word for word in set(words["premise"]) & set(words["hypothesis"]) if _counts(word)}
    lines = {}
    for side in _SIDES:
        tokens, tags = image[side]["tokens"], image[side].get("tags") or [None] * len(image[side]["tokens"])
        hows = [_how(side, word, tag, wanted, shared, texts) for word, tag in zip(words[side], tags, strict=True)]
        runs = itertools.groupby(zip(tokens, hows, strict=True), key=lambda pair: pair[1])
        lines[side] = [(" ".join(token for token, _ in run), how) for how, run in runs]
    return {**lines, "gold": image.get("gold"), "predicted": image.get("predicted")}


def _words(sentence: Mapping[str, Any]) -> list[str]:
    """Return a sentence's words as concepts call them: lemmas where they are known."""
    return [str(word).lower() for word in sentence.get("words") or sentence["tokens"]]


def _counts(word: str) -> bool:
    return word not in _UNCOUNTED and any(sign.isalnum() for sign in word)


def _how(side: str, word: str, tag: str | None, wanted: Mapping[str, str], shared: set[str], texts: Texts) -> str:
    """Return how a word is marked; what the formula asks for comes before what it forbids."""
    hows = {how for name, how in wanted.items() if _holds(name, side, word, tag, shared, texts)}
    return "yes" if "yes" in hows else "not" if hows else ""


def _holds(name: str, side: str, word: str, tag: str | None, shared: set[str], texts: Texts) -> bool:
    """Tell whether a concept of a formula is about this word."""
    category = texts.categories.get(name, "")
    if category == "overlap":
        return word in shared
    own, _, kind = category.partition(" ")
    if own != side:
        return False
    plain = (name.removeprefix("NEIGHBORS(")[:-1] if kind == "neighbors" else name).partition(":")[2]
    if kind == "tag":
        return tag == plain.removeprefix("tag:")
    return word == plain or (kind == "neighbors" and word in texts.neighbors.get(plain, ()))


def _polarity(formula: str | None) -> dict[str, str]:
    """Return a formula's concepts: ``"yes"`` where it asks for one, ``"not"`` where it only forbids it."""
    found: dict[str, str] = {}

    def walk(node: Formula, how: str) -> None:
        if isinstance(node, Leaf):
            found[node.name] = "yes" if found.get(node.name) == "yes" else how
        elif isinstance(node, Not):
            walk(node.part, "yes" if how == "not" else "not")
        elif isinstance(node, And | Or):
            for part in node.parts:
                walk(part, how)

    try:
        if formula is not None:
            walk(parse(formula), "yes")
    except ExplainError:
        return {}
    return found


def _leaves(formula: str | None) -> list[str]:
    try:
        return [] if formula is None else list(dict.fromkeys(leaves(parse(formula))))
    except ExplainError:
        return []


def _signed(value: float | None, digits: int = 2) -> str:
    return (
        number(value, digits)
        if value is None or not math.isfinite(value) or value <= 0
        else f"+{number(value, digits)}"
    )
