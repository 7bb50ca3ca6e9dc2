"""`anatomy`: a classifier is trunk → map → head, found by tracing a forward pass, never by model name.

The class activation map (Zhou et al. 2016, eq. 1-2) is *exact* when the head is an affine function of the
map's spatial mean: ``logit_c = sum_k W_ck mean_xy A_k + const_c``. Whether it is, is measured on the head
alone in float64 (additivity, spatial permutation); weights and constant then need no knowledge of layers:
``W_ck = sum_xy d logit_c / d A_k(x, y)`` and ``const_c = head(0)_c``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from explain.errors import InputError, ModelError
from explain.nets.head import Head
from explain.nets.modes import eval_mode, naming_errors
from explain.nets.outputs import OutputSpec
from explain.nets.record import Spot, Trace, recording
from explain.nets.spots import last_grid

__all__ = [
    "Anatomy",
    "HeadProbe",
    "anatomy",
    "best_trace",
    "check_finite",
    "class_weights",
    "folded_weights",
    "probe_head",
    "trace",
]

EXACT = 1e-9
"""Largest relative error of a float64 probe that counts as rounding: exact heads give 1e-15 … 1e-13, others 0.1 up."""


@dataclass(frozen=True)
class HeadProbe:
    """What the head does to the map, measured in float64 on one image."""

    additivity: float
    """Relative error of ``f(A+D1) + f(A+D2) = f(A) + f(A+D1+D2)``: 0 where the head is affine."""
    permutation: float
    """Relative change of the logits when positions are permuted: 0 where the head sees only the mean."""
    fault: str = ""
    """What the head reads beside the map, or why it could not be run on a map alone."""
    folded: bool = False
    """The head is affine once its LayerNorms are held at the statistics of the image itself."""

    @property
    def exact(self) -> bool:
        """True where the head is affine in the mean of the map (after folding, if ``folded``)."""
        return self.additivity < EXACT and self.permutation < EXACT and not self.fault

    @property
    def pools(self) -> bool:
        """True where the head does not see where in the map a value is."""
        return self.permutation < EXACT

    @property
    def reason(self) -> str:
        """One line that says why the class activation map is exact, or why not."""
        if self.exact and self.folded:
            return "the head is affine in the map's mean, with its LayerNorm held at the image's own statistics"
        if self.exact:
            return "the head is affine in the map's mean"
        if self.fault:
            return f"what follows the map needs more than the map, such as tokens or earlier maps ({self.fault})"
        if not self.additivity < float("inf"):
            return "the logits do not depend on the map (a head of zeros?)"
        if self.permutation >= EXACT:
            return (
                "the head sees positions, not only the map's mean"
                f" (permutation changes logits by {self.permutation:.2g})"
            )
        return f"the head pools the map but is not affine in its mean (additivity error {self.additivity:.2g})"


@dataclass(frozen=True, repr=False)
class Anatomy:
    """A classifier taken apart: where the map is, what its head is, whether CAM is exact."""

    layer: str
    """The layer that gives the last spatial map; ``features:relu`` where a function gives it."""
    channels: int
    grid: tuple[int, int]
    """(height, width) of the map for the input size that was traced."""
    classes: int
    head: Head
    """Map ``(b, c, h, w)`` in, logits out."""
    probe: HeadProbe
    residual: float
    """``max |mean_xy CAM + const - logit| / max |logit|`` over all classes of the traced image; nan if not exact."""
    candidates: tuple[tuple[str, tuple[int, int, int]], ...]
    """Modules with a spatial output: name and (channels, height, width), in order of execution."""

    def __repr__(self) -> str:
        size = f"{self.channels} channels, {self.grid[0]} x {self.grid[1]}"
        exact = "exact CAM" if self.exact else f"no exact CAM: {self.reason}"
        return f"Anatomy({self.layer!r}: {size}, {self.classes} classes, {exact})"

    @property
    def exact(self) -> bool:
        """True where ``mean_xy CAM + constant == logit``."""
        return self.probe.exact

    @property
    def reason(self) -> str:
        """Why CAM is exact, or why not."""
        return self.probe.reason


def trace(
    model: nn.Module,
    images: Tensor,
    at: Spot | None = None,
    *,
    run: Callable[[Tensor], Any] | None = None,
    output: OutputSpec = None,
) -> Trace:
    """Run one forward pass of ``model`` in eval mode, without graph, and record map, head and logits.

    Parameters
    ----------
    images
        ``(b, c, h, w)``, preprocessed, on the model's device.
    at
        The layer whose output is the map; the last spatial tensor where None.
    run
        How the network is called on images; ``model(images)`` where None.
    output
        Which part of the network's output holds the logits; see `explain.nets.outputs.pick`.

    Raises
    ------
    ModelError
        The model is no image classifier that can be traced; the message says why.
    """
    with eval_mode(model), torch.inference_mode(False), torch.no_grad():
        with recording(model, at=at) as recorder, naming_errors(images):
            result = (run or model)(images)
        return recorder.trace(result, output)


def best_trace(
    model: nn.Module,
    images: Tensor,
    *,
    run: Callable[[Tensor], Any] | None = None,
    output: OutputSpec = None,
) -> tuple[Trace, HeadProbe]:
    """Return a trace at the layer that is best to explain, and what its head was found to be.

    The last spatial map, if the head pools it: one forward pass. Else the last map or row of image tokens that a
    module returns and that the scores depend on, which takes a pass with one image and another with all.
    """
    traced = trace(model, images, run=run, output=output)
    check_finite(traced)
    probe = probe_head(traced.head, traced.map)
    if probe.exact or (probe.pools and not probe.fault):
        return traced, probe
    first = None if run is not None else images[:1]
    found = last_grid(model, images[:1] if first is not None else images, run, output)
    if found is None or (found[1].kind == "nchw" and found[0].layer in (traced.layer, *traced.owners)):
        return traced, probe
    traced = trace(model, images, found[0], run=run, output=output)
    return traced, probe_head(traced.head, traced.map)


def check_finite(traced: Trace) -> None:
    """Refuse a map with NaN or infinity.

    Raises
    ------
    ModelError
        The layer, and what to check.
    """
    if not bool(traced.map.isfinite().all()):
        raise ModelError(
            f"the map at {traced.layer} holds NaN or infinity: check the weights, the input and the precision"
        )


def anatomy(
    model: nn.Module,
    input_size: tuple[int, int, int] = (3, 224, 224),
    *,
    images: Tensor | None = None,
    output: OutputSpec = None,
) -> Anatomy:
    """Take a classifier apart by one traced forward pass; the model comes back as it was.

    Parameters
    ----------
    input_size
        (channels, height, width) of the noise image to trace with, where ``images`` is not given.
    images
        ``(b, c, h, w)``: preprocessed images to trace with instead; the first is used.
    output
        Which part of the network's output holds the logits; see `explain.nets.outputs.pick`.

    Raises
    ------
    ModelError
        See `trace`.
    """
    if images is None:
        place = next(iter(model.parameters()), torch.empty(0))
        noise = torch.randn(1, *input_size, generator=torch.Generator().manual_seed(0))
        images = noise.to(place.device, place.dtype if place.is_floating_point() else torch.float32)
    if images.ndim != 4:
        raise InputError(f"images of shape {tuple(images.shape)}: anatomy needs (b, c, h, w)")
    return dissected(*best_trace(model, images[:1], output=output))


def dissected(traced: Trace, probe: HeadProbe) -> Anatomy:
    """Return the anatomy seen in a trace."""
    feature_map = traced.map[:1]
    residual = float("nan")
    if probe.exact:
        found = traced.logits[:1].double()
        if probe.folded:
            every = torch.arange(found.shape[1], device=found.device)[None]
            weights, constants = folded_weights(traced.head, feature_map, every)
        else:
            weights, constants = (value[None] for value in class_weights(traced.head, feature_map))
        logits = torch.einsum("bkc,bc->bk", weights, feature_map.double().mean((2, 3))) + constants
        residual = float((logits - found).abs().max() / found.abs().max().clamp_min(1e-300))
    _, channels, height, width = feature_map.shape
    return Anatomy(
        layer=traced.layer,
        channels=channels,
        grid=(height, width),
        classes=traced.logits.shape[1],
        head=traced.head,
        probe=probe,
        residual=residual,
        candidates=traced.candidates,
    )


def probe_head(head: Head, feature_map: Tensor) -> HeadProbe:
    """Measure in float64 whether ``head`` is affine in the spatial mean of ``feature_map`` ``(1, c, h, w)``.

    The perturbations are up to ten times the map, and at least of scale 10: near zero, smooth heads (Hardswish)
    look affine by accident, and beside a huge map small ones drown in rounding.
    The permutation is one cycle through all positions, so that only the mean is left invariant.
    """
    base = feature_map[:1].double()
    probe = _probed(head, base)
    if probe.exact or not probe.pools or probe.fault:
        return probe
    fixed = head.at_statistics_of(base)
    if fixed is None:
        return probe
    held = _probed(fixed, base)
    return replace(held, folded=True) if held.exact else probe


def _probed(head: Head, base: Tensor) -> HeadProbe:
    generator = torch.Generator().manual_seed(0)
    scale = 10 * max(1.0, float(base.abs().max()))

    def noise(like: Tensor) -> Tensor:
        return (scale * torch.rand(like.shape, generator=generator, dtype=torch.float64)).to(base.device)

    first, second = noise(base), noise(base)
    order = torch.randperm(base.shape[2] * base.shape[3], generator=generator).to(base.device)
    cycle = torch.empty_like(order)
    cycle[order] = order.roll(1)
    moved = (base + first).flatten(2)[..., cycle].unflatten(2, base.shape[2:])
    # One call for all: a large head's weights are cast to float64 once.
    asked = torch.cat([base, base + first, base + second, base + first + second, moved])
    try:
        with torch.inference_mode(False), torch.no_grad():
            plain, one, two, both, permuted = head.of(torch.zeros(5, dtype=torch.int64))(asked)
            other = both
            if head.original is not None:  # does the head read the class token?
                token = head.original[:1].double()
                other = replace(head, original=token + noise(token))(asked[3:4])[0]
    except (RuntimeError, IndexError, TypeError) as error:  # what was recorded is no function of the map
        return HeadProbe(float("inf"), float("inf"), str(error).splitlines()[0])
    span = float((both - plain).abs().max())
    if not span > 0:
        return HeadProbe(float("inf"), float("inf"))
    additivity = float((one + two - plain - both).abs().max()) / span
    permutation = float((permuted - one).abs().max()) / span
    fault = "it reads earlier maps" if head.reads_more else ""
    if not float((other - both).abs().max()) / span < EXACT:
        fault = "it reads the class token"
    return HeadProbe(additivity, permutation, fault)


def class_weights(head: Head, feature_map: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the CAM weights and constants of an exact head, in float64.

    Parameters
    ----------
    feature_map
        ``(b, c, h, w)``; only its shape and device matter.
    classes
        int64 ``(n,)``; all classes where None.

    Returns
    -------
    weights, constants
        ``(n, c)`` and ``(n,)``: ``logit = weights @ mean_xy A + constants``.
    """
    shape = (1, *feature_map.shape[1:])
    with torch.inference_mode(False), torch.enable_grad():
        leaf = torch.zeros(shape, dtype=torch.float64, device=feature_map.device, requires_grad=True)
        logits = head(leaf)[0]
        wanted = torch.arange(len(logits), device=logits.device) if classes is None else classes
        rows = []
        for chunk in wanted.split(64):
            seeds = torch.zeros(len(chunk), len(logits), dtype=logits.dtype, device=logits.device)
            seeds[torch.arange(len(chunk), device=seeds.device), chunk] = 1
            (gradient,) = torch.autograd.grad(logits, leaf, seeds, retain_graph=True, is_grads_batched=True)
            rows.append(gradient[:, 0].sum((2, 3)))
        return torch.cat(rows).detach(), logits.detach()[wanted]


