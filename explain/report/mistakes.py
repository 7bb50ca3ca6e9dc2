"""What is wrong with boxes: the counts of a run folder, with what each kind means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["mistakes_view"]

_TOLD: Mapping[str, str] = {
    "right": "The class is the best one, and its box is right.",
    "misclassified": "The box of the true class is right, but another class scores higher.",
    "part": "More than half of the box lies on the object, which is larger: the map shows a part of it.",
    "more": "At least 70 % of the object is in the box, which is larger: the map spills over.",
    "multi-instance": "The box covers more than 30 % of each of several objects: it takes a group for one.",
    "background": "The box lies mostly elsewhere.",
    "no box": "The map is nowhere positive, so there is no box.",
    "no truth": "The image has no published box to compare with.",
}
_FINE = ("right", "misclassified")
_CLASSES = 30


def mistakes_view(errors: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return ``errors`` of a result as tables; None where the run has none."""
    if not errors or not errors.get("counts"):
        return None
    counts = errors["counts"]
    kinds = [kind for kind in dict.fromkeys([*_TOLD, *counts]) if counts.get(kind)]
    total = sum(counts.values())
    by_class = sorted(errors.get("by_class") or [], key=lambda row: (-_wrong(row), -row["n"], str(row["name"])))
    return {
        "kinds": kinds,
        "counts": [
            {"kind": kind, "n": counts[kind], "share": counts[kind] / total, "told": _TOLD.get(kind, "")}
            for kind in kinds
        ],
        "summary": _summary(counts, total),
        "by_size": _rows(errors.get("by_size") or [], kinds),
        "by_class": _rows(by_class[:_CLASSES], kinds),
        "classes": len(by_class),
    }


def _summary(counts: Mapping[str, int], total: int) -> str:
    wrong = {kind: n for kind, n in counts.items() if kind not in _FINE and n}
    if not wrong:
        return f"all {total} boxes are right"
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(wrong.items(), key=lambda item: -item[1]))
    return f"{sum(wrong.values())} of {total} boxes are wrong: {kinds}"


def _rows(rows: Sequence[Mapping[str, Any]], kinds: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "name": row["name"],
            "n": row["n"],
            "wrong": _wrong(row) if row["n"] else None,
            "cells": [row.get(kind, 0) for kind in kinds],
        }
        for row in rows
    ]


def _wrong(row: Mapping[str, Any]) -> float:
    """Return the share of wrong boxes."""
    fine: int = sum(row.get(kind, 0) for kind in _FINE)
    return 1 - fine / row["n"] if row["n"] else 0.0
