"""The parts of a page that show what explained units do to predictions; one per job in ``effects/`` of a neuron run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from explain.errors import RunError
from explain.report.discovery import findings_album, findings_view
from explain.report.parts import Part, header_rows
from explain.report.scatter import scatter_chart
from explain.runs import read_json

__all__ = ["effects_part", "effects_parts", "read_effects"]

_TITLES = {
    "accuracy": "Accuracy when units fire",
    "contributions": "Contributions of units",
    "ablation": "Ablation of units",
    "copypaste": "Copy-paste examples",
    "steer": "Steering by explanation",
    "pmi": "Words that go with a class",
    "confusion": "Labels and answers where formulas hold",
    "transfer": "Other data",
    "flips": "Words that flip answers",
}
_IOUS = {"iou": "IoU of the search", "iou_heldout": "IoU on held-out images"}


def read_effects(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the finished jobs in ``effects/`` of a neuron run by name, in their usual order, then others by name.

    ``found[job]["findings"]["units"]``, where it is there, maps a unit's number (as text) to its facts.

    Raises
    ------
    RunError
        A result that cannot be read.
    """
    found = {}
    for path in sorted((folder / "effects").glob("*/effects.json")):
        if path.parent.suffix not in (".partial", ".old"):
            found[path.parent.name] = read_json(path)
    known = [name for name in _TITLES if name in found]
    return {name: found[name] for name in [*known, *(name for name in found if name not in known)]}


def effects_parts(folder: Path) -> list[Part]:
    """Return the parts of all finished jobs on a neuron run."""
    runs = read_effects(folder)
    found = []
    for number, (name, run) in enumerate(runs.items()):
        inner = folder / "effects" / name
        try:
            found.append(effects_part(inner, run, f"e{number}"))
        except (KeyError, TypeError, ValueError) as error:
            what = f"{type(error).__name__}: {error}".splitlines()[0]
            raise RunError(
                f"{inner / 'effects.json'} does not hold what an effects run has ({what}): run the job again"
            ) from error
    return found


def effects_part(folder: Path, run: dict[str, Any], prefix: str) -> Part:
    """Build the part from ``effects.json``."""
    manifest, job = run["manifest"], run["job"]
    album = findings_album(folder, run, prefix)
    view = {**findings_view(run, album), "charts": _charts(run["findings"]) if _has_charts(run) else []}
    title = f"{_TITLES.get(job, job)}: {manifest.get('model', {}).get('name') or 'a network'}, {run['layer']}"
    facts = {"Job": job, "Layer": run["layer"]}
    notes = [*run.get("warnings", []), *album.notes]
    return Part("effects", title, prefix, header_rows(manifest, facts), album, notes, view)


def _has_charts(run: Mapping[str, Any]) -> bool:
    """Tell whether a job is accuracy over images; that over sentence pairs has tables only."""
    return run["job"] == "accuracy" and "correlations" in run["findings"]


def _charts(findings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the scatter plots of accuracy over IoU, a point per unit that fires often enough."""
    r = {row["of"]: row["correlation"] for row in findings["correlations"] if row["method"] == "pearson"}
    rows = [row for row in findings["units"].values() if row["accuracy"] and row["images"] >= findings["least"]]
    found = []
    for key, title in _IOUS.items():
        points = [(row[key], row["accuracy"]["value"], _label(row)) for row in rows if row[key] is not None]
        if len(points) > 1:
            told = r.get(key)
            found.append(
                {
                    **scatter_chart(points, level=findings["top1"]["value"]),
                    "title": title,
                    "r": told,
                }
            )
    return found


def _label(row: Mapping[str, Any]) -> str:
    return f"unit {row['unit']}: {row['formula'] or 'no formula'}, right on {row['right']} of {row['images']} images"
