"""Several probe sets as one, united by the names of their concepts."""

from __future__ import annotations

import hashlib
import warnings
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from explain.data.fetching import Fetched
from explain.errors import DataError
from explain.types import Concept, Labels, ProbeSet

__all__ = ["united"]


def _image(parts: tuple[Sequence[Any], ...], ends: tuple[int, ...], number: int) -> Any:
    part, own = _place(ends, number)
    return parts[part][own]


def _place(ends: tuple[int, ...], number: int) -> tuple[int, int]:
    """Return the set that image ``number`` comes from, and its number there."""
    part = bisect_right(ends, number)
    return part, number - (ends[part - 1] if part else 0)


@dataclass(frozen=True, eq=False)
class _UnitedLabels:
    """Labels of each set with the numbers of the united concepts."""

    labels: tuple[Callable[[int, tuple[int, int]], Labels], ...]
    ends: tuple[int, ...]
    numbers: tuple[NDArray[np.int32], ...]
    """Per set: the united number of each of its concepts, and -1 at the end."""
    categories: tuple[Mapping[str, tuple[str, ...]], ...]
    """Per set: what each of its categories is called in the united set."""

    def __call__(self, index: int, size: tuple[int, int]) -> Labels:
        """Return the labels of image ``index`` at ``size = (height, width)``."""
        part, own = _place(self.ends, index)
        found = self.labels[part](own, size)
        known, numbers = self.categories[part], self.numbers[part]
        annotated = known if found.annotated is None else [each for each in found.annotated if each in known]
        return Labels(
            maps=numbers[found.maps],
            whole=tuple(int(numbers[number]) for number in found.whole),
            ignored=found.ignored,
            annotated=tuple(dict.fromkeys(name for each in annotated for name in known[each])),
        )


def _concepts(probes: Sequence[ProbeSet], titles: Sequence[str]) -> dict[str, Concept]:
    """Unite concepts by name; a name with two categories keeps the first one, with a warning."""
    found: dict[str, Concept] = {}
    first: dict[str, str] = {}
    clashes = []
    for probe, title in zip(probes, titles, strict=True):
        for concept in probe.concepts:
            known = found.setdefault(concept.name, concept)
            if known.category != concept.category:
                clashes.append(
                    f"{concept.name!r} is {known.category!r} in {first[concept.name]}, {concept.category!r} in {title}"
                )
            first.setdefault(concept.name, title)
    if clashes:
        more = f" (and {len(clashes) - 5} more)" if len(clashes) > 5 else ""
        warnings.warn(
            f"concepts with two categories are taken with the first: {'; '.join(clashes[:5])}{more}", stacklevel=3
        )
    return found


def _categories(probe: ProbeSet, found: Mapping[str, Concept]) -> dict[str, tuple[str, ...]]:
    """Return, for each category of a set, itself and those that its concepts got from sets before it."""
    names: dict[str, dict[str, None]] = {}
    for concept in probe.concepts:
        own = names.setdefault(concept.category, {concept.category: None})
        own[found[concept.name].category] = None
    return {category: tuple(own) for category, own in names.items()}


def _titles(probes: Sequence[ProbeSet]) -> list[str]:
    """Return the sets' names, numbered where they are the same."""
    counts = Counter(probe.name for probe in probes)
    seen: Counter[str] = Counter()
    titles = []
    for probe in probes:
        seen[probe.name] += 1
        titles.append(probe.name if counts[probe.name] == 1 else f"{probe.name}-{seen[probe.name]}")
    return titles


def _image_names(probes: Sequence[ProbeSet], titles: Sequence[str]) -> tuple[str, ...]:
    """Return the images' names, with the set's name before those that several sets have."""
    owners = Counter(name for probe in probes for name in set(probe.names))
    return tuple(
        f"{title}/{name}" if owners[name] > 1 else name
        for probe, title in zip(probes, titles, strict=True)
        for name in probe.names
    )


def _columns(probes: Sequence[ProbeSet], titles: Sequence[str]) -> dict[str, tuple[str, ...]]:
    keys = list(dict.fromkeys(key for probe in probes for key in probe.columns))
    columns = {
        key: tuple(text for probe in probes for text in probe.columns.get(key, ("",) * len(probe))) for key in keys
    }
    columns.setdefault("set", tuple(title for probe, title in zip(probes, titles, strict=True) for _ in probe.names))
    return columns


def _need_one_kind(probes: Sequence[ProbeSet]) -> None:
    empty = [probe.name for probe in probes if len(probe) == 0]
    if empty:
        raise DataError(f"probe set {empty[0]!r} has no images: leave it out")
    tensors = [isinstance(probe.images[0], torch.Tensor) for probe in probes]
    if any(tensors) and not all(tensors):
        kinds = [probes[tensors.index(kind)].name for kind in (True, False)]
        raise DataError(
            f"the images of {kinds[0]!r} are preprocessed tensors, those of {kinds[1]!r} files or pictures, which are"
            " yet to be preprocessed: unite sets of one kind"
        )


def united(probes: Sequence[ProbeSet]) -> ProbeSet:
    """Return several probe sets as one; concepts of the same name are one concept.

    An image counts as annotated for the categories that its own set annotates in it (for all of that set's
    categories, where it does not say), so that scores over the annotated domain compare like with like. Names of
    images that several sets have get the set's name before them, ``"voc/0001"``.

    Parameters
    ----------
    probes
        One set or more. A name that has two categories keeps the one given first; images of the other set count as
        annotated for both.

    Returns
    -------
    ProbeSet
        Images set by set; ``columns`` of all sets, ``""`` where a set lacks one, and ``columns["set"]``.

    Raises
    ------
    DataError
        No sets, a set without images, or preprocessed tensors in some and files or pictures in others.

    Warns
    -----
    UserWarning
        Concepts of the same name with different categories, in one warning.
    """
    if not probes:
        raise DataError("there are no probe sets: give at least one")
    _need_one_kind(probes)
    titles = _titles(probes)
    found = _concepts(probes, titles)
    number = {name: place for place, name in enumerate(found)}
    ends = tuple(accumulate(len(probe) for probe in probes))
    listed = "\n".join(f"{title}\t{probe.hash}" for title, probe in zip(titles, probes, strict=True))
    roots = {probe.root for probe in probes}
    return ProbeSet(
        name="+".join(titles),
        images=Fetched(ends[-1], partial(_image, tuple(probe.images for probe in probes), ends)),
        concepts=tuple(found.values()),
        labels=_UnitedLabels(
            tuple(probe.labels for probe in probes),
            ends,
            tuple(np.array([*(number[each.name] for each in probe.concepts), -1], np.int32) for probe in probes),
            tuple(_categories(probe, found) for probe in probes),
        ),
        names=_image_names(probes, titles),
        hash=hashlib.sha256(f"united\n{listed}".encode()).hexdigest(),
        root=roots.pop() if len(roots) == 1 else None,
        columns=_columns(probes, titles),
        files=tuple(row for probe in probes for row in probe.files) if all(probe.files for probe in probes) else (),
    )
