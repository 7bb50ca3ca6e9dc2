"""Copy-paste examples (Mu & Andreas 2020, section 6), made and counted by machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as changed_in
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from explain.errors import InputError, near
from explain.findings.result import Findings, source_of
from explain.nets.passes import Arrays, Work
from explain.nets.subject import Subject
from explain.neurons.effects.choosing import Chooser, Expectations, Photos
from explain.neurons.effects.clusters import Resampling
from explain.neurons.effects.copy_paste_asked import SIZES, Asked, checked
from explain.neurons.effects.copy_paste_pictures import examples_of, removal_examples
from explain.neurons.effects.copy_paste_result import (
    CopyPaste,
    PairResult,
    Transfer,
    arrays_of,
    notes_of,
    tables_of,
)
from explain.neurons.effects.opening import Explained
from explain.neurons.effects.preparing import Opened, open_job
from explain.neurons.effects.probing import reopened_probe, survey_probe
from explain.neurons.effects.proposing import Proposal, naming_of, parse_pair
from explain.neurons.effects.removing import Fill, Removals, remove_concepts
from explain.neurons.effects.showing import Shown, logits_pass, show_trials
from explain.neurons.effects.transferring import open_other
from explain.neurons.effects.trials import Trials, make_trials
from explain.neurons.effects.weights import unit_weights
from explain.neurons.results import NeuronRun
from explain.types import ProbeSet

__all__ = ["copypaste"]

_TYPICAL = 0.5
"""Share of a cut-out's box that it fills, roughly: only the order of pairs depends on it."""


def copypaste(
    run: Explained | NeuronRun | str | Path,
    data: Any,
    model: nn.Module | Subject | str | None = None,
    *,
    pairs: Sequence[str] | None = None,
    count: int = 20,
    concepts: Sequence[str] | None = None,
    photos: int = 3,
    cutouts: int = 4,
    sizes: Sequence[float] = SIZES,
    positions: int = 2,
    region: str = "component",
    blend: str = "none",
    remove: str | None = None,
    models_too: Sequence[Subject | str] = (),
    probe: ProbeSet | str | Path | None = None,
    draws: int = 1000,
    seed: int = 0,
    limit: int | None = None,
    work: Work | None = None,
) -> Findings[CopyPaste]:
    """Paste concepts that formulas name into photos of one class, to have the network say another.

    For each pair of classes, the concept that formulas and weights of the head lead one to expect most of (see
    `explain.neurons.effects.proposing`) is cut out of images of the run's probe set, and pasted in a grid of sizes and
    places into photos of the source class that the network is right on. Beside every paste stand two controls at the
    same place: a concept that the pair's formulas do not name, scaled to as many pixels, and a random crop in the same
    outline. See `explain.neurons.effects.trials`.

    Parameters
    ----------
    run, data, model, seed, limit, work
        See `explain.neurons.effects`.
    pairs
        ``"SOURCE>TARGET"``, two classes by name or index each; found automatically where None.
    count
        How many pairs to find.
    concepts
        Propose these only; all that formulas name where None.
    photos, cutouts
        At most so many photos of each source class, and cut-outs of each concept.
    sizes
        The longer side of the concept's cut-out, as shares of the photo's shorter side.
    positions
        Places along each side of the photo: ``positions * positions`` in all.
    region
        ``"component"``: cut out the largest connected part of the concept; ``"whole"``: all of it.
    blend
        ``"none"``, ``"feather"`` or ``"seamless"``; see `explain.neurons.effects.pasting.paste`.
    remove
        ``"inpaint"`` or ``"mean"``: also take concepts out of up to ``count`` photos of the probe set, filled so; see
        `explain.neurons.effects.removing`.
    models_too
        Further networks for the same classes that are shown the same pictures: subjects, or what `open_other` takes.
    probe
        The run's probe set, where it does not lie where the run says.
    draws
        Resamplings of photos and cut-outs, for 95 % intervals.

    Raises
    ------
    InputError
        Unusable options, an unknown class or concept, a source class without a photo that the network is right on.
    DataError
        The probe set is not there or another one; no concept is expected to move a pair.
    """
    counts = {"count": count, "photos": photos, "cutouts": cutouts, "positions": positions, "draws": draws}
    asked = checked(counts, pairs, concepts, sizes, region, blend, remove, Resampling(draws, seed))
    job, work = open_job(run, data, model, limit=limit), work or Work()
    if job.data.frame != "original":
        raise InputError(f"{job.data.name} holds preprocessed tensors: give pictures to paste into (paths or PIL)")
    others = [open_other(one, job.data, job.subject, job.classes) for one in models_too]
    found = _pasted(job, reopened_probe(job.explained, probe), asked, others, work)
    return changed_in(found, settings={**asked.settings(), **found.settings, "limit": limit})


