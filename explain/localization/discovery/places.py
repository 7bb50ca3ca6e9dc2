"""Where in a network features are taken, and what of a forward pass they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from explain.nets.inputs import stream
from explain.nets.probe import HeadProbe, probe_head
from explain.nets.subject import Subject
from explain.nets.tap import check_layer, count_calls
from explain.nets.trace import best_trace, trace
from explain.nets.traced import Spot, Trace

__all__ = ["Place", "find_place", "gap", "vectors"]


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
