"""What copy-paste found: as data, as tables, in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explain.findings.result import Table
from explain.nets.passes import Arrays
from explain.neurons.effects.cutouts import LEAST, Region
from explain.neurons.effects.outcomes import Counted
from explain.neurons.effects.pasting import Blend
from explain.neurons.effects.proposing import Favouring
from explain.neurons.effects.removing import Removal
from explain.neurons.effects.trials import ARMS, Trials

__all__ = ["PUBLISHED", "CopyPaste", "Grid", "PairResult", "Transfer", "arrays_of", "notes_of", "tables_of"]

PUBLISHED = (
    "published (Mu & Andreas 2020, the grid in the released code): 3 pairs chosen by hand, 648 pictures, 2.9 % success,"
    " 2.2 % another class, the rest failed"
)


@dataclass(frozen=True)
class Grid:
    """How cut-outs were pasted."""

    sizes: tuple[float, ...]
    positions: int
    region: Region
    blend: Blend


@dataclass(frozen=True)
class PairResult:
    """One pair of classes, with the concept that was proposed and what came of it."""

    source: int
    target: int
    source_name: str
    target_name: str
    concept: str
    category: str
    expected: float
    """Expected change of (logit of the target, less that of the source), where the concept takes the whole map."""
    margin: float
    """Mean of (logit of the source, less that of the target) before."""
    units: tuple[Favouring, ...]
    controls: tuple[str, ...]
    """The concepts that were pasted as controls; empty where formulas name all that the probe set shows."""
    related: float
    """Share of the concept's cut-outs that alone, on a plain ground, are the target class to the network."""
    counted: Counted


@dataclass(frozen=True)
class Transfer:
    """What another network said of the same pictures, where it was right on the photo before the paste."""

    model: str
    hash: str
    images: int
    """Photos that it was right on."""
    of: int
    counted: Counted | None
    """None where it was right on none."""


@dataclass(frozen=True)
class CopyPaste:
    """What pasting concepts does to predictions."""

    grid: Grid
    weights: str
    """How a unit's weight for a class was had."""
    pairs: tuple[PairResult, ...]
    overall: Counted
    transfer: tuple[Transfer, ...]
    removal: Removal | None = None
    """Where it was asked for, and some photo of the probe set serves."""


def tables_of(found: CopyPaste) -> tuple[Table, ...]:
    """Return the findings as tables: pairs, all together and other networks, what speaks for each concept."""
    tables = [_pair_table(found), _overall_table(found), _reasons(found)]
    if found.removal is not None:
        tables += [_removal_table(found.removal), _removed_table(found.removal)]
    return tuple(tables)


def _pair_table(found: CopyPaste) -> Table:
    rows = []
    for one in found.pairs:
        counted = one.counted
        concept, other, crop = (counted.arm(name) for name in ARMS)
        assert concept is not None
        assert crop is not None
        against = {name: (success, change) for name, success, change in counted.against}
        rows.append(
            (
                f"{one.source_name} > {one.target_name}",
                one.concept,
                f"{counted.images} x {counted.cutouts}",
                f"{one.expected:+.2f}",
                f"{one.margin:.2f}",
                concept.success.text(),
                other.success.text() if other is not None else "-",
                crop.success.text(),
                against[ARMS[2]][0].text("+.1f"),
                against[ARMS[2]][1].text("+.2f", 1.0),
                f"{100 * one.related:.0f}",
            )
        )
    columns = (
        "pair",
        "pasted",
        "photos x cut-outs",
        "expected",
        "margin",
        "success %",
        "other concept %",
        "random crop %",
        "more than crops",
        "logits, more than crops",
        "alone the target %",
    )
    return Table("Pairs: how often a paste makes the target class of it", columns, tuple(rows), (0, 1))


def _overall_table(found: CopyPaste) -> Table:
    rows = _arm_rows("the explained network", found.overall)
    for one in found.transfer:
        name = f"{one.model} ({one.images} of {one.of} photos right)"
        rows += _arm_rows(name, one.counted) if one.counted is not None else [(name, *["-"] * 9)]
    columns = (
        "network",
        "pasted",
        "pictures",
        "success %",
        "other class %",
        "stays %",
        "its own class %",
        "change of logits",
        "more success of the concept",
        "more change",
    )
    return Table("All pairs together", columns, tuple(rows), (0, 1))


