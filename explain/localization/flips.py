"""Two protocols on the same maps: which images flip, and which switch does it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from explain.errors import InputError
from explain.localization.evaluate import geometries_of
from explain.localization.mapping import cropped
from explain.localization.protocols import Protocol, check_protocol, find_protocol
from explain.localization.result import LocalizationResult
from explain.localization.scoring import score_images
from explain.localization.summary import known_hits

__all__ = ["Flips", "compare_protocols"]

_TOLD = frozenset({"name", "source", "guesses", "average", "masks", "iou_levels", "threshold_steps", "blacklist"})
"""Switches that say nothing about one image's box at the fixed threshold."""


@dataclass(frozen=True)
class Flips:
    """Where GT-known at the fixed threshold differs between two protocols."""

    first: str
    second: str
    method: str
    names: tuple[str, ...]
    """The images that flip."""
    gained: tuple[bool, ...]
    """For each, whether the second protocol is the one that calls it right."""
    ious: NDArray[np.float64]
    """``(m, 2)``: the IoU of each under both."""
    switches: tuple[tuple[str, str, str, int | None], ...]
    """(switch, first's value, second's, how many of these images flip where this switch alone is changed; None where it
    cannot be changed alone)."""
    reasons: tuple[tuple[str, ...], ...]
    """For each image, the switches that flip it alone; none: only several together do."""
    n: int

    def table(self) -> str:
        """Return what flips as text."""
        gained = sum(self.gained)
        lines = [
            f"{self.method}: {len(self.names)} of {self.n} images flip from {self.first} to {self.second}:"
            f" {gained} become right, {len(self.names) - gained} wrong",
            f"{'switch':<16}{self.first:>22}{self.second:>22}   flips alone",
        ]
        for switch, one, other, count in self.switches:
            lines.append(f"{switch:<16}{one:>22}{other:>22}   {'not alone' if count is None else count}")
        for name, gain, iou, reasons in zip(self.names, self.gained, self.ious, self.reasons, strict=True):
            why = ", ".join(reasons) or "several switches together"
            lines.append(f"{name}: {'right' if gain else 'wrong'} (IoU {iou[0]:.3f} to {iou[1]:.3f}): {why}")
        return "\n".join(lines)


def compare_protocols(
    result: LocalizationResult, first: str | Protocol, second: str | Protocol, method: str | None = None
) -> Flips:
    """Say which images the second protocol judges otherwise than the first, from the same maps, and why.

    Parameters
    ----------
    result
        Of an evaluation that has its maps.
    first, second
        Names, or protocols; not only those that were evaluated.
    method
        Whose maps; the first method's where None.

    Raises
    ------
    InputError
        Protocols that show the network different pictures, so that their maps differ.
    """
    one, other = find_protocol(first), find_protocol(second)
    if one.crop != other.crop or one.crop not in result.mapped:
        raise InputError(
            f"{one.name} and {other.name} show the network different pictures: their maps cannot be compared"
        )
    verdicts, ious = zip(*(_judged(result, rules, method) for rules in (one, other)), strict=True)
    flipped = np.flatnonzero(verdicts[0] != verdicts[1])
    differing = [
        name
        for name in (field.name for field in fields(Protocol))
        if name not in _TOLD and getattr(one, name) != getattr(other, name)
    ]
    rows: list[tuple[str, str, str, int | None]] = []
    reasons: list[list[str]] = [[] for _ in flipped]
    for name in differing:
        values = str(getattr(one, name)), str(getattr(other, name))
        mixed = replace(one, name=f"{one.name}+{name}", **{name: getattr(other, name)})
        try:
            check_protocol(mixed)
        except InputError:
            rows.append((name, *values, None))
            continue
        alone = _judged(result, mixed, method, flipped)[0] != verdicts[0][flipped]
        rows.append((name, *values, int(alone.sum())))
        for place in np.flatnonzero(alone):
            reasons[place].append(name)
    return Flips(
        one.name,
        other.name,
        method or result.method,
        tuple(result.data.names[number] for number in flipped),
        tuple(bool(verdicts[1][number]) for number in flipped),
        np.stack([values[flipped] for values in ious], 1),
        tuple(rows),
        tuple(tuple(names) for names in reasons),
        len(result.data),
    )


def _judged(
    result: LocalizationResult, rules: Protocol, method: str | None, chosen: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return verdict and IoU of all images, or of some, at a protocol's fixed threshold."""
    name = method or result.method
    if chosen is None and rules in result.protocols:
        records = result.scored[name][rules.name]
    else:
        maps, data = result.maps(name, crop=rules.crop), result.data
        numbers = np.arange(len(data)) if chosen is None else chosen
        if len(numbers) == 0:
            return np.zeros(0, np.bool_), np.zeros(0)
        subject = cropped(result.subject) if rules.crop else result.subject
        cells = maps.cells if maps.align == "receptive-field" else None
        geometries = geometries_of(subject, data, numbers.tolist())
        records = score_images(
            maps.values[numbers, 0], rules, data, numbers.tolist(), geometries, maps.input_size, cells
        )
    return known_hits(rules, records), records["at_fixed"][:, 0]
