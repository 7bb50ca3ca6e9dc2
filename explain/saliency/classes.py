"""Which classes to map: indices, names, ``"top5"``, per-sample lists, or a callable on the logits."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain.errors import InputError
from explain.nets.subject import Subject

__all__ = ["ClassSpec", "choose_classes"]

ClassSpec = int | str | Sequence[Any] | Tensor | NDArray[Any] | Callable[[Tensor], Any]


def choose_classes(spec: ClassSpec, logits: Tensor, subject: Subject) -> Tensor:
    """Return int64 ``(b, k)``: the classes to map for each image.

    Parameters
    ----------
    spec
        ``"top1"``, ``"top5"``, …: the classes with the largest logits; an index or name: that class for every image;
        a flat list of indices or names: those classes for every image; a list of lists (one per image, equal
        lengths) or an integer tensor ``(b, k)``: per sample; a callable: applied to the logits ``(b, classes)``,
        returns any of these.
    logits
        ``(b, classes)``.

    Raises
    ------
    InputError
        Unknown or out-of-range classes, or lists whose lengths do not fit the batch.
    """
    if callable(spec) and not isinstance(spec, (str, Tensor)):
        spec = spec(logits)
    batch, number = logits.shape
    if isinstance(spec, str) and re.fullmatch(r"top\d+", spec):
        return _top(int(spec[3:]), logits)
    if isinstance(spec, np.ndarray):
        spec = torch.as_tensor(spec)
    if isinstance(spec, Tensor):
        if spec.is_floating_point() or spec.dtype == torch.bool or spec.ndim > 2:
            raise InputError(f"classes as a tensor of {spec.dtype} {tuple(spec.shape)}: give integers (k,) or (b, k)")
        spec = spec.tolist()
    if isinstance(spec, (int, str)):
        spec = [spec]
    if not isinstance(spec, Sequence) or len(spec) == 0:
        raise InputError(f"classes={spec!r}: give an index, a name, 'top5', a list of these, or one list per image")
    if all(isinstance(row, (list, tuple)) for row in spec):
        return _per_sample(spec, batch, number, subject).to(logits.device)
    if any(isinstance(row, (list, tuple)) for row in spec):
        raise InputError("classes mixes single classes and lists: give one flat list, or one list per image")
    row = [subject.class_index(wanted, number) for wanted in spec]
    return torch.tensor([row] * batch, device=logits.device)


def _top(count: int, logits: Tensor) -> Tensor:
    most = logits.shape[1]
    if not 1 <= count <= most:
        raise InputError(f"top{count} asked for, but the model has {most} classes: ask for top1 to top{most}")
    return logits.topk(count, dim=1).indices


def _per_sample(rows: Sequence[Any], batch: int, number: int, subject: Subject) -> Tensor:
    if len(rows) != batch:
        raise InputError(f"classes has {len(rows)} lists for {batch} images: give one list per image")
    if len({len(row) for row in rows}) != 1 or not rows[0]:
        raise InputError("classes: the lists per image must have the same length, at least 1")
    return torch.tensor([[subject.class_index(wanted, number) for wanted in row] for row in rows])
