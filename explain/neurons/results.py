"""What a neuron run found, unit by unit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.errors import InputError
from explain.nets.subject import Subject
from explain.neurons.cells import CellIndex
from explain.neurons.counts import UnitCounts
from explain.neurons.detectors import counted, histogram
from explain.neurons.dissection import CategoryBest, Detecting, UnitTable, best_of
from explain.neurons.evidence.gathering import Asked, Evidence
from explain.neurons.examples import Examples
from explain.neurons.finding import Finder
from explain.neurons.kinds import Kind, shares
from explain.neurons.relatedness import Relatedness
from explain.neurons.settings import QuantileAt
from explain.neurons.units import Directions
from explain.neurons.upsampling import Axes, Upsampling
from explain.types import ProbeSet

__all__ = [
    "NeuronRun",
    "UnitExplanation",
    "Units",
    "as_ranges",
    "category_rows",
    "labelled",
    "summary_of",
    "warnings_of",
]

ALPHA = 0.05
"""False discovery rate at which units are counted as above chance."""


@dataclass(frozen=True)
class UnitExplanation:
    """What one unit was found to be."""

    unit: int
    formula: str | None
    """None for a unit that overlaps with no concept."""
    iou: float
    length: int
    """Leaves of the formula."""
    category: str
    """The category that all concepts of the formula share, else ``"mixed"``; ``""`` without formula."""
    threshold: float
    active: int
    """Pixels of the probe set where the unit is active."""
    precision: float
    """Share of the formula's pixels where the unit is active."""
    recall: float
    """Share of the unit's active pixels where the formula holds."""
    ceiling: float
    """Best IoU that any formula of any length over these concepts could reach."""
    search: str
    """What found the formula: ``"beam"``, ``"optimal"``, or ``"anytime"`` where a limit stopped the optimal search."""
    bound: float | None
    """No formula of this length and grammar has a higher IoU; None where that is not known."""
    kind: Kind
    """See `explain.neurons.kinds`."""
    label: str | None
    """The best single concept (network dissection), with ``score``, its IoU under the rule that was asked for."""
    score: float
    label_category: str
    best_by_length: tuple[tuple[int, str, float], ...]
    """(l, formula, IoU): the best with at most l concepts; the IoU never falls with l."""
    runners_up: tuple[tuple[str, float, int], ...]
    """(formula, IoU, length) of the rest of the beam."""
    stopped: str = ""
    """``"time"`` or ``"gap"`` where a limit ended the search before the proof (another machine may then find another
    formula); ``""``: it came to its end."""
    beam_iou: float | None = None
    """What the beam search before the optimal one reached; None where the formula is the beam's."""
    evidence: Evidence | None = None
    categories: tuple[CategoryBest, ...] = ()
    """The best single concept of each category, without those of which nothing overlaps with the unit."""
    iou_annotated: float | None = None
    """IoU of the formula over the images annotated for all its categories; None where there are none."""
    range: int | None = None
    """Which range of the unit's activation this row is of, from 0, the lowest; None: its top quantile."""
    lower: float | None = None
    """Active is ``lower < value <= upper``; ``threshold`` is the same as ``lower``."""
    upper: float | None = None
    """Infinite in the highest range that holds a value."""

    @property
    def key(self) -> tuple[int, int]:
        """What no other row of the run has: (unit, range), the range -1 where there is none."""
        return self.unit, -1 if self.range is None else self.range

    @property
    def certified(self) -> bool:
        """True where no formula of this length and grammar is better."""
        return self.bound is not None and self.bound <= self.iou

    @property
    def gap(self) -> float | None:
        """How much higher the IoU could be at most; 0 where certified."""
        return None if self.bound is None else max(0.0, self.bound - self.iou)


@dataclass(frozen=True)
class Units:
    """Unit explanations in ascending order; ``units[42]`` is unit 42, also where only some units were explained.

    Where ranges of activation were asked for, ``units[42, 0]`` is the lowest range of unit 42.
    """

    rows: tuple[UnitExplanation, ...]

    def __getitem__(self, unit: int | tuple[int, int]) -> UnitExplanation:
        number, which = unit if isinstance(unit, tuple) else (unit, None)
        rows = self.ranges(number)
        if which is None and rows[0].range is not None:
            raise InputError(
                f"unit {number} has {len(rows)} ranges: ask for units[{number}, 0] or units.ranges({number})"
            )
        for row in rows:
            if row.range == which:
                return row
        told = f"0 to {rows[-1].range}" if rows[0].range is not None else "none; ask for ranges=K"
        raise InputError(f"unit {number} has no range {which}; ranges: {told}")

    def ranges(self, unit: int) -> tuple[UnitExplanation, ...]:
        """Return the rows of a unit: its ranges of activation, ascending; one row where none were asked for."""
        rows = tuple(row for row in self.rows if row.unit == unit)
        if not rows:
            numbers = f"{self.rows[0].unit} to {self.rows[-1].unit}" if self.rows else "none"
            count = len({row.unit for row in self.rows})
            raise InputError(f"unit {unit} was not explained; explained: {count} units, {numbers}")
        return rows

    def __iter__(self) -> Iterator[UnitExplanation]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, repr=False)
