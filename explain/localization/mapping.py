"""The forward passes of the job: labelled images → raw maps of their classes; protocols need no other pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain.distributed import World
from explain.errors import DataError, InputError, ModelError
from explain.maps import Align, Cells
from explain.nets.inputs import Batch, stream, suspicion
from explain.nets.subject import Subject
from explain.runs import Checkpoint
from explain.saliency.attribute import explainer, map_of_trace, method_name
from explain.saliency.cam import BestLayer, aligned, check_align
from explain.saliency.gradient import METHODS
from explain.saliency.maps import MethodSpec
from explain.saliency.query import query_of
from explain.types import LocalizationSet, Saliency

__all__ = ["Mapped", "check_classes", "cropped", "map_images", "method_label"]

Arrays = dict[str, NDArray[Any]]
Classes = Callable[[Tensor], list[list[int]]]
Explained = Callable[[Tensor, Classes], list[Saliency]]


@dataclass(frozen=True)
class Mapped:
    """What the network said of consecutive images."""

    indices: range
    rank: NDArray[np.int64]
    """``(n,)``: place of the true class, 0 is first; ties count against the network."""
    predicted: NDArray[np.int64]
    """``(n, 5)``: the classes with the largest logits; -1 where there are fewer."""
    outputs: int
    """How many classes the network has."""
    maps: tuple[Saliency, ...]
    """One per method; ``values`` ``(n, 1, h, w)`` on the CPU, without pictures."""


def method_label(method: MethodSpec) -> str:
    """Return the name under which a method's scores stand."""
    name = method_name(method)
    return name if isinstance(name, str) else getattr(name, "__name__", "formula")


def cropped(subject: Subject) -> Subject:
    """Return the subject with its input as the centre of the picture squashed to 8/7 of the size (224 of 256).

    Raises
    ------
    InputError
        The geometry of its transform is not known.
    """
    known = subject.preprocess
    if known is None:
        raise InputError("the protocol shows a centre crop: give a model with a transform that explain knows")
    size = (round(known.size[0] * 8 / 7), round(known.size[1] * 8 / 7))
    return replace(subject, transform=replace(known, crop_from=size))


def map_images(
    subject: Subject,
    data: LocalizationSet,
    methods: Sequence[MethodSpec],
    *,
    layer: str | None = None,
    align: Align = "grid",
    batch_size: int = 32,
    workers: int = 0,
    world: World,
    checkpoint: Checkpoint,
    name: str = "maps",
    warn: Callable[[str], None] = lambda text: None,
    progress: Callable[[int], None] = lambda done: None,
) -> Iterator[Mapped]:
    """Yield the maps of the true class of this process's share of the images, batch by batch, in order.

    Methods that explain the best layer share a forward pass. What an interrupted job saved comes first, without one.
    Batches are cut at the same places whatever the number of processes, so that all give the same numbers.
    """
    share = world.share(len(data), batch_size)
    saved = _restored(checkpoint, name, share)
    yield from saved
    if saved:
        progress(saved[-1].indices.stop - share.start)
    start = saved[-1].indices.stop if saved else share.start
    explained = _explained(subject, methods, layer, align, batch_size)
    pending: list[Mapped] = []
    batches = stream(
        data.images, subject.transform, batch_size=batch_size, workers=workers, start=start, stop=share.stop
    )
    try:
        for indices, tensor in batches:
            if indices.start == share.start and (found := suspicion(tensor)):
                warn(found)
            mapped = _mapped(subject, data, indices, tensor, explained)
            pending.append(mapped)
            yield mapped
            progress(len(indices))
            if checkpoint.due(name):
                pending = _save(checkpoint, name, pending)
    finally:  # also after a broken photo or an interruption
        if pending and pending[-1].indices.stop < share.stop:
            _save(checkpoint, name, pending)


def _explained(
    subject: Subject, methods: Sequence[MethodSpec], layer: str | None, align: Align, batch_size: int
) -> Explained:
    """Return what maps a batch by all methods, and gives the logits."""
    check_align(align)
    names = [method_name(method) for method in methods]
    together = layer is None and all(not isinstance(one, str) or one in ("cam", "auto", *METHODS) for one in names)
    if together:
        best = BestLayer()

        def shared(images: Tensor, classes: Classes) -> list[Saliency]:
            with torch.inference_mode(False), torch.no_grad():
                batch, query = Batch(images, None, None), query_of(subject, classes)
                traced, probe = best.trace(query, subject.placed(images))
                found = [map_of_trace(one, query, traced, probe, batch) for one in names]
                return found if align == "grid" else [aligned(one, query, batch) for one in found]

        return shared
    each = [explainer(subject, one, layer=layer, align=align, batch_size=batch_size) for one in names]
    return lambda images, classes: [one(images, classes) for one in each]


def _mapped(subject: Subject, data: LocalizationSet, indices: range, tensor: Tensor, explained: Explained) -> Mapped:
    truth = [[data.classes[index]] for index in indices]
    seen: list[Tensor] = []

    def classes(logits: Tensor) -> list[list[int]]:
        """Note the scores of all classes, which methods are not asked for, and choose the true one."""
        check_classes(data, logits.shape[1])
        seen.append(logits.detach().float().cpu())
        return truth

    found = explained(tensor, classes)
    logits, wanted = seen[0], torch.tensor(truth)
    if not bool(logits.isfinite().all()):
        raise ModelError("the network's scores hold NaN or infinity: they have no order")
    # Ties in the logits count against the model, so that a constant output has no correct answer by luck.
    own = logits.gather(1, wanted)
    rank = ((logits > own).sum(1) + ((logits == own).sum(1) - 1)).numpy()
    top = logits.topk(min(5, logits.shape[1]), dim=1).indices.numpy()
    predicted = np.full((len(top), 5), -1, dtype=np.int64)
    predicted[:, : top.shape[1]] = top
    return Mapped(indices, rank, predicted, logits.shape[1], tuple(_kept(one) for one in found))


