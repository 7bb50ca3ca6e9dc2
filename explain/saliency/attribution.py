"""Captum's attribution methods behind one function: images and classes in, one map per class out.

Captum computes; what stands here is what its callers have to know: baselines, windows, segments, seeds,
pieces that fit into memory, and networks for which a method would be wrong without a word.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from explain.errors import DependencyError, ExplainError, InputError, ModelError
from explain.nets.layout import Layout, noting_layouts
from explain.nets.modes import eval_mode, naming_errors
from explain.nets.tap import check_layer, count_calls
from explain.saliency.captum_methods import (
    METHODS,
    CaptumMethod,
    captum_names,
    check_inputs,
    check_targets,
    grid_segments,
    parse_name,
    split_options,
)
from explain.saliency.twin import Door, lrp_chain, lrp_rules, relu_modules, twin_of

__all__ = ["captum_maps", "captum_names", "grid_segments"]

SUMS = 0.01
"""Relative error of DeepLIFT's sum beyond which it is refused; rounding gives 1e-6, a rule that is missing 0.1 up."""

_TWO = ("deep_lift", "layer_conductance")
"""Pass two samples of each image at once: image and baseline, neighbouring steps."""

_DISTRIBUTIONS = ("deep_lift_shap", "gradient_shap")
"""Compare every image with all baselines, which are not one per image."""

_LOCK = threading.Lock()
"""Held where Captum draws from NumPy's generator or warns: both are the whole process's."""


