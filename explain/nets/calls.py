"""Recorded calls: what a torch function was called with, so that it can be called again with another map or batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from explain.nets.norms import with_epsilon

__all__ = ["BatchSize", "Call", "Held", "Slot", "map_tree", "needed_calls", "replayable", "tree_leaves"]

_RESHAPES = frozenset({"view", "reshape", "expand", "unflatten", "view_as", "resize"})
_CASTS = frozenset({"float", "double", "half", "bfloat16"})


@dataclass(frozen=True)
class Slot:
    """Stands in a recorded call for the map (0) or for the n-th result after it."""

    index: int


@dataclass(frozen=True)
class BatchSize:
    """Stands in a recorded reshape for the batch size, so that the head takes any batch."""


@dataclass(frozen=True, eq=False)
class Held:
    """A tensor that was computed from the images before the map, and that the head reads beside it."""

    value: Tensor
    """One row per image of the recorded batch where its first size is the batch's."""


@dataclass(frozen=True)
class Call:
    """One recorded call; slots and the batch size stand in for what changes."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: tuple[int | None, ...]
    """Slots of the results, None for what is no tensor; a call with one tensor result has one."""
    single: bool


def replayable(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], batch: int
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """Return a call with what depends on this very input written out or left open.

    ``squeeze`` gets its axes and ``rms_norm`` its epsilon, reshapes take any batch size, casts keep the precision.
    """
    name = getattr(function, "__name__", "")
    if name == "squeeze" and len(args) == 1 and not kwargs:
        return function, (args[0], tuple(axis for axis, size in enumerate(args[0].shape) if size == 1)), kwargs
    if name == "rms_norm":
        return function, *with_epsilon(args, kwargs)
    if name in _RESHAPES:
        return function, _symbolic_batch(args, batch), kwargs
    if name in _CASTS:
        return Tensor.clone, args[:1], {}
    return function, args, kwargs


def needed_calls(calls: Sequence[Call], output: int) -> tuple[Call, ...]:
    """Return the calls that slot ``output`` is computed from: a network may compute more than its logits.

    What works in place is kept: it may reach the logits through a view.
    """
    wanted, kept = {output}, []
    for call in reversed(calls):
        name = getattr(call.function, "__name__", "")
        in_place = name.startswith(("__i", "__setitem__")) or "out" in call.kwargs
        in_place = in_place or (name.endswith("_") and not name.endswith("__"))
        if in_place or wanted.intersection(n for n in call.results if n is not None):
            kept.append(call)
            wanted.update(leaf.index for leaf in tree_leaves((call.args, call.kwargs)) if isinstance(leaf, Slot))
    return tuple(reversed(kept))


def _symbolic_batch(args: tuple[Any, ...], batch: int) -> tuple[Any, ...]:
    """Replace the batch size where it leads the sizes of a recorded reshape."""
    tensor, *sizes = args
    if sizes and isinstance(sizes[0], (tuple, list, torch.Size)):
        inner = list(sizes[0])
        if inner and inner[0] == batch:
            inner[0] = BatchSize()
        return (tensor, tuple(inner), *sizes[1:])
    if sizes and not isinstance(sizes[0], Tensor) and sizes[0] == batch:
        sizes[0] = BatchSize()
    return (tensor, *sizes)


def map_tree(value: Any, function: Callable[[Any], Any]) -> Any:
    """Return nested tuples, lists and dicts with ``function`` applied to their leaves."""
    if isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
        items = [map_tree(item, function) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, dict):
        return {key: map_tree(item, function) for key, item in value.items()}
    return function(value)


def tree_leaves(value: Any) -> Iterator[Any]:
    """Yield the leaves of nested tuples, lists and dicts."""
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from tree_leaves(item)
    elif isinstance(value, dict):
        yield from tree_leaves(tuple(value.values()))
    else:
        yield value
