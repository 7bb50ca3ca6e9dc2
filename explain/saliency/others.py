"""Methods that need more than a map and its gradient: further forward passes, all layers, attention, Captum."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from explain.errors import InputError, ModelError, near
from explain.nets.inputs import Batch
from explain.nets.layout import layout_of
from explain.nets.modes import eval_mode, naming_errors
from explain.nets.tap import count_calls
from explain.nets.trace import best_trace, trace
from explain.nets.traced import Spot, Trace
from explain.saliency.cam import saliency
from explain.saliency.maps import map_at
from explain.saliency.query import Query, Selection
from explain.types import Saliency

__all__ = ["OTHERS", "other_maps"]

Layers = tuple[str, ...] | None


def other_maps(
    method: str, query: Query, images: Tensor, layers: Layers, options: dict[str, Any], batch: Batch, start: int
) -> Saliency:
    """Return the maps of one chunk by a method of `OTHERS`, or by one of Captum's (``captum:NAME``)."""
    if method.startswith("captum:"):
        return _captum(method, query, images, layers, options, batch, start)
    if layers is not None and method not in ("scorecam", "ablationcam"):
        raise InputError(f"method {method!r} looks at every layer: leave layer out")
    if layers is not None and len(layers) != 1:
        raise InputError(f"method {method!r} takes one layer, got {len(layers)}")
    values, selection, picked, layer = OTHERS[method](query, images, layers[0] if layers else None, options)
    return saliency(query, values, selection, picked, method, layer, batch, start)


Found = tuple[Tensor, Selection, Any, str]
"""Maps, what they explain, the picked output, the layer."""


def _score_cam(query: Query, images: Tensor, layer: str | None, options: dict[str, Any]) -> Found:
    from explain.saliency.perturbation import score_cam

    settings = checked_options("scorecam", options, score_cam)
    if layer is None:
        traced, selection = _traced(query, images, None)
        feature_map, picked, layer = traced.map.float(), traced.logits.float(), traced.layer
    else:
        feature_map, output = map_at(query, images, layer)
        picked = _columns(query.pick(output))
        selection = query.select(picked)
    _check_places("scorecam", selection, picked)

    def scores(masked: Tensor, rows: Tensor) -> Tensor:
        with naming_errors(masked):
            found = query.pick(query.of(rows, len(images)).run(masked))
        return selection.rows(rows.to(images.device)).scores(_float(found))

    with eval_mode(query.subject.model), torch.inference_mode(False), torch.no_grad():
        values = score_cam(feature_map, images, scores, **settings)
    return values, selection, picked, layer


def _ablation_cam(query: Query, images: Tensor, layer: str | None, options: dict[str, Any]) -> Found:
    from explain.saliency.perturbation import ablation_cam, ablation_cam_closed

    settings = checked_options("ablationcam", options, ablation_cam)
    traced, selection = _traced(query, images, layer)
    logits, feature_map = traced.logits.float(), traced.map.float()
    _check_places("ablationcam", selection, logits)
    base = selection.scores(logits)
    weights = _closed_weights(traced, selection) if layer is None else None
    if weights is not None:
        closed = ablation_cam_closed(feature_map, weights, base, relu=settings.get("relu", True))
        return closed, selection, logits, traced.layer

    def tail(maps: Tensor, rows: Tensor) -> Tensor:
        return selection.rows(rows).scores(traced.head.of(rows)(maps))

    with eval_mode(query.subject.model), torch.inference_mode(False), torch.no_grad():
        values = ablation_cam(feature_map, tail, base, **settings)
    return values, selection, logits, traced.layer


def _full_grad(query: Query, images: Tensor, layer: str | None, options: dict[str, Any]) -> Found:
    from explain.saliency.fullgrad import fullgrad

    settings = checked_options("fullgrad", options, fullgrad)
    selection, picked = _selected(query, images)

    def scores(given: Tensor) -> Tensor:
        return selection.scores(_float(query.pick(query.run(given))))

    values = fullgrad(query.subject.model, images, scores, **settings)
    return values, selection, picked, "every layer"


