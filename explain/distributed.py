"""Several processes on one job: each does its share, all get the parts of all, and the first writes.

Under ``torchrun --nproc-per-node N -m explain …`` every process runs the same command. Shares are cut at whole batches,
so that each image goes through the network in the same company as in one process: the same bits come out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch

__all__ = ["ALONE", "World", "world"]

Part = TypeVar("Part")


@dataclass(frozen=True)
class World:
    """The processes of a job, and which of them this one is."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """True in the process that writes results."""
        return self.rank == 0

    def share(self, count: int, batch_size: int) -> range:
        """Return which of ``count`` items are this process's: whole batches, as evenly as they go."""
        batches = -(-count // batch_size)
        start, stop = (batches * (self.rank + step) // self.size for step in (0, 1))
        return range(min(count, start * batch_size), min(count, stop * batch_size))

    def gather(self, part: Part) -> list[Part]:
        """Return every process's part, in order, in every process."""
        if self.size == 1:
            return [part]
        parts: list[Part | None] = [None] * self.size
        torch.distributed.all_gather_object(parts, part)
        return parts  # type: ignore[return-value]  # every one was filled

    def wait(self) -> None:
        """Wait for the others."""
        if self.size > 1:
            torch.distributed.barrier()


ALONE = World()


@contextmanager
def world() -> Iterator[World]:
    """Join the processes that torchrun started, or work alone; the group is left at the end."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        yield ALONE
        return
    given = torch.distributed.is_initialized()
    if not given:
        torch.distributed.init_process_group("gloo")  # parts are gathered in main memory, whatever the device
    try:
        yield World(torch.distributed.get_rank(), torch.distributed.get_world_size())
    finally:
        if not given:
            torch.distributed.destroy_process_group()
