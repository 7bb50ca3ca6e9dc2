"""One pass over images that measures something of each, row by row: resumable, and shared among processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain.distributed import ALONE, World
from explain.errors import InputError
from explain.nets.inputs import stream
from explain.nets.pieces import make_plan, piece_name, piece_spans, remove_pieces
from explain.nets.subject import Subject
from explain.runs import Checkpoint

__all__ = ["Arrays", "Work", "run_pass"]

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Work:
    """How passes are made: how many images at a time, who decodes them, where they are kept, whom to tell."""

    batch_size: int = 32
    workers: int = 0
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    world: World = ALONE
    progress: Callable[[str, int, int], None] | None = None
    """Told the name of the pass, how many of this process's images are done, and how many it has."""

    def __post_init__(self) -> None:
        """Refuse batches without images."""
        if self.batch_size < 1:
            raise InputError(f"batch_size={self.batch_size}: give at least 1")


def run_pass(
    subject: Subject,
    images: Sequence[Any],
    measure: Callable[[Tensor, range], Arrays],
    name: str,
    work: Work,
    *,
    summed: bool = False,
) -> Arrays:
    """Return ``measure(tensor, indices)`` of all batches, row by row in the order of the images, in every process.

    Parameters
    ----------
    images
        What `explain.nets.inputs.stream` takes.
    measure
        Gets a batch ``(b, c, h, w)``, preprocessed and on the model's device, without graph, and the numbers of its
        images; returns arrays of b rows each.
    name
        Of the checkpoint that an interrupted pass goes on from, and of the stage that ``work.progress`` is told.
    summed
        ``measure`` returns sums over its batch, and what is returned is their sum over all batches. Whole numbers are
        the same with any number of processes; floats up to the rounding of their order.
    """
    unite = _summed if summed else _in_order
    plan = make_plan(work.checkpoint, name, range(len(images)), work.batch_size, work.world)
    parts = [_restored(work.checkpoint, key) for key in plan.pieces]
    spans, saved, dirty = list(plan.restored), plan.pieces, False
    done = sum(map(len, plan.restored))
    total = done + sum(map(len, plan.left))

    def save() -> None:
        nonlocal parts, saved, dirty
        parts = [unite(parts)]
        key = piece_name(name, spans)
        work.checkpoint.save(key, parts[0][1])
        work.checkpoint.mark(name)
        remove_pieces(work.checkpoint, [old for old in saved if old != key])  # the new piece holds what they held
        saved, dirty = [key], False

    try:
        for span in plan.left:
            batches = stream(
                images,
                subject.transform,
                batch_size=work.batch_size,
                workers=work.workers,
                start=span.start,
                stop=span.stop,
            )
            for indices, tensor in batches:
                with torch.inference_mode(False), torch.no_grad():
                    found = measure(subject.placed(tensor), indices)
                dirty = False  # what an interruption finds half added must not be saved
                parts.append((np.array(indices), found))
                if summed:
                    parts = [unite(parts)]
                spans.append(indices)
                dirty = True
                done += len(indices)
                if work.progress is not None:
                    work.progress(name, done, total)
                if work.checkpoint.due(name):
                    save()
    finally:  # also after a broken photo or an interruption
        if dirty and work.checkpoint.folder is not None:
            save()
    shares = work.world.gather(unite(parts) if parts else None)
    return unite([share for share in shares if share is not None])[1]


def _restored(checkpoint: Checkpoint, key: str) -> tuple[NDArray[np.int64], Arrays]:
    numbers = np.concatenate([np.array(span) for span in piece_spans(key)])
    return numbers, checkpoint.load(key) or {}


def _in_order(parts: Sequence[tuple[NDArray[np.int64], Arrays]]) -> tuple[NDArray[np.int64], Arrays]:
    """Return the rows of several parts as one, ascending by image."""
    numbers = np.concatenate([part for part, _ in parts])
    order = np.argsort(numbers)
    return numbers[order], {key: np.concatenate([rows[key] for _, rows in parts])[order] for key in parts[0][1]}


def _summed(parts: Sequence[tuple[NDArray[np.int64], Arrays]]) -> tuple[NDArray[np.int64], Arrays]:
    """Return the sums of several parts as one."""
    numbers = np.concatenate([part for part, _ in parts])
    return numbers, {key: sum((rows[key] for _, rows in parts[1:]), start=parts[0][1][key]) for key in parts[0][1]}
