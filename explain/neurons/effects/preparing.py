"""What every job on a neuron run checks before its first pass: network, layer, data, labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explain.data.labelled import check_limit, labels_of
from explain.data.opening import as_localization
from explain.errors import DataError, InputError
from explain.nets.inputs import stream
from explain.nets.modes import eval_mode, naming_errors
from explain.nets.outputs import logits_of
from explain.nets.squash import squashing
from explain.nets.subject import Subject, as_subject
from explain.neurons.effects.opening import Explained, check_model, layer_of, open_explained, refuse_pairs
from explain.neurons.results import NeuronRun
from explain.neurons.units import UnitLayer
from explain.types import LocalizationSet, ProbeSet

__all__ = ["Opened", "class_names", "open_job", "open_labels"]

_TOLD = 3
"""Class names that a warning repeats."""


@dataclass(frozen=True, eq=False)
class Opened:
    """A neuron run with its network and labelled images, ready for passes."""

    explained: Explained
    data: LocalizationSet
    subject: Subject
    """Its transform shows the whole image, as in the run."""
    layer: UnitLayer
    labels: NDArray[np.int64]
    """The class of each image, int64 ``(n,)``, an index of the network's classes."""
    classes: int
    """Of the network."""
    names: tuple[str, ...]
    """Of the network's classes."""
    warnings: tuple[str, ...] = ()


def open_job(
    run: Explained | NeuronRun | str | Path,
    data: Any,
    model: nn.Module | Subject | str | None = None,
    *,
    limit: int | None = None,
) -> Opened:
    """Open a run with its network and labelled images; one image goes through the network.

    Raises
    ------
    InputError
        Another network, layer or transform than the run's, labels that the network does not have, no network.
    DataError, RunError, ModelError
        Data, run or layer that cannot be read.
    """
    check_limit(limit)
    refuse_pairs(run)
    explained = open_explained(run)
    given = model if model is not None else explained.subject
    if given is None:
        raise InputError(
            f"a run folder holds no network: give model=, the network {explained.model['name']!r} that was explained"
        )
    images = _labelled(data, limit)
    subject = squashing(as_subject(given), images.images, images.name)
    check_model(explained, subject)
    layer = layer_of(explained, subject, images.images)
    classes = _count_classes(subject, images)
    labels, names, warnings = open_labels(images, subject, classes)
    return Opened(explained, images, subject, layer, labels, classes, names, warnings)


def _labelled(data: Any, limit: int | None) -> LocalizationSet:
    if isinstance(data, ProbeSet):
        raise InputError(
            f"{data.name} is a probe set, without a class per image: give labelled images (images.csv with the columns"
            " image,class_index)"
        )
    found = as_localization(data)
    if len(found) == 0:
        raise DataError(f"{found.name} holds no images")
    return found.select(range(limit)) if limit is not None and limit < len(found) else found


def _count_classes(subject: Subject, data: LocalizationSet) -> int:
    _, first = next(stream(data.images, subject.transform, batch_size=1, stop=1))
    placed = subject.placed(first)
    with eval_mode(subject.model), torch.inference_mode(False), torch.no_grad():
        with naming_errors(placed):
            output: Tensor = logits_of(subject.model(placed))
    if output.ndim != 2:
        raise InputError(f"{subject.name} gives {tuple(output.shape)}, one number per image: effects need classes")
    return output.shape[1]


def open_labels(
    data: LocalizationSet, subject: Subject, classes: int
) -> tuple[NDArray[np.int64], tuple[str, ...], tuple[str, ...]]:
    """Return the images' classes, the names of the network's classes, and what a reader must know of both.

    Raises
    ------
    InputError
        A class that the network does not have.
    """
    labels = labels_of(data)
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise InputError(
            f"{data.name}: image {data.names[wrong[0]]} has class {labels[wrong[0]]}, and {subject.name} has classes 0"
            f" to {classes - 1} ({len(wrong)} of {len(labels)} images): give labels of the network's classes"
        )
    names = class_names(subject, data, classes)
    own, given = subject.classes, data.class_names
    if own is None or given is None:
        return labels, names, ()
    differing = [
        label for label in sorted(set(labels.tolist())) if label < len(given) and not _alike(own[label], given[label])
    ]
    if not differing:
        return labels, names, ()
    told = ", ".join(f"{label} is {given[label]!r}, not {own[label]!r}" for label in differing[:_TOLD])
    more = ", …" if len(differing) > _TOLD else ""
    return (
        labels,
        names,
        (f"names of {len(differing)} class(es) differ between {data.name} and {subject.name}: class {told}{more}",),
    )


def class_names(subject: Subject, data: LocalizationSet, classes: int) -> tuple[str, ...]:
    """Return a name for each of the network's classes: its own, else the data's, else the index."""
    for names in (subject.classes, data.class_names):
        if names is not None and len(names) == classes:
            return names
    known = data.class_names or ()
    return tuple(known[index] if index < len(known) else f"class {index}" for index in range(classes))


def _alike(one: str, other: str) -> bool:
    """Tell whether two names of a class share one of their comma-separated parts."""
    first, second = ({part.strip().lower().replace("_", " ") for part in name.split(",")} for name in (one, other))
    return bool(first & second)
