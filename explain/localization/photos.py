"""The image job: photos → maps, scores and boxes, batch by batch, resumable; no pictures (see `photo_run`).

While the network works on one batch, the next ones are read and transformed in threads: Pillow decodes and
resizes outside Python's lock. What is known after each batch are arrays; an interrupted job goes on from them.
"""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from explain.errors import DataError, InputError
from explain.localization.boxes import locate
from explain.localization.photo_arrays import FACTS, Arrays, as_numpy, from_arrays, to_arrays
from explain.nets.inputs import Batch, as_batch
from explain.nets.subject import Subject
from explain.runs import Checkpoint
from explain.saliency.attribute import explainer
from explain.saliency.classes import ClassSpec
from explain.saliency.query import cut_classes
from explain.types import Align, Saliency

__all__ = ["PhotoMaps", "check_photos", "faithfulness_measure", "map_photos", "read_ahead"]

Measure = Callable[[Subject, Tensor, Saliency], Mapping[str, Tensor]]
"""``measure(subject, images (b, c, h, w), maps)`` → numbers by name, ``(b,)`` or ``(b, k)``."""
Progress = Callable[[str, int, int], None]

AHEAD = 2
"""Batches that are read while one is in the network; each waits as tensors and decoded photos."""


@dataclass(frozen=True)
class PhotoMaps:
    """What the job found in ``n`` photos, for each method asked for."""

    maps: tuple[Saliency, ...]
    """One result on all photos per method, without the photos; the same classes in each."""
    boxes: tuple[NDArray[np.float32], ...]
    """``(n, k, 4)`` per method: half-open xyxy in pixels of ``maps[...].frame``; NaN where there is no box."""
    sizes: NDArray[np.int64]
    """``(n, 2)``: (height, width) of the photos as they are shown (upright)."""
    measures: tuple[Arrays, ...]
    """Per method, numbers by name, ``(n,)`` or ``(n, k)``; empty where nothing was measured."""
    seconds: float
    """What it took, an interrupted start included."""

    @property
    def warnings(self) -> list[str]:
        """What a reader should know: how many maps are nowhere positive, and have no box."""
        empty = int(sum(np.isnan(boxes[..., 0]).sum() for boxes in self.boxes))
        return [f"{empty} map(s) are nowhere positive and have no box"] if empty else []


def map_photos(
    subject: Subject,
    paths: Sequence[str | Path],
    classes: ClassSpec = "top1",
    *,
    methods: Sequence[str] = ("cam",),
    layer: str | Sequence[str] | None = None,
    align: Align = "grid",
    batch_size: int = 32,
    workers: int = 0,
    measure: Measure | None = None,
    checkpoint: Checkpoint = Checkpoint(),  # noqa: B008 - frozen; without a folder it saves nothing
    progress: Progress | None = None,
) -> PhotoMaps:
    """Map photos by one or several methods, with the box of each map.

    Parameters
    ----------
    subject
        With a transform; its model comes back as it was.
    paths
        Picture files.
    classes
        See `explain.saliency.classes.choose_classes`. What the first method chooses, the others map as well.
    methods, layer, align
        See `explain.attribute`.
    batch_size
        Photos per forward pass.
    workers
        Threads that read photos ahead; at least one does.
    measure
        Called with the subject, the input tensor and the maps of each batch and method.
    checkpoint
        Where what is done is saved now and then, and when the job breaks off; what is found there is not done again.
    progress
        Called with ``("images", done, all)``.

    Raises
    ------
    InputError, DataError, ModelError
        Photos that cannot be read, a method that the network does not allow, unusable classes.
    """
    start = time.perf_counter()
    parts, saved, before = _restored(checkpoint)
    pending: list[Arrays] = []
    if not len(paths) or not methods:
        raise InputError(f"{len(paths)} images and {len(methods)} methods were given: give at least one of each")
    explainers = [explainer(subject, method, layer=layer, align=align, batch_size=batch_size) for method in methods]
    batches = read_ahead(paths, subject.transform, batch_size=batch_size, workers=workers, start=saved)
    try:
        for indices, batch in batches:
            rows = cut_classes(classes, indices.start, len(indices), len(paths))
            pending.append(_mapped(subject, batch, rows, explainers, measure))
            if progress is not None:
                progress("images", indices.stop, len(paths))
            if checkpoint.due("photos"):
                _save(checkpoint, pending, saved, before + time.perf_counter() - start)
                parts, pending, saved = [*parts, *pending], [], indices.stop
    finally:  # also after a broken photo or an interruption
        if pending:
            _save(checkpoint, pending, saved, before + time.perf_counter() - start)
    whole = _joined([*parts, *pending])
    each = [_of_method(whole, number) for number in range(len(methods))]
    return PhotoMaps(
        maps=tuple(from_arrays(arrays, subject.classes) for arrays in each),
        boxes=tuple(arrays["boxes"] for arrays in each),
        sizes=whole["sizes"],
        measures=tuple(
            {name.removeprefix("measure."): value for name, value in arrays.items() if name.startswith("measure.")}
            for arrays in each
        ),
        seconds=before + time.perf_counter() - start,
    )


def faithfulness_measure(*, batch_size: int = 32, seed: int = 0) -> Measure:
    """Return a measure for `map_photos`: every score of `explain.saliency.faithfulness`, and of its control maps.

    Scores are named by metric, those of controls ``metric.control``; each ``(b, k)``.
    """
    from explain.saliency.faithfulness import faithfulness

    def measure(subject: Subject, images: Tensor, maps: Saliency) -> dict[str, Tensor]:
        found = faithfulness(subject, images, maps, batch_size=batch_size, seed=seed)
        controls = {
            f"{metric}.{control}": values
            for control, scores in found.controls.items()
            for metric, values in scores.items()
        }
        return {**found.scores, **controls}

    return measure


