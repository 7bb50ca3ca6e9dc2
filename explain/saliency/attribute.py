"""Every method behind one call: `explain.attribute`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from explain.errors import InputError, near
from explain.nets.inputs import Batch
from explain.nets.outputs import OutputSpec
from explain.nets.record import Spot
from explain.nets.subject import Subject, as_subject
from explain.nets.trace import HeadProbe, best_trace, require_exact, trace
from explain.saliency.cam import cam_of_trace, checked_batch, join
from explain.saliency.classes import ClassSpec
from explain.saliency.fusing import Fusion, fuse
from explain.saliency.gradient import METHODS
from explain.saliency.maps import MethodSpec, find_gradient_method, gradient_of_layers, gradient_of_trace
from explain.saliency.others import OTHERS, other_maps
from explain.saliency.query import Query
from explain.types import Saliency

__all__ = ["attribute", "known_methods", "method_name"]

_SPELLINGS = {"gradcampp": "gradcam++", "gradcamplusplus": "gradcam++", "attentionrollout": "rollout"}


def attribute(
    model: nn.Module | Subject | str,
    images: Any,
    method: MethodSpec = "gradcam",
    classes: ClassSpec = "top1",
    *,
    layer: str | Sequence[str] | None = None,
    fusion: Fusion = "mean",
    augment: str | None = None,
    batch_size: int = 32,
    output: OutputSpec = None,
    inputs: Mapping[str, Any] | None = None,
    image_name: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Saliency:
    """Return the maps of any method: ``k`` maps for each image.

    Parameters
    ----------
    model
        A subject, a module, or a model's name (see `explain.load`). It comes back as it was.
    images
        A preprocessed tensor ``(b, c, h, w)``, or one or several paths, PIL images or uint8 arrays (then the
        subject's transform is used).
    method
        ``"auto"`` (``cam`` where it is exact, else ``gradcam``), ``"cam"``, ``"gradcam"``, ``"gradcam++"``,
        ``"xgradcam"``, ``"hirescam"``, ``"layercam"``, ``"eigencam"``, ``"eigengradcam"``, ``"finercam"``,
        ``"scorecam"``, ``"ablationcam"``, ``"fullgrad"``, ``"legrad"``, ``"rollout"``, ``"captum:NAME"``;
        or a formula of one's own: a function of the map ``(b, c, h, w)`` and the gradient ``(b, k, c, h, w)`` that
        returns ``(b, k, h, w)``.
    classes
        Indices, names, ``"top5"``, per-sample lists (see `explain.saliency.classes.choose_classes`), or a function of
        the output that returns the numbers to explain, ``(b,)`` or ``(b, k)`` (see `explain.saliency.targets`).
    layer
        The layer to explain, or several, which are fused; `explain.nets.anatomy`'s where None.
    fusion
        How the maps of several layers become one; see `explain.saliency.fusing.fuse`.
    augment
        ``"flip"``, ``"scales"`` or ``"tencrop"``: maps and scores are means over views of the image.
    batch_size
        Images per forward pass.
    output, inputs, image_name
        Models with structured output or further inputs; see `explain.saliency.cam.cam`.
    options
        Settings of the method: ``chunk`` (Score-CAM, Ablation-CAM), ``head_fusion`` (rollout), what Captum's take.

    Returns
    -------
    Saliency
        ``values`` float32 ``(b, k, h, w)``: raw, at the resolution of the layer, or of the input for FullGrad and
        Captum's methods. ``exact`` only for ``"cam"``.

    Raises
    ------
    InputError, ModelError, DataError
        Unknown method, layer, classes or options, a model that the method cannot explain, unusable images.
    """
    method = method_name(method)
    subject = as_subject(model)
    batch = checked_batch(images, subject, batch_size)
    query = Query(subject, classes, output, dict(inputs or {}), image_name)
    layers = (layer,) if isinstance(layer, str) else tuple(layer) if layer is not None else None
    if layers is not None and not layers:
        raise InputError("layer=[] names no layer")
    if augment is not None:
        from explain.saliency.augment import augmented

        return augmented(batch, augment, lambda views: _run(query, views, method, layers, fusion, batch_size, options))
    return _run(query, batch, method, layers, fusion, batch_size, options)


def known_methods() -> list[str]:
    """Return the names that `attribute` takes, without Captum's."""
    return ["auto", "cam", *METHODS, *OTHERS]


def method_name(method: MethodSpec) -> MethodSpec:
    """Return a method's name as `attribute` knows it (``"Grad-CAM++"`` is ``"gradcam++"``), or a formula as it is.

    Raises
    ------
    InputError
        Unknown name; near names and the known ones are listed.
    """
    if not isinstance(method, str) or method.startswith("captum:"):
        return method
    plain = method.lower().replace("-", "").replace("_", "").replace(" ", "")
    plain = _SPELLINGS.get(plain, plain)
    known = known_methods()
    if plain not in known:
        raise InputError(f"unknown method {method!r}{near(plain, known)}; known: {', '.join(known)}, captum:NAME")
    return plain


def _run(
    query: Query,
    batch: Batch,
    method: MethodSpec,
    layers: tuple[str, ...] | None,
    fusion: Fusion,
    batch_size: int,
    options: Mapping[str, Any] | None,
) -> Saliency:
    """Explain a batch chunk by chunk."""
    part = _part_of(method, layers, fusion, options)
    parts: list[Saliency] = []
    start, total = 0, len(batch.tensor)
    for chunk in batch.tensor.split(batch_size):
        asked = query.part(start, len(chunk), total)
        parts.append(part(asked, query.subject.placed(chunk), batch, start))
        start += len(chunk)
    return join(parts, batch)


Part = Callable[[Query, Tensor, Batch, int], Saliency]


def _part_of(
    method: MethodSpec, layers: tuple[str, ...] | None, fusion: Fusion, options: Mapping[str, Any] | None
) -> Part:
    """Return the function that explains one chunk."""
    if isinstance(method, str) and (method in OTHERS or method.startswith("captum:")):
        return lambda query, images, batch, start: other_maps(
            method, query, images, layers, dict(options or {}), batch, start
        )
    if options:
        raise InputError(f"method {method!r} takes no options, got {', '.join(options)}")
    if layers is None:
        return _AtBestLayer(method)
    if method in ("cam", "auto"):
        raise InputError(
            "an exact class activation map is of the last map, which tracing finds: leave layer out, or use"
            ' method="gradcam"'
        )
    found = find_gradient_method(method)

    def at_layers(query: Query, images: Tensor, batch: Batch, start: int) -> Saliency:
        return fuse(gradient_of_layers(query, images, layers, found, batch, start), fusion)

    return at_layers


class _AtBestLayer:
    """Explains chunk after chunk at the layer that the first one was found to be best explained at."""

    def __init__(self, method: MethodSpec) -> None:
        self._method = method
        self._seen: tuple[Spot | None, HeadProbe] | None = None

    def __call__(self, query: Query, images: Tensor, batch: Batch, start: int) -> Saliency:
        model = query.subject.model
        if self._seen is None:
            traced, probe = best_trace(model, images, run=query.run, output=query.output)
            self._seen = traced.at, probe
        else:
            spot, probe = self._seen
            traced = trace(model, images, spot, run=query.run, output=query.output)
        if self._method == "cam" or (self._method == "auto" and probe.exact):
            require_exact(probe, traced.layer)
            return cam_of_trace(query, traced, probe, batch, start)
        method = find_gradient_method("gradcam" if self._method == "auto" else self._method)
        return gradient_of_trace(query, traced, probe, method, batch, start)
