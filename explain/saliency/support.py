"""What a network supports: exact maps or not, and whether a gradient method answers on the right grid."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from explain.nets.subject import load
from explain.nets.trace import Anatomy, take_apart, trace
from explain.nets.traced import Trace
from explain.nets.zoo import ZooRow, fill_random, input_side
from explain.saliency.attribute import attribute
from explain.saliency.cam import cam

__all__ = ["examine", "examine_random"]


def examine(network: nn.Module, images: Tensor, name: str = "", family: str = "") -> tuple[Anatomy, ZooRow]:
    """Take a network apart, make maps of it, and return what was found; it comes back as it was.

    Parameters
    ----------
    images
        ``(b, c, h, w)``: preprocessed; noise will do.

    Raises
    ------
    ModelError
        The network cannot be traced, or its exact maps do not add up to its logits.
    """
    from importlib.metadata import version

    parts, traced = take_apart(network, images[:1])
    probe = parts.probe
    residual = parts.residual
    if parts.exact:
        residual = max(residual, cam(network, images, "top2").residual)
    found = attribute(network, images, "gradcam", "top2").values
    spread = found.amax((2, 3)) - found.amin((2, 3))
    row = ZooRow(
        name=name,
        family=family,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        input="x".join(str(side) for side in images.shape[1:]),
        layer=parts.layer,
        channels=parts.channels,
        height=parts.grid[0],
        width=parts.grid[1],
        classes=parts.classes,
        exact=parts.exact,
        folded=probe.folded,
        additivity=probe.additivity,
        permutation=probe.permutation,
        fault=probe.fault,
        residual=residual,
        gradcam=bool(found.isfinite().all())
        and bool((spread > 1e-6 * found.abs().amax((2, 3))).all())
        and tuple(found.shape[2:]) == parts.grid,
        placed=None if parts.exact else _in_place(network, images[:1], traced),
        reason=parts.reason,
        torch=version("torch"),
        torchvision=version("torchvision"),
    )
    return parts, row


def examine_random(name: str) -> ZooRow:
    """Return what `examine` finds of a network of torchvision by name, with random weights, on two noise images."""
    from torchvision import models

    images = torch.randn(2, 3, input_side(name), input_side(name), generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = load(name, weights="none").model
        fill_random(network, images)
    family = str(models.get_model_builder(name).__module__).rsplit(".", 1)[-1]
    return examine(network, images, name, family)[1]


def _in_place(network: nn.Module, images: Tensor, traced: Trace) -> bool:
    """Tell whether the map's corners are the image's: noise in two opposite quarters of the image, one at a time.

    Layers that see the whole image spread every change, so the changes are compared with each other: each must be
    the stronger one, for its share of the other, in its own corner of the map.
    """
    upper_right = trace(network, _with_noise(images, slice(None, images.shape[2] // 2), 1), traced.at).map
    lower_left = trace(network, _with_noise(images, slice(-(images.shape[2] // 2), None), 0), traced.at).map
    first, second = ((found - traced.map).abs().mean(1)[0] for found in (upper_right, lower_left))
    height, width = max(1, first.shape[0] // 2), max(1, first.shape[1] // 2)
    right, left = (slice(None, height), slice(-width, None)), (slice(-height, None), slice(None, width))
    return bool(first[right].mean() * second[left].mean() > first[left].mean() * second[right].mean())


def _with_noise(images: Tensor, rows: slice, side: int) -> Tensor:
    """Return images with noise added in these rows of the left (0) or right (1) half."""
    changed = images.clone()
    width = images.shape[3] // 2
    part = changed[:, :, rows, -width:] if side else changed[:, :, rows, :width]
    noise = torch.randn(part.shape, generator=torch.Generator().manual_seed(1))
    part += 2 * noise.to(images)
    return changed
