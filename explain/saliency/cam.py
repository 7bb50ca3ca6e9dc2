"""Exact class activation maps (Zhou et al. 2016, "Learning Deep Features for Discriminative Localization").

The paper: with ``F_k = sum_xy f_k(x, y)`` (eq. 1) the score is ``S_c = sum_k w_k^c F_k``, and the map is
``M_c(x, y) = sum_k w_k^c f_k(x, y)`` (eq. 2), so that ``S_c = sum_xy M_c(x, y)``. Networks pool by the *mean*
and add a bias, hence here ``logit_c = mean_xy M_c + const_c``: the same map, its mean instead of its sum, and
the bias (which the paper drops) as the constant. One forward pass of the trunk, without graph, serves all
classes of the batch; weights come from derivatives of the head alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from explain.errors import InputError, ModelError
from explain.maps import Align, Cells
from explain.nets.grid import cells_at
from explain.nets.inputs import Batch, as_batch
from explain.nets.outputs import OutputSpec
from explain.nets.probe import HeadProbe, class_weights, folded_weights, require_exact
from explain.nets.subject import Subject, as_subject
from explain.nets.tap import count_calls
from explain.nets.trace import best_trace, trace
from explain.nets.traced import Spot, Trace
from explain.saliency.classes import ClassSpec
from explain.saliency.query import Query, Selection, query_of
from explain.types import Saliency

__all__ = ["BestLayer", "aligned", "by_chunks", "cam", "cam_of_trace", "exact_weights", "join", "saliency"]

TOLERANCE = 1e-3
"""Residual beyond which a map is refused: rounding gives 1e-7 in float32; half precision is allowed 4 of its ulps."""


def cam(
    model: nn.Module | Subject | str,
    images: Any,
    classes: ClassSpec = "top1",
    *,
    align: Align = "grid",
    batch_size: int = 32,
    output: OutputSpec = None,
    inputs: Mapping[str, Any] | None = None,
    image_name: str | None = None,
) -> Saliency:
    r"""Return the exact class activation maps of images: ``k`` classes each from one forward pass.

    Parameters
    ----------
    model
        A subject, a module, or a model's name (see `explain.load`). It comes back as it was.
    images
        A preprocessed tensor ``(b, c, h, w)``, or one or several paths, PIL images or uint8 arrays (then the
        subject's transform is used).
    classes
        See `explain.saliency.classes.choose_classes`; the classes with the largest logits by default.
    align
        ``"receptive-field"``: find out where the map's cells look, and lay maps over the input accordingly when they
        are resized, shown and turned into boxes; ``"grid"``: cells tile the input. See docs/alignment.md.
    batch_size
        Images per forward pass.
    output
        Which part of the network's output holds the logits, where it is not plain; see `explain.nets.outputs.pick`.
    inputs, image_name
        Further inputs by keyword, held fixed (tensors with one row per image go with their image), and the keyword
        for the images themselves where they are not the first argument.

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

    Notes
    -----
    With the last map :math:`A` and the head's weights :math:`w` (Zhou et al. 2016, equation 2; the paper pools by the
    sum, networks as they are built by the mean):

    .. math:: M_c(x, y) = \sum_k w_k^c A_k(x, y), \qquad \operatorname{mean}_{xy} M_c + \text{const}_c = \text{logit}_c

    ``residual`` is the largest deviation from the second equation, relative to the image's largest logit.
    """
    check_align(align)
    subject = as_subject(model)
    # What is made in the user's own inference mode could take no part in derivatives.
    with torch.inference_mode(False), torch.no_grad():
        batch = checked_batch(images, subject, batch_size)
        query = query_of(subject, classes, output, inputs, image_name)
        best = BestLayer()

        def part(asked: Query, chunk: Tensor, start: int) -> Saliency:
            traced, probe = best.trace(asked, chunk)
            require_exact(probe, traced.layer)
            return cam_of_trace(asked, traced, probe, batch, start)

        found = by_chunks(query, batch, batch_size, part)
    return found if align == "grid" else aligned(found, query, batch)


class BestLayer:
    """Traces chunk after chunk at the layer that the first one was found to be best explained at."""

    def __init__(self) -> None:
        self._seen: tuple[Spot | None, HeadProbe] | None = None

    def trace(self, query: Query, images: Tensor) -> tuple[Trace, HeadProbe]:
        """Return the trace of a forward pass on images, and what the head was found to be with the first ones."""
        model = query.subject.model
        if self._seen is None:
            first = query.first(len(images))
            traced, probe = best_trace(model, images, run=query.run, first=first, output=query.output, blocks=True)
            self._seen = traced.at, probe
            return traced, probe
        spot, probe = self._seen
        return trace(model, images, spot, run=query.run, output=query.output, blocks=True), probe


def by_chunks(query: Query, batch: Batch, batch_size: int, part: Callable[[Query, Tensor, int], Saliency]) -> Saliency:
    """Explain a batch some images at a time; ``part(query, images, start)`` explains those from ``start`` on."""
    parts: list[Saliency] = []
    start, total = 0, len(batch.tensor)
    for chunk in batch.tensor.split(batch_size):
        parts.append(part(query.part(start, len(chunk), total), query.subject.placed(chunk), start))
        start += len(chunk)
    return join(parts, batch)


def aligned(found: Saliency, query: Query, batch: Batch) -> Saliency:
    """Return maps that know where their cells look, and lie there when they are resized.

    Raises
    ------
    ModelError
        That cannot be followed through the network.
    """
    if found.values.shape[2:] == batch.tensor.shape[2:]:  # one value per pixel
        cells: Cells | None = Cells.tiling(found.input_size, found.input_size)
    else:
        model, images = query.subject.model, query.subject.placed(batch.tensor[:1])
        run = query.first(len(batch.tensor))
        spot = Spot(found.layer, count_calls(model, found.layer, lambda: run(images)))
        cells = cells_at(model, images, spot, run)
    if cells is None:
        raise ModelError(f"it cannot be followed where the cells of the map at {found.layer!r} look: use align='grid'")
    return replace(found, cells=cells, align="receptive-field")


def check_align(align: str) -> None:
    """Refuse an unknown way to lay maps over the input."""
    if align not in ("grid", "receptive-field"):
        raise InputError(f"unknown alignment {align!r}: use 'grid' or 'receptive-field'")


def checked_batch(images: Any, subject: Subject, batch_size: int) -> Batch:
    """Return images ready for the network; refuse an empty batch, or an impossible batch size."""
    batch = as_batch(images, subject.transform)
    if len(batch.tensor) == 0:
        raise InputError("the batch holds no images")
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: give at least 1")
    return batch


def cam_of_trace(query: Query, traced: Trace, probe: HeadProbe, batch: Batch, start: int = 0) -> Saliency:
    """Return the exact CAM of a recorded forward pass whose head was probed and found exact."""
    logits = traced.logits.float()
    selection = query.select(logits)
    if selection.function is not None:
        raise InputError(
            "classes is a function with numbers of its own: a class activation map is of a class; use"
            ' explain.attribute(..., method="gradcam")'
        )
    weights, constants = exact_weights(traced, probe, selection)
    values = torch.einsum("bkc,bchw->bkhw", weights.float(), traced.map.float())
    scores = logits.gather(1, selection.classes)
    constant = constants.float()
    deviation = (values.mean((2, 3), dtype=torch.float64) + constant - scores).abs().amax(1)
    residual = float((deviation / logits.abs().amax(1).clamp_min(1e-30)).max())
    if not residual <= max(TOLERANCE, 4 * torch.finfo(traced.logits.dtype).eps):
        raise ModelError(
            f"the maps at {traced.layer} do not add up to the logits (residual {residual:.2g}): the head changed since"
            " it was traced, or the network works in low precision; trace it again, in float32"
        )
    found = saliency(query, values, selection, logits, "cam", traced.layer, batch, start)
    return replace(found, constants=constant, exact=True, residual=residual)


def exact_weights(traced: Trace, probe: HeadProbe, selection: Selection) -> tuple[Tensor, Tensor]:
    """Return the CAM weights ``(b, k, c)`` and constants ``(b, k)`` of an exact head, in float64."""
    if probe.folded:
        every = selection.classes
        return folded_weights(traced.head, traced.map, every)
    distinct, place = selection.classes.unique(return_inverse=True)
    weights, constants = class_weights(traced.head, traced.map, distinct)
    return weights[place], constants[place]


def saliency(
    query: Query,
    values: Tensor,
    selection: Selection,
    picked: Any,
    method: str,
    layer: str,
    batch: Batch,
    start: int = 0,
) -> Saliency:
    """Return maps of one chunk with what is known of them; not exact, no constants, unless replaced."""
    if len(selection.classes) != len(values):
        raise InputError(
            f"classes as a function of the output returned {len(selection.classes)} rows for {len(values)} images:"
            " it must return (b,) or (b, k) numbers"
        )
    scores = selection.scores(picked).detach().float()
    probabilities = torch.full_like(scores, float("nan"))
    if selection.function is None and picked.shape[1] > 1:
        probabilities = picked.detach().float().softmax(1).gather(1, selection.classes)
    if selection.against is not None:
        scores = picked.detach().float().gather(1, selection.classes)
    size = batch.tensor.shape[2:]
    stop = start + len(values)
    return Saliency(
        values=values.detach().float(),
        classes=selection.classes,
        scores=scores,
        probabilities=probabilities,
        constants=torch.zeros_like(scores),
        exact=False,
        residual=float("nan"),
        method=method,
        layer=layer,
        input_size=(int(size[0]), int(size[1])),
        names=query.subject.classes,
        geometries=batch.geometries[start:stop] if batch.geometries is not None else None,
        images=batch.pictures[start:stop] if batch.pictures is not None else None,
    )


def join(parts: list[Saliency], batch: Batch) -> Saliency:
    """Return the chunks of a batch as one result."""
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
