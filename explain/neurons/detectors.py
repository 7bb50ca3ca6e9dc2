"""Which concepts a layer has detectors for, counted in the two ways in circulation, and lined up over several runs.

A unit *detects* a concept where their IoU is strictly above a threshold (0.04). "Unique detectors" is said
of two counts:

``best``
    A unit has one label, its best concept of all. Detectors: the units with a label; unique detectors: distinct labels.
    NetDissect-Lite's table of units is counted so.
``per category``
    A unit has a label in each category. Detectors: all these labels, so that a unit may count several times; unique
    detectors: distinct ones. NetDissect's published summaries of networks are counted so (``plot/extract_csv.m``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from explain.errors import InputError, RunError
from explain.neurons.dissection import INTERPRETABLE, CategoryBest, Detecting
from explain.neurons.domains import IouRule
from explain.runs import read_json

if TYPE_CHECKING:
    from explain.neurons.explanations import UnitExplanation
    from explain.neurons.results import NeuronRun

__all__ = [
    "CategoryCount",
    "RunHistogram",
    "counted",
    "histogram",
    "histogram_table",
    "histograms",
]


@dataclass(frozen=True)
class CategoryCount:
    """The detectors of one category, in both ways of counting."""

    category: str
    detectors: int
    """Units whose best label of all is of this category."""
    unique_detectors: int
    """Distinct labels among them."""
    detectors_per_category: int
    """Units whose best label within this category is above the threshold."""
    unique_detectors_per_category: int


@dataclass(frozen=True)
class RunHistogram:
    """The detectors of one run."""

    run: str
    """The folder's name, or what it was called."""
    model: str
    layer: str
    units: int
    iou: IouRule
    threshold: float
    categories: tuple[CategoryCount, ...]
    """One per category of the run's probe set, in its order; of no detectors as well."""

    def total(self, count: str) -> int:
        """Return the sum over the categories of one of the counts of `CategoryCount`, by name."""
        return sum(int(getattr(row, count)) for row in self.categories)

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat row per category, for tables: the run's facts, then those of the category."""
        facts = {name: getattr(self, name) for name in ("run", "model", "layer", "units", "iou", "threshold")}
        return [{**facts, **asdict(row)} for row in self.categories]


class _Label(NamedTuple):
    category: str
    label: str
    iou: float


class _Labels(NamedTuple):
    """One unit's labels."""

    best: _Label
    per_category: tuple[_Label, ...]


def histogram(
    units: Iterable[UnitExplanation],
    categories: Sequence[str] = (),
    *,
    iou: IouRule = "all",
    threshold: float = INTERPRETABLE,
) -> tuple[CategoryCount, ...]:
    """Return the detectors of a layer by category.

    Parameters
    ----------
    units
        Of a run; their ``label, score`` and ``categories``.
    categories
        Named even where nothing is detected, and first.
    iou
        The rule that the units were labelled by: the IoU that the threshold is for.
    threshold
        Detectors are strictly above.
    """
    return _counts([_labels_of(unit, iou) for unit in units], categories, threshold)


def counted(rows: Iterable[CategoryCount]) -> dict[str, int]:
    """Return the sums over all categories, by the names of `CategoryCount`."""
    found = list(rows)
    return {one.name: sum(getattr(row, one.name) for row in found) for one in fields(CategoryCount)[1:]}


def _labels_of(unit: UnitExplanation, rule: IouRule) -> _Labels:
    return _Labels(
        _Label(unit.label_category, unit.label or "", unit.score),
        tuple(_Label(row.category, row.label, row.under(rule)) for row in unit.categories),
    )


def _counts(units: Sequence[_Labels], categories: Sequence[str], threshold: float) -> tuple[CategoryCount, ...]:
    best = [unit.best for unit in units if unit.best.iou > threshold]
    each = [one for unit in units for one in unit.per_category if one.iou > threshold]
    names = dict.fromkeys([*categories, *(one.category for one in [*best, *each])])
    columns = [
        Counter(one.category for one in found) for labels in (best, each) for found in (labels, _distinct(labels))
    ]
    return tuple(CategoryCount(name, *(column[name] for column in columns)) for name in names)


def _distinct(labels: Sequence[_Label]) -> list[_Label]:
    return list({(one.category, one.label): one for one in labels}.values())


