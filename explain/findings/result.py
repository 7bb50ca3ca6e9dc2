"""What discovery and effects return: findings as data, tables to read them by, and examples to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from explain.nets.subject import Subject
from explain.types import LocalizationSet, ProbeSet

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "Difference",
    "Example",
    "Family",
    "Findings",
    "Source",
    "Table",
    "paired_difference",
    "ratio_text",
    "source_of",
]

Family = Literal["discovery", "effects"]

T = TypeVar("T")


@dataclass(frozen=True)
class Table:
    """Findings as they are read: a title, columns, and cells as text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[int, ...] = (0,)
    """The columns that hold words; the others hold numbers."""

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        lines = [self.title]
        for row in (self.columns, *self.rows):
            cells = zip(row, widths, range(len(row)), strict=True)
            lines.append("  ".join(c.ljust(w) if k in self.words else c.rjust(w) for c, w, k in cells).rstrip())
        return "\n".join(lines)


@dataclass(frozen=True)
class Example:
    """An image to show, with a map over it and boxes."""

    number: int
    """Which image of the data."""
    caption: str
    values: NDArray[np.float32] | None = None
    """The raw map ``(h, w)``."""
    found: tuple[tuple[float, ...], ...] = ()
    """Boxes that were found: half-open xyxy in pixels of the stored image."""
    truth: tuple[tuple[float, ...], ...] = ()
    picture: Image | None = field(default=None, repr=False, compare=False)
    """Shown in the place of the data's own image, such as an image that something was pasted into."""
    name: str = ""
    """What it is called, where it is not one of the data's images."""
    longest: int = 320
    """The picture's longer side in the run folder, in pixels, at most."""


@dataclass(frozen=True, eq=False)
class Source:
    """The data of a job: what pictures and the manifest need of it."""

    name: str
    hash: str
    path: str | None
    images: Sequence[Any] = field(repr=False)
    names: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, repr=False, eq=False)
class Findings(Generic[T]):
    """The result of a job: what was found, and what it was found with."""

    family: Family
    """``"discovery"`` (`explain.localization.discovery`) or ``"effects"`` (`explain.neurons.effects`)."""
    kind: str
    """The job: ``"features"``, ``"crops"``, …, ``"accuracy"``, ``"ablation"``, …"""
    findings: T
    """Numbers, as a frozen dataclass of the kind."""
    tables: tuple[Table, ...]
    notes: tuple[str, ...]
    """How it was done, in sentences."""
    arrays: Mapping[str, NDArray[Any]]
    examples: tuple[Example, ...]
    subject: Subject
    source: Source
    layer: str
    settings: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    subjects: Mapping[str, Subject] = field(default_factory=dict)
    """The trunk with heads that were fitted on all images, by name: ``explain.cam(result.subjects["dog"], photo)``."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.kind!r} of {self.subject.name!r} on {self.source.name!r})\n{self.table()}"

    def table(self) -> str:
        """Return all tables as text."""
        return "\n\n".join(map(str, self.tables))

    def show(self) -> None:
        """Print how it was done, the warnings and the tables."""
        print("\n".join([*self.notes, *(f"warning: {text}" for text in self.warnings), self.table()]))

    def as_dict(self) -> dict[str, Any]:
        """Return the findings as JSON takes them."""
        return asdict(self.findings)  # type: ignore[call-overload, no-any-return]  # each kind's is a dataclass

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write a run folder with pictures (`explain.render` makes its report); see `explain.runs`."""
        from explain.findings.saving import save_findings

        return save_findings(self, path, overwrite=overwrite)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.table())}</pre>"


@dataclass(frozen=True)
class Difference:
    """How much better a second classifier does than a first on the same images, in points, with its 95 % interval."""

    value: float
    low: float
    high: float
    better: int
    """Images that only the second has right."""
    worse: int
    """Images that only the first has right."""
    n: int

    def __str__(self) -> str:
        return f"{self.value:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


def paired_difference(
    first: NDArray[np.bool_], second: NDArray[np.bool_], *, replicates: int = 10_000, seed: int = 0
) -> Difference:
    """Return the accuracy of ``second`` less that of ``first``, in points; the interval is a bootstrap over images."""
    n = len(first)
    better, worse = int((second & ~first).sum()), int((first & ~second).sum())
    if n == 0:
        return Difference(0.0, -100.0, 100.0, 0, 0, 0)
    # An image counts as +1, -1 or 0, so drawing images anew is drawing these three anew.
    shares = [better / n, worse / n, max(0.0, 1 - (better + worse) / n)]
    drawn = np.random.default_rng(seed).multinomial(n, shares, replicates)
    low, high = np.quantile(100 * (drawn[:, 0] - drawn[:, 1]) / n, [0.025, 0.975])
    value = 100 * (better - worse) / n
    return Difference(value, min(float(low), value), max(float(high), value), better, worse, n)


def ratio_text(value: float, low: float, high: float) -> str:
    """Return a ratio with its interval as text."""
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def source_of(data: LocalizationSet | ProbeSet) -> Source:
    """Return what pictures and the manifest need of a data set."""
    path = str(Path(data.root)) if data.root is not None else None
    return Source(data.name, data.hash, path, data.images, data.names)
