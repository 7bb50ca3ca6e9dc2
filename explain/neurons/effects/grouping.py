"""Groups of units: by their formulas' IoU, by the concepts they name; and random ones like them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explain.errors import InputError, near
from explain.neurons.effects.opening import Explained
from explain.neurons.formula import And, Formula, Leaf, Not, Or, leaves, parse

__all__ = ["Group", "asserted", "highest", "matched_groups", "units_naming", "units_of"]

Units = NDArray[np.int64]
_NEAREST = 10
"""Units to draw a control from, on average of those nearest in activation."""


@dataclass(frozen=True, eq=False)
class Group:
    """Units that are replaced together, and random groups like it."""

    name: str
    units: Units
    """Ascending."""
    kept: bool = False
    """The units stay, and all others of the layer are replaced."""
    label: int | None = None
    """The class that the group is about."""
    controls: tuple[Units, ...] = ()

    def masks(self, total: int) -> NDArray[np.bool_]:
        """Return which of ``total`` units are replaced: bool ``(1 + controls, total)``, the group first."""
        found = np.zeros((1 + len(self.controls), total), np.bool_)
        for row, units in zip(found, (self.units, *self.controls), strict=True):
            row[units] = True
        return ~found if self.kept else found


def asserted(formula: Formula, *, under_not: bool = False) -> frozenset[str]:
    """Return the concepts that a formula asks for: its leaves under an even number of NOTs."""
    if isinstance(formula, Leaf):
        return frozenset() if under_not else frozenset([formula.name])
    if isinstance(formula, Not):
        return asserted(formula.part, under_not=not under_not)
    parts = formula.parts if isinstance(formula, And | Or) else ()
    return frozenset().union(*(asserted(part, under_not=under_not) for part in parts))


def units_naming(explained: Explained, concept: str) -> tuple[Units, Units]:
    """Return the units whose formula asks for a concept, and those that name it behind a NOT only.

    Raises
    ------
    InputError
        The run has no such concept, or no formula asks for it.
    """
    explained.cells.number(concept)  # tells near names
    asking, refusing = [], []
    known: set[str] = set()
    for unit in explained.units:
        if unit.formula is None:
            continue
        formula = parse(unit.formula)
        wanted = asserted(formula)
        known |= wanted
        if concept in wanted:
            asking.append(unit.unit)
        elif concept in leaves(formula):
            refusing.append(unit.unit)
    if not asking:
        raise InputError(
            f"no unit's formula asks for {concept!r}{near(concept, sorted(known))}; {len(known)} concepts are"
            f" asked for, such as {', '.join(sorted(known)[:5])}"
        )
    return np.array(asking, np.int64), np.array(refusing, np.int64)


def units_of(explained: Explained, units: object) -> Units:
    """Return explained units by their numbers, ascending; all where None.

    Raises
    ------
    InputError
        None, one that was not explained, or one that is given twice.
    """
    numbers = explained.numbers
    if units is None:
        return numbers
    chosen = np.asarray(list(units), np.int64) if not isinstance(units, int) else np.array([units])  # type: ignore[call-overload]  # any iterable
    missing = [unit for unit in chosen.tolist() if unit not in set(numbers.tolist())]
    if len(chosen) == 0 or missing or len(set(chosen.tolist())) != len(chosen):
        what = f"unit {missing[0]} was not explained" if missing else "give at least one, and each once"
        raise InputError(
            f"units {chosen.tolist()[:8]}: {what}; explained: {len(numbers)} units, {numbers[0]} to {numbers[-1]}"
        )
    return np.sort(chosen)


def highest(units: Units, values: NDArray[np.float64], count: int) -> Units:
    """Return the ``count`` units of the largest values, ascending; of equal ones the lower numbers."""
    return np.sort(units[np.argsort(-values, kind="stable")[:count]])


def matched_groups(
    units: Units, pool: Units, measure: NDArray[np.float64], count: int, rng: np.random.Generator
) -> tuple[Units, ...]:
    """Draw random groups as large as ``units`` from the rest of ``pool``, unit by unit like them.

    Each unit of the group is stood for by one of those nearest to it in ``measure`` (float ``(pool,)``, such as the
    mean activation), which no other of the group takes.

    Returns
    -------
    tuple
        ``count`` groups; none where the rest of the pool is smaller than the group.
    """
    rest = np.flatnonzero(~np.isin(pool, units))
    if len(rest) < len(units) or count < 1:
        return ()
    rest = rest[np.argsort(measure[rest], kind="stable")]
    wanted = measure[np.searchsorted(pool, units)]
    reach = max(_NEAREST, 2 * len(units))
    return tuple(_drawn(pool[rest], measure[rest], wanted, reach, rng) for _ in range(count))


def _drawn(
    rest: Units, values: NDArray[np.float64], wanted: NDArray[np.float64], reach: int, rng: np.random.Generator
) -> Units:
    free = np.ones(len(rest), np.bool_)
    found = np.empty(len(wanted), np.int64)
    for number in rng.permutation(len(wanted)):
        left = np.flatnonzero(free)
        place = int(np.searchsorted(values[left], wanted[number]))
        start = max(0, min(place - reach // 2, len(left) - reach))
        chosen = left[rng.integers(start, min(start + reach, len(left)))]
        free[chosen] = False
        found[number] = rest[chosen]
    return np.sort(found)
