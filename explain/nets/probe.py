"""Is a head affine in the mean of its map? Measured, never assumed; and the weights and constants if it is.

The head alone is run in float64 on perturbed and permuted maps (`probe_head`). If it passes, weights and constant
need no knowledge of layers: ``W_ck = sum_xy d logit_c / d A_k(x, y)`` and ``const_c = head(0)_c``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from explain.errors import ModelError
from explain.nets.head import Head

__all__ = ["HeadProbe", "class_weights", "folded_weights", "probe_head", "require_exact"]

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


def probe_head(head: Head, feature_map: Tensor) -> HeadProbe:
    """Measure in float64 whether ``head`` is affine in the spatial mean of ``feature_map`` ``(1, c, h, w)``.

    The perturbations are up to ten times the map, and at least of scale 10: near zero, smooth heads (Hardswish)
    look affine by accident, and beside a huge map small ones drown in rounding.
    The permutation is one cycle through all positions, so that only the mean is left invariant.
    """
    base = feature_map[:1].double()
    cut = head.without_last_linear()
    if cut is not None and bool(cut[1][:1].any() or cut[1].any()):
        # What is affine in the mean before a linear layer is so after it: the large weight need not be cast.
        probe = _probed(cut[0], base)
        if probe.exact:
            return probe
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

    first = noise(base)
    second = first.flip(1)
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
    except (RuntimeError, IndexError, TypeError, ValueError) as error:  # what was recorded is no function of the map
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
    channels, height, width = feature_map.shape[1:]
    place = feature_map.device
    few = head.narrowed(classes) if classes is not None else None
    asked = head if few is None else few
    with torch.inference_mode(False), torch.enable_grad():
        flat = torch.zeros(1, channels, 1, 1, dtype=torch.float64, device=place, requires_grad=True)
        small = _pools_single_cells(asked, feature_map)
        leaf = flat if small else flat.expand(1, channels, height, width)
        logits = asked(leaf)[0]
        if classes is not None and few is None:
            logits = logits[classes]
        # So many classes at once that their gradients stay small.
        chunk = max(1, min(256, 2**21 // (channels * (1 if small else height * width))))
        seeds = torch.eye(len(logits), dtype=torch.float64, device=place).split(chunk)
        rows = [torch.autograd.grad(logits, flat, s, retain_graph=True, is_grads_batched=True)[0] for s in seeds]
        return torch.cat(rows)[:, 0, :, 0, 0].detach(), logits.detach()


def _pools_single_cells(head: Head, feature_map: Tensor) -> bool:
    """Tell whether an exact head gives for a map of one cell what it gives for a flat map of that value."""
    generator = torch.Generator().manual_seed(0)
    cell = torch.rand(1, feature_map.shape[1], 1, 1, generator=generator, dtype=torch.float64).to(feature_map.device)
    if head.layout is not None:
        return False
    with torch.no_grad():
        try:
            small = head(cell)
        except (RuntimeError, ValueError, IndexError):
            return False
        full = head(cell.expand(-1, -1, *feature_map.shape[2:]))
        return small.shape == full.shape and bool((small - full).abs().max() <= EXACT * full.abs().max())


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
