"""The calls that are made after a tensor, as they are made: what becomes the head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from explain.nets.calls import Call, Held, Slot, map_tree, needed_calls, replayable, tree_leaves
from explain.nets.lineage import Lineage

__all__ = ["Tape"]


class Tape:
    """Calls that depend on a start tensor, which is slot 0; their results are the slots from 1 on."""

    def __init__(self) -> None:
        self._alive: list[Any] = []  # keeps ids unique while calls are recorded
        self._slots: dict[int, int] = {}
        self._calls: list[Call] = []
        self._count = 0

    def start(self, tensor: Tensor) -> None:
        """Forget what was recorded, and begin anew after ``tensor`` ``(b, …)``."""
        self._calls.clear()
        self._alive.clear()
        self._slots = {id(tensor): 0}
        self._count = 0

    def slot(self, tensor: Tensor) -> int | None:
        """Return the slot of a tensor, or None where it does not depend on the start."""
        return self._slots.get(id(tensor))

    def calls(self, output: int) -> tuple[Call, ...]:
        """Return the calls that slot ``output`` is computed from."""
        return needed_calls(self._calls, output)

    def record(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        results: tuple[Any, ...],
        *,
        single: bool,
        batch: int,
        lineage: Lineage,
    ) -> None:
        """Record a call if it depends on the start; tensors that ``lineage`` knows are held with it, image by image."""
        inputs = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        if not any(id(value) in self._slots for value in inputs):
            return

        def template(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            if id(value) in self._slots:
                return Slot(self._slots[id(value)])
            return Held(value.detach()) if lineage.has((value,)) else value.detach()

        function, args, kwargs = replayable(function, args, kwargs, batch)
        numbers = tuple(
            self._count + place if isinstance(result, Tensor) else None for place, result in enumerate(results, 1)
        )
        self._count += len(results)
        self._calls.append(Call(function, map_tree(args, template), map_tree(kwargs, template), numbers, single))
        self._alive.append(results)
        self._slots.update({id(result): n for result, n in zip(results, numbers, strict=True) if n is not None})