class NeuronRun:
    """A layer's units explained."""

    units: Units
    subject: Subject = field(repr=False)
    probe: ProbeSet = field(repr=False)
    layer: str = ""
    grid: tuple[int, int] = (0, 0)
    resolution: tuple[int, int] = (112, 112)
    quantile: float = 0.005
    quantile_at: QuantileAt = "lowres"
    ranges: int | None = None
    """Ranges of activation per unit, each a row of ``units``; None: the top quantile."""
    upsampling: Upsampling = "bilinear"
    axes: Axes | None = field(default=None, repr=False)
    """What each pixel of an upsampled map is made of; bilinear where None."""
    directions: Directions | None = field(default=None, repr=False)
    """What the units are, where they are not the layer's own channels."""
    untrained: dict[str, Any] | None = field(default=None, repr=False)
    """The untrained network that units were compared with: how it was made."""
    k: int = 0
    length: int = 3
    beam: int = 5
    search: str = "beam"
    min_pixels: int = 0
    finder: Finder = field(default_factory=Finder)
    asked: Asked = field(default_factory=Asked)
    detecting: Detecting = field(default_factory=Detecting)
    related: Relatedness | None = None
    """Which concepts are related, for the kinds of formula; by category where None."""
    passes: int = 1
    before: str | None = None
    """The last other layer with the same maps' shape, where it is known: before the activation."""
    index: CellIndex | None = field(default=None, repr=False)
    cells_file: Path | None = field(default=None, repr=False)
    """Where the cells are kept for the next job; None where they are not."""
    cells_reused: bool = False
    """They were read from there, not built."""
    counts: UnitCounts | None = field(default=None, repr=False)
    examples: Examples | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        facts = self.summary()
        return (
            f"NeuronRun({facts['units']} units of {self.layer!r} on {len(self.probe)} images of {self.probe.name!r},"
            f" mean IoU {facts['mean_iou']:.4f} with up to {self.length} concepts)"
        )

    @property
    def basis(self) -> str:
        """The name of the directions that the units are; ``""`` for the layer's own channels."""
        return self.directions.name if self.directions is not None else ""

    def summary(self) -> dict[str, Any]:
        """Return the figures of the whole layer; see `summary_of`."""
        known = self.index.cells.categories if self.index is not None else ()
        return summary_of(self.units, self.detecting, known)

    def categories(self) -> list[dict[str, Any]]:
        """Return the best concept of every unit in every category, a row each: what ``categories.csv`` holds."""
        return category_rows(self.units)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know: units that saturate, and so have nothing above their threshold."""
        return warnings_of(self.units, self.quantile, self.before)

    def table(self, count: int | None = 20) -> str:
        """Return units by falling IoU as text; ``count=None``: all."""
        which = "" if self.ranges is None else f"  {'range':>5}"
        rows = [f"{'unit':>5}{which}  {'IoU':>6}  {'best concept':<24} {'IoU':>6}  formula"]
        for unit in sorted(self.units, key=lambda unit: (-unit.iou, unit.key))[:count]:
            best, which = (unit.label or "-")[:24], "" if unit.range is None else f"  {unit.range:>5}"
            rows.append(
                f"{unit.unit:>5}{which}  {unit.iou:>6.4f}  {best:<24} {unit.score:>6.4f}  {unit.formula or '-'}"
            )
        return "\n".join(rows)

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write a run folder (`explain.render` makes its report); see `explain.runs`."""
        from explain.neurons.saving import save_run

        return save_run(self, path, overwrite=overwrite)

    def show(self) -> None:
        """Print the units of highest IoU."""
        print(self.table())

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(self.table())}</pre>"


def labelled(unit: UnitExplanation, table: UnitTable, detecting: Detecting) -> UnitExplanation:
    """Return the unit with what it detects; its one label follows the rule of IoU."""
    found = replace(unit, categories=table.categories, iou_annotated=table.iou_annotated)
    best = best_of(table.categories, detecting.iou)
    if detecting.iou == "all" or best is None:
        return found  # the search scored single concepts in this way already
    return replace(found, label=best.label, score=best.under(detecting.iou), label_category=best.category)