def _arm_rows(name: str, counted: Counted) -> list[tuple[str, ...]]:
    against = {control: (success, change) for control, success, change in counted.against}
    rows = []
    for one in counted.arms:
        success, change = against.get(one.arm, (None, None))
        rows.append(
            (
                name,
                f"{one.arm} ({100 * one.share:.0f} % of the photo)",
                str(one.success.n),
                *(value.text() for value in (one.success, one.other, one.source, one.own)),
                one.change.text("+.2f", 1.0),
                success.text("+.1f") if success is not None else "",
                change.text("+.2f", 1.0) if change is not None else "",
            )
        )
    return rows


def _reasons(found: CopyPaste) -> Table:
    rows = [
        (
            f"{one.source_name} > {one.target_name}",
            one.concept,
            str(unit.unit),
            unit.formula,
            f"{unit.weight:+.3f}",
            f"{unit.gain:+.3f}",
            ", ".join(one.controls) or "-",
        )
        for one in found.pairs
        for unit in one.units
    ]
    columns = ("pair", "pasted", "unit", "formula", "weight, target less source", "more on the concept", "controls")
    return Table("The units that speak for each concept", columns, tuple(rows), (0, 1, 3, 6))


def _removal_table(found: Removal) -> Table:
    rows = (
        ("the concept", found.success, found.left, found.change),
        ("other regions of its shape", found.control_success, found.control_left, found.control_change),
        ("difference", found.success_difference, found.left_difference, found.change_difference),
    )
    texts = tuple((name, one.text(), other.text(), change.text("+.2f", 1.0)) for name, one, other, change in rows)
    columns = ("taken out", "target class %", "source class left %", "change of logits")
    return Table(f"Concepts taken out of {len(found.rows)} photos of the probe set ({found.fill})", columns, texts)


def _removed_table(found: Removal) -> Table:
    rows = tuple(
        (
            one.image,
            f"{one.source_name} > {one.target_name}",
            one.concept,
            f"{100 * one.share:.0f}",
            one.predicted,
            f"{one.change:+.2f}",
            f"{one.control_change:+.2f}",
            f"{100 * one.overlap:.0f}",
        )
        for one in found.rows
    )
    columns = (
        "photo",
        "pair",
        "taken out",
        "of the photo %",
        "then",
        "change of logits",
        "of controls",
        "controls on it %",
    )
    return Table("Photos with a concept taken out", columns, rows, (0, 1, 2, 4))


def notes_of(found: CopyPaste, data: str, probe: str) -> tuple[str, ...]:
    """Return how it was done, in sentences."""
    grid = found.grid
    region = "largest connected part" if grid.region == "component" else "whole region"
    sizes = ", ".join(f"{size:g}" for size in grid.sizes)
    return (
        f"{len(found.pairs)} pairs of classes; photos of {data} that the network is right on; cut-outs from {probe}"
        f" ({region} of the concept, at least {LEAST:.0%} of its photo)",
        f"longer side {sizes} of the photo's shorter one, {grid.positions} x {grid.positions} places, blend"
        f" {grid.blend}",
        f"proposed by formulas and {found.weights}",
        "controls at the same places: concepts that the pair's formulas do not name, scaled to as many pixels; random"
        " crops in the same outline",
        "intervals: 95 %, photos and cut-outs drawn anew (pigeonhole bootstrap)",
        PUBLISHED,
    )


def arrays_of(trials: Trials, rows: Arrays) -> dict[str, NDArray[np.generic]]:
    """Return a row per picture: what was pasted where, and what the network said."""
    return {
        "pair": trials.pair,
        "trial": trials.trial,
        "arm": trials.arm,
        "image": trials.image,
        "cutout": trials.cutout,
        "size": trials.size,
        "place": trials.place,
        "box": trials.box,
        "share": trials.share,
        "cutout_image": np.array([one.image for one in trials.cutouts], np.int64),
        "cutout_concept": np.array([one.concept for one in trials.cutouts], np.str_),
        **rows,
    }
