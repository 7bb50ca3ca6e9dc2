"""What the rest of the network makes of the units: exact weights where they are averaged, else derivatives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain.errors import ModelError
from explain.nets.modes import eval_mode, naming_errors
from explain.nets.outputs import logits_of
from explain.nets.probe import class_weights, probe_head
from explain.nets.subject import Subject
from explain.nets.tap import count_calls, cut
from explain.nets.trace import trace
from explain.nets.traced import Spot
from explain.neurons.units import UnitLayer

__all__ = ["HeadWeights", "class_gradients", "exact_head"]

_AGREES = 1e-2
"""Largest relative difference from the network's own logits: half precision deviates by some per mille."""


@dataclass(frozen=True, eq=False)
class HeadWeights:
    """A head that is affine in the mean of the units' maps: ``logit_c = sum_u weights[c, u] mean_xy A_u + rest_c``."""

    weights: NDArray[np.float64]
    """``(classes, u)``, of the layer's explained units."""
    constants: NDArray[np.float64]
    """``(classes,)``."""
    whole: bool
    """All units of the layer are among them, so that ``rest`` is the constant."""


def exact_head(subject: Subject, layer: UnitLayer, image: Tensor) -> HeadWeights | None:
    """Return the weights of the head after a layer; None where it is not affine in the mean of the layer's maps.

    That it is, is measured (`explain.nets.probe.probe_head`), never taken from names. A head with a LayerNorm is affine
    for each image in its own way, and has no weights in this sense.

    Parameters
    ----------
    image
        ``(1, c, h, w)``, preprocessed, on the model's device.
    """
    if layer.layout is None or layer.directions is not None:
        return None
    model = subject.model
    try:
        with naming_errors(image):
            calls = count_calls(model, layer.layer, lambda: model(image.clone()))
        traced = trace(model, image, Spot(layer.layer, calls))
        probe = probe_head(traced.head, traced.map)
    except ModelError:  # no head can be recorded after this layer
        return None
    if not probe.exact or probe.folded:
        return None
    weights, constants = class_weights(traced.head, traced.map)
    # Derivatives are taken at a map of zeros, where a ReLU further on may be off that is on at the image's own map.
    logits = traced.map.double().mean((2, 3)) @ weights.T + constants
    if not bool((logits - traced.logits).abs().max() <= _AGREES * traced.logits.abs().max()):
        return None
    own = torch.from_numpy(layer.units).to(weights.device)
    return HeadWeights(weights[:, own].cpu().numpy(), constants.cpu().numpy(), len(layer.units) == layer.total)


def class_gradients(
    subject: Subject, layer: UnitLayer, images: Tensor, classes: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the units' maps, the derivative of one logit per image by them, and all logits.

    Parameters
    ----------
    images
        ``(b, c, h, w)``, preprocessed, on the model's device.
    classes
        int64 ``(b,)``: whose logit.

    Returns
    -------
    maps, gradients, logits
        float32 ``(b, u, h, w)`` twice, and ``(b, classes)``, without graph.

    Raises
    ------
    ModelError
        The logits do not depend on the layer.
    """
    model = subject.model
    with eval_mode(model), torch.inference_mode(False), torch.no_grad():
        with naming_errors(images):
            kept, output = cut(model, [layer.layer], lambda: model(images.clone()))
        value = kept[layer.layer]
        with torch.enable_grad():
            logits = logits_of(output).float()
            chosen = logits.gather(1, classes.to(logits.device)[:, None]).sum()
            if not chosen.requires_grad:
                raise ModelError(f"the logits do not depend on layer {layer.layer!r}: explain a layer before them")
            (gradient,) = torch.autograd.grad(chosen, value, allow_unused=True)
        if gradient is None:
            raise ModelError(f"the logits do not depend on layer {layer.layer!r}: explain a layer before them")
        return layer.read(value.detach()), layer.read(gradient), logits.detach()