def _rollout(query: Query, images: Tensor, layer: str | None, options: dict[str, Any]) -> Found:
    from explain.saliency.attending import check_attention
    from explain.saliency.attention import recorded_attention, rollout

    settings = checked_options("rollout", options, rollout)
    model = query.subject.model
    with eval_mode(model), torch.inference_mode(False), torch.no_grad(), naming_errors(images):
        with recorded_attention() as attentions:
            picked = _columns(query.pick(query.run(images)))
        selection = query.select(picked)
        grid, prefix = _token_grid(check_attention(attentions, len(images)), images)
        found = rollout(attentions, prefix=prefix, grid=grid, **settings)
    values = found[:, None].expand(-1, selection.classes.shape[1], -1, -1).contiguous()
    return values, selection, picked, "every attention layer"


def _legrad(query: Query, images: Tensor, layer: str | None, options: dict[str, Any]) -> Found:
    from explain.saliency.attention import legrad

    settings = checked_options("legrad", options, legrad)
    selection, picked = _selected(query, images)

    with torch.inference_mode(False):
        own = images.clone()  # can take part in derivatives, also where the user's were made in inference mode

    def run() -> Tensor:
        with naming_errors(own):
            return selection.scores(_float(query.pick(query.run(own))))

    tokens = legrad(query.subject.model, run, **settings)
    grid, prefix = _token_grid(tokens.shape[2], images)
    values = tokens[:, :, prefix:].unflatten(2, grid)
    return values, selection, picked, "every attention layer"


def _captum(
    method: str, query: Query, images: Tensor, layers: Layers, options: dict[str, Any], batch: Batch, start: int
) -> Saliency:
    from explain.saliency.attribution import captum_maps

    if layers is not None and len(layers) != 1:
        raise InputError(f"method {method!r} takes one layer, got {len(layers)}")
    selection, picked = _selected(query, images)
    _check_places(method, selection, picked)
    network = _Scores(query, selection, len(images))
    targets = selection.classes
    if selection.function is not None:
        targets = torch.arange(targets.shape[1], device=images.device).expand(len(images), -1)
    layer = f"network.{layers[0]}" if layers is not None else None
    values = captum_maps(
        method.removeprefix("captum:"),
        network,
        images,
        targets,
        layer=layer,
        options=options,
        batch_size=max(32, len(images)),
    )
    return saliency(query, values, selection, picked, method, layers[0] if layers else "input", batch, start)


OTHERS: Mapping[str, Callable[[Query, Tensor, str | None, dict[str, Any]], Found]] = {
    "scorecam": _score_cam,
    "ablationcam": _ablation_cam,
    "fullgrad": _full_grad,
    "rollout": _rollout,
    "legrad": _legrad,
}


class _Scores(nn.Module):
    """The user's network with its other inputs, as a function of images: ``(n, m)`` scores."""

    def __init__(self, query: Query, selection: Selection, batch: int) -> None:
        super().__init__()
        self.network = query.subject.model
        self._query, self._selection, self._batch = query, selection, batch

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, or the numbers of the user's function."""
        query = self._query
        if len(images) != self._batch and query.per_image(self._batch):
            if self._batch > 1:
                raise InputError(
                    "Captum repeats images, and an input with one row per image cannot follow: use batch_size=1"
                )
            query = query.of(torch.zeros(len(images), dtype=torch.int64), 1)
        picked = query.pick(query.run(images))
        return self._selection.scores(picked) if self._selection.function is not None else _columns(picked)


def checked_options(method: str, options: Mapping[str, Any], function: Callable[..., Any]) -> dict[str, Any]:
    """Return the options of a method; refuse those that its function does not take (keyword-only arguments)."""
    own = ("grid", "prefix")  # known from the network
    known = [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in own
    ]
    for name in options:
        if name not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise InputError(f"method {method!r} has no option {name!r}{near(name, known)}; {takes}")
    return dict(options)


