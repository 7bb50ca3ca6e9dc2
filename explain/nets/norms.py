"""Normalisations held at the statistics of one input: affine functions of their input.

LayerNorm after global average pooling (ConvNeXt, Swin's kin) divides by the standard deviation of what it gets, so
its output does not change when the map is scaled, and plain derivatives times the map add up to nothing. Held at the
image's own statistics it is affine: ``y = (x - mean x) / sigma * weight + bias`` with ``sigma`` a constant.
The mean stays a function of ``x``: it is linear, and constants would not follow ``x``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Frozen", "freeze", "with_epsilon"]

_NAMES = ("layer_norm", "group_norm", "rms_norm")


@dataclass(frozen=True, eq=False)
class Frozen:
    """A normalising call with its scale held: ``y = (x - centre(x)) * scale * weight + bias``."""

    groups: int | None
    """None: over the last ``dims`` axes (LayerNorm); else over groups of channels (GroupNorm)."""
    dims: int
    centred: bool
    scale: Tensor
    weight: Tensor | None
    bias: Tensor | None

    def __call__(self, value: Tensor) -> Tensor:
        """Return the normalised value; affine in it."""
        shaped = _grouped(value, self.groups)
        axes = _axes(shaped, self.groups, self.dims)
        if self.centred:
            shaped = shaped - shaped.mean(axes, keepdim=True)
        result = (shaped * self.scale).reshape(value.shape)
        shape = [-1] + [1] * (value.ndim - 2) if self.groups is not None else list(value.shape[-self.dims :])
        if self.weight is not None:
            result = result * self.weight.view(shape)
        return result + self.bias.view(shape) if self.bias is not None else result


def freeze(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Frozen | None:
    """Return a recorded call of a normalising function with its statistics held at its input's, else None."""
    name = getattr(function, "__name__", "")
    if name not in _NAMES:
        return None
    bound = _SIGNATURES[name].bind(*args, **kwargs)
    bound.apply_defaults()
    value: Tensor = bound.arguments["input"]
    weight, bias, eps = (bound.arguments.get(key) for key in ("weight", "bias", "eps"))
    groups = bound.arguments.get("num_groups")
    dims = len(bound.arguments["normalized_shape"]) if groups is None else 0
    shaped = _grouped(value, groups)
    axes = _axes(shaped, groups, dims)
    if name == "rms_norm":
        power = shaped.square().mean(axes, keepdim=True)
    else:
        power = shaped.var(axes, unbiased=False, keepdim=True)
    scale = (power + (torch.finfo(value.dtype).eps if eps is None else eps)).rsqrt()
    return Frozen(groups, dims, name != "rms_norm", scale.detach(), weight, bias)


def with_epsilon(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of an ``rms_norm`` with its epsilon written out: that of the input's precision if None."""
    bound = _SIGNATURES["rms_norm"].bind(*args, **kwargs)
    if bound.arguments.get("eps") is None:
        bound.arguments["eps"] = torch.finfo(bound.arguments["input"].dtype).eps
    return bound.args, bound.kwargs


def _grouped(value: Tensor, groups: int | None) -> Tensor:
    return value if groups is None else value.reshape(len(value), groups, -1)


def _axes(shaped: Tensor, groups: int | None, dims: int) -> tuple[int, ...]:
    return (-1,) if groups is not None else tuple(range(-dims, 0))


def _layer_norm(
    input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, cudnn: Any = None
) -> None: ...


def _group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> None: ...


def _rms_norm(input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> None: ...


_SIGNATURES = {
    "layer_norm": inspect.signature(_layer_norm),
    "group_norm": inspect.signature(_group_norm),
    "rms_norm": inspect.signature(_rms_norm),
}
