"""Ablation: what the network loses without a unit, without a group of units, or with nothing else.

Units are zeroed (Bau et al. 2017 and 2020), set to their mean, or given their map of another image (resampling);
forced up at given places, they show what they are for. Each effect has an interval over images and stands beside
random units, or groups, that are as active.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from explain.data.labelled import open_labelled
from explain.errors import InputError
from explain.findings.result import Findings, source_of
from explain.findings.scores import proportion
from explain.nets.passes import Work
from explain.nets.subject import Subject
from explain.neurons.effects.ablation_findings import (
    AblationFindings,
    ClassEffect,
    ConceptEffect,
    GroupEffect,
    UnitAblation,
    UnitEffect,
)
from explain.neurons.effects.ablation_job import Job, activation_of, check_options, prepared
from explain.neurons.effects.ablation_scores import Truth, class_effect, concept_effects, group_effect, unit_effects
from explain.neurons.effects.ablation_tables import ablation_notes, ablation_tables
from explain.neurons.effects.grouping import Group, highest, matched_groups
from explain.neurons.effects.measuring import (
    Asked,
    Observed,
    Outcome,
    measure_groups,
    measure_units,
    observe_images,
)
from explain.neurons.effects.opening import Explained
from explain.neurons.effects.preparing import open_job
from explain.neurons.effects.presence import formulas_hold
from explain.neurons.effects.replacing import (
    Forced,
    Level,
    Replace,
    donors_of,
    parse_places,
)
from explain.neurons.formula import parse
from explain.neurons.results import NeuronRun

__all__ = ["ablation"]

_FOUND = 0.05
"""False discovery rate at which units are counted as found."""
_TOP = 0.99
"""Quantile of a unit's peaks over images that is its top value."""
_CLASSES = 20
"""Classes looked at by themselves at most, those with the most images first."""


def ablation(
    run: Explained | NeuronRun | str | Path,
    data: Any,
    model: nn.Module | Subject | str | None = None,
    *,
    replace: Sequence[Replace] | Replace = ("zero",),
    units: Sequence[int] | None = None,
    top: int = 20,
    concepts: Sequence[str] = (),
    classes: Sequence[str | int] | None = None,
    least: int = 20,
    controls: int = 20,
    match: str = "activation",
    probe: Any = None,
    places: str = "all",
    level: Level = "threshold",
    subset: str | None = None,
    trained: str | None = None,
    draws: int = 1000,
    seed: int = 0,
    limit: int | None = None,
    work: Work | None = None,
) -> Findings[AblationFindings]:
    """Replace units one by one and in groups, and see what becomes of the predictions.

    Where the head after the layer is affine in the map's mean, all of it is closed form: one forward pass per image.
    Else what follows the layer is run again for each edit that changes the map.

    Parameters
    ----------
    run, data, model, seed, limit, work
        See `explain.neurons.effects`.
    replace
        One or several of ``"zero"``, ``"mean"`` (over all images and places), ``"resample"`` (the map of another
        image), ``"insert"`` (forced up to ``level`` at ``places``).
    units
        Which explained units are replaced one by one; all where None.
    top
        Units in a group: of the highest IoU, of those that the labels' logits rest on most, and per class.
    concepts
        Makes groups of the units whose formula asks for a concept.
    classes
        Classes, by name or index, whose most important units are removed and kept (Bau et al. 2020, figure 4); where
        None, those with at least ``least`` images, 20 at most.
    least
        Images that a class must have to be looked at by itself.
    controls
        Random groups beside each group, as large and unit by unit as active.
    match
        What "as active" means: ``"activation"`` (mean) or ``"firing"`` (share of images above the threshold).
    probe
        Masks for the effect on a concept's own images: a probe set; the run's own where None and its folder is there.
    places
        ``"all"``, ``"centre"``, or a box ``"y0,x0,y1,x1"`` in shares of the image, for ``"insert"``.
    level
        ``"threshold"``, or ``"top"``: the 99 % quantile of the unit's peaks over the images.
    subset
        Use images of this subset only.
    trained
        Which photos the network was trained on: ``"all"``, or names of subsets, ``"a,b"``; effects are told apart.
    draws
        Bootstrap replicates.

    Returns
    -------
    Findings
        Whose ``findings`` are `AblationFindings`; arrays: per unit and replacement the changes of accuracy (points)
        and of the label's logit.

    Raises
    ------
    InputError
        Another network or layer than the run's, labels that it does not have, an unknown concept, class or option,
        formulas that no image of the probe set satisfies.
    DataError, RunError, ModelError
        Data, run or layer that cannot be read.
    """
    options: dict[str, Any] = {
        "replace": [replace] if isinstance(replace, str) else list(replace),
        "top": top,
        "concepts": list(concepts),
        "least": least,
        "controls": controls,
        "match": match,
        "places": places,
        "level": level,
        "draws": draws,
        "probe": probe if isinstance(probe, str) else None,
    }
    check_options(options)
    opened = open_job(run, open_labelled(data, subset=subset) if subset is not None else data, model, limit=limit)
    given = run.probe if probe is None and isinstance(run, NeuronRun) else probe
    job = prepared(opened, options, units, classes, given, trained, seed, work or Work())
    findings = _findings(job)
    recorded = {**options, "units": None if units is None else list(units), "subset": subset, "trained": trained}
    recorded |= {"classes": None if classes is None else list(classes), "seed": seed, "limit": limit}
    return Findings(
        "effects",
        kind="ablation",
        findings=findings,
        tables=ablation_tables(findings),
        notes=ablation_notes(findings, opened, options, trained, job.probe),
        arrays=_arrays(findings),
        examples=(),
        subject=opened.subject,
        source=source_of(opened.data),
        layer=opened.explained.layer,
        settings=recorded,
        warnings=(*opened.warnings, *job.warnings),
    )