def _kept(maps: Saliency) -> Saliency:
    """Return maps on the CPU, refused where they cannot be thresholded."""
    values = maps.values.detach().float().cpu()
    if not bool(values.isfinite().all()):
        raise ModelError(f"the {maps.method} maps at {maps.layer} hold NaN or infinity: they cannot be thresholded")
    return replace(
        maps,
        values=values,
        classes=maps.classes.cpu(),
        scores=maps.scores.cpu(),
        probabilities=maps.probabilities.cpu(),
        constants=maps.constants.cpu(),
        images=None,
        geometries=None,
        names=None,
    )


def check_classes(data: LocalizationSet, number: int) -> None:
    """Refuse data with classes that the network does not have."""
    wrong = [(name, index) for name, index in zip(data.names, data.classes, strict=True) if not 0 <= index < number]
    if wrong:
        raise ModelError(
            f"{data.name}: {wrong[0][0]} has class {wrong[0][1]}, but the model has classes 0 to {number - 1}"
            f" ({len(wrong)} such images): use a model for these classes, or fit one with explain.nets.linear_head"
        )


# --- pieces of an interrupted job -----------------------------------------------------------------------------


def _save(checkpoint: Checkpoint, name: str, pending: Sequence[Mapped]) -> list[Mapped]:
    """Save batches as a piece of their own; returns an empty list of what is still to be saved."""
    if checkpoint.folder is not None and pending:
        piece = joined(pending)
        checkpoint.save(f"{name}@{piece.indices.start:07d}-{piece.indices.stop:07d}", to_arrays(piece))
        checkpoint.mark(name)
    return []


def _restored(checkpoint: Checkpoint, name: str, share: range) -> list[Mapped]:
    """Return the pieces that follow each other from the share's start on."""
    found: list[Mapped] = []
    position = share.start
    for key in sorted(checkpoint.names(f"{name}@")):
        start, stop = (int(part) for part in key.removeprefix(f"{name}@").split("-"))
        if start == position and stop <= share.stop and (arrays := checkpoint.load(key)) is not None:
            found.append(from_arrays(arrays))
            position = stop
    return found


_ROWS = ("values", "classes", "scores", "probabilities", "constants")


def joined(parts: Sequence[Mapped]) -> Mapped:
    """Return consecutive batches as one."""
    first = parts[0]
    maps = []
    for number, one in enumerate(first.maps):
        several = [part.maps[number] for part in parts]
        if len({part.values.shape[1:] for part in several}) > 1:
            raise DataError("maps of different sizes: let the transform resize images to one size")
        rows: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in several]) for name in _ROWS}
        maps.append(replace(one, residual=max(part.residual for part in several), **rows))
    return Mapped(
        range(first.indices.start, parts[-1].indices.stop),
        np.concatenate([part.rank for part in parts]),
        np.concatenate([part.predicted for part in parts]),
        first.outputs,
        tuple(maps),
    )


def to_arrays(mapped: Mapped) -> Arrays:
    """Return what was mapped as arrays, for a file."""
    arrays: Arrays = {
        "span": np.array([mapped.indices.start, mapped.indices.stop]),
        "rank": mapped.rank,
        "predicted": mapped.predicted,
        "outputs": np.array(mapped.outputs),
        "methods": np.array(len(mapped.maps)),
    }
    for number, maps in enumerate(mapped.maps):
        arrays |= {f"{number}.{name}": getattr(maps, name).numpy() for name in _ROWS}
        arrays |= {
            f"{number}.exact": np.array(maps.exact),
            f"{number}.residual": np.array(maps.residual),
            f"{number}.facts": np.array([maps.method, maps.layer, maps.align]),
            f"{number}.input_size": np.array(maps.input_size),
        }
        if maps.cells is not None:
            arrays[f"{number}.cells"] = np.array([maps.cells.offset, maps.cells.stride])
    return arrays


def from_arrays(arrays: Arrays) -> Mapped:
    """Return what `to_arrays` wrote."""
    maps = []
    for number in range(int(arrays["methods"])):
        own = {key.removeprefix(f"{number}."): value for key, value in arrays.items() if key.startswith(f"{number}.")}
        method, layer, align = (str(text) for text in own["facts"])
        cells = own.get("cells")
        height, width = (int(side) for side in own["input_size"])
        rows: dict[str, Any] = {name: torch.from_numpy(own[name]) for name in _ROWS}
        maps.append(
            Saliency(
                **rows,
                exact=bool(own["exact"]),
                residual=float(own["residual"]),
                method=method,
                layer=layer,
                input_size=(height, width),
                cells=Cells(tuple(cells[0].tolist()), tuple(cells[1].tolist())) if cells is not None else None,
                align="receptive-field" if align == "receptive-field" else "grid",
            )
        )
    start, stop = (int(edge) for edge in arrays["span"])
    return Mapped(range(start, stop), arrays["rank"], arrays["predicted"], int(arrays["outputs"]), tuple(maps))
