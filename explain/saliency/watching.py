"""Maps from the user's own forward pass: no second one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from explain.errors import ModelError
from explain.nets.inputs import Batch
from explain.nets.modes import eval_mode, is_compiled
from explain.nets.outputs import OutputSpec
from explain.nets.probe import probe_head, require_exact
from explain.nets.record import Recorder, recording
from explain.nets.subject import Subject, as_subject
from explain.nets.trace import check_finite
from explain.saliency.cam import cam_of_trace
from explain.saliency.classes import ClassSpec
from explain.saliency.maps import MethodSpec, find_gradient_method, gradient_of_trace
from explain.saliency.query import Query
from explain.types import Saliency

__all__ = ["Watch", "watch"]


class Watch:
    """Maps from the user's own forward pass; made by `watch`."""

    def __init__(self, subject: Subject, recorder: Recorder, output: OutputSpec) -> None:
        self._subject = subject
        self._recorder = recorder
        self._which = output
        self._output: Any = None
        self._images: Tensor | None = None

    def _saw(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if not self._recorder.here:
            return
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        self._output = output
        self._images = next((value for value in tensors if value.ndim == 4), tensors[0] if tensors else None)

    def cam(self, classes: ClassSpec = "top1") -> Saliency:
        """Return the exact CAM of the last forward pass seen; costs no second forward.

        Raises
        ------
        ModelError
            No forward pass was seen in the block, or the head gives no exact CAM.
        """
        return self._of_trace(classes, None)

    def attribute(self, method: MethodSpec = "gradcam", classes: ClassSpec = "top1") -> Saliency:
        """Return the maps of a method that needs the last map and derivatives of the head only.

        Parameters
        ----------
        method
            One of `explain.saliency.gradient.METHODS`, or a formula of one's own over (map, gradient).

        Raises
        ------
        ModelError
            No forward pass was seen, or the scores do not come from a last spatial map.
        """
        return self._of_trace(classes, method)

    def _of_trace(self, classes: ClassSpec, method: MethodSpec | None) -> Saliency:
        if self._output is None or self._images is None:
            raise ModelError("no forward pass was seen: call the model on a tensor inside the `with` block first")
        query = Query(self._subject, classes, self._which)
        with torch.inference_mode(False), torch.no_grad(), eval_mode(self._subject.model):
            traced = self._recorder.trace(self._output, self._which)
            # Clones made here can take part in derivatives, also where the user's pass was in inference mode.
            normal = replace(traced, map=traced.map.clone(), logits=traced.logits.clone())
            if normal.head.trains:
                head = normal.head.in_eval_mode()
                normal = replace(normal, head=head, logits=head(normal.map).to(normal.logits.dtype))
            check_finite(normal)
            probe = probe_head(normal.head, normal.map)
            batch = Batch(self._images, None, None)
            if method is None:
                require_exact(probe, normal.layer)
                return cam_of_trace(query, normal, probe, batch)
            return gradient_of_trace(query, normal, probe, find_gradient_method(method), batch)


@contextmanager
def watch(model: nn.Module | Subject, *, output: OutputSpec = None) -> Iterator[Watch]:
    """Watch the forward passes of the user's own loop.

    ``with explain.watch(model) as w: out = model(x); maps = w.cam("top5")``. Maps can be asked for inside the block
    or after it; they are those of the last forward pass. The model runs as the user runs it (mode, autocast, graph,
    `DistributedDataParallel`); in training mode the maps and scores are of
    the head without dropout, and with BatchNorm's running statistics where it has one.

    Parameters
    ----------
    model
        What the block runs.
    output
        Which part of the network's output holds the logits, where it is not plain; see `explain.nets.outputs.pick`.

    Raises
    ------
    ModelError
        A compiled model: its forward pass cannot be seen from outside.
    """
    given = model.model if isinstance(model, Subject) else model
    if isinstance(given, nn.Module) and any(is_compiled(module) for module in given.modules()):
        raise ModelError(
            "a compiled model runs as one piece and cannot be watched: watch the original module, or use"
            " explain.cam(model, images), which runs it uncompiled"
        )
    subject = as_subject(model)
    with recording(subject.model) as recorder:
        watcher = Watch(subject, recorder, output)
        handle = subject.model.register_forward_hook(watcher._saw, with_kwargs=True)
        try:
            yield watcher
        finally:
            handle.remove()
