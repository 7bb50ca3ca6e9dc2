"""Modules whose output is a map whenever their input is one: what they do inside need not be watched."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import Tensor, nn

from explain.nets.windows import of_axis

__all__ = ["gives_map", "is_spatial", "repeated_blocks"]

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


def repeated_blocks(model: nn.Module) -> frozenset[type[nn.Module]]:
    """Return the kinds of modules, not torch's own, that hold others and that a model has several of: its blocks."""
    kinds = Counter(type(module) for module in model.modules() if module._modules)
    return frozenset(kind for kind, n in kinds.items() if n > 1 and not kind.__module__.startswith("torch.nn."))


def gives_map(module: nn.Module, inputs: tuple[Any, ...], blocks: frozenset[type[nn.Module]] = frozenset()) -> bool:
    """Tell, before it is called, whether a module's output will be a map: torch's own, without hooks, or a block.

    Of torch's own it is sure; a module that was subclassed, or given another ``forward``, may do anything and is not
    known. Of one of the ``blocks`` it is a guess: that it turns a map into a map, as all of its kind do.
    """
    if module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__:
        return False
    if len(inputs) != 1 or not isinstance(inputs[0], Tensor) or not is_spatial(inputs[0]):
        return False
    if module._modules:
        return type(module) in blocks
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