def _traced(query: Query, images: Tensor, layer: str | None) -> tuple[Trace, Selection]:
    model = query.subject.model
    if layer is None:
        traced, _ = best_trace(model, images, run=query.run, first=query.first(len(images)), output=query.output)
    else:
        outputs: list[Any] = []
        with naming_errors(images):
            call = count_calls(model, layer, lambda: outputs.append(query.run(images)))
        _check_flat(query.pick(outputs[-1]))
        traced = trace(model, images, Spot(layer, call), run=query.run, output=query.output)
    return traced, query.select(traced.logits.float())


def _check_flat(picked: Any) -> None:
    if isinstance(picked, Tensor) and picked.ndim > 2:
        raise ModelError(
            f"the model returns a tensor of shape {tuple(picked.shape)}: ablationcam runs only what follows the layer,"
            " as far as scores (batch, classes); use 'scorecam' or 'gradcam', with classes= a function of the output"
        )


def _check_places(method: str, selection: Selection, picked: Any) -> None:
    """Refuse a function of the output that holds something per image, where images change places in the batch.

    One that can follow them says so by ``of_images``; Captum does not tell where images go.

    Raises
    ------
    InputError
        The first image would have another score in another image's place.
    """
    function, captum = selection.function, method.startswith("captum:")
    if function is None or not isinstance(picked, Tensor):
        return
    if len(selection.classes) != len(picked):
        raise InputError(f"classes as a function returned {len(selection.classes)} rows for {len(picked)} images")
    if len(picked) == 1 or (hasattr(function, "of_images") and not captum):
        return
    with torch.no_grad():
        own = selection.scores(picked).nan_to_num()
        placed = selection.scores(picked[:1].expand_as(picked).contiguous()).nan_to_num()
    scale = torch.maximum(own.abs(), placed.abs()).amax()
    if placed.shape == own.shape and bool((placed - own[:1]).abs().amax() > 1e-3 * scale):
        advice = "write a target with of_images(rows)" + (", and use batch_size=1" if captum else "")
        advice = "use batch_size=1" if hasattr(function, "of_images") else advice
        raise InputError(
            f"classes is a function with something of its own for each image, and {method!r} moves images to other"
            f" places of the batch: {advice} (see explain.saliency.targets)"
        )


def _closed_weights(traced: Trace, selection: Selection) -> Tensor | None:
    """Return the class weights ``(b, k, c)`` of a head that is affine in the mean of the map, else None."""
    from explain.nets.probe import probe_head
    from explain.saliency.cam import exact_weights

    probe = probe_head(traced.head, traced.map)
    if not probe.exact or probe.folded or selection.function is not None:
        return None
    return exact_weights(traced, probe, selection)[0].float()


def _selected(query: Query, images: Tensor) -> tuple[Selection, Tensor]:
    """Return what is explained, and the picked output, from one forward pass without graph."""
    with eval_mode(query.subject.model), torch.inference_mode(False), torch.no_grad(), naming_errors(images):
        picked = _columns(query.pick(query.run(images)))
        return query.select(picked), picked


def _columns(picked: Any) -> Any:
    return picked[:, None] if isinstance(picked, Tensor) and picked.ndim == 1 else _float(picked)


def _float(picked: Any) -> Any:
    return picked.float() if isinstance(picked, Tensor) else picked


def _token_grid(tokens: int, images: Tensor) -> tuple[tuple[int, int], int]:
    layout = layout_of((1, tokens, 2), (images.shape[2], images.shape[3]))
    if layout is None:
        raise ModelError(
            f"{tokens} tokens are no grid of an image of {images.shape[2]} x {images.shape[3]}, even without the first"
        )
    return layout.grid, layout.prefix
