"""What ablation found, as tables and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from explain.findings.result import Table
from explain.neurons.effects.ablation_findings import AblationFindings, ClassEffect, GroupEffect, UnitAblation
from explain.neurons.effects.preparing import Opened
from explain.types import ProbeSet

__all__ = ["WORDS", "ablation_notes", "ablation_tables"]

_SHOWN = 15
WORDS = {
    "zero": "set to zero",
    "mean": "set to their mean",
    "resample": "given their map of another image",
    "insert": "forced up",
    "scale": "rescaled",
}


def ablation_tables(findings: AblationFindings) -> tuple[Table, ...]:
    """Return the tables: units that matter most, groups, classes, concepts."""
    tables = [_units_table(findings, how) for how in findings.replacements]
    if findings.groups:
        tables.append(_groups_table(findings.groups))
        split = [group for group in findings.groups if group.seen is not None]
        if split:
            tables.append(_seen_table(split))
    for how in findings.replacements:
        rows = [row for row in findings.classes if row.replacement == how]
        if rows:
            tables.append(_classes_table(rows, how))
    if findings.concept_units:
        tables.append(_concepts_table(findings))
    return tuple(tables)


def _units_table(findings: AblationFindings, how: str) -> Table:
    def loss(unit: UnitAblation) -> tuple[float, float]:
        effect = unit.effects[how]
        return effect.accuracy.value, effect.logit.value

    rows = []
    for unit in sorted(findings.units.values(), key=loss)[:_SHOWN]:
        effect = unit.effects[how]
        cells = [
            str(unit.unit),
            unit.formula or "–",
            f"{unit.iou:.3f}",
            str(effect.accuracy),
            f"{effect.accuracy.worse} / {effect.accuracy.better}",
            f"{effect.q:.2g}",
            str(effect.logit),
            f"{effect.changed:.1f}",
        ]
        if findings.counted_classes:
            cells.append(f"{effect.hurt[1]} {effect.hurt[2]:+.0f} (n={effect.hurt[3]})" if effect.hurt else "–")
        rows.append(tuple(cells))
    columns = [
        "unit",
        "formula",
        "IoU",
        "accuracy, points [95 %]",
        "lost / won",
        "q",
        "label's logit [95 %]",
        "changed (%)",
    ]
    if findings.counted_classes:
        columns.append("class that loses most")
    title = f"single units {WORDS[how]}: the {len(rows)} of {len(findings.units)} that cost most accuracy"
    return Table(title, tuple(columns), tuple(rows), words=(1, 8))


def _groups_table(groups: tuple[GroupEffect, ...]) -> Table:
    rows = []
    for group in groups:
        beside = group.versus
        rows.append(
            (
                f"{'all but ' if group.kept else ''}{group.name}",
                group.replacement,
                str(group.before),
                str(group.after),
                str(group.accuracy),
                str(group.logit),
                f"{beside.mean:+.1f} ({beside.low:+.1f} to {beside.high:+.1f})" if beside else "–",
                str(beside.difference) if beside else "–",
                f"{beside.p:.2g}" if beside else "–",
            )
        )
    columns = (
        "replaced",
        "by",
        "accuracy before (%)",
        "after (%)",
        "change, points [95 %]",
        "label's logit [95 %]",
        "random groups alike (95 %)",
        "beside these [95 %]",
        "p",
    )
    return Table("groups of units", columns, tuple(rows), words=(0, 1))


def _seen_table(groups: list[GroupEffect]) -> Table:
    rows = tuple(
        (
            f"{'all but ' if group.kept else ''}{group.name}",
            group.replacement,
            str(group.seen),
            str(group.seen.n if group.seen else 0),
            str(group.unseen),
            str(group.unseen.n if group.unseen else 0),
        )
        for group in groups
    )
    columns = ("replaced", "by", "on photos it was trained on [95 %]", "images", "on others [95 %]", "images")
    return Table("change of accuracy, points, on photos that the network was trained on", columns, rows, words=(0, 1))


def _classes_table(rows: list[ClassEffect], how: str) -> Table:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.1f}"

    def cells(row: ClassEffect) -> tuple[float | None, ...]:
        return (
            row.balanced_before,
            row.balanced_removed,
            row.balanced_removed_random,
            row.balanced_kept,
            row.balanced_kept_random,
        )

    found = [
        (
            row.name,
            str(row.images),
            str(row.before),
            str(row.removed),
            str(row.kept),
            *map(number, cells(row)),
            number(row.p_removed) if row.p_removed is None else f"{row.p_removed:.2g}",
        )
        for row in rows
    ]
    if len(rows) > 1:
        plain = [float(np.mean([getattr(row, key).value for row in rows])) for key in ("before", "removed", "kept")]
        columns_of = zip(*map(cells, rows), strict=True)
        means = [None if None in column else float(np.mean(np.array(column, float))) for column in columns_of]
        found.append(("mean", "", *map(number, plain), *map(number, means), ""))
    top = len(rows[0].units)
    columns = (
        "class",
        "images",
        "accuracy (%)",
        f"{top} removed (%)",
        f"only {top} kept (%)",
        "balanced",
        f"{top} removed",
        "random removed",
        f"only {top} kept",
        "random kept",
        "p removed",
    )
    return Table(f"the {top} units most important for a class, {WORDS[how]}: its own accuracy", columns, tuple(found))


def _concepts_table(findings: AblationFindings) -> Table:
    rows = [
        unit for unit in findings.units.values() if unit.concept is not None and unit.concept.difference is not None
    ]
    rows.sort(key=lambda unit: unit.concept.difference.high if unit.concept and unit.concept.difference else 0.0)
    cells = []
    for unit in rows[:_SHOWN]:
        concept = unit.concept
        assert concept is not None
        cells.append(
            (
                str(unit.unit),
                unit.formula or "–",
                f"{concept.holds} / {concept.others}",
                f"{concept.changed_holds:.1f} / {concept.changed_others:.1f}",
                f"{concept.logit_holds:+.2f}",
                f"{concept.logit_others:+.2f}",
                str(concept.difference),
            )
        )
    columns = (
        "unit",
        "formula",
        "images: holds / not",
        "changed (%): holds / not",
        "logit where it holds",
        "elsewhere",
        "difference [95 %]",
    )
    title = (
        f"single units {WORDS[findings.replacements[0]]}: the predicted class's logit where their formula holds and"
        " elsewhere (masks of the probe set)"
    )
    return Table(title, columns, tuple(cells), words=(1,))


def ablation_notes(
    findings: AblationFindings, opened: Opened, options: Mapping[str, Any], trained: str | None, probe: ProbeSet | None
) -> tuple[str, ...]:
    """Return how it was done, in sentences."""
    subject, data = opened.subject.name, opened.data.name
    notes = [
        f"{subject} is right on {findings.accuracy} % of {findings.images} images of {data}; units of"
        f" {opened.explained.layer} are replaced {findings.how}.",
    ]
    for how in findings.replacements:
        notes.append(
            f"{WORDS[how].capitalize()}, {findings.found[how]} of {len(findings.units)} units change the accuracy"
            " one by one (McNemar's test, false discovery rate 5 %)."
        )
    classes = len(set(opened.labels.tolist()))
    notes.append(
        f"{findings.counted_classes} of {classes} classes have at least {findings.least} images; only these are looked"
        " at by themselves."
    )
    if findings.groups or findings.classes:
        notes.append(
            f"Random groups are as large, and unit by unit alike in {options['match']}; intervals beside them draw"
            " images and groups anew."
        )
    if findings.concept_units and probe is not None:
        notes.append(
            f"{findings.concept_found} of {findings.concept_units} units lower the predicted class's logit more on the"
            f" images of {probe.name} where their formula holds than elsewhere (the 95 % interval lies below 0)."
        )
    if trained == "all":
        notes.append("The network was trained on these photos: accuracies are higher than on new ones.")
    elif trained is not None:
        notes.append(f"The network was trained on the photos of {trained.replace(',', ' and ')}.")
    return tuple(notes)
