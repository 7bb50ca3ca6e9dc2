"""Concepts that the units of several runs detect: how many units each, which are gained and which are lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from explain.report.conditions import Run
from explain.report.lineup_conditions import threshold_of

__all__ = ["ConceptRow", "concept_rows", "gained", "lost"]


@dataclass(frozen=True)
class ConceptRow:
    """One concept in each of several runs."""

    name: str
    category: str
    detectors: tuple[int, ...]
    """Units per run whose best single concept it is, with an IoU above the threshold (network dissection's rule)."""
    best: tuple[float | None, ...]
    """The highest IoU among them; None where there is none."""


def concept_rows(runs: Sequence[Run]) -> list[ConceptRow]:
    """Return every concept that a unit of some run detects, those with most detectors first."""
    found: list[dict[tuple[str, str], list[float]]] = []
    for run in runs:
        own: dict[tuple[str, str], list[float]] = {}
        for unit in run["units"]:
            if unit["label"] is not None and (unit["score"] or 0.0) > threshold_of(run):
                own.setdefault((unit["label_category"] or "", unit["label"]), []).append(unit["score"])
        found.append(own)
    keys = {key for own in found for key in own}
    rows = [
        ConceptRow(
            name,
            category,
            tuple(len(own.get((category, name), ())) for own in found),
            tuple(max(own.get((category, name), ()), default=None) for own in found),
        )
        for category, name in keys
    ]
    return sorted(rows, key=lambda row: (-max(row.detectors), -sum(row.detectors), row.category, row.name))


def gained(rows: Sequence[ConceptRow], first: int, second: int) -> list[ConceptRow]:
    """Return the concepts that no unit of run ``first`` detects and some unit of run ``second`` does, most first."""
    new = [row for row in rows if row.detectors[second] and not row.detectors[first]]
    return sorted(new, key=lambda row: (-row.detectors[second], -(row.best[second] or 0.0), row.category, row.name))


def lost(rows: Sequence[ConceptRow], first: int, second: int) -> list[ConceptRow]:
    """Return the concepts that some unit of run ``first`` detects and no unit of run ``second`` does, most first."""
    return gained(rows, second, first)
