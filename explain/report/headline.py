"""Tables of localization scores: the few that papers print first, then all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from explain.report.scores import (
    HEADLINE,
    baselines_of,
    better,
    label,
    measure,
    methods_of,
    protocols_of,
    thresholds_of,
    told,
    val_name,
)

__all__ = ["chosen_on", "interval_scores", "overview", "protocol_tables", "three_thresholds", "threshold_rows"]

_BESIDE = ("centre", "random_weights")
"""Baselines that stand beside the scores of the first table; the others are one table further down."""
_THREE = ("gt_known", "gt_known_val", "maxboxacc")
_MANY = 10_000
"""From so many images on, intervals are narrow enough for a second digit."""


def protocol_tables(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return for each protocol the scores of all methods, the main ones and all, with baselines beside them."""
    return [_table(run, protocol) for protocol in protocols_of(run)]


def overview(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return GT-known at the three thresholds, for each protocol (row) and each method and baseline (column)."""
    methods = methods_of(run)
    others = _beside(run)
    rows = []
    for protocol in protocols_of(run):
        scored = [run["metrics"][method].get(protocol, {}) for method in methods]
        scored += [baselines_of(run, protocol).get(name, {}) for name in others]
        rows.append({"protocol": protocol, "cells": [three_thresholds(scores) for scores in scored]})
    return {"columns": [*methods, *map(_spoken, others)], "rows": rows}


def three_thresholds(scores: Mapping[str, Any]) -> list[float | None]:
    """Return GT-known at the fixed threshold, at one chosen on other images, and at the best one."""
    return [measure(scores.get(name))["value"] for name in _THREE]


def interval_scores(run: Mapping[str, Any], protocol: str) -> list[dict[str, Any]]:
    """Return GT-known at the three thresholds under a protocol, with intervals, for `explain.report.charts`."""
    methods = [method for method in methods_of(run) if protocol in run["metrics"][method]]
    beside = {name: baselines_of(run, protocol)[name] for name in _beside(run) if name in baselines_of(run, protocol)}
    found = []
    for name in _THREE:
        cells = [{"label": method, **measure(run["metrics"][method][protocol].get(name))} for method in methods]
        cells = [cell for cell in cells if cell["value"] is not None]
        values = [(key, measure(scores.get(name))["value"]) for key, scores in beside.items()]
        baselines = [{"name": _spoken(key), "value": value} for key, value in values if value is not None]
        if cells:
            found.append({"name": label(name), "cells": cells, "baselines": baselines})
    return found


def chosen_on(run: Mapping[str, Any]) -> str:
    """Say which images chose the thresholds of ``…_val`` scores."""
    name = val_name(run)
    return f"validation data ({name})" if name is not None else "each half of the images, for the other half"


def threshold_rows(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of thresholds for each protocol and method."""
    found = [
        (protocol, method, thresholds_of(run, method, protocol))
        for protocol in protocols_of(run)
        for method in methods_of(run)
        if protocol in run["metrics"][method]
    ]
    names = list(dict.fromkeys(name for _, _, values in found for name in values))
    return {
        "columns": [_threshold_name(name) for name in names],
        "rows": [(protocol, method, [values.get(name) for name in names]) for protocol, method, values in found],
    }


def _threshold_name(name: str) -> str:
    level = name.removeprefix("oracle_")
    if level != name:
        return f"best at IoU {int(level) / 100:g}"
    return {"fixed": "fixed", "oracle": "best", "val": "chosen on other images"}.get(name, name)


def _table(run: Mapping[str, Any], protocol: str) -> dict[str, Any]:
    methods = [method for method in methods_of(run) if protocol in run["metrics"][method]]
    scored = {method: run["metrics"][method][protocol] for method in methods}
    baselines = baselines_of(run, protocol)
    beside = [name for name in _beside(run) if name in baselines]
    names = list(dict.fromkeys(name for scores in scored.values() for name in scores))
    images = max((measure(value)["n"] or 0 for scores in scored.values() for value in scores.values()), default=0)

    def rows(chosen: Iterable[str], others: Sequence[str]) -> list[dict[str, Any]]:
        return [_row(run, protocol, name, scored, {key: baselines[key] for key in others}) for name in chosen]

    return {
        "protocol": protocol,
        "digits": 2 if images >= _MANY else 1,
        "n": images,
        "methods": methods,
        "beside": [_spoken(name) for name in beside],
        "head": rows([name for name in HEADLINE if name in names], beside),
        "all": rows(names, beside),
        "baselines": [_spoken(name) for name in baselines],
        "by_baseline": [
            {"label": label(name), "cells": [measure(scores.get(name)) for scores in baselines.values()]}
            for name in names
        ],
    }


def _row(
    run: Mapping[str, Any],
    protocol: str,
    name: str,
    scored: Mapping[str, Mapping[str, Any]],
    beside: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    if "cls" in name:  # boxes have no part in it: the baseline's is the network's own
        beside = {key: {} if key == "centre" else scores for key, scores in beside.items()}
    centre = measure(beside.get("centre", {}).get(name))["value"]
    cells = []
    for method, scores in scored.items():
        cell = measure(scores.get(name))
        cell["at"] = _at(name, thresholds_of(run, method, protocol))
        cell["weak"] = _beside_centre(name, cell, centre)
        cells.append(cell)
    fixed = next((thresholds_of(run, method, protocol).get("fixed") for method in scored), None)
    return {
        "name": name,
        "label": label(name) + (f" {fixed:g}" if name == "gt_known" and fixed is not None else ""),
        "told": told(name),
        "better": better(name),
        "cells": cells,
        "beside": [measure(scores.get(name)) for scores in beside.values()],
        "n": next((cell["n"] for cell in cells if cell["n"] is not None), None),
    }


def _at(name: str, thresholds: Mapping[str, float]) -> float | None:
    """Return the threshold that was chosen for a score, where there is one for all images."""
    if name == "maxboxacc":
        return thresholds.get("oracle")
    if name == "gt_known_val":
        return thresholds.get("val")
    return thresholds.get(f"oracle_{name.removeprefix('maxboxacc_')}") if name.startswith("maxboxacc_") else None


def _beside_centre(name: str, cell: Mapping[str, Any], centre: float | None) -> str:
    """Say where a score is not better than the centre baseline: worse, or its interval does not tell them apart."""
    if centre is None or cell["low"] is None or cell["high"] is None or better(name) == "–":
        return ""
    if cell["low"] <= centre <= cell["high"]:
        return "like centre"
    return "worse than centre" if (cell["high"] < centre) == (better(name) == "higher") else ""


def _beside(run: Mapping[str, Any]) -> list[str]:
    """Return the baselines to stand beside the methods: not what is itself scored as a method."""
    there = {name for protocol in protocols_of(run) for name in baselines_of(run, protocol)}
    return [name for name in _BESIDE if name in there and name not in run["metrics"]]


def _spoken(name: str) -> str:
    return name.replace("_", " ")