def captum_maps(
    name: str,
    network: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    layer: str | None = None,
    options: Mapping[str, Any] | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> Tensor:
    """Return Captum's attribution of each image to each of its classes, as maps.

    Gradient methods are *summed* over channels, with their signs (``saliency`` takes absolute values first,
    Captum's ``abs=True``). Methods that work on segments (occlusion, feature_ablation, feature_permutation,
    shapley_value_sampling, kernel_shap, lime) give every pixel its segment's value: what the logit loses with the
    segment; channels are *averaged*, which keeps that value.

    Defaults, each an option. Baseline: zeros, which for a normalised input is the mean colour; ``deep_lift_shap`` and
    ``gradient_shap``: flat images of -1, 0 and 1. Occlusion: windows of a 7th of each side, in steps of a 14th, all
    channels at once. Segments (``feature_mask``): a 7 x 7 grid (see `grid_segments`), never single pixels.
    ``n_samples``: 200 for lime and kernel_shap, 10 orders for shapley_value_sampling, else Captum's. ``lime`` fits a
    ridge (Ribeiro's own code; Captum's lasso of 0.01 gives all zeros where logits are small). Noise (``smoothgrad``
    is NoiseTunnel of saliency; ``noise_tunnel:NAME`` of others): 20 samples, standard deviation 0.15 of the image's
    range (Smilkov et al. 2017). ``guided_grad_cam`` is upsampled bilinearly.

    What is random starts from ``seed`` for each image, so that a map does not depend on what else is in the batch. The
    exception is ``feature_permutation``, which exchanges segments *between* the images of the batch.

    Parameters
    ----------
    name
        One of `captum_names`.
    network
        ``network(images)`` returns ``(n, m)``. It comes back as it was: hooks go on a twin that shares its
        parameters (``lrp``: copies them), where every call of a ReLU is a module of its own, also functional,
        in-place and shared ones. It runs in eval mode.
    images
        ``(b, c, h, w)``, floating point; in float16 and bfloat16 Captum's arithmetic is float32, the network's is not.
    targets
        int64 ``(b, k)``: the columns of the output to explain. Each of the ``k`` is a run of its own.
    layer
        A module of ``network``, for ``layer_*``, ``internal_influence`` and ``guided_grad_cam`` only.
    options
        Arguments of the Captum class and its ``attribute``, by name. Tensors with one entry per image
        are cut with the batch.
    batch_size
        The most samples that go through the network at once (``deep_lift`` doubles, ``deep_lift_shap`` and
        ``gradient_shap`` multiply one image by their baselines or samples).
    seed
        Of everything random; the caller's generators (torch, NumPy) are left as they were.

    Returns
    -------
    Tensor
        float32 ``(b, k, h', w')`` on the images' device, without graph: the input's size, or the layer's.

    Raises
    ------
    InputError
        Unknown name or option, shapes that do not fit, a layer missing or not wanted.
    ModelError
        The method does not hold for this network (no ReLU for guided backpropagation, DeepLIFT's sum violated, LRP on a
        network with functional sums), or the network fails.
    DependencyError
        ``lime`` and ``kernel_shap`` need scikit-learn.

    Notes
    -----
    Two threads may explain one network. Methods that draw or make Captum warn take turns.
    """
    inner, tunnel = parse_name(name)
    method = METHODS[inner]
    given = dict(options or {})
    check_inputs(inner, method, images, targets, layer, batch_size, seed)
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(eval_mode(network))
        images = images.detach().clone() if images.is_inference() else images.detach()
        dtype = images.dtype if images.dtype in (torch.float32, torch.float64) else torch.float32
        single = images[:1].to(dtype)
        with naming_errors(images):
            with torch.no_grad():
                outputs = Door(network, images.dtype, batch_size)(single)
            check_targets(targets, outputs)
            door = Door(_prepared(inner, method, network, images[:1]), images.dtype, batch_size)
            module, layout = (None, None) if layer is None else _layer_of(inner, door, layer, single)
        drawn = tunnel or method.random or inner == "feature_permutation"
        if drawn or "relus" in method.needs:
            stack.enter_context(_apart(images.device))
        job = _Job(name, inner, tunnel, method, door, module, layout, given, batch_size, seed if drawn else None)
        if inner == "lrp":
            job = replace(job, rules=lrp_rules(door))
        split_options(name, method, tunnel, given)  # before any work
        return _run(job, images.to(dtype), targets)


@dataclass(frozen=True)
class _Job:
    name: str
    inner: str
    tunnel: bool
    method: CaptumMethod
    door: Door
    module: nn.Module | None
    layout: Layout | None
    options: dict[str, Any]
    batch_size: int
    seed: int | None
    """None where nothing is drawn."""
    rules: tuple[tuple[nn.Module, Any], ...] = ()
    """Modules with rules of their own for LRP."""


def _run(job: _Job, images: Tensor, targets: Tensor) -> Tensor:
    count = len(images)
    if job.inner == "feature_permutation":
        size = count
    elif job.tunnel or job.method.random or job.inner == "deep_lift_shap":
        size = 1
    else:
        size = max(1, job.batch_size // 2 if job.inner in _TWO else job.batch_size)
    rows = []
    for start in range(0, count, size):
        cut = slice(start, min(count, start + size))
        options = {key: _cut(key, value, cut, count, job) for key, value in job.options.items()}
        row = [_one(job, images[cut], column, options) for column in targets[cut].to(images.device).unbind(1)]
        rows.append(torch.stack(row, 1))
    return torch.cat(rows)


def _cut(key: str, value: Any, cut: slice, count: int, job: _Job) -> Any:
    if not isinstance(value, Tensor):
        return value
    of_images = key == "feature_mask" or (key == "baselines" and job.inner not in _DISTRIBUTIONS)
    return value[cut] if of_images and len(value) == count > 1 else value


def _one(job: _Job, images: Tensor, target: Tensor, given: dict[str, Any]) -> Tensor:
    """Explain one class of each image of a piece; ``(n, h', w')``."""
    made, asked, tunnel = split_options(job.name, job.method, job.tunnel, given)
    changed = bool(made) or "custom_attribution_func" in asked  # then the values need not sum to the logit
    asked = {**job.method.defaults(images), **asked}
    if job.method.passes is not None:
        asked[job.method.passes] = max(job.batch_size, 2 if job.inner in _TWO else 1)
    if job.tunnel:
        asked = {**_noise(images, job.batch_size), **tunnel, **asked}
    if job.inner != "layer_activation":
        asked["target"] = target
    if job.seed is not None:
        _seed(job.seed, images.device)
    for module, rule in job.rules:
        module.rule = rule  # Captum deletes the rules after each run
    with _naming_captum(job, given):
        value = _algorithm(job, made).attribute(images.detach().clone().requires_grad_(), **asked)
        value = _tensor(value[0] if isinstance(value, tuple) and value else value, job).detach()
        if job.inner in ("deep_lift", "deep_lift_shap") and not job.tunnel and not changed:
            _check_sum(job, value, images, asked["baselines"], target)
    return (value.mean(1) if job.method.segments else value.sum(1)).float()


def _algorithm(job: _Job, made: dict[str, Any]) -> Any:
    import captum.attr
    from captum._utils.models.linear_model import SkLearnLinearModel

    if job.inner == "lime" and "interpretable_model" not in made:
        made = {**made, "interpretable_model": SkLearnLinearModel("linear_model.Ridge", alpha=1.0)}
    maker = getattr(captum.attr, job.method.captum)
    algorithm = maker(job.door, **made) if job.module is None else maker(job.door, job.module, **made)
    return captum.attr.NoiseTunnel(algorithm) if job.tunnel else algorithm


@contextmanager
def _naming_captum(job: _Job, given: dict[str, Any]) -> Iterator[None]:
    """Turn what Captum raises into one line that names method and options."""
    try:
        yield
    except ExplainError:
        raise
    except torch.cuda.OutOfMemoryError:
        raise ModelError(f"{job.name}: the device has too little memory: lower batch_size={job.batch_size}") from None
    except Exception as error:
        if isinstance(error, ImportError) or "sklearn is not available" in str(error):
            raise DependencyError(f"{job.name} needs scikit-learn: pip install scikit-learn ({error})") from error
        line = (str(error).strip().splitlines() or [""])[0]
        raise ModelError(
            f"captum's {job.name} fails on this network with options {sorted(given)} ({type(error).__name__}: {line})"
        ) from error


def _tensor(value: Any, job: _Job) -> Tensor:
    if isinstance(value, Tensor) and job.layout is not None and "relus" not in job.method.needs:
        value = job.layout.to_map(value)
    if not isinstance(value, Tensor) or value.ndim != 4:
        raise ModelError(f"captum's {job.name} gives {type(value).__name__}, not a map (n, c, h, w)")
    return value


def _noise(images: Tensor, batch_size: int) -> dict[str, Any]:
    """Return NoiseTunnel's defaults for one image."""
    spread = 0.15 * float(images.amax() - images.amin())
    return {"nt_samples": 20, "nt_samples_batch_size": batch_size, "stdevs": spread}


def _check_sum(job: _Job, value: Tensor, images: Tensor, baselines: Any, target: Tensor) -> None:
    """Check that attributions sum to the change of the logit from the baseline (Shrikumar et al. 2017, eq. 1)."""
    base = baselines if isinstance(baselines, Tensor) else torch.full_like(images, float(baselines))
    with torch.no_grad():
        before = job.door(base.to(images.device, images.dtype))
        before = before.mean(0, keepdim=True) if job.inner == "deep_lift_shap" else before
        change = job.door(images) - before
    found, expected = value.sum((1, 2, 3)), change.gather(1, target[:, None])[:, 0]
    scale = change.abs().amax(1).clamp_min(torch.finfo(change.dtype).tiny)
    wrong = float(((found - expected).abs() / scale).max())
    if not wrong <= max(SUMS, 8 * torch.finfo(job.door.dtype).eps):
        raise ModelError(
            f"{job.name} does not hold for this network: its values should sum to the change of the logit"
            f" and miss it by {wrong:.0%}, for Captum has no rule for some function in it (SiLU, GELU, attention,"
            " products, functional pooling); use integrated_gradients"
        )


# --- the network, made ready ------------------------------------------------------------------------------


def _prepared(inner: str, method: CaptumMethod, network: nn.Module, image: Tensor) -> nn.Module:
    """Return the network itself, or the twin that a method may hook."""
    if method.needs == "network":
        return network
    if method.needs == "layer":
        return twin_of(network)
    if method.needs == "chain":
        return lrp_chain(twin_of(network, parameters="copied"), image)
    twin = relu_modules(twin_of(network), image, "relu" if inner.startswith("deep_lift") else "clamp")
    if not len(twin.relus) and not inner.startswith("deep_lift"):
        raise ModelError(f"the network has no ReLU: {inner} would be the plain gradient; use saliency")
    return twin


def _layer_of(inner: str, door: Door, layer: str, image: Tensor) -> tuple[nn.Module, Layout]:
    """Return the module that Captum is to hook, and how its output lies, from a forward pass on one image."""
    inside = door.network.network if hasattr(door.network, "relus") else door.network
    assert isinstance(inside, nn.Module)
    check_layer(inside, layer)
    if ":" in layer:
        raise InputError(
            f"layer {layer!r} is a function's output: Captum hooks modules; give one, or use method='gradcam'"
        )
    with noting_layouts(inside, image) as layouts:
        calls = count_calls(inside, layer, lambda: door(image))
    layout = layouts.get(layer)
    if layout is None or (layout.kind != "nchw" and "grad_cam" in inner):
        kind = "no map" if layout is None else {"nhwc": "a map (n, h, w, c)", "tokens": "tokens (n, m, c)"}[layout.kind]
        raise ModelError(
            f"layer {layer!r} gives {kind}, and captum's {inner} needs a map (n, c, h, w):"
            " give another layer, or use method='gradcam'"
        )
    if calls > 1:
        raise ModelError(f"layer {layer!r} is called {calls} times, which Captum mixes up: give another layer")
    return inside.get_submodule(layer), layout


# --- randomness and warnings ------------------------------------------------------------------------------


@contextmanager
def _apart(device: torch.device) -> Iterator[None]:
    """Keep the process's generators as they are, and silence two notes of Captum, which say that it sets hooks."""
    with _LOCK, torch.random.fork_rng(devices=_cuda(device)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*Setting (backward|forward, backward) hooks", UserWarning)
        before = np.random.get_state()  # noqa: NPY002 - the generator that Captum uses
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002


def _seed(seed: int, device: torch.device) -> None:
    """Seed the generators that `_apart` keeps, and no others."""
    torch.default_generator.manual_seed(seed)
    for index in _cuda(device):
        torch.cuda.default_generators[index].manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002


def _cuda(device: torch.device) -> list[int]:
    return [device.index or 0] if device.type == "cuda" else []
