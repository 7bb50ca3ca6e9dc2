"""Tell whether a model is what it was: its modules, and the versions and addresses of its parameters and buffers."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

__all__ = ["Mark", "is_same", "mark_of"]

Mark = list[tuple[Any, int, int]]


def mark_of(model: nn.Module) -> Mark:
    """Return what tells whether modules, parameters or buffers were changed: references, versions, addresses."""
    modules: list[Any] = [(weakref.ref(module), 0, 0) for module in model.modules()]
    return modules + [(weakref.ref(tensor), *_state(tensor)) for tensor in _tensors(model)]


def is_same(model: nn.Module, mark: Mark | None, *, exporting: bool = False) -> bool:
    """Tell whether a model is what it was when it was marked; True without a mark."""
    if mark is None:
        return True
    if exporting:  # stand-ins take the places of tensors, but the tensors themselves can be asked
        return bool(mark) and all(
            (found := ref()) is not None and (not isinstance(found, Tensor) or _state(found) == (version, address))
            for ref, version, address in mark
        )
    live: list[Any] = [*model.modules(), *_tensors(model)]
    return len(live) == len(mark) and all(
        ref() is found and (not isinstance(found, Tensor) or _state(found) == (version, address))
        for found, (ref, version, address) in zip(live, mark, strict=True)
    )


def _state(tensor: Tensor) -> tuple[int, int]:
    return (0 if tensor.is_inference() else tensor._version, tensor.data_ptr())


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()
