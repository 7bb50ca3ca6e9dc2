"""Contributions as they are read: tables and sentences."""

from __future__ import annotations

from explain.findings.result import Table
from explain.neurons.effects.class_pictures import spread_classes
from explain.neurons.effects.contribution_findings import BetweenLayers, ClassUnit, ContributionFindings, Pair
from explain.neurons.effects.preparing import Opened

__all__ = ["contribution_notes", "contribution_tables"]

_UNITS = 15
"""Units in the table of those that most classes rely on."""
_TITLES = {
    "weight": "mean of the kernel",
    "correlation": "correlation of activations",
    "overlap": "IoU of the places where both fire",
    "inhibition": "IoU of the places where the unit before fires and those where the later one does not",
}


def contribution_tables(findings: ContributionFindings, job: Opened, show: int) -> tuple[Table, ...]:
    """Return the tables: units of some classes, units of most classes, pairs of units."""
    tables = [_class_table(findings, job, show)] if show else []
    tables.append(_unit_table(findings, job))
    if findings.between is not None:
        formulas = {number: row.formula for number, row in findings.units.items()}
        tables += [
            _pair_table(findings.between, place, job.explained.layer, formulas)
            for place, measure in enumerate(findings.between.measures)
            if measure.top
        ]
    return tuple(tables)


def _class_table(findings: ContributionFindings, job: Opened, show: int) -> Table:
    rows = []
    for row in spread_classes(findings.classes, show):
        for end, units in (("top", row.top), ("bottom", row.bottom)):
            rows += [(row.name, f"{row.images}", end, *_cells(one)) for one in units]
    shown = min(show, len(findings.classes))
    which = "" if shown == len(findings.classes) else f" ({shown} of {len(findings.classes)} classes)"
    return Table(
        f"units of {job.explained.layer} that give most and least to a class, by {findings.rank}{which}",
        ("class", "images", "end", "unit", "formula", "weight", "contribution [95 %]"),
        tuple(rows),
        words=(0, 2, 4),
    )


def _cells(one: ClassUnit) -> tuple[str, ...]:
    ends = f" [{one.low:+.3f}, {one.high:+.3f}]" if one.low is not None and one.high is not None else ""
    return str(one.unit), one.formula or "–", f"{one.weight:+.4f}", f"{one.contribution:+.3f}{ends}"


def _unit_table(findings: ContributionFindings, job: Opened) -> Table:
    ordered = sorted(findings.units.values(), key=lambda row: (-row.among_top, -row.iou, row.unit))[:_UNITS]
    rows = [
        (
            str(row.unit),
            row.formula or "–",
            f"{row.iou:.3f}",
            str(row.among_top),
            str(row.among_bottom),
            ", ".join(f"{name} {value:+.2f}" for _, name, value in row.most),
        )
        for row in ordered
    ]
    return Table(
        f"units of {job.explained.layer} that most of {len(findings.classes)} classes have among their top units",
        ("unit", "formula", "IoU", "top of", "bottom of", "classes to which it gives most"),
        tuple(rows),
        words=(1, 5),
    )


def _pair_table(between: BetweenLayers, place: int, layer: str, formulas: dict[int, str | None]) -> Table:
    measure = between.measures[place]

    def cells(pair: Pair, end: str) -> tuple[str, ...]:
        return (
            end,
            f"{pair.value:+.3f}",
            str(pair.unit),
            formulas.get(pair.unit) or "–",
            str(pair.source),
            between.formulas.get(pair.source) or "–",
        )

    rows = [cells(pair, "most") for pair in measure.top]
    if measure.name in ("weight", "correlation"):
        rows += [cells(pair, "least") for pair in measure.bottom]
    return Table(
        f"from {between.layer} to {layer}, {measure.name}: {_TITLES[measure.name]}"
        f" ({measure.contributors} contributors above {measure.high:.3g}, {measure.inhibitors} inhibitors below"
        f" {measure.low:.3g})",
        ("end", measure.name, "unit", "formula", "unit before", "its formula"),
        tuple(rows),
        words=(0, 3, 5),
    )


def contribution_notes(findings: ContributionFindings, job: Opened) -> tuple[str, ...]:
    """Return how it was done, in sentences."""
    layer, count = job.explained.layer, len(findings.classes)
    if findings.head == "exact":
        told = (
            f"What follows {layer} is affine in the mean of its maps: a contribution is the class's weight times the"
            " unit's mean activation"
        )
    else:
        told = (
            f"What follows {layer} is not affine in the mean of its maps: a contribution is the derivative of the"
            " class's logit times the activation, summed over places"
        )
    found = [f"{told}; the mean over the {findings.images} images of {count} classes of {job.data.name}, each its own."]
    if findings.residual is not None:
        found.append(
            f"Contributions of all units and the head's constant add up to the logits; the largest difference is"
            f" {findings.residual:.1e} of the largest logit."
        )
    if findings.between is not None:
        if findings.between.no_weight:
            found.append(f"No weight from {findings.between.layer} to {layer}: {findings.between.no_weight}.")
        known = {measure.name for measure in findings.between.measures}
        if "overlap" not in known:
            found.append(
                f"{findings.between.layer} is given without a run, so its units have no thresholds and no overlaps."
            )
    return tuple(found)
