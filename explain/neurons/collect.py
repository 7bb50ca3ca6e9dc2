"""From images to unit counts: one or two passes over a layer's maps.

Thresholds need all values of a unit, counts need the final thresholds. In the first pass the exact thresholds are
collected, and maps that rise above the running bound (which only rises) are kept; if they fit in memory, they are
counted afterwards and one pass was enough. Else the images are run through the network a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain.errors import InputError, ModelError
from explain.nets.inputs import stream
from explain.nets.modes import eval_mode, naming_errors
from explain.nets.subject import Subject
from explain.nets.tap import Tap
from explain.neurons.cells import CellIndex
from explain.neurons.counts import CountAccumulator, UnitCounts
from explain.neurons.thresholds import TopValues
from explain.runs import Checkpoint
from explain.types import ProbeSet

__all__ = ["Examples", "Job", "collect_thresholds", "count_active", "layer_maps"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Job:
    """What both passes need to know."""

    subject: Subject
    probe: ProbeSet
    layer: str
    units: NDArray[np.int64]
    """Channel numbers to explain."""
    grid: tuple[int, int]
    quantile: float
    batch_size: int
    workers: int
    keep_bytes: int
    """Memory for kept maps; beyond it a second pass is made."""
    checkpoint: Checkpoint
    progress: Progress


@dataclass(frozen=True)
class Examples:
    """The images that fire each unit most: float32 peaks and maps, int64 image numbers, ``(u, t)``; -1: none."""

    peaks: Tensor
    images: Tensor
    maps: Tensor
    """``(u, t, h, w)``."""

    @staticmethod
    def empty(units: int, count: int, grid: tuple[int, int]) -> Examples:
        """Return examples of no images."""
        shape = (units, count)
        return Examples(
            torch.full(shape, -torch.inf),
            torch.full(shape, -1, dtype=torch.int64),
            torch.zeros(*shape, *grid),
        )

    def updated(self, indices: range, maps: Tensor, thresholds: Tensor) -> Examples:
        """Return the examples with the images of one batch taken in; maps that stay below the threshold do not fire."""
        peaks = maps.amax((2, 3)).T
        peaks = torch.where(peaks > thresholds[:, None], peaks, -torch.inf)
        all_peaks = torch.cat([self.peaks, peaks], 1)
        numbers = torch.tensor(list(indices)).expand(len(peaks), -1)
        all_images = torch.cat([self.images, torch.where(peaks > -torch.inf, numbers, -1)], 1)
        count = self.peaks.shape[1]
        # Stable, so that of equal peaks the earlier image stays: the same answer for any batch size.
        order = all_peaks.sort(dim=1, descending=True, stable=True).indices[:, :count]
        rows = torch.arange(len(order))[:, None]
        old = order < count
        kept = torch.where(old, order, 0)
        new = torch.where(old, 0, order - count)
        chosen = torch.where(old[..., None, None], self.maps[rows, kept], maps.movedim(1, 0)[rows, new])
        return Examples(all_peaks.gather(1, order), all_images.gather(1, order), chosen)


def layer_maps(job: Job, start: int = 0) -> Iterator[tuple[range, Tensor]]:
    """Yield ``(indices, maps float32 (b, u, h, w))`` of the layer over the probe set, on the model's device."""
    subject = job.subject
    batches = stream(job.probe.images, subject.transform, batch_size=job.batch_size, workers=job.workers, start=start)
    whole = torch.from_numpy(job.units).to(subject.device)
    for indices, tensor in batches:
        with eval_mode(subject.model), torch.no_grad(), Tap(subject.model, [job.layer], clone=True) as tap:
            with naming_errors(tensor):
                subject.model(subject.placed(tensor))
            maps = as_maps(tap[job.layer], job.layer)
        yield indices, maps[:, whole].float()


def as_maps(output: Tensor, layer: str) -> Tensor:
    """Return a layer's output as ``(b, u, h, w)``: maps as they are, vectors ``(b, u)`` as maps of one place.

    Raises
    ------
    ModelError
        Another shape, such as tokens ``(b, n, c)``.
    """
    if output.ndim == 4:
        return output
    if output.ndim == 2:
        return output[:, :, None, None]
    raise ModelError(
        f"layer {layer!r} gives {tuple(output.shape)}: units need maps (b, units, h, w) or vectors (b, units)"
    )


