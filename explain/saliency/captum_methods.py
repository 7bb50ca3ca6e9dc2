"""Captum's methods by name: what each needs of the network, its defaults here, and the options that it takes."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from explain.errors import InputError, ModelError, near

__all__ = [
    "METHODS",
    "CaptumMethod",
    "captum_names",
    "check_inputs",
    "check_targets",
    "grid_segments",
    "parse_name",
    "split_options",
]

# Set here, or of no meaning for a map.
_OURS = frozenset(
    "self inputs target additional_forward_args forward_func model network layer device_ids attribution_method"
    " return_convergence_delta return_input_shape show_progress internal_batch_size perturbations_per_eval"
    " nt_samples_batch_size verbose grad_kwargs attribute_to_layer_input kwargs memory_efficient".split()
)

Needs = Literal["network", "relus", "chain", "layer", "relus and layer"]


@dataclass(frozen=True)
class CaptumMethod:
    """What a name stands for in Captum, and what it needs."""

    captum: str
    needs: Needs = "network"
    passes: str | None = None
    """The argument that bounds how many samples go through the network at once."""
    segments: bool = False
    """Pixels of a segment all carry the segment's value: channels are averaged; else they are summed."""
    random: bool = False
    """Drawn at random: each image is explained alone from the same seed."""
    defaults: Callable[[Tensor], dict[str, Any]] = lambda images: {}


def _zero(images: Tensor) -> dict[str, Any]:
    return {"baselines": 0}


def _flat(images: Tensor) -> dict[str, Any]:
    levels = torch.tensor([-1.0, 0.0, 1.0], dtype=images.dtype, device=images.device)
    return {"baselines": levels[:, None, None, None].expand(3, *images.shape[1:]).contiguous()}


def _window(images: Tensor) -> dict[str, Any]:
    channels, height, width = images.shape[1:]
    window = (channels, math.ceil(height / 7), math.ceil(width / 7))
    strides = (channels, math.ceil(height / 14), math.ceil(width / 14))
    return {"baselines": 0, "sliding_window_shapes": window, "strides": strides}


def _segments(images: Tensor) -> dict[str, Any]:
    return {"feature_mask": grid_segments(images.shape[2], images.shape[3]).to(images.device)}


def _segments_to_zero(images: Tensor) -> dict[str, Any]:
    return {"baselines": 0, **_segments(images)}


def _sampled(count: int) -> Callable[[Tensor], dict[str, Any]]:
    return lambda images: {"n_samples": count, **_segments_to_zero(images)}


def _smooth(interpolation: str) -> Callable[[Tensor], dict[str, Any]]:
    return lambda images: {"interpolate_mode": interpolation}


_EVAL = "perturbations_per_eval"
_INNER = "internal_batch_size"
METHODS: dict[str, CaptumMethod] = {
    "integrated_gradients": CaptumMethod("IntegratedGradients", passes=_INNER, defaults=_zero),
    "saliency": CaptumMethod("Saliency"),
    "input_x_gradient": CaptumMethod("InputXGradient"),
    "guided_backprop": CaptumMethod("GuidedBackprop", "relus"),
    "deconvolution": CaptumMethod("Deconvolution", "relus"),
    "guided_grad_cam": CaptumMethod("GuidedGradCam", "relus and layer", defaults=_smooth("bilinear")),
    "deep_lift": CaptumMethod("DeepLift", "relus", defaults=_zero),
    "deep_lift_shap": CaptumMethod("DeepLiftShap", "relus", defaults=_flat),
    "gradient_shap": CaptumMethod("GradientShap", random=True, defaults=_flat),
    "occlusion": CaptumMethod("Occlusion", passes=_EVAL, segments=True, defaults=_window),
    "feature_ablation": CaptumMethod("FeatureAblation", passes=_EVAL, segments=True, defaults=_segments_to_zero),
    "feature_permutation": CaptumMethod("FeaturePermutation", segments=True, defaults=_segments),
    "shapley_value_sampling": CaptumMethod("ShapleyValueSampling", "network", _EVAL, True, True, _sampled(10)),
    "kernel_shap": CaptumMethod("KernelShap", "network", _EVAL, True, True, _sampled(200)),
    "lime": CaptumMethod("Lime", "network", _EVAL, True, True, _sampled(200)),
    "lrp": CaptumMethod("LRP", "chain"),
    "layer_activation": CaptumMethod("LayerActivation", "layer"),
    "layer_grad_cam": CaptumMethod("LayerGradCam", "layer"),
    "layer_gradient_x_activation": CaptumMethod("LayerGradientXActivation", "layer"),
    "layer_integrated_gradients": CaptumMethod("LayerIntegratedGradients", "layer", _INNER, defaults=_zero),
    "layer_conductance": CaptumMethod("LayerConductance", "layer", _INNER, defaults=_zero),
    "internal_influence": CaptumMethod("InternalInfluence", "layer", _INNER, defaults=_zero),
}
NOISY = ("saliency", "integrated_gradients", "input_x_gradient", "guided_backprop", "deconvolution", "deep_lift")


