"""Which tensors of a forward pass were computed from its inputs: such a tensor beside the map is no constant.

Where part of the pass is not looked at, a tensor that comes out of it by a side door (kept as an attribute by a module)
has no known origin, which `Lineage.strangers` tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from weakref import ref

from torch import Tensor

from explain.nets.calls import tree_leaves

__all__ = ["Lineage"]


class Lineage:
    """The inputs of a forward pass and what was computed from them; tensors are held weakly."""

    def __init__(self) -> None:
        self._known: dict[int, ref[Tensor]] = {}
        self._plain: dict[int, ref[Tensor]] = {}

    def start(self, inputs: Iterable[Tensor]) -> None:
        """Begin a forward pass with these inputs."""
        self._known = {id(value): ref(value) for value in inputs}
        self._plain = {}

    def add(self, tensor: Tensor) -> None:
        """Take a tensor for one that was computed from the inputs."""
        self._known[id(tensor)] = ref(tensor)

    def note(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], results: Iterable[Any]) -> None:
        """Note a call: its results come from the inputs if one of its arguments does, else from constants alone."""
        known = self.has(args) or (bool(kwargs) and self.has(tuple(kwargs.values())))
        kept = self._known if known else self._plain
        kept.update((id(result), ref(result)) for result in results if isinstance(result, Tensor))

    def strangers(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], owned: Callable[[Tensor], bool]) -> bool:
        """Tell whether a call reads a tensor that is neither an input, nor ``owned``, nor a result of a noted call."""
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor) and not self.has((value,)):
                found = self._plain.get(id(value))
                if (found is None or found() is not value) and not owned(value):
                    return True
        return False

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