def histograms(
    runs: Sequence[NeuronRun | str | Path], *, threshold: float | None = None, names: Sequence[str] | None = None
) -> tuple[RunHistogram, ...]:
    """Line up the detectors of several runs: layers, checkpoints, seeds.

    Parameters
    ----------
    runs
        Run folders, or what `explain.dissect` returned.
    threshold
        IoU above which a unit is a detector, for all runs; each run's own where None, which must be the same.
    names
        What to call the runs; the folder's name, or the layer, where None.

    Returns
    -------
    tuple of RunHistogram
        One per run, in order, all with the same categories.

    Raises
    ------
    RunError
        A folder is no neuron run, or was written before runs kept labels per category.
    InputError
        There is no run; the runs differ in the rule of IoU, in the threshold or in the ranges of activation.
    """
    if not runs:
        raise InputError("no runs to line up: give run folders of `explain neurons`, or what explain.dissect returned")
    if names is not None and len(names) != len(runs):
        raise InputError(f"{len(names)} names for {len(runs)} runs: give one name per run")
    read = [_read(Path(run)) if isinstance(run, str | Path) else _facts(run) for run in runs]
    if len({facts.pop("ranges") for facts, _, _ in read}) > 1:
        raise InputError("the runs differ in ranges: units cannot be counted beside ranges of units")
    for what in ("iou", "threshold"):
        found = {facts[what] for facts, _, _ in read}
        if len(found) > 1 and (what == "iou" or threshold is None):
            raise InputError(
                f"the runs differ in {what}: {', '.join(map(str, sorted(found)))}; "
                + ("repeat them with one rule" if what == "iou" else "give one threshold for all")
            )
    level = Detecting(threshold=read[0][0]["threshold"] if threshold is None else threshold).threshold
    categories = tuple(dict.fromkeys(name for _, known, _ in read for name in known))
    return tuple(
        RunHistogram(
            **{**facts, "threshold": level, "run": facts["run"] if names is None else names[place]},
            categories=_counts(units, categories, level),
        )
        for place, (facts, _, units) in enumerate(read)
    )


def histogram_table(runs: Sequence[RunHistogram]) -> str:
    """Return the counts of several runs as text: a line per run, a column per category.

    Each cell is ``detectors/unique detectors``; first all lines with one label per unit, then with one per category.
    """
    heads = ["run", "layer", "units", "all", *(row.category for row in runs[0].categories)] if runs else ["run"]
    blocks = []
    for title, kinds in (
        ("one label per unit", ("detectors", "unique_detectors")),
        ("one label per unit and category", ("detectors_per_category", "unique_detectors_per_category")),
    ):
        lines = [heads]
        for run in runs:
            sums = "/".join(str(run.total(kind)) for kind in kinds)
            cells = ["/".join(str(getattr(row, kind)) for kind in kinds) for row in run.categories]
            lines.append([run.run, run.layer, str(run.units), sums, *cells])
        blocks.append(f"detectors/unique detectors, {title}:\n{_aligned(lines)}")
    return "\n\n".join(blocks)


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


_Read = tuple[dict[str, Any], tuple[str, ...], list[_Labels]]


def _facts(run: NeuronRun) -> _Read:
    categories = run.index.cells.categories if run.index is not None else ()
    facts = {
        "run": run.layer,
        "model": run.subject.name or "",
        "layer": run.layer,
        "units": len(run.units),
        "iou": run.detecting.iou,
        "threshold": run.detecting.threshold,
        "ranges": run.ranges,
    }
    return facts, categories, [_labels_of(unit, run.detecting.iou) for unit in run.units]


def _read(folder: Path) -> _Read:
    run = read_json(folder / "run.json")
    if run.get("kind") != "neurons":
        raise RunError(f"{folder} is a run of kind {run.get('kind')!r}, not 'neurons': give a run of `explain neurons`")
    settings = run["settings"]
    if "threshold_iou" not in settings or any("categories" not in unit for unit in run["units"]):
        raise RunError(f"{folder} keeps no labels per category: repeat it with this version")
    rule = settings["iou"]
    facts = {
        "run": folder.resolve().name,
        "model": str(run["manifest"]["model"].get("name") or ""),
        "layer": run["layer"],
        "units": len(run["units"]),
        "iou": rule,
        "threshold": settings["threshold_iou"],
        "ranges": settings.get("ranges"),
    }
    categories = tuple(dict.fromkeys(concept["category"] for concept in run["concepts"]))
    return facts, categories, [_read_labels(unit, rule) for unit in run["units"]]


def _read_labels(unit: Mapping[str, Any], rule: IouRule) -> _Labels:
    rows = [CategoryBest(**row) for row in unit["categories"]]
    return _Labels(
        _Label(unit["label_category"], unit["label"] or "", unit["score"]),
        tuple(_Label(row.category, row.label, row.under(rule)) for row in rows),
    )