def captum_names() -> list[str]:
    """Return the names that `captum_maps` knows."""
    return [*METHODS, "smoothgrad", *(f"noise_tunnel:{name}" for name in NOISY)]


def grid_segments(height: int, width: int, cells: int = 7) -> Tensor:
    """Return a grid of ``cells x cells`` rectangles as segments: int64 ``(1, 1, height, width)``, ids from 0.

    Each rectangle is one feature for the methods that take ``feature_mask``; there is no grid finer than the pixels.
    """
    rows, columns = min(cells, height), min(cells, width)
    y = torch.arange(height) * rows // height
    x = torch.arange(width) * columns // width
    return (y[:, None] * columns + x)[None, None]


def _plain(name: str) -> str:
    """Return a name without what ``IntegratedGradients`` and ``integrated_gradients`` differ by."""
    return name.lower().replace("_", "")


def parse_name(name: str) -> tuple[str, bool]:
    """Return the method's name, and whether it is averaged over noise; Captum's class names will do as well."""
    name = {_plain(known): known for known in captum_names()}.get(_plain(name), name)
    if name == "smoothgrad":
        return "saliency", True
    if name not in captum_names():
        raise InputError(
            f"captum has no method {name!r} here{near(name, captum_names())}; all: {', '.join(captum_names())}"
        )
    return name.removeprefix("noise_tunnel:"), ":" in name


def split_options(
    name: str, method: CaptumMethod, tunnelled: bool, given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Sort options into those of the constructor, of ``attribute`` and of the noise tunnel.

    Raises
    ------
    InputError
        An option that none of them has; near ones are named.
    """
    import captum.attr

    maker = getattr(captum.attr, method.captum)
    made, asked = _named(maker.__init__), _named(maker.attribute)
    tunnel = _named(captum.attr.NoiseTunnel.attribute) if tunnelled else set()
    known = sorted(made | asked | tunnel)
    for key in given:
        if key not in known:
            raise InputError(f"{name} has no option {key!r}{near(key, known)}; it has {', '.join(known) or 'none'}")
    chosen = [{key: given[key] for key in given if key in part} for part in (made, asked, tunnel)]
    return chosen[0], chosen[1], chosen[2]


def check_inputs(
    inner: str, method: CaptumMethod, images: Tensor, targets: Tensor, layer: str | None, batch_size: int, seed: int
) -> None:
    """Refuse images, targets, layer, batch size or seed that cannot be used."""
    if images.ndim != 4 or not images.is_floating_point() or len(images) == 0:
        raise InputError(
            f"images of {images.dtype} {tuple(images.shape)}: give floating point (b, c, h, w), b at least 1"
        )
    if targets.ndim != 2 or len(targets) != len(images) or targets.dtype != torch.int64 or targets.shape[1] == 0:
        raise InputError(f"targets of {targets.dtype} {tuple(targets.shape)}: give int64 ({len(images)}, k)")
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: give at least 1")
    if not 0 <= seed < 2**32:
        raise InputError(f"seed={seed}: give 0 to 2**32 - 1")
    if (layer is not None) != ("layer" in method.needs):
        raise InputError(
            f"{inner} explains a layer: give layer" if layer is None else f"{inner} explains the input: give no layer"
        )
    if inner == "feature_permutation" and len(images) < 2:
        raise InputError("feature_permutation exchanges segments between images: give at least 2; or feature_ablation")


def check_targets(targets: Tensor, outputs: Tensor) -> None:
    """Refuse classes that the network's output for one image does not have."""
    if outputs.ndim != 2:
        raise ModelError(f"the network returns {tuple(outputs.shape)} for one image, not (1, classes)")
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= outputs.shape[1]:
        raise InputError(f"targets {low} to {high}, but the network has {outputs.shape[1]} outputs")


def _named(function: Callable[..., Any]) -> set[str]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {key for key, value in inspect.signature(function).parameters.items() if value.kind in kinds} - _OURS