def _findings(job: Job) -> AblationFindings:
    opened, options, work = job.opened, job.options, job.work
    observed = observe_images(job.stage, opened.data.images, opened.labels, "observed", work)
    truth = Truth.of(observed, opened.labels, opened.names, options["least"], options["draws"], job.seed)
    activation = activation_of(opened.explained, observed, options["match"])
    place = np.searchsorted(opened.explained.numbers, job.units)
    effects: dict[str, list[UnitEffect]] = {}
    groups: list[GroupEffect] = []
    classes: list[ClassEffect] = []
    for how in options["replace"]:
        asked = _asked(job, observed, how)
        outcome = measure_units(job.stage, observed, opened.data.images, job.units, asked, work, f"units-{how}")
        effects[how] = unit_effects(outcome, observed, truth, activation[place])
        several, each = _group_effects(job, observed, truth, outcome, asked, activation)
        groups += several
        classes += each
    concepts = _concepts(job, options["replace"][0])
    facts = {unit.unit: unit for unit in opened.explained.units}
    rows = {
        unit: UnitAblation(
            unit,
            facts[unit].formula,
            facts[unit].iou,
            {how: found[number] for how, found in effects.items()},
            concepts.get(unit),
        )
        for number, unit in enumerate(job.units.tolist())
    }
    compared = [one.difference for one in concepts.values() if one.difference is not None]
    return AblationFindings(
        images=len(truth.labels),
        accuracy=proportion(truth.before),
        closed=job.stage.weights is not None,
        how=job.stage.how,
        replacements=tuple(options["replace"]),
        least=options["least"],
        counted_classes=len(truth.large),
        found={how: sum(one.q <= _FOUND for one in found) for how, found in effects.items()},
        concept_units=len(compared),
        concept_found=sum(one.high < 0 for one in compared),
        units=rows,
        groups=tuple(groups),
        classes=tuple(classes),
    )


def _asked(job: Job, observed: Observed, how: Replace) -> Asked:
    if how == "resample":
        return Asked(how, donors=donors_of(len(observed.labels), job.seed))
    if how != "insert":
        return Asked(how)
    explained = job.opened.explained
    levels = np.full(job.stage.layer.total, -np.inf, np.float32)
    levels[explained.numbers] = explained.thresholds
    if job.options["level"] == "top":
        levels = np.quantile(observed.peaks, _TOP, axis=0).astype(np.float32)
    return Asked(how, forced=Forced(parse_places(job.options["places"], explained.grid), levels))


def _group_effects(
    job: Job, observed: Observed, truth: Truth, outcome: Outcome, asked: Asked, activation: NDArray[np.float64]
) -> tuple[list[GroupEffect], list[ClassEffect]]:
    """Replace groups, what is not in them, and random groups like them."""
    groups = _groups(job, truth, outcome, asked, activation)
    masks = [group.masks(job.stage.layer.total) for group in groups]
    if not masks:
        return [], []
    ends = np.cumsum([0, *map(len, masks)])
    found = measure_groups(
        job.stage, observed, job.opened.data.images, np.concatenate(masks), asked, job.work, f"groups-{asked.how}"
    )
    parts = [found.select(slice(start, end)) for start, end in pairwise(ends.tolist())]
    plain = [
        group_effect(g, asked.how, part, truth, job.seen)
        for g, part in zip(groups, parts, strict=True)
        if g.label is None
    ]
    about = [(g, part) for g, part in zip(groups, parts, strict=True) if g.label is not None]
    pairs = zip(about[::2], about[1::2], strict=True)  # removed, kept
    return plain, [
        class_effect(one, asked.how, (first, second), observed, truth) for (one, first), (_, second) in pairs
    ]


