"""Several runs of one job in one folder, and the table that compares them: layers, bases, checkpoints, seeds."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from explain.runs import read_json

__all__ = ["COLUMNS", "layer_row", "read_layers", "safe_names", "write_layers"]

COLUMNS = (
    "folder",
    "model",
    "weights",
    "seed",
    "layer",
    "basis",
    "units",
    "firing",
    "interpretable",
    "unique_detectors",
    "mean_score",
    "mean_iou",
    "mean_iou_heldout",
    "above_chance",
    "share_above_untrained",
)
"""Of ``layers.csv``, before a column ``category:NAME`` per category with the number of detectors in it."""

_TAKEN = ("checkpoints", "config.json", "manifest.json", "layers.csv")


def safe_names(names: Sequence[str]) -> list[str]:
    """Return a folder's name for each name: no two alike on any file system, and none that the job's folder uses."""
    taken = set(_TAKEN)
    found = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "run"
        safe, number = plain, 1
        while safe.lower() in taken:
            number += 1
            safe = f"{plain}-{number}"
        taken.add(safe.lower())
        found.append(safe)
    return found


def layer_row(folder: Path) -> dict[str, Any]:
    """Return one run's row of ``layers.csv``, from its ``run.json``."""
    run = read_json(folder / "run.json")
    summary, config, settings = run["summary"], run["manifest"]["config"], run["settings"]
    return {
        "folder": folder.name,
        "model": run["manifest"]["model"].get("name", ""),
        "weights": config.get("weights", ""),
        "seed": settings["seed"],
        "layer": run["layer"],
        "basis": settings["basis"],
        "units": summary["units"],
        "firing": summary["firing"],
        "interpretable": summary["interpretable"],
        "unique_detectors": summary["unique_concepts"],
        "mean_score": repr(summary["mean_score"]),
        "mean_iou": repr(summary["mean_iou"]),
        "mean_iou_heldout": repr(summary["mean_iou_heldout"]) if "mean_iou_heldout" in summary else "",
        "above_chance": summary.get("above_chance", ""),
        "share_above_untrained": repr(summary["share_above_untrained"]) if "share_above_untrained" in summary else "",
        **{f"category:{name}": count for name, count in summary["by_category"].items()},
    }


def write_layers(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write ``layers.csv``: a line per run, in the order given; categories by name, 0 where a run has none in one."""
    categories = sorted({name for row in rows for name in row if name.startswith("category:")})
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, [*COLUMNS, *categories], restval=0)
        writer.writeheader()
        writer.writerows(rows)


def read_layers(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a folder's ``layers.csv``."""
    with (folder / "layers.csv").open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))
