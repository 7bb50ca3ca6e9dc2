"""Passes of a network over many images, kept in checkpoints.

What comes after (boxes, overlaps, scores, pictures) is made from their arrays, without the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explain.errors import InputError, ModelError
from explain.localization.discovery.places import Place, find_place, gap, vectors
from explain.nets.passes import Arrays, Work, run_pass
from explain.nets.subject import Subject, as_subject
from explain.nets.trace import trace
from explain.nets.traced import Trace

__all__ = ["Arrays", "Work", "collect", "features", "gap_pass", "scattered"]

Kind = Literal["gap", "fc"]


def collect(
    subject: Subject,
    images: Sequence[Any],
    place: Place,
    measure: Callable[[Trace, Tensor, range], Arrays],
    name: str,
    work: Work,
) -> Arrays:
    """Run the network over images and return ``measure(trace, tensor, indices)`` of all batches, row by row.

    ``name`` is that of the checkpoint, from which an interrupted pass goes on, and of the stage for ``work.progress``.
    """

    def traced(tensor: Tensor, indices: range) -> Arrays:
        return measure(trace(subject.model, tensor, place.at, blocks=True), tensor, indices)

    return run_pass(subject, images, traced, name, work)


def gap_pass(subject: Subject, images: Sequence[Any], place: Place, name: str, work: Work) -> NDArray[np.float32]:
    """Return the spatial means of the maps of images, float32 ``(n, c)``; see `collect`."""

    def measure(traced: Trace, tensor: Tensor, indices: range) -> Arrays:
        return {"gap": gap(traced).numpy()}

    found: NDArray[np.float32] = collect(subject, images, place, measure, name, work)["gap"]
    return found


def scattered(rows: NDArray[Any], numbers: NDArray[np.int64], total: int) -> NDArray[Any]:
    """Return an array of ``total`` rows that has ``rows`` in the places ``numbers``, and zeros elsewhere."""
    whole = np.zeros((total, *rows.shape[1:]), rows.dtype)
    whole[numbers] = rows
    return whole


def features(
    model: nn.Module | Subject | str,
    images: Any,
    *,
    layer: str | None = None,
    kind: Kind = "gap",
    batch_size: int = 32,
    workers: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Tensor:
    """Return the generic features of the CAM paper (Zhou et al. 2016, section 4): one vector per image.

    Parameters
    ----------
    model
        A subject, a module, or a model's name (see `explain.load`). It comes back as it was.
    images
        A preprocessed tensor ``(n, c, h, w)``, or one or several paths, PIL images, uint8 arrays or tensors
        ``(c, h, w)``. Pictures are read as they are stored.
    layer
        The layer whose map is averaged; the last map (`explain.nets.anatomy`) where None.
    kind
        ``"gap"``: the spatial mean of the map; ``"fc"``: what goes into the network's last linear layer (AlexNet's and
        VGG's fc7), which is the same in a network that ends in global average pooling and one linear layer.
    batch_size, workers, progress
        Images per forward pass, processes that decode them, and whom to tell: ``progress(stage, done, total)``.

    Returns
    -------
    Tensor
        float32 ``(n, c)`` on the CPU.

    Raises
    ------
    InputError, DataError
        Unusable images, or an unknown kind.
    ModelError
        Unknown layer, a network without a map, or ``"fc"`` of one that no linear layer ends.
    """
    if kind not in ("gap", "fc"):
        raise InputError(f"unknown features {kind!r}: use 'gap' or 'fc'")
    subject, sources = as_subject(model), _several(images)
    place = find_place(subject, sources, layer)
    if kind == "fc" and place.width is None:
        raise ModelError(f"no linear layer ends the network after {place.layer}: use kind='gap'")

    def measure(traced: Trace, tensor: Tensor, indices: range) -> Arrays:
        found = gap(traced) if kind == "gap" else vectors(traced)
        assert found is not None
        return {"features": found.numpy()}

    work = Work(batch_size, workers, progress=progress)
    return torch.from_numpy(collect(subject, sources, place, measure, "features", work)["features"])


def _several(images: Any) -> Sequence[Any]:
    """Return images as a sequence of images, at least one."""
    if isinstance(images, Tensor) and images.ndim != 4:
        raise InputError(f"a tensor of shape {tuple(images.shape)} is no batch of images: give (b, c, h, w)")
    if isinstance(images, Tensor):
        found: Sequence[Any] = list(images)
    else:
        found = images if isinstance(images, Sequence) and not isinstance(images, str) else [images]
    if len(found) == 0:
        raise InputError("no images were given")
    return found
