"""Sequences whose items are fetched when asked for, so that images need not fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

__all__ = ["Fetched"]


@dataclass(frozen=True, eq=False)
class Fetched(Sequence[Any]):
    """``size`` items, item i made by ``fetch(i)``; plain data, so that workers can be sent a copy."""

    size: int
    fetch: Callable[[int], Any]
    """Takes numbers from 0 to ``size - 1``."""

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self.fetch(number) for number in range(*index.indices(self.size))]
        number = index + self.size if index < 0 else index
        if not 0 <= number < self.size:
            raise IndexError(f"item {index} of {self.size}")
        return self.fetch(number)