def _pasted(job: Opened, probed: ProbeSet, asked: Asked, others: Sequence[Subject], work: Work) -> Findings[CopyPaste]:
    """Survey the probe set and the photos, propose what is pasted, show it, and count."""
    named = changed_in(job.subject, classes=job.names)
    wanted = None if asked.pairs is None else [parse_pair(pair, named, job.classes) for pair in asked.pairs]
    naming = naming_of(job.explained)
    allowed = _allowed(job.explained, asked.concepts, naming.pairs[:, 1])

    survey = survey_probe(job.explained, probed, job.subject, job.layer, naming.pairs, work)
    told = _photos(job, wanted, work)
    weights = unit_weights(job.subject, job.layer, job.data.images)
    expected = Expectations(job.explained, weights.values, naming, survey)
    chooser = Chooser(expected, probed, asked.cutouts, asked.grid.region, asked.by.seed, allowed)
    removals = (
        remove_concepts(job.subject, chooser, job.names, wanted, asked.count, asked.fill, asked.by, work)
        if asked.fill
        else None
    )
    if wanted is None:
        wanted = chooser.pairs(told, asked.count, _TYPICAL * float(np.mean(np.square(asked.grid.sizes))))
    plan = _planned(job, chooser, told, wanted, asked)
    blend = asked.grid.blend
    shown = show_trials(job.subject, job.data.images, plan.trials, plan.classes, told.by_image(), blend, "", work)
    passed = [_transferred(job, one, number, plan, asked, work) for number, one in enumerate(others)]
    overall = shown.counted(asked.by)
    assert overall is not None
    found = CopyPaste(
        grid=asked.grid,
        weights=weights.told,
        pairs=tuple(_pair(job, plan, number, shown, asked.by) for number in range(len(plan.proposals))),
        overall=overall,
        transfer=tuple(one for one, _ in passed),
        removal=removals.found if removals is not None else None,
    )
    arrays = {key: rows for _, part in passed for key, rows in part.items()}
    return Findings(
        "effects",
        kind="copypaste",
        findings=found,
        tables=tables_of(found),
        notes=notes_of(found, job.data.name, probed.name),
        arrays=arrays_of(plan.trials, shown.rows) | arrays,
        examples=(*examples_of(job.data, shown, found, job.names), *removal_examples(probed, removals, job.names)),
        subject=job.subject,
        source=source_of(job.data),
        layer=job.explained.layer,
        settings={"models_too": [one.describe() for one in others], "probe": probed.hash},
        warnings=(*job.warnings, *_missed(asked.fill, removals), *_fewer(asked, found)),
    )


def _fewer(asked: Asked, found: CopyPaste) -> tuple[str, ...]:
    if asked.pairs is not None or len(found.pairs) >= asked.count:
        return ()
    told = f"{len(found.pairs)} pair(s) of classes instead of {asked.count}"
    return (f"{told}: no concept is expected to move any other",)


@dataclass(frozen=True, eq=False)
class _Plan:
    """All that is pasted, pair by pair."""

    proposals: tuple[Proposal, ...]
    controls: tuple[tuple[str, ...], ...]
    trials: Trials

    @property
    def classes(self) -> NDArray[np.int64]:
        """``(pairs, 2)``: source and target."""
        return np.array([(one.source, one.target) for one in self.proposals], np.int64)


def _planned(job: Opened, chooser: Chooser, told: Photos, wanted: Sequence[tuple[int, int]], asked: Asked) -> _Plan:
    proposals = [_proposal(job, chooser, told, pair) for pair in wanted]
    drawn = [chooser.slots(pair, one.concept, n) for n, (pair, one) in enumerate(zip(wanted, proposals, strict=True))]
    images = [_drawn(told, source, asked.photos, chooser.seed) for source, _ in wanted]
    grid = asked.grid
    slots = [own for own, _ in drawn]
    trials = make_trials(slots, images, job.data.sizes, sizes=grid.sizes, positions=grid.positions, blend=grid.blend)
    return _Plan(tuple(proposals), tuple(controls for _, controls in drawn), trials)