def folded_weights(head: Head, feature_map: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the CAM weights and constants of a head whose LayerNorm is held at each image's statistics, in float64.

    Parameters
    ----------
    feature_map
        ``(b, c, h, w)``: the maps whose statistics are held.
    classes
        int64 ``(b, k)``.

    Returns
    -------
    weights, constants
        ``(b, k, c)`` and ``(b, k)``.
    """
    with torch.inference_mode(False), torch.enable_grad():
        value = feature_map.detach().double()
        fixed = head.at_statistics_of(value)
        assert fixed is not None
        leaf = torch.zeros_like(value).requires_grad_()
        chosen = fixed(leaf).gather(1, classes)
        rows = []
        for part in torch.eye(chosen.shape[1], dtype=value.dtype, device=value.device).split(16):
            seeds = part[:, None].expand(-1, len(value), -1)
            (gradient,) = torch.autograd.grad(chosen, leaf, seeds, retain_graph=True, is_grads_batched=True)
            rows.append(gradient.sum((3, 4)))
    return torch.cat(rows).transpose(0, 1).detach(), chosen.detach()


def require_exact(probe: HeadProbe, layer: str) -> None:
    """Refuse a head without exact class activation maps.

    Raises
    ------
    ModelError
        Why not, and what to use instead.
    """
    if not probe.exact:
        raise ModelError(
            f"no exact class activation map at {layer}: {probe.reason}; use a network that ends in global average"
            " pooling and one linear layer, a gradient method, as in explain.attribute(model, images,"
            ' method="gradcam") (on the command line --method gradcam), or give this trunk such a head with'
            " explain.nets.linear_head(subject, images, labels)"
        )
