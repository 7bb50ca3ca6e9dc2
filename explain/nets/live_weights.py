"""The layers whose weights an exact map has, found by their values, never by name; read from the model at each call."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from explain.errors import ModelError
from explain.nets.probe import folded_weights
from explain.nets.traced import Trace

__all__ = ["find_linear", "find_normed_linear", "live_weights"]


def live_weights(
    linear: nn.Linear, norm: nn.Module | None, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Return the weights ``(n, c)`` and constants ``(n,)`` of a linear layer, or of a LayerNorm and a linear layer.

    With a LayerNorm the weights are still to be divided by the standard deviation of its input:
    ``logit_c = sum_k W_ck (gamma_k (x_k - mean x) / sigma + beta_k) + b_c``; the mean is taken off the weights.
    """
    weight = linear.weight.to(dtype)
    constant = linear.bias.to(dtype) if linear.bias is not None else weight.new_zeros(len(weight))
    if not isinstance(norm, nn.LayerNorm):
        return weight, constant
    if norm.bias is not None:
        constant = constant + weight @ norm.bias.to(dtype)
    if norm.weight is not None:
        weight = weight * norm.weight.to(dtype)
    return weight - weight.mean(1, keepdim=True), constant


def find_linear(model: nn.Module, weight: Tensor, constant: Tensor) -> str:
    """Return the name of the linear layer whose weights the maps have, or ``""``."""
    for name, module in model.named_modules():
        if type(module) is nn.Linear and tuple(module.weight.shape) == tuple(weight.shape):
            # The head pools in float64, and adds its weights back up over the positions.
            if _close(live_weights(module, None, torch.float64), (weight, constant)):
                return str(name)
    return ""


def find_normed_linear(model: nn.Module, found: Trace) -> tuple[str, str]:
    """Return the names of the LayerNorm and the linear layer whose weights the maps of a folded head have.

    Raises
    ------
    ModelError
        There are none.
    """
    every = torch.arange(found.logits.shape[1], device=found.map.device)[None]
    weight, constant = (part[0] for part in folded_weights(found.head, found.map, every))
    variance = found.map.double().mean((2, 3)).var(1, unbiased=False)
    shape = (len(every[0]), found.map.shape[1])
    modules = dict(model.named_modules())
    linears = {name: one for name, one in modules.items() if type(one) is nn.Linear and one.weight.shape == shape}
    for name, norm in modules.items():
        if isinstance(norm, nn.LayerNorm) and tuple(norm.normalized_shape) == shape[1:]:
            scale = (variance + norm.eps).rsqrt()
            for own, linear in linears.items():
                live = live_weights(linear, norm, torch.float64)
                if _close((live[0] * scale, live[1]), (weight, constant)):
                    return name, own
    raise ModelError(
        f"the map at {found.layer} is exact only with a normalisation held at each image's statistics, and this is not"
        " one LayerNorm before one linear layer, which CamModule needs: use explain.cam"
    )


def _close(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> bool:
    """Tell whether weights and constants are the same but for rounding in float64."""
    return all(
        torch.allclose(one.detach(), other, rtol=1e-9, atol=1e-12 * max(1.0, float(expected[0].abs().max())))
        for one, other in zip(found, expected, strict=True)
    )
