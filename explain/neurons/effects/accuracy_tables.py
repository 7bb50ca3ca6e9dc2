"""Accuracy when active as it is read: tables and sentences."""

from __future__ import annotations

from explain.findings.result import Table
from explain.neurons.effects.accuracy_findings import AccuracyFindings
from explain.neurons.effects.correlating import METHODS, Correlation, Method
from explain.neurons.effects.preparing import Opened

__all__ = ["accuracy_notes", "accuracy_tables", "iou_name"]

_SHOWN = 10
"""Units at either end of the table."""


def accuracy_tables(findings: AccuracyFindings, job: Opened) -> tuple[Table, ...]:
    """Return the tables: correlations, firing areas, the units at either end."""
    return (
        _correlation_table(findings),
        _bin_table(findings),
        _unit_table(findings, job),
    )


def _correlation_table(findings: AccuracyFindings) -> Table:
    rows: dict[str, dict[Method, Correlation]] = {}
    for row in findings.correlations:
        rows.setdefault(row.of, {})[row.method] = row.correlation
    cells = []
    for of, found in rows.items():
        texts = [
            text
            for method in METHODS
            for text in ((str(found[method]), f"{found[method].p:.2g}") if method in found else ("–", "–"))
        ]
        cells.append((iou_name(of), *texts, str(next(iter(found.values())).n)))
    return Table(
        "correlation over units of accuracy when active with IoU",
        ("IoU", "Pearson r [95 %]", "p", "Spearman ρ [95 %]", "p", "units"),
        tuple(cells),
    )


def iou_name(of: str) -> str:
    """Return the words for a sort of IoU: ``iou_heldout_length_2`` → held-out, at most 2 concepts."""
    base, _, length = of.partition("_length_")
    words = "held-out" if base == "iou_heldout" else "search"
    return f"{words}, at most {length} concept{'s' if length != '1' else ''}" if length else words


def _bin_table(findings: AccuracyFindings) -> Table:
    rows = [
        (
            f"{one.low}" if one.low == one.high else f"{one.low}–{one.high}",
            f"{one.pairs}",
            f"{one.accuracy.n}",
            str(one.accuracy),
            str(one.pearson) if one.pearson else "–",
            f"{one.pearson.p:.2g}" if one.pearson else "–",
        )
        for one in findings.bins
    ]
    return Table(
        f"by firing area: cells of the {findings.cells} of a map that are above the threshold",
        ("cells", "pairs of unit and image", "images", "accuracy % [95 %]", "Pearson r with IoU [95 %]", "p"),
        tuple(rows),
        words=(),
    )


def _unit_table(findings: AccuracyFindings, job: Opened) -> Table:
    known = [row for row in findings.units.values() if row.accuracy is not None and row.images >= findings.least]
    ordered = sorted(known, key=lambda row: (-(row.accuracy.value if row.accuracy else 0.0), -row.images, row.unit))
    chosen = ordered if len(ordered) <= 2 * _SHOWN else [*ordered[:_SHOWN], *ordered[-_SHOWN:]]
    which = "" if len(chosen) == len(ordered) else f" (first and last {_SHOWN} of {len(ordered)})"
    rows = [
        (str(row.unit), row.formula or "–", f"{row.iou:.3f}", f"{row.right} of {row.images}", str(row.accuracy))
        for row in chosen
    ]
    return Table(
        f"units of {job.explained.layer} by accuracy when active{which}",
        ("unit", "formula", "IoU", "right", "accuracy % [95 %]"),
        tuple(rows),
        words=(1,),
    )


def accuracy_notes(findings: AccuracyFindings, job: Opened) -> tuple[str, ...]:
    """Return how it was done, and the main figures, in sentences."""
    silent = sum(unit.active == 0 for unit in job.explained.units)
    never = f" {silent} units fire nowhere in the run's own images either (see its warnings)." if silent else ""
    mean = f", and there the network is right on {findings.mean:.1f} % on average" if findings.mean is not None else ""
    return (
        f"{job.subject.name} is right on {findings.top1} % of {findings.images} images of {findings.labels} classes of"
        f" {job.data.name}.",
        f"{findings.fired} of {len(findings.units)} units of {job.explained.layer} fire on some image (a cell of their"
        f" map, at its own resolution, is above their threshold); {findings.correlated} fire on at least"
        f" {findings.least}{mean}.{never}",
        "Intervals of a unit's accuracy are Wilson's; of correlations a bootstrap over units; of areas a bootstrap over"
        " images. p-values take units for independent, as published, although they fire on the same images.",
    )
