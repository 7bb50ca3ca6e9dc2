"""Score-CAM and Ablation-CAM: channel weights from what the scores do when the input or the map is changed.

Both need one (partial) forward pass per channel, made in chunks: memory is that of ``chunk`` images, never of all
channels at once. The classes of an image share its passes. Channels that cannot change anything are not run.
Nothing here knows the model: the caller gives a function that scores images, or the tail after the map.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from explain.errors import InputError
from explain.maps import normalize_maps, resize_maps

__all__ = ["ablation_cam", "ablation_cam_closed", "score_cam"]

Scores = Callable[[Tensor, Tensor], Tensor]
"""Images or maps ``(n, …)`` and the image of the batch each belongs to, int64 ``(n,)``, in; ``(n, k)`` out."""


def score_cam(feature_map: Tensor, images: Tensor, scores: Scores, *, chunk: int = 32, relu: bool = True) -> Tensor:
    """Return Score-CAM (Wang et al. 2020, "Score-CAM", algorithm 1).

    Each channel, upsampled to the image (bilinear, ``align_corners=False``) and then scaled to 0…1, masks the
    image; ``w = softmax_k(score(image * mask_k) - score(baseline))`` and the map is ``ReLU(sum_k w_k A_k)``.
    The baseline is one number for all channels of an image and class, so the softmax cancels it: it is not run.
    A flat channel has no min-max; its mask is zero, so it scores as the black image, which is run once per image.

    Parameters
    ----------
    feature_map
        ``(b, c, h, w)``.
    images
        ``(b, ci, H, W)``: the input the map belongs to.
    scores
        Masked images ``(n, ci, H, W)`` and int64 ``rows`` ``(n,)`` in, the scores ``(n, k)`` of the k classes asked
        for image ``rows[i]`` of the batch out: logits (the paper's choice), or what else is to be explained.
    chunk
        Masked images per forward pass.
    relu
        False gives the sum before the outer ReLU.

    Returns
    -------
    Tensor
        ``(b, k, h, w)``, in the map's precision and at least float32.

    Raises
    ------
    InputError
        Sizes that do not match, ``chunk`` below 1.
    """
    _check(feature_map, chunk)
    if images.ndim != 4 or len(images) != len(feature_map):
        raise InputError(
            f"{len(feature_map)} maps for images of shape {tuple(images.shape)}: give (b, channels, H, W), one per map"
        )
    size = (int(images.shape[2]), int(images.shape[3]))
    maps = _working(feature_map)

    def masked(rows: Tensor, channels: Tensor) -> Tensor:
        masks = normalize_maps(resize_maps(maps[rows, channels][:, None], size), "minmax")
        return scores(images[rows] * masks.to(images.dtype), rows)

    def black(rows: Tensor) -> Tensor:
        return scores(torch.zeros_like(images[rows]), rows)

    with torch.no_grad():
        varied = maps.amax((2, 3)) > maps.amin((2, 3))
        found = _per_channel(varied, masked, black, chunk).to(maps)
        return _combined(found.softmax(1), maps, relu)


def ablation_cam(feature_map: Tensor, tail: Scores, base: Tensor, *, chunk: int = 32, relu: bool = True) -> Tensor:
    """Return Ablation-CAM (Desai and Ramaswamy 2020, eq. 3 and 4).

    ``w_k = (y - y_k) / y`` where ``y_k`` is the score with channel k set to zero; the map is
    ``ReLU(sum_k w_k A_k)``. Only the tail after the map is run.

    The paper divides by ``y`` to make the drop a fraction and takes ``y > 0`` for granted. For ``y < 0`` that
    would turn the map round: channels that speak against the class would light up. Here the drop is divided by
    ``|y|``, the same for ``y > 0``; it is left as it is for ``y = 0``. The divisor is one number per map, so the
    map's shape does not depend on it.

    Parameters
    ----------
    feature_map
        ``(b, c, h, w)``.
    tail
        Maps ``(n, c, h, w)`` and int64 ``rows`` ``(n,)`` in, the scores ``(n, k)`` of the classes asked for
        image ``rows[i]`` out.
    base
        ``(b, k)``: the scores with all channels.
    chunk
        Maps per run of the tail.
    relu
        False gives the sum before the outer ReLU.

    Returns
    -------
    Tensor
        ``(b, k, h, w)``, in the map's precision and at least float32.

    Raises
    ------
    InputError
        Sizes that do not match, ``chunk`` below 1.
    """
    _check(feature_map, chunk)
    _check_base(feature_map, base)
    maps = _working(feature_map)

    def without(rows: Tensor, channels: Tensor) -> Tensor:
        ablated = feature_map[rows]  # an indexed copy
        ablated[torch.arange(len(rows), device=rows.device), channels] = 0
        return tail(ablated, rows)

    with torch.no_grad():
        active = (feature_map != 0).any(3).any(2)
        left = _per_channel(active, without, lambda rows: base[rows], chunk).to(maps)
        return _combined(_fraction(base.to(maps)[:, None] - left, base), maps, relu)


def ablation_cam_closed(feature_map: Tensor, weights: Tensor, scores: Tensor, *, relu: bool = True) -> Tensor:
    """Return Ablation-CAM of a head that is affine in the map's mean, without any run of it.

    There ``y - y_k = W_ck mean_xy A_k``, so ``w_k = W_ck mean_xy A_k / |y_c|``; otherwise as `ablation_cam`.

    Parameters
    ----------
    feature_map
        ``(b, c, h, w)``.
    weights
        ``(b, k, c)``: the head's weights of the classes asked for (`explain.nets.trace.class_weights`).
    scores
        ``(b, k)``: their logits.
    relu
        False gives the sum before the outer ReLU.

    Returns
    -------
    Tensor
        ``(b, k, h, w)``, in the map's precision and at least float32.

    Raises
    ------
    InputError
        Sizes that do not match.
    """
    _check(feature_map, 1)
    _check_base(feature_map, scores)
    if weights.shape != (*scores.shape, feature_map.shape[1]):
        raise InputError(
            f"weights of shape {tuple(weights.shape)} for {tuple(scores.shape)} scores and {feature_map.shape[1]}"
            " channels: give (b, k, channels)"
        )
    maps = _working(feature_map)
    drop = weights.to(maps).transpose(1, 2) * maps.mean((2, 3))[..., None]
    return _combined(_fraction(drop, scores), maps, relu)


def _per_channel(
    live: Tensor, run: Callable[[Tensor, Tensor], Tensor], idle: Callable[[Tensor], Tensor], chunk: int
) -> Tensor:
    """Return scores ``(b, c, k)``: ``run(rows, channels)`` for live channels ``(b, c)``, ``idle(rows)`` for others."""
    batch, channels = live.shape
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    rows_idle = (~live).any(1).nonzero()[:, 0]
    idle_scores = torch.cat([idle(rows) for rows in rows_idle.split(chunk)]) if len(rows_idle) else None
    for pairs in live.nonzero().split(chunk):
        if len(pairs):
            rows, which = pairs.unbind(1)
            parts.append((rows, which, run(rows, which)))
    sample = idle_scores if idle_scores is not None else parts[0][2]
    found = sample.new_zeros(batch, channels, sample.shape[1])
    if idle_scores is not None:
        found[rows_idle] = idle_scores[:, None]
    for rows, which, part in parts:
        found[rows, which] = part
    return found


def _fraction(drop: Tensor, scores: Tensor) -> Tensor:
    """Divide drops ``(b, c, k)`` by ``|scores|`` ``(b, k)``, where those are not zero."""
    size = scores.abs().to(drop)[:, None]
    return drop / torch.where(size > 0, size, torch.ones_like(size))


def _combined(weights: Tensor, maps: Tensor, relu: bool) -> Tensor:
    combined = torch.einsum("bck,bchw->bkhw", weights, maps)
    return combined.relu() if relu else combined


def _working(feature_map: Tensor) -> Tensor:
    """Return the map detached and at least in float32: half precision cannot hold sums over thousands of channels."""
    return feature_map.detach().to(torch.promote_types(feature_map.dtype, torch.float32))


def _check(feature_map: Tensor, chunk: int) -> None:
    if feature_map.ndim != 4 or 0 in feature_map.shape:
        raise InputError(f"a map of shape {tuple(feature_map.shape)}: give (b, channels, h, w), none of them 0")
    if not isinstance(chunk, int) or chunk < 1:
        raise InputError(f"chunk={chunk!r}: give a whole number, at least 1")


def _check_base(feature_map: Tensor, base: Tensor) -> None:
    if base.ndim != 2 or len(base) != len(feature_map):
        raise InputError(f"scores of shape {tuple(base.shape)} for {len(feature_map)} maps: give (b, k)")