def check_photos(paths: Sequence[str | Path]) -> None:
    """Refuse files that are no pictures before anything is computed; only their first bytes are read.

    Raises
    ------
    DataError
        The first file that is missing or no picture.
    """
    for path in paths:
        try:
            with Image.open(path):
                pass
        except FileNotFoundError:
            raise DataError(f"image {path} does not exist") from None
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            reason = (str(error).splitlines() or [repr(error)])[0]
            raise DataError(f"image {path} cannot be read: {reason}") from None


def read_ahead(
    paths: Sequence[Any],
    transform: Callable[[Image.Image], Tensor] | None,
    *,
    batch_size: int = 32,
    workers: int = 0,
    start: int = 0,
) -> Iterator[tuple[range, Batch]]:
    """Yield ``(indices, batch)`` over photos in order, from ``start``; the next batches are read in threads meanwhile.

    Raises
    ------
    InputError, DataError
        A photo cannot be read, there is no transform, or it gives tensors of different sizes.
    """
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: give at least 1")
    starts = iter(range(start, len(paths), batch_size))
    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="photos") as pool:
        waiting: deque[tuple[range, list[Future[Batch]]]] = deque()

        def order_next() -> None:
            if (first := next(starts, None)) is not None:
                indices = range(first, min(first + batch_size, len(paths)))
                jobs = [pool.submit(as_batch, [paths[index]], transform) for index in indices]
                waiting.append((indices, jobs))

        try:
            for _ in range(1 + AHEAD):
                order_next()
            while waiting:
                indices, jobs = waiting.popleft()
                batch = _batch([job.result() for job in jobs])
                order_next()
                yield indices, batch
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _batch(parts: Sequence[Batch]) -> Batch:
    """Return batches of one photo each as one."""
    if len({part.tensor.shape for part in parts}) > 1:
        raise InputError("images come out of the transform in different sizes: let it resize to one size")
    geometries = [geometry for part in parts for geometry in part.geometries or ()]
    pictures = tuple(picture for part in parts for picture in part.pictures or ())
    return Batch(torch.cat([part.tensor for part in parts]), tuple(geometries) or None, pictures)


def _mapped(
    subject: Subject,
    batch: Batch,
    classes: ClassSpec,
    explainers: Sequence[Callable[[Tensor, ClassSpec], Saliency]],
    measure: Measure | None,
) -> Arrays:
    """Return the arrays of one batch; those of method 1 begin with ``1.``."""
    arrays: Arrays = {}
    names: list[str] = []
    for number, explained in enumerate(explainers):
        maps = explained(batch.tensor, classes)
        classes = maps.classes  # the top classes of the first method, for all
        maps = replace(maps, geometries=batch.geometries)
        if maps.method in names:
            raise InputError(f"method {maps.method!r} was asked for twice: give each method once")
        names.append(maps.method)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*nowhere positive")  # said once, for all photos
            found = locate(maps)
        boxes = np.full((*maps.classes.shape, 4), np.nan, dtype=np.float32)
        for index, row in enumerate(found):
            for rank, one in enumerate(row):
                if len(one):
                    boxes[index, rank] = one.xyxy[0].numpy()
        fields = to_arrays(maps) | {"boxes": boxes}
        if measure is not None:
            fields |= {
                f"measure.{name}": as_numpy(value) for name, value in measure(subject, batch.tensor, maps).items()
            }
        arrays |= {f"{number}.{name}": value for name, value in fields.items()}
    arrays["sizes"] = np.array([(photo.height, photo.width) for photo in batch.pictures or ()], dtype=np.int64)
    return arrays


def _joined(parts: Sequence[Arrays]) -> Arrays:
    """Return the arrays of consecutive batches as one set: rows follow each other, facts hold for all."""
    whole = {}
    for name, first in parts[0].items():
        values = [part[name] for part in parts]
        if name.endswith(".residual"):
            whole[name] = np.max(values)  # NaN where it is not known
        elif name.endswith(".exact"):
            whole[name] = np.all(values)
        elif name.partition(".")[2] in (*FACTS, "cells"):
            if any(not np.array_equal(one, other) for one, other in pairwise(values)):
                raise InputError(f"{name.partition('.')[2]} differs between batches: let the transform give one size")
            whole[name] = first
        else:
            if len({value.shape[1:] for value in values}) > 1:
                raise InputError("images come out of the transform in different sizes: let it resize to one size")
            whole[name] = np.concatenate(values)
    return whole


def _of_method(whole: Arrays, number: int) -> Arrays:
    prefix = f"{number}."
    return {name.removeprefix(prefix): value for name, value in whole.items() if name.startswith(prefix)}


def _save(checkpoint: Checkpoint, pending: Sequence[Arrays], first: int, seconds: float) -> None:
    """Save the batches since photo ``first`` as a piece of their own, then the list's new end."""
    if checkpoint.folder is None:
        return
    piece = _joined(pending)
    stop = np.array(first + len(piece["sizes"]))
    checkpoint.save(f"photos-{first:06d}", piece | {"stop": stop})
    checkpoint.save("photos", {"stop": stop, "seconds": np.array(seconds)})


def _restored(checkpoint: Checkpoint) -> tuple[list[Arrays], int, float]:
    """Return what an interrupted job saved: its pieces, how many photos they hold, the seconds they took."""
    end = checkpoint.load("photos")
    if end is None:
        return [], 0, 0.0
    parts, done = [], 0
    while done < int(end["stop"]):
        piece = checkpoint.load(f"photos-{done:06d}")
        if piece is None:
            raise DataError("a piece of the interrupted run is missing: start again with --overwrite")
        done = int(piece.pop("stop"))
        parts.append(piece)
    return parts, done, float(end["seconds"])
