"""What ablation is asked for, checked before the first pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.errors import InputError, near
from explain.nets.passes import Work
from explain.neurons.effects.grouping import units_naming, units_of
from explain.neurons.effects.measuring import Observed, Stage, find_stage
from explain.neurons.effects.opening import Explained
from explain.neurons.effects.preparing import Opened
from explain.neurons.effects.presence import open_probe_of
from explain.neurons.effects.replacing import LEVELS, REPLACEMENTS, donors_of, parse_places
from explain.neurons.formula import check_names, parse
from explain.types import ProbeSet

__all__ = ["MATCHES", "Job", "activation_of", "check_options", "prepared"]

MATCHES = ("activation", "firing")


@dataclass(frozen=True, eq=False)
class Job:
    """A job that was checked, before its first pass."""

    opened: Opened
    stage: Stage
    units: NDArray[np.int64]
    options: Mapping[str, Any]
    groups: tuple[tuple[str, NDArray[np.int64]], ...]
    """Named groups that are known before the first pass."""
    labels: tuple[int, ...] | None
    """Classes to look at by themselves; None: those with the most images."""
    probe: ProbeSet | None
    seen: NDArray[np.bool_] | None
    seed: int
    work: Work
    warnings: list[str] = field(default_factory=list)


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options that are out of range or unknown; `InputError` says which are known."""
    replace = options["replace"]
    for name in replace:
        if name not in REPLACEMENTS:
            raise InputError(
                f"unknown replacement {name!r}{near(name, REPLACEMENTS)}; known: {', '.join(REPLACEMENTS)}"
            )
    if not replace or len(set(replace)) != len(replace):
        raise InputError(f"replace={replace}: give at least one, and each once")
    for name, least in (("top", 1), ("least", 1), ("controls", 0), ("draws", 1)):
        if options[name] < least:
            raise InputError(f"{name}={options[name]}: give at least {least}")
    for name, known in (("match", MATCHES), ("level", LEVELS)):
        if options[name] not in known:
            raise InputError(f"unknown {name} {options[name]!r}{near(options[name], known)}; known: {', '.join(known)}")


def prepared(
    opened: Opened,
    options: Mapping[str, Any],
    units: Sequence[int] | None,
    classes: Sequence[str | int] | None,
    probe: Any,
    trained: str | None,
    seed: int,
    work: Work,
) -> Job:
    """Check all that was asked before the first pass."""
    explained = opened.explained
    parse_places(options["places"], explained.grid)
    if "resample" in options["replace"]:
        donors_of(len(opened.data), seed)
    named = []
    for concept in options["concepts"]:
        asking, _ = units_naming(explained, concept)
        named.append((f"{len(asking)} units that ask for {concept}", asking))
    labels = None
    if classes is not None:
        labels = tuple(opened.subject.class_index(one, opened.classes) for one in classes)
        for label, one in zip(labels, classes, strict=True):
            if not (opened.labels == label).any():
                raise InputError(
                    f"{opened.data.name} has no image of class {one!r}: leave it out, or give other images"
                )
    chosen = units_of(explained, units)
    masks = None if probe == "none" else open_probe_of(explained, probe)
    if masks is not None:
        known = [concept.name for concept in masks.concepts]
        for unit in explained.units:
            if unit.formula is not None and unit.unit in set(chosen.tolist()):
                check_names(parse(unit.formula), known)
    seen = _trained(opened, trained)
    stage = find_stage(opened.subject, opened.layer, opened.data.images)
    return Job(opened, stage, chosen, options, tuple(named), labels, masks, seen, seed, work)


def _trained(opened: Opened, trained: str | None) -> NDArray[np.bool_] | None:
    """Return which photos the network was trained on, as the caller says; None where nothing is said."""
    if trained is None:
        return None
    if trained == "all":
        return np.ones(len(opened.data), np.bool_)
    subsets = opened.data.subsets or ()
    names = trained.split(",")
    for name in names:
        if name not in subsets:
            known = sorted({*subsets, "all"})
            raise InputError(
                f"trained: {opened.data.name} has no subset {name!r}{near(name, known)}; give {', '.join(known)}"
            )
    return np.isin(np.array(subsets), names)


def activation_of(explained: Explained, observed: Observed, match: str) -> NDArray[np.float64]:
    """Return how active each explained unit is on the images, float64 ``(u,)``; see `ablation`."""
    own = explained.numbers
    if match == "firing":
        return np.asarray((observed.peaks[:, own] > explained.thresholds).mean(0), np.float64)
    return np.asarray(observed.means[:, own].mean(0, dtype=np.float64), np.float64)
