"""torch's own modules whose output is a map whenever their input is one: what they do inside need not be watched."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from explain.nets.windows import of_axis

__all__ = ["gives_map", "is_spatial"]

_SAME_SHAPE = frozenset(
    {
        nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.GELU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid,
        nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm,
    }
)  # fmt: skip


def is_spatial(value: Tensor) -> bool:
    """Tell whether a tensor can be a map: ``(b, c, h, w)`` of floating point, more than one row and column."""
    if value.ndim != 4:
        return False
    _, _, height, width = value.shape
    return height > 1 and width > 1 and value.is_floating_point()


def gives_map(module: nn.Module, inputs: tuple[Any, ...]) -> bool:
    """Tell, before it is called, whether a module is torch's own, without hooks, and its output will be a map.

    A module that was subclassed, or given another ``forward``, may do anything and is not known.
    """
    if module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__:
        return False
    if len(inputs) != 1 or not isinstance(inputs[0], Tensor) or not is_spatial(inputs[0]):
        return False
    kind, shape = type(module), inputs[0].shape
    if kind in _SAME_SHAPE:
        return True
    if isinstance(module, nn.Linear):
        return kind is nn.Linear and module.out_features > 1
    if kind not in (nn.Conv2d, nn.AvgPool2d, nn.MaxPool2d) or getattr(module, "return_indices", False):
        return False
    return _leaves_two(module, shape[2:])


def _leaves_two(module: Any, size: tuple[int, ...]) -> bool:
    """Tell whether windows moved over ``size`` give at least two rows and columns."""
    if isinstance(module.padding, str):
        return bool(module.padding == "same")
    return all(
        count
        + 2 * of_axis(module.padding, axis)
        - of_axis(getattr(module, "dilation", 1), axis) * (of_axis(module.kernel_size, axis) - 1)
        > of_axis(module.stride, axis)
        for axis, count in enumerate(size)
    )
