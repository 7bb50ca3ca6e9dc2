"""Exact class activation maps (Zhou et al. 2016, "Learning Deep Features for Discriminative Localization").

The paper: with ``F_k = sum_xy f_k(x, y)`` (eq. 1) the score is ``S_c = sum_k w_k^c F_k``, and the map is
``M_c(x, y) = sum_k w_k^c f_k(x, y)`` (eq. 2), so that ``S_c = sum_xy M_c(x, y)``. Networks pool by the *mean*
and add a bias, hence here ``logit_c = mean_xy M_c + const_c``: the same map, its mean instead of its sum, and
the bias (which the paper drops) as the constant. One forward pass of the trunk, without graph, serves all
classes of the batch; weights come from derivatives of the head alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from explain.errors import InputError, ModelError
from explain.nets.inputs import Batch, as_batch
from explain.nets.record import Recorder, Trace, eval_mode, recording
from explain.nets.subject import Subject, as_subject
from explain.nets.trace import class_weights, probe_head, require_exact, trace
from explain.saliency.classes import ClassSpec, choose_classes
from explain.types import Saliency

__all__ = ["Watch", "cam", "cam_of_trace", "watch"]

TOLERANCE = 1e-3
"""Residual beyond which a map is refused: rounding gives 1e-7 in float32; half precision is allowed 4 of its ulps."""


def cam(
    model: nn.Module | Subject | str,
    images: Any,
    classes: ClassSpec = "top1",
    *,
    batch_size: int = 32,
) -> Saliency:
    """Return the exact class activation maps of images: ``k`` classes each from one forward pass.

    Parameters
    ----------
    model
        A subject, a module, or a model's name (see `explain.load`). It comes back as it was.
    images
        A preprocessed tensor ``(b, c, h, w)``, or one or several paths, PIL images or uint8 arrays (then the
        subject's transform is used).
    classes
        See `explain.saliency.classes.choose_classes`; the classes with the largest logits by default.
    batch_size
        Images per forward pass.

    Returns
    -------
    Saliency
        ``values`` float32 ``(b, k, h, w)`` at the map's own resolution, raw and signed.

    Raises
    ------
    ModelError
        The network has no exact class activation map; the message says why and what to use instead.
    InputError, DataError
        Unusable images or classes.
    """
    subject = as_subject(model)
    batch = as_batch(images, subject.transform)
    if len(batch.tensor) == 0:
        raise InputError("the batch holds no images")
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: give at least 1")
    parts: list[Saliency] = []
    for chunk in batch.tensor.split(batch_size):
        traced = trace(subject.model, subject.placed(chunk))
        start = sum(len(part) for part in parts)
        parts.append(cam_of_trace(subject, traced, _rows(classes, start, len(chunk), len(batch.tensor)), batch, start))
    return _joined(parts, batch)


def cam_of_trace(
    subject: Subject, traced: Trace, classes: ClassSpec, batch: Batch, start: int = 0, *, probed: bool = False
) -> Saliency:
    """Return the exact CAM of a recorded forward pass; ``probed``: the head is known to be exact already."""
    if not bool(traced.map.isfinite().all()):
        raise ModelError(
            f"the map at {traced.layer} holds NaN or infinity: check the weights, the input and the precision"
        )
    if not probed:
        require_exact(probe_head(traced.head, traced.map), traced.layer)
    logits = traced.logits.float()
    if subject.classes is not None and len(subject.classes) != logits.shape[1]:
        raise InputError(
            f"{len(subject.classes)} class names for a network of {logits.shape[1]} classes: give one each"
        )
    chosen = choose_classes(classes, logits, subject)
    distinct, place = chosen.unique(return_inverse=True)
    weights, constants = class_weights(traced.head, traced.map, distinct)
    values = torch.einsum("bkc,bchw->bkhw", weights.float()[place], traced.map.float())
    scores = logits.gather(1, chosen)
    constant = constants.float()[place]
    deviation = (values.mean((2, 3), dtype=torch.float64) + constant - scores).abs().amax(1)
    residual = float((deviation / logits.abs().amax(1).clamp_min(1e-30)).max())
    if not residual <= max(TOLERANCE, 4 * torch.finfo(traced.logits.dtype).eps):
        raise ModelError(
            f"the maps at {traced.layer} do not add up to the logits (residual {residual:.2g}): the head changed since"
            " it was traced, or the network works in low precision; trace it again, in float32"
        )
    size = batch.tensor.shape[2:]
    stop = start + len(values)
    return Saliency(
        values=values,
        classes=chosen,
        scores=scores,
        probabilities=logits.softmax(1).gather(1, chosen),
        constants=constant,
        exact=True,
        residual=residual,
        method="cam",
        layer=traced.layer,
        input_size=(int(size[0]), int(size[1])),
        names=subject.classes,
        geometries=batch.geometries[start:stop] if batch.geometries is not None else None,
        images=batch.pictures[start:stop] if batch.pictures is not None else None,
    )


def _rows(classes: ClassSpec, start: int, count: int, total: int) -> ClassSpec:
    """Cut per-sample classes to the images of one chunk."""
    rows: Any = classes.tolist() if isinstance(classes, (Tensor, np.ndarray)) else classes
    if not (isinstance(rows, (list, tuple)) and rows and all(isinstance(row, (list, tuple)) for row in rows)):
        return classes
    if len(rows) != total:
        raise InputError(f"classes has {len(rows)} lists for {total} images: give one list per image")
    return classes[start : start + count]  # type: ignore[index]


def _joined(parts: list[Saliency], batch: Batch) -> Saliency:
    if len(parts) == 1:
        return parts[0]
    return replace(
        parts[0],
        values=torch.cat([part.values for part in parts]),
        classes=torch.cat([part.classes for part in parts]),
        scores=torch.cat([part.scores for part in parts]),
        probabilities=torch.cat([part.probabilities for part in parts]),
        constants=torch.cat([part.constants for part in parts]),
        residual=max(part.residual for part in parts),
        geometries=batch.geometries,
        images=batch.pictures,
    )


class Watch:
    """Maps from the user's own forward pass; made by `watch`."""

    def __init__(self, subject: Subject, recorder: Recorder) -> None:
        self._subject = subject
        self._recorder = recorder
        self._output: Any = None
        self._images: Tensor | None = None

    def _saw(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if not self._recorder.here:
            return
        self._output = output
        self._images = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)

    def cam(self, classes: ClassSpec = "top1") -> Saliency:
        """Return the exact CAM of the last forward pass seen; costs no second forward.

        Raises
        ------
        ModelError
            No forward pass was seen in the block, or the head gives no exact CAM.
        """
        if self._output is None or self._images is None:
            raise ModelError("no forward pass was seen: call the model on a tensor inside the `with` block first")
        training = self._subject.model.training
        try:
            with torch.inference_mode(False), torch.no_grad(), eval_mode(self._subject.model):
                traced = self._recorder.trace(self._output)
                # Clones made here can take part in derivatives, also where the user's pass was in inference mode.
                normal = replace(traced, map=traced.map.clone(), logits=traced.logits.clone())
                return cam_of_trace(self._subject, normal, classes, Batch(self._images, None, None))
        except ModelError as error:
            if not training:
                raise
            raise ModelError(
                f"{error}; the model ran in training mode, where dropout is part of the head: call model.eval() first"
            ) from None


@contextmanager
def watch(model: nn.Module | Subject) -> Iterator[Watch]:
    """Watch the forward passes of the user's own loop.

    ``with explain.watch(model) as w: out = model(x); maps = w.cam("top5")``. Maps can be asked for inside the block
    or after it; they are those of the last forward pass. The model runs as the user runs it (mode, autocast, graph).
    """
    subject = as_subject(model)
    with recording(subject.model) as recorder:
        watcher = Watch(subject, recorder)
        handle = subject.model.register_forward_hook(watcher._saw, with_kwargs=True)
        try:
            yield watcher
        finally:
            handle.remove()
