"""One forward pass of a batch: what the units do, and what the network says."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from explain.errors import ModelError
from explain.nets.modes import eval_mode, naming_errors
from explain.nets.outputs import logits_of
from explain.nets.subject import Subject
from explain.nets.tap import Tap
from explain.neurons.units import UnitLayer

__all__ = ["firing_cells", "observe"]


def observe(subject: Subject, layers: Sequence[UnitLayer], images: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return the units' maps float32 ``(b, u, h, w)`` of each layer, and the logits float32 ``(b, classes)``.

    Parameters
    ----------
    images
        ``(b, c, h, w)``, preprocessed, on the model's device, such as `run_pass` hands over.

    Raises
    ------
    ModelError
        Logits or maps hold NaN or infinity.
    """
    with eval_mode(subject.model), torch.no_grad(), Tap(subject.model, [layer.layer for layer in layers]) as tap:
        with naming_errors(images):
            logits = logits_of(subject.model(images.clone())).float()
        maps = [layer.read(tap[layer.layer]) for layer in layers]
    names = ("the logits", *(f"the maps at {layer.layer}" for layer in layers))
    for name, values in zip(names, (logits, *maps), strict=True):
        if not bool(values.isfinite().all()):
            raise ModelError(f"{name} hold NaN or infinity: check the weights, the input and the precision")
    return maps, logits


def firing_cells(maps: Tensor, thresholds: Tensor) -> Tensor:
    """Return int64 ``(b, u)``: at how many places of its map ``(b, u, h, w)`` a unit is above its threshold ``(u,)``.

    At the map's own resolution, as compositional explanations count (Mu & Andreas 2020); see `explain.dissect` for the
    thresholds.
    """
    return (maps > thresholds[:, None, None]).sum((2, 3))
