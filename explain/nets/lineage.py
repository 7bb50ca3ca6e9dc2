"""Which tensors of a forward pass were computed from its inputs: such a tensor beside the map is no constant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from weakref import ref

from torch import Tensor

__all__ = ["Lineage"]


class Lineage:
    """The inputs of a forward pass and what was computed from them; tensors are held weakly."""

    def __init__(self) -> None:
        self._known: dict[int, ref[Tensor]] = {}

    def start(self, inputs: Iterable[Tensor]) -> None:
        """Begin a forward pass with these inputs."""
        self._known = {id(value): ref(value) for value in inputs}

    def add(self, tensor: Tensor) -> None:
        """Take a tensor for one that was computed from the inputs."""
        self._known[id(tensor)] = ref(tensor)

    def note(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], results: Iterable[Any]) -> None:
        """Note a call: its results come from the inputs if one of its arguments does."""
        if self.has(args) or (kwargs and self.has(tuple(kwargs.values()))):
            for result in results:
                if isinstance(result, Tensor):
                    self.add(result)

    def has(self, values: tuple[Any, ...] | list[Any]) -> bool:
        """Tell whether one of some values, or of the lists in them, comes from the inputs."""
        for value in values:
            if isinstance(value, Tensor):
                found = self._known.get(id(value))
                if found is not None and found() is value:
                    return True
            elif isinstance(value, (tuple, list)) and self.has(value):
                return True
        return False
