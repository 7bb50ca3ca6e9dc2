"""The tables of ``gap_gmp.py``: its CSV, and Markdown for the page, from the same rows."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

START, END = "<!-- gap_gmp: start (made by benchmarks/gap_gmp.py) -->", "<!-- gap_gmp: end -->"
Rows = Sequence[Mapping[str, Any]]


def write_csv(path: Path, rows: Rows) -> None:
    names = list(dict.fromkeys(key for row in reversed(rows) for key in row))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)


def mean_spread(values: Sequence[float]) -> str:
    """Return ``mean ± standard deviation`` over the seeds."""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{spread}"


def table(rows: Rows) -> str:
    """Return the rows of all seeds as one Markdown table."""
    heads = ("network", "map", "boxes from", "top-1 error", "GT-known, 0.2", "top-1 loc. error, 0.2")
    lines = ["| " + " | ".join((*heads, "MaxBoxAcc", "best threshold")) + " |", "|---|---|---|" + "---:|" * 5]
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["name"], row["method"]), []).append(row)
    for (name, method), members in groups.items():
        cells = [name, members[0].get("grid", "").replace("x", " × "), method if method != "centre" else ""]
        for key in ("top1_cls_error", "gt_known", "top1_loc_error", "maxboxacc"):
            values = [float(row[key]) for row in members if row.get(key, "") != ""]
            cells.append(mean_spread(values) if values else "")
        thresholds = sorted(float(row["best_threshold"]) for row in members)
        cells.append(f"{thresholds[0]:.2f} – {thresholds[-1]:.2f}" if len(members) > 1 else f"{thresholds[0]:.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


QUESTIONS = (
    ("GMP − GAP: top-1 error", "top1_cls_error", ("GMP", "cam"), ("GAP", "cam")),
    ("GAP − original: top-1 error", "top1_cls_error", ("GAP", "cam"), ("original", "backprop")),
    ("GAP − GMP: GT-known at 0.2", "gt_known", ("GAP", "cam"), ("GMP", "cam")),
    ("GAP − GMP: MaxBoxAcc", "maxboxacc", ("GAP", "cam"), ("GMP", "cam")),
    ("GAP, CAM − backprop: GT-known at 0.2", "gt_known", ("GAP", "cam"), ("GAP", "backprop")),
    ("GAP, CAM − backprop: MaxBoxAcc", "maxboxacc", ("GAP", "cam"), ("GAP", "backprop")),
    ("GAP − lower resolution: GT-known at 0.2", "gt_known", ("GAP", "cam"), ("GAP, lower resolution", "cam")),
    ("GAP − lower resolution: MaxBoxAcc", "maxboxacc", ("GAP", "cam"), ("GAP, lower resolution", "cam")),
    ("higher resolution − GAP: GT-known at 0.2", "gt_known", ("GAP, higher resolution", "cam"), ("GAP", "cam")),
    ("higher resolution − GAP: MaxBoxAcc", "maxboxacc", ("GAP, higher resolution", "cam"), ("GAP", "cam")),
)


def differences(rows: Rows) -> str:
    """Return the paper's questions as differences between networks of one seed, in percentage points."""
    found = {(row["name"], row["method"], row.get("seed")): row for row in rows}
    seeds = sorted({row["seed"] for row in rows if "seed" in row})
    lines = ["| difference (points) | mean | by seed |", "|---|---:|---|"]
    for question, key, left, right in QUESTIONS:
        both = [seed for seed in seeds if (*left, seed) in found and (*right, seed) in found]
        values = [float(found[*left, seed][key]) - float(found[*right, seed][key]) for seed in both]
        if not values:
            continue
        lines.append(f"| {question} | {statistics.fmean(values):+.1f} | {', '.join(f'{v:+.1f}' for v in values)} |")
    return "\n".join(lines)


def filled(text: str, rows: Rows) -> str:
    """Return the page with the tables made anew between their marks."""
    before, after = text.split(START)[0], text.split(END)[1]
    row = rows[-1]
    about = (
        f"{row['trunk']} trunk, {row['train']} training and {row['test']} test scenes of {row['side']} pixels,"
        f" {row['epochs']} epochs and {row['tune']} more, mean ± standard deviation over"
        f" {len({r['seed'] for r in rows if r.get('seed', '') != ''})} seeds, percent."
    )
    return f"{before}{START}\n{about}\n\n{table(rows)}\n\n{differences(rows)}\n{END}{after}"