@dataclass
class _Kept:
    """Maps that may still lie above the final threshold, by batch; ``None`` once they took too much memory."""

    budget: int
    pieces: list[tuple[Tensor, Tensor, Tensor]] | None
    """(image, unit, map) of the pairs that were above the bound when they came."""
    size: int = 0

    def add(self, first: int, maps: Tensor, bound: Tensor) -> None:
        if self.pieces is None:
            return
        # An upsampled value never exceeds its corners (`counts.upsample`), so nothing else can become active.
        image, unit = (maps.amax((2, 3)) > bound).nonzero(as_tuple=True)
        piece = (image.cpu() + first, unit.cpu(), maps[image, unit].cpu())
        self.pieces.append(piece)
        self.size += piece[2].numel() * 4 + len(unit) * 16
        if self.size > self.budget:
            self._prune(bound.cpu())

    def _prune(self, bound: Tensor) -> None:
        kept = []
        for image, unit, maps in self.pieces or []:
            stay = maps.amax((1, 2)) > bound[unit]
            kept.append((image[stay], unit[stay], maps[stay]))
        self.size = sum(piece[2].numel() * 4 + len(piece[1]) * 16 for piece in kept)
        # Nearly full again means that every batch would be pruned: a second pass is cheaper.
        self.pieces = kept if self.size < 0.8 * self.budget else None

    def state(self) -> dict[str, NDArray[Any]]:
        if not self.pieces:
            return {"gave_up": np.array(self.pieces is None)}
        image, unit, maps = (torch.cat(part).numpy() for part in zip(*self.pieces, strict=True))
        return {"gave_up": np.array(False), "kept_image": image, "kept_unit": unit, "kept_maps": maps}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        if bool(state["gave_up"]):
            self.pieces = None
        elif "kept_image" in state:
            image, unit, maps = (torch.from_numpy(state[f"kept_{name}"]) for name in ("image", "unit", "maps"))
            self.pieces = [(image, unit, maps)]
            self.size = maps.numel() * 4 + len(unit) * 16


def collect_thresholds(job: Job) -> tuple[Tensor, list[tuple[Tensor, Tensor, Tensor]] | None]:
    """First pass: exact thresholds float32 ``(u,)`` on the CPU, and the kept maps, or None if they were too many."""
    units, total = len(job.units), len(job.probe)
    top = TopValues(units, job.quantile, total * job.grid[0] * job.grid[1], job.subject.device)
    kept = _Kept(job.keep_bytes, [])
    done = 0
    if (state := job.checkpoint.load("thresholds")) is not None:
        top.restore(state)
        kept.restore(state)
        done = int(state["done"])
    for indices, maps in layer_maps(job, done):
        if maps.shape[2:] != job.grid:
            raise InputError(f"maps of {tuple(maps.shape[2:])} after {job.grid}: use one input size")
        top.update(maps)
        kept.add(indices.start, maps, top.bound())
        done += len(indices)
        job.progress("units", done, total)
        if job.checkpoint.due("thresholds"):
            job.checkpoint.save("thresholds", {**top.state(), **kept.state(), "done": np.array(done)})
    return top.threshold().cpu(), kept.pieces


def count_active(
    job: Job,
    thresholds: Tensor,
    index: CellIndex,
    pieces: list[tuple[Tensor, Tensor, Tensor]] | None,
    examples: int,
) -> tuple[UnitCounts, Examples]:
    """Count active pixels per unit and cell, from kept maps or in a second pass, and find the top images."""
    units, total = len(job.units), len(job.probe)
    counts = CountAccumulator(units, len(index.cells))
    best = Examples.empty(units, examples, job.grid)
    here = thresholds.to(job.subject.device)
    batches = layer_maps(job) if pieces is None else _from_kept(pieces, job, units)
    for indices, maps in batches:
        ids = np.stack([index.cell_ids(image) for image in indices])
        counts.add(maps, here.to(maps.device), ids)
        best = best.updated(indices, maps.cpu(), thresholds)
        job.progress("counts", indices.stop, total)
    return counts.finish(), best


def _from_kept(pieces: list[tuple[Tensor, Tensor, Tensor]], job: Job, units: int) -> Iterator[tuple[range, Tensor]]:
    """Yield kept maps as dense batches; what was not kept is -inf, which is active nowhere."""
    if not pieces:
        return
    image, unit, maps = (torch.cat(part) for part in zip(*pieces, strict=True))
    for start in range(0, len(job.probe), job.batch_size):
        stop = min(start + job.batch_size, len(job.probe))
        low, high = np.searchsorted(image.numpy(), [start, stop])
        dense = torch.full((stop - start, units, *job.grid), -torch.inf)
        dense[image[low:high] - start, unit[low:high]] = maps[low:high]
        yield range(start, stop), dense.to(job.subject.device)
