"""The head of a classifier as recorded calls: map in, logits out, at any batch size and precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["BatchSize", "Call", "Head", "Slot", "map_tree", "symbolic_batch", "tree_leaves"]


@dataclass(frozen=True)
class Slot:
    """Stands in a recorded call for the map (0) or for the n-th result after it."""

    index: int


@dataclass(frozen=True)
class BatchSize:
    """Stands in a recorded reshape for the batch size, so that the head takes any batch."""


@dataclass(frozen=True)
class Call:
    """One recorded call; slots and the batch size stand in for what changes."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: tuple[int | None, ...]
    """Slots of the results, None for what is no tensor; a call with one tensor result has one."""
    single: bool


@dataclass(frozen=True)
class Head:
    """Map in, logits out: the calls recorded after the last spatial map.

    Takes ``(b, c, h, w)`` of any batch size, dtype and device; the model's parameters are cast to match
    (so the head can be probed in float64) and are read when called, never copied.
    """

    calls: tuple[Call, ...]
    output: int

    def __call__(self, feature_map: Tensor) -> Tensor:
        """Return the logits ``(b, classes)`` of a map ``(b, c, h, w)``."""
        # The first call may work in place, which a leaf that requires grad would refuse.
        slots: dict[int, Any] = {0: feature_map.clone()}

        def fill(value: Any) -> Any:
            if isinstance(value, Slot):
                return slots[value.index]
            if isinstance(value, BatchSize):
                return feature_map.shape[0]
            if isinstance(value, Tensor):
                moved = value.to(feature_map.device)
                moved = moved.to(feature_map.dtype) if value.is_floating_point() else moved
                return moved.clone() if moved.is_inference() else moved
            if isinstance(value, torch.dtype) and value.is_floating_point:
                return feature_map.dtype  # the precision of a cast is not part of the head
            return value

        for call in self.calls:
            result = call.function(*map_tree(call.args, fill), **map_tree(call.kwargs, fill))
            results = (result,) if call.single else tuple(result)
            slots.update((n, value) for n, value in zip(call.results, results, strict=True) if n is not None)
        logits: Tensor = slots[self.output]
        return logits


def symbolic_batch(args: tuple[Any, ...], batch: int) -> tuple[Any, ...]:
    """Replace the batch size where it leads the sizes of a recorded reshape."""
    tensor, *sizes = args
    if sizes and isinstance(sizes[0], (tuple, list, torch.Size)):
        inner = list(sizes[0])
        if inner and inner[0] == batch:
            inner[0] = BatchSize()
        return (tensor, tuple(inner), *sizes[1:])
    if sizes and sizes[0] == batch and not isinstance(sizes[0], Tensor):
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
