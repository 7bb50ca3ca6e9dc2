"""What a unit's activation is worth to each class: the head's weights where they are exact, else derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain.errors import ModelError
from explain.nets.inputs import stream
from explain.nets.modes import eval_mode, naming_errors
from explain.nets.outputs import logits_of
from explain.nets.subject import Subject
from explain.nets.tap import cut
from explain.neurons.effects.heads import exact_head
from explain.neurons.units import UnitLayer

__all__ = ["UnitWeights", "unit_weights"]

_IMAGES = 16
_CHUNK = 16  # classes whose derivatives are taken together


@dataclass(frozen=True, eq=False)
class UnitWeights:
    """By how much each logit grows with the mean activation of each unit."""

    values: NDArray[np.float64]
    """``(classes, units)``."""
    exact: bool
    """The logits are these times the units' mean activations, and a constant (over all units of the layer); else a
    mean of derivatives, true for small changes only."""

    @property
    def told(self) -> str:
        """How they were had, in words."""
        if self.exact:
            return "weights of the head, exact: it is affine in the mean of the layer's maps"
        return f"derivatives of the logits by the units' means, averaged over {_IMAGES} images at most"


def unit_weights(subject: Subject, layer: UnitLayer, images: Sequence[Any]) -> UnitWeights:
    """Return what each unit of a layer is worth to each class.

    Exact where the head after the layer is affine in the mean of its maps (`explain.neurons.effects.heads`). Else
    ``sum_xy d logit_c / d a_u(x, y)``, which is the same thing where the head is exact, as a mean over images spread
    evenly over the data.

    Parameters
    ----------
    images
        What `explain.nets.inputs.stream` takes.

    Raises
    ------
    ModelError
        The logits do not depend on the layer.
    """
    numbers = np.unique(np.linspace(0, len(images) - 1, min(_IMAGES, len(images))).round().astype(int)).tolist()
    _, batch = next(stream([images[number] for number in numbers], subject.transform, batch_size=len(numbers)))
    batch = subject.placed(batch)
    head = exact_head(subject, layer, batch[:1])
    if head is not None:
        return UnitWeights(head.weights, True)
    with torch.inference_mode(False), torch.no_grad():
        return UnitWeights(_derivatives(subject, layer, batch), False)


def _derivatives(subject: Subject, layer: UnitLayer, batch: Tensor) -> NDArray[np.float64]:
    """Return the mean over a batch of the sums over places of the derivatives of all logits, ``(classes, units)``."""
    with eval_mode(subject.model), torch.no_grad(), naming_errors(batch):
        kept, output = cut(subject.model, [layer.layer], lambda: subject.model(batch.clone()))
        leaf, logits = kept[layer.layer], logits_of(output)
        if not logits.requires_grad:
            raise ModelError(f"the logits do not depend on layer {layer.layer!r}: explain a layer before them")
        rows = []
        for part in torch.arange(logits.shape[1]).split(_CHUNK):
            # A seed per class asks for that logit of all images at once: they do not meet in eval mode.
            seeds = torch.zeros(len(part), *logits.shape, dtype=logits.dtype, device=logits.device)
            seeds[torch.arange(len(part)), :, part] = 1
            (found,) = torch.autograd.grad(logits, leaf, seeds, retain_graph=True, is_grads_batched=True)
            rows += [layer.read(one).sum((2, 3)).double().mean(0).cpu() for one in found]
    return torch.stack(rows).numpy()
