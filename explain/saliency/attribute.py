"""Every method behind one call: `explain.attribute`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from explain.errors import InputError, near
from explain.maps import Align
from explain.nets.inputs import Batch
from explain.nets.outputs import OutputSpec
from explain.nets.probe import HeadProbe, require_exact
from explain.nets.subject import Subject, as_subject
from explain.nets.traced import Trace
from explain.saliency.cam import BestLayer, aligned, by_chunks, cam_of_trace, check_align, checked_batch
from explain.saliency.classes import ClassSpec
from explain.saliency.fusing import Fusion, fuse
from explain.saliency.gradient import METHODS
from explain.saliency.maps import MethodSpec, find_gradient_method, gradient_of_layers, gradient_of_trace
from explain.saliency.others import OTHERS, other_maps
from explain.saliency.query import Query, query_of
from explain.types import Saliency

__all__ = ["attribute", "explainer", "known_methods", "map_of_trace", "method_name"]

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
    align: Align = "grid",
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
    align
        ``"receptive-field"``: find out where the map's cells look, and lay maps over the input accordingly when they
        are resized, shown and turned into boxes; ``"grid"``: cells tile the input. See docs/alignment.md.
    batch_size
        Images per forward pass.
    output, inputs, image_name
        Models with structured output or further inputs; see `explain.saliency.cam.cam`.
    options
        Settings of the method: ``chunk`` and ``relu`` (Score-CAM, Ablation-CAM), ``rescale`` (FullGrad),
        ``head_fusion`` (rollout), ``last`` (LeGrad), what Captum's take.

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
    explained = explainer(
        model,
        method,
        layer=layer,
        fusion=fusion,
        augment=augment,
        align=align,
        batch_size=batch_size,
        output=output,
        inputs=inputs,
        image_name=image_name,
        options=options,
    )
    return explained(images, classes)


def explainer(
    model: nn.Module | Subject | str,
    method: MethodSpec = "gradcam",
    *,
    layer: str | Sequence[str] | None = None,
    fusion: Fusion = "mean",
    augment: str | None = None,
    align: Align = "grid",
    batch_size: int = 32,
    output: OutputSpec = None,
    inputs: Mapping[str, Any] | None = None,
    image_name: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Callable[[Any, ClassSpec], Saliency]:
    """Return `attribute` as a function of images and classes, for data that come batch by batch.

    The layer that is found to be best to explain is looked for once, with the first images. The network must not
    change meanwhile. Parameters and errors are those of `attribute`.
    """
    method = method_name(method)
    subject = as_subject(model)
    layers = (layer,) if isinstance(layer, str) else tuple(layer) if layer is not None else None
    if layers is not None and not layers:
        raise InputError("layer=[] names no layer")
    if (augment is not None or (layers is not None and len(layers) > 1)) and align != "grid":
        raise InputError("views and layers are merged on one grid: leave align out, or give one layer and no augment")
    check_align(align)
    part = _part_of(method, layers, fusion, options)

    def run(query: Query, batch: Batch) -> Saliency:
        return by_chunks(query, batch, batch_size, lambda asked, chunk, start: part(asked, chunk, batch, start))

    def explained(images: Any, classes: ClassSpec = "top1") -> Saliency:
        # What is made in the user's own inference mode could take no part in derivatives.
        with torch.inference_mode(False), torch.no_grad():
            batch = checked_batch(images, subject, batch_size)
            query = query_of(subject, classes, output, inputs, image_name)
            if augment is None:
                found = run(query, batch)
                return found if align == "grid" else aligned(found, query, batch)
            from explain.saliency.augment import augmented

            # All views explain the classes that the first of them chose.
            return augmented(
                batch,
                augment,
                lambda views, chosen: run(query if chosen is None else replace(query, classes=chosen), views),
            )

    return explained


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
        return _at_best_layer(method)
    if method in ("cam", "auto"):
        raise InputError(
            "an exact class activation map is of the last map, which tracing finds: leave layer out, or use"
            ' method="gradcam"'
        )
    found = find_gradient_method(method)

    def at_layers(query: Query, images: Tensor, batch: Batch, start: int) -> Saliency:
        return fuse(gradient_of_layers(query, images, layers, found, batch, start), fusion)

    return at_layers


def _at_best_layer(method: MethodSpec) -> Part:
    """Return the function that explains chunk after chunk at the layer that is found with the first."""
    best = BestLayer()

    def part(query: Query, images: Tensor, batch: Batch, start: int) -> Saliency:
        traced, probe = best.trace(query, images)
        return map_of_trace(method, query, traced, probe, batch, start)

    return part


def map_of_trace(
    method: MethodSpec, query: Query, traced: Trace, probe: HeadProbe, batch: Batch, start: int = 0
) -> Saliency:
    """Return the maps of ``"cam"``, ``"auto"`` or a gradient method from a recorded forward pass."""
    if method == "cam" or (method == "auto" and probe.exact):
        require_exact(probe, traced.layer)
        return cam_of_trace(query, traced, probe, batch, start)
    found = find_gradient_method("gradcam" if method == "auto" else method)
    return gradient_of_trace(query, traced, probe, found, batch, start)
