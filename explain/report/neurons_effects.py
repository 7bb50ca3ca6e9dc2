"""What effects say of each unit, as rows of a table in the unit's view: any job whose findings have ``units``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from explain.report.effects import read_effects
from explain.report.formatting import number
from explain.report.neurons_text import confusion_rows, flip_rows

__all__ = ["effect_rows", "unit_effects"]

_SKIPPED = ("unit", "formula", "iou", "iou_heldout", "weights")
"""What the view says already."""
_NAMES = {
    "accuracy": "percent right where it fires",
    "images": "images where it fires",
    "right": "of them, classified right",
    "by_area": "right by the area that fires, smallest first",
    "most": "gives most to",
    "least": "gives least to",
    "among_top": "classes with it among their top units",
    "among_bottom": "classes with it among their bottom units",
}
_MOST = 5
_TEXT = {"confusion": confusion_rows, "flips": flip_rows}
"""Jobs whose findings are told in another way."""

Row = tuple[str, str, str]


def effect_rows(folder: Path) -> dict[str, list[Row]]:
    """Return (job, what, text) of each unit that finished effects of a run speak of, by the unit's number as text.

    Raises
    ------
    RunError
        A result that cannot be read.
    """
    found: dict[str, list[Row]] = {}
    for job, run in read_effects(folder).items():
        findings = run.get("findings", {})
        if job in _TEXT:
            for unit, rows in _TEXT[job](findings).items():
                found.setdefault(unit, []).extend(rows)
            continue
        units = findings.get("units")
        for unit, facts in (units if isinstance(units, Mapping) else {}).items():
            if isinstance(facts, Mapping):
                found.setdefault(unit, []).extend(unit_effects(job, facts))
    return found


def unit_effects(job: str, facts: Mapping[str, Any]) -> list[Row]:
    """Return what one job says of a unit; what has no short text is left to the job's own part of the page."""
    rows = []
    for key, value in facts.items():
        if key in _SKIPPED:
            continue
        if isinstance(value, Mapping) and "value" not in value:
            rows += [
                (job, f"{_named(key)}, {_named(name)}", text)
                for name, one in value.items()
                if (text := _lists(one) if isinstance(one, Mapping) else _text(one))
            ]
        elif text := _text(value):
            rows.append((job, _named(key), text))
    return rows


def _named(key: str) -> str:
    return _NAMES.get(key, key.replace("_", " "))


def _lists(value: Mapping[str, Any]) -> str:
    """Return ``contributors 12 (+0.3), 5 (+0.1); inhibitors …``."""
    return "; ".join(f"{_named(name)} {text}" for name, one in value.items() if (text := _text(one)))


def _text(value: Any) -> str:
    """Return a number, a score with its interval, words, or a list of them; empty where there is nothing to say."""
    if value is None or isinstance(value, bool):
        return "" if value is None else ("yes" if value else "no")
    if isinstance(value, int | float):
        return f"{value}" if isinstance(value, int) else number(value)
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return _score(value)
    if isinstance(value, Sequence):
        shown = [text for one in value[:_MOST] if (text := _entry(one))]
        return ", ".join(shown) + (", …" if len(value) > _MOST else "")
    return ""


def _score(value: Mapping[str, Any]) -> str:
    if not isinstance(value.get("value"), int | float):
        return ""
    ends = f" [{number(value['low'])}, {number(value['high'])}]" if value.get("low") is not None else ""
    return f"{number(value['value'])}{ends}"


def _entry(one: Any) -> str:
    """Return one entry of a list: ``(class, name, value)``, ``(unit, value)``, ``(of, which)`` or a plain value."""
    if isinstance(one, Sequence) and not isinstance(one, str):
        if len(one) == 3 and isinstance(one[1], str):
            return f"{one[1]} {_signed(one[2])}"
        if len(one) == 2 and isinstance(one[1], float):
            return f"{one[0]} ({_signed(one[1])})"
        if len(one) == 2:
            return f"{one[1]} of {one[0]}"
        return ""
    return _text(one)


def _signed(value: Any) -> str:
    return f"{'+' if value > 0 else ''}{number(value)}" if isinstance(value, int | float) else ""