def _groups(job: Job, truth: Truth, outcome: Outcome, asked: Asked, activation: NDArray[np.float64]) -> list[Group]:
    """Return the groups to replace, each with its random ones; those about classes come in twos: removed, kept."""
    explained, top = job.opened.explained, job.options["top"]
    rng = np.random.default_rng(job.seed)
    fall = -outcome.label.astype(np.float64)  # how much of the label's logit goes with the unit
    named: list[tuple[str, NDArray[np.int64], int | None]] = []
    if len(job.units) > top:
        ious = np.array([unit.iou for unit in explained.units])
        named.append((f"{top} units of the highest IoU", highest(explained.numbers, ious, top), None))
        named.append((f"{top} units that labels rest on most", highest(job.units, fall.mean(0), top), None))
    named += [(name, units, None) for name, units in job.groups]
    labels = _classes_of(job, truth) if asked.how != "insert" and len(job.units) > top else ()
    for label in labels:
        most = highest(job.units, fall[truth.labels == label].mean(0), top)
        named.append((f"{top} units most important for {truth.names[label]}", most, label))
    groups = []
    for name, units, about in named:
        random = matched_groups(units, explained.numbers, activation, job.options["controls"], rng)
        groups.append(Group(name, units, False, about, random))
        if asked.how != "insert":  # to force up all other units says nothing of these
            groups.append(Group(name, units, True, about, random))
    return groups


def _classes_of(job: Job, truth: Truth) -> tuple[int, ...]:
    if job.labels is not None:
        return job.labels
    counts = np.bincount(truth.labels)
    order = sorted(truth.large.tolist(), key=lambda label: (-int(counts[label]), label))
    return tuple(sorted(order[:_CLASSES]))


def _concepts(job: Job, how: Replace) -> dict[int, ConceptEffect]:
    """Return the effect of each unit on the images where its formula holds, by the masks of a probe set."""
    if job.probe is None:
        if job.options["probe"] != "none":
            job.warnings.append("no masks: give probe= (--probe) to see a unit's effect where its formula holds")
        return {}
    chosen = set(job.units.tolist())
    rows = [unit for unit in job.opened.explained.units if unit.unit in chosen and unit.formula is not None]
    if not rows:
        return {}
    formulas = [parse(str(unit.formula)) for unit in rows]
    holds = formulas_hold(job.probe, formulas, job.opened.explained.resolution, job.work)
    without = [row for row, images in zip(rows, holds.T, strict=True) if not images.any()]
    if len(without) == len(rows):
        raise InputError(
            f"no image of {job.probe.name} satisfies {without[0].formula!r}"
            + (f", nor any other of the {len(rows)} formulas" if len(rows) > 1 else "")
            + ": give a probe set with its concepts, or probe='none'"
        )
    if without:
        job.warnings.append(
            f"{len(without)} of {len(rows)} formulas hold in no image of {job.probe.name}: such as {without[0].formula}"
        )
    observed = observe_images(job.stage, job.probe.images, None, "probe", job.work)
    asked = _asked(job, observed, how)
    numbers = np.array([row.unit for row in rows], np.int64)
    outcome = measure_units(job.stage, observed, job.probe.images, numbers, asked, job.work, "probe-units")
    found = concept_effects(outcome, observed, holds, job.options["draws"], job.seed)
    return {row.unit: effect for row, effect in zip(rows, found, strict=True)}


def _arrays(findings: AblationFindings) -> dict[str, NDArray[Any]]:
    """Return numbers, changes of accuracy and of logits of all units, ``(u,)`` each."""
    found: dict[str, NDArray[Any]] = {"units": np.array(list(findings.units), np.int64)}
    for how in findings.replacements:
        rows = [unit.effects[how] for unit in findings.units.values()]
        found[f"accuracy_{how}"] = np.array([row.accuracy.value for row in rows])
        found[f"logit_{how}"] = np.array([row.logit.value for row in rows])
    return found
