"""What spatial functions do to the cells of a map: one affine change per axis, read from the arguments alone.

Araujo et al. 2019, "Computing receptive fields of convolutional neural networks", eq. 3-4, for two axes apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["RULES", "Arguments", "Change", "Line", "changed", "even", "joined", "of_axis"]


class Line(NamedTuple):
    """The cells along one axis, in input pixels."""

    offset: float
    """Centre of the first cell; 0 is the left edge of the first pixel."""
    stride: float
    reach: float
    """Half the width of what a cell sees."""
    cells: int


class Change(NamedTuple):
    """What a function does to the cells along one axis, in units of its input's cells."""

    first: float
    """Centre of the first new cell: 0 is the centre of the first old one."""
    step: float
    """Old cells per new cell."""
    reach: float = 0.0
    """Half the distance between the centres of the outermost old cells that a new one sees."""


Arguments = Mapping[str, Any]
Rule = Callable[[Arguments, int, int, int], Change]
"""``rule(arguments, axis, old count, new count)``; axis 0 is y."""


def changed(line: Line, change: Change, count: int) -> Line:
    """Return the ``count`` new cells that a change makes of ``line``."""
    return Line(
        line.offset + change.first * line.stride,
        line.stride * change.step,
        line.reach + change.reach * line.stride,
        count,
    )


def even(old: int, new: int) -> Change:
    """``new`` cells that tile the extent of ``old`` ones evenly."""
    step = old / new
    return Change((step - 1) / 2, step, max(0.0, (step - 1) / 2))


def joined(lines: Sequence[Line]) -> Line:
    """The union of what the cells of several tensors see; where strides differ, the narrowest tensor stands for all.

    (A map that was resized to fit another has another stride: the other one was never resized, and sees less.)
    """
    narrowest = min(lines, key=lambda line: line.reach)
    if any(abs(line.stride - narrowest.stride) > 1e-6 * narrowest.stride for line in lines):
        return narrowest
    low = min(line.offset - line.reach for line in lines)
    high = max(line.offset + line.reach for line in lines)
    return Line((low + high) / 2, narrowest.stride, (high - low) / 2, narrowest.cells)


def of_axis(value: Any, axis: int) -> int:
    """Return what a size, stride or padding is along an axis: an int holds for both, a list has an entry for each."""
    if isinstance(value, (tuple, list)):
        return int(value[axis] if len(value) > 1 else value[0])
    return int(value)


def _window(arguments: Arguments, axis: int, kernel: int) -> Change:
    stride, dilation = arguments.get("stride"), of_axis(arguments.get("dilation", 1), axis)
    if stride is None or (isinstance(stride, (tuple, list)) and not stride):
        stride = arguments["kernel_size"]  # what pooling does without a stride
    half, padding = (kernel - 1) * dilation / 2, arguments.get("padding", 0)
    if padding == "same":
        left = (kernel - 1) * dilation // 2  # torch puts what is odd to the right
    else:
        left = 0 if padding == "valid" else of_axis(padding, axis)
    return Change(half - left, of_axis(stride, axis), half)


def _convolution(arguments: Arguments, axis: int, old: int, new: int) -> Change:
    return _window({"stride": 1, **arguments}, axis, arguments["weight"].shape[2 + axis])


def _transposed(arguments: Arguments, axis: int, old: int, new: int) -> Change:
    stride, dilation = of_axis(arguments.get("stride", 1), axis), of_axis(arguments.get("dilation", 1), axis)
    half = (arguments["weight"].shape[2 + axis] - 1) * dilation / 2
    return Change((of_axis(arguments.get("padding", 0), axis) - half) / stride, 1 / stride, half / stride)


def _pooling(arguments: Arguments, axis: int, old: int, new: int) -> Change:
    return _window(arguments, axis, of_axis(arguments["kernel_size"], axis))


def _adaptive(arguments: Arguments, axis: int, old: int, new: int) -> Change:
    return even(old, new)


def _interpolated(arguments: Arguments, axis: int, old: int, new: int) -> Change:
    if arguments.get("align_corners") and new > 1:
        return Change(0, (old - 1) / (new - 1))
    step, factor = old / new, arguments.get("scale_factor")
    if factor is not None and not arguments.get("recompute_scale_factor"):
        step = 1 / (factor[axis] if isinstance(factor, (tuple, list)) else factor)
    return Change((step - 1) / 2, step, max(0.0, (step - 1) / 2))


_POOL = ("input", "kernel_size", "stride", "padding")
_MAX_POOL = (*_POOL, "dilation")
_ADAPTIVE = (("input",), _adaptive)
RULES: dict[str, tuple[tuple[str, ...], Rule]] = {
    "conv2d": (("input", "weight", "bias", "stride", "padding", "dilation"), _convolution),
    "conv_transpose2d": (
        ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"),
        _transposed,
    ),
    "max_pool2d": (_MAX_POOL, _pooling),
    "max_pool2d_with_indices": (_MAX_POOL, _pooling),
    "avg_pool2d": (_POOL, _pooling),
    "lp_pool2d": (("input", "norm_type", "kernel_size", "stride"), _pooling),
    "adaptive_avg_pool2d": _ADAPTIVE,
    "adaptive_max_pool2d": _ADAPTIVE,
    "adaptive_max_pool2d_with_indices": _ADAPTIVE,
    "pixel_shuffle": _ADAPTIVE,
    "pixel_unshuffle": _ADAPTIVE,
    "interpolate": (
        ("input", "size", "scale_factor", "mode", "align_corners", "recompute_scale_factor"),
        _interpolated,
    ),
}
"""Functions of ``(b, c, h, w)``: the names of their arguments in order, and what they do to an axis."""