def _missed(fill: Fill | None, removals: Removals | None) -> tuple[str, ...]:
    if fill is None or removals is not None:
        return ()
    return (
        "nothing was taken out: no photo of the probe set is of a source class and shows a concept that speaks for it",
    )


def _allowed(explained: Explained, concepts: Sequence[str] | None, named: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return ``(concepts,)``: which may be proposed.

    Raises
    ------
    InputError
        One that the run does not know, or that no formula names.
    """
    numbers = explained.cells.numbers
    allowed = np.full(len(numbers), concepts is None)
    for name in concepts or ():
        number = explained.cells.number(name)
        if number not in named:
            known = sorted(explained.cells.concepts[one].name for one in set(named.tolist()))
            raise InputError(f"no unit's formula names {name!r}, other than under NOT{near(name, known)}")
        allowed[number] = True
    return allowed


def _photos(job: Opened, wanted: Sequence[tuple[int, int]] | None, work: Work) -> Photos:
    """Return what the network says of the photos, or of those of the sources that are asked for.

    Raises
    ------
    InputError
        The network is right on no photo, or on none of a source.
    """
    sources = sorted({source for source, _ in wanted}) if wanted is not None else sorted(set(job.labels.tolist()))
    numbers = np.flatnonzero(np.isin(job.labels, sources))
    for source in sources:
        if source not in job.labels:
            raise InputError(f"{job.data.name} has no photo of class {job.names[source]!r}: give another source class")
    images = [job.data.images[number] for number in numbers.tolist()]
    found = Photos(numbers, job.labels[numbers], logits_pass(job.subject, images, "photos", work))
    if not found.right.any():
        raise InputError(f"{job.subject.name} is right on none of {len(numbers)} photos of {job.data.name}")
    for source in sources if wanted is not None else ():
        if not len(found.of_class(source)):
            raise InputError(
                f"{job.subject.name} is right on none of the {int((found.labels == source).sum())} photo(s) of class"
                f" {job.names[source]!r} in {job.data.name}: give another source class"
            )
    return found


def _proposal(job: Opened, chooser: Chooser, told: Photos, pair: tuple[int, int]) -> Proposal:
    concept = chooser.concept_of(pair, (job.names[pair[0]], job.names[pair[1]]))
    margin = float(told.margins()[pair[0]][pair[1]])
    return chooser.expected.proposal(pair, concept, margin)


def _drawn(told: Photos, source: int, photos: int, seed: int) -> list[int]:
    """Return photos of a class that the network is right on, drawn once for all pairs of the class."""
    rows = np.random.default_rng([seed, 2, source]).permutation(told.of_class(source))[:photos]
    found: list[int] = told.numbers[np.sort(rows)].tolist()
    return found


def _pair(job: Opened, plan: _Plan, number: int, shown: Shown, by: Resampling) -> PairResult:
    proposal = plan.proposals[number]
    concept = job.explained.cells.concepts[proposal.concept]
    counted = shown.counted(by, pair=number)
    assert counted is not None
    return PairResult(
        source=proposal.source,
        target=proposal.target,
        source_name=job.names[proposal.source],
        target_name=job.names[proposal.target],
        concept=concept.name,
        category=concept.category,
        expected=proposal.expected,
        margin=proposal.margin,
        units=proposal.units,
        controls=plan.controls[number],
        related=shown.related_share(number),
        counted=counted,
    )


def _transferred(
    job: Opened, other: Subject, number: int, plan: _Plan, asked: Asked, work: Work
) -> tuple[Transfer, Arrays]:
    """Show another network the same pictures; count those into photos that it is right on."""
    images = np.unique(plan.trials.image)
    name = f"other{number}-"
    photos = [job.data.images[one] for one in images.tolist()]
    told = Photos(images, job.labels[images], logits_pass(other, photos, f"{name}photos", work))
    if told.logits.shape[1] != job.classes:
        raise InputError(f"{other.name} has {told.logits.shape[1]} classes, {job.subject.name} has {job.classes}")
    shown = show_trials(
        other, job.data.images, plan.trials, plan.classes, told.by_image(), asked.grid.blend, name, work
    )
    right = images[told.right]
    counted = shown.counted(asked.by, images=right)
    arrays = {f"{name}{key}": rows for key, rows in shown.rows.items()}
    return Transfer(other.name, other.hash(), len(right), len(images), counted), arrays