def as_ranges(rows: Sequence[UnitExplanation], upper: NDArray[np.float32], ranges: int) -> tuple[UnitExplanation, ...]:
    """Return rows that come unit by unit, range by range, with what tells the ranges of a unit apart."""
    return tuple(
        replace(row, range=place % ranges, lower=row.threshold, upper=end)
        for place, (row, end) in enumerate(zip(rows, upper.tolist(), strict=True))
    )


def category_rows(units: Iterable[UnitExplanation]) -> list[dict[str, Any]]:
    """Return `CategoryBest` of every unit and category as flat rows with the unit's number (and range, if any)."""
    return [
        {"unit": unit.unit, **({} if unit.range is None else {"range": unit.range}), **asdict(row)}
        for unit in units
        for row in unit.categories
    ]


def summary_of(units: Units, detecting: Detecting | None = None, categories: Sequence[str] = ()) -> dict[str, Any]:
    """Return the figures of a layer.

    Parameters
    ----------
    detecting
        When a unit detects a concept; IoU above .04 over all pixels where None.
    categories
        Of the probe set, for the histogram.
    """
    rule = detecting or Detecting()
    detectors = [unit for unit in units if unit.score > rule.threshold]
    rows = histogram(units, categories, iou=rule.iou, threshold=rule.threshold)
    sums = counted(rows)
    return {
        "units": len(units),
        "firing": sum(unit.active > 0 for unit in units),
        "interpretable": len(detectors),
        "iou_rule": rule.iou,
        "threshold_iou": rule.threshold,
        "unique_concepts": len({unit.label for unit in detectors}),
        "detectors_per_category": sums["detectors_per_category"],
        "unique_detectors_per_category": sums["unique_detectors_per_category"],
        "mean_iou": float(np.mean([unit.iou for unit in units])),
        "mean_score": float(np.mean([unit.score for unit in units])),
        "kinds": shares(unit.kind for unit in units),
        "certified": sum(unit.certified for unit in units),
        "stopped": sum(bool(unit.stopped) for unit in units),
        **_beam_summary(units),
        **_evidence_summary(units),
        "by_category": dict(Counter(unit.label_category for unit in detectors).most_common()),
        "histogram": [asdict(row) for row in rows],
    }


def _beam_summary(units: Units) -> dict[str, Any]:
    """Return how often the beam was below what the optimal search found, and by which share of its IoU on average."""
    pairs = [(unit.iou, unit.beam_iou) for unit in units if unit.beam_iou]
    if not pairs:
        return {}
    gains = [iou / beam - 1 for iou, beam in pairs if iou > beam]
    return {"beam_below": len(gains), "beam_searched": len(pairs), "beam_gain": float(np.mean(gains or [0.0]))}


def _evidence_summary(units: Units) -> dict[str, Any]:
    rows = [unit.evidence for unit in units if unit.evidence is not None]
    if not rows:
        return {}
    found: dict[str, Any] = {"mean_iou_heldout": float(np.mean([row.iou_heldout for row in rows]))}
    q_values = [row.q_value for row in rows if row.q_value is not None]
    if q_values:
        found["above_chance"] = sum(value <= ALPHA for value in q_values)
    untrained = [row.p_untrained for row in rows if row.p_untrained is not None]
    if untrained:
        found["share_above_untrained"] = sum(value <= ALPHA for value in untrained) / len(untrained)
    return found


def warnings_of(units: Units, quantile: float, before: str | None) -> tuple[str, ...]:
    """Return what a reader must know: units with nothing above their threshold; ``before``: a layer to try instead."""
    still = [unit for unit in units if unit.active == 0]
    if any(unit.range is not None for unit in units):
        many = f"{len(still)} of {len(units)} ranges hold no pixel: fewer distinct values than ranges, or none but zero"
        return (many,) if still else ()
    full = [unit for unit in still if unit.threshold > 0]
    found = []
    if full:
        such = f" (such as {before})" if before else ""
        found.append(
            f"{len(full)} of {len(units)} units saturate: more than {quantile:g} of their values equal their maximum,"
            f" so nothing lies above the threshold; explain a layer before the activation{such} instead"
        )
    if len(still) > len(full):
        found.append(f"{len(still) - len(full)} of {len(units)} units are zero everywhere on this probe set")
    return tuple(found)
