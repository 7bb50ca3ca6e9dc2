"""Where in a network features are taken, and what of a forward pass they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from explain.errors import DataError, InputError
from explain.nets.inputs import stream
from explain.nets.probe import HeadProbe, probe_head
from explain.nets.subject import Subject
from explain.nets.tap import check_layer, count_calls
from explain.nets.trace import best_trace, trace
from explain.nets.traced import Spot, Trace

__all__ = ["Place", "find_place", "gap", "squashing", "vectors"]


@dataclass(frozen=True)
class Place:
    """Where in a network features are taken, as found with one image."""

    layer: str
    call: int
    at: Spot | None
    """What `trace` is asked for; None: the last map."""
    channels: int
    plain: bool
    """The layer gives ``(b, c, h, w)`` itself: a linear head can be put there."""
    probe: HeadProbe
    width: int | None
    """The size of what goes into the last linear layer; None where no linear layer ends the network."""
    own: bool
    """The map is the last one, and that input is not its mean: there are fully connected features."""
    outputs: int
    input_size: tuple[int, int]


def find_place(subject: Subject, images: Sequence[Any], layer: str | None = None) -> Place:
    """Find the map that features are the mean of: the last one (`explain.nets.anatomy`), or that of ``layer``.

    Raises
    ------
    ModelError
        Unknown layer, or a network without a map.
    """
    _, first = next(stream(images[:1], subject.transform, batch_size=1))
    first = subject.placed(first)
    model = subject.model
    if layer is None:
        traced, probe = best_trace(model, first)
    else:
        check_layer(model, layer)
        traced = trace(model, first, Spot(layer, count_calls(model, layer, lambda: model(first.clone()))))
        probe = probe_head(traced.head, traced.map)
    before = vectors(traced)
    mean = gap(traced)
    # Beside the mean of another layer, what the last one reads would be features of another place.
    own = before is not None and layer is None
    if own and before is not None and before.shape == mean.shape:
        own = not torch.allclose(before, mean, rtol=1e-3, atol=1e-5)
    return Place(
        layer=traced.layer,
        call=traced.call,
        at=traced.at,
        channels=int(traced.map.shape[1]),
        plain=traced.head.layout is None,
        probe=probe,
        width=int(before.shape[1]) if before is not None else None,
        own=own,
        outputs=int(traced.logits.shape[1]),
        input_size=(int(first.shape[2]), int(first.shape[3])),
    )


def gap(traced: Trace) -> Tensor:
    """Return the spatial mean of the map, float32 ``(b, c)``, on the CPU."""
    return traced.map.float().mean((2, 3)).cpu()


def vectors(traced: Trace) -> Tensor | None:
    """Return what goes into the last linear layer, float32 ``(b, d)``, on the CPU; None where no such layer ends it."""
    cut = traced.head.without_last_linear()
    if cut is None:
        return None
    with torch.no_grad():
        return cut[0](traced.map).flatten(1).float().cpu()


def squashing(subject: Subject, images: Sequence[Any], what: str) -> Subject:
    """Return the subject with a transform that shows the whole image, as boxes and masks do.

    Raises
    ------
    InputError
        Pictures for a model without a transform, or with one whose geometry is not known; ``what`` names the data.
    DataError
        There are no images.
    """
    if len(images) == 0:
        raise DataError(f"{what} holds no images")
    if isinstance(images[0], Tensor):
        return subject
    if subject.transform is None:
        raise InputError(
            f"{what} holds pictures and the model has no transform: use explain.load(model, transform=...)"
        )
    known = subject.preprocess
    if known is None:
        raise InputError(
            "the geometry of the subject's transform is unknown, so boxes and masks cannot be laid over its maps:"
            " use explain.nets.Preprocess, or torchvision's Resize, ToTensor, Normalize"
        )
    return replace(subject, transform=replace(known, crop_from=None))
