"""Maps → boxes, by the CAM paper's rule (Zhou et al. 2016, section 3.2).

Keep the pixels above 20 % of the map's maximum, take the tight box of the largest connected component. What
the paper leaves open is fixed here: the raw map is upsampled to the image first (bilinear), ``>`` is strict,
components are 8-connected, the largest has most pixels, ties go to the first in raster order, and a map whose
maximum is not positive has no box.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain import opencv
from explain.errors import InputError
from explain.types import Align, Boxes, Cells, Geometry, Saliency, resize_aligned, resize_maps

__all__ = ["box_iou", "image_maps", "locate", "map_size"]


def locate(maps: Saliency, threshold: float = 0.2, *, align: Align | None = None) -> list[list[Boxes]]:
    """Return the box of each image and class: ``boxes[image][k]``, with no box where a map is nowhere positive.

    Boxes are in pixels of the original image where the maps came from pictures (``maps.frame == "original"``),
    else of the input tensor. The score of a box is the class's logit.

    Parameters
    ----------
    maps
        Of any method; positive values speak for the class.
    threshold
        Share of the map's maximum, at least 0 and below 1.
    align
        How the maps are laid over the input: ``"grid"``, ``"receptive-field"``, or as ``maps.align`` says.

    Raises
    ------
    InputError
        The threshold is out of range, a map holds NaN or infinity, or ``"receptive-field"`` is asked of maps of which
        it is not known where their cells look.
    """
    if not bool(maps.values.isfinite().all()):
        raise InputError("a map holds NaN or infinity: it cannot be thresholded")
    if not 0 <= threshold < 1:
        raise InputError(f"threshold {threshold} is out of range: give a share of the maximum, 0 <= threshold < 1")
    found: list[list[Boxes]] = []
    empty = 0
    scores = maps.scores.detach().float().cpu()
    for index in range(len(maps)):
        geometry = maps.geometries[index] if maps.geometries is not None else None
        size = map_size(geometry, maps.input_size)
        planes = maps.upsampled(maps.values[index : index + 1].detach().float(), size, align)[0].cpu().numpy()
        boxes = [_box(plane, threshold) for plane in planes]
        empty += boxes.count(None)
        xyxy = torch.tensor([box or (0, 0, 0, 0) for box in boxes], dtype=torch.float32).reshape(-1, 4)
        if geometry is not None:
            xyxy = geometry.from_region(xyxy)
        parts = [slice(k, k + (box is not None)) for k, box in enumerate(boxes)]
        found.append([Boxes(xyxy[part], scores[index, part], maps.frame) for part in parts])
    if empty:
        warnings.warn(f"{empty} map(s) are nowhere positive and have no box", stacklevel=2)
    return found


def image_maps(
    values: Tensor, geometry: Geometry | None, input_size: tuple[int, int], cells: Cells | None = None
) -> Tensor:
    """Upsample the raw maps ``(k, h, w)`` of one image to the pixels in which thresholds are applied (`map_size`).

    Each value stands where its cell looks if ``cells`` are given, else the cells tile the input evenly.
    """
    size, batch = map_size(geometry, input_size), values[None].detach().float()
    return (resize_maps(batch, size) if cells is None else resize_aligned(batch, size, cells, input_size))[0]


def map_size(geometry: Geometry | None, input_size: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) at which maps of one image are thresholded.

    These are the image's own pixels where its geometry is known (a crop: those of the part that the input shows),
    else the input's.
    """
    if geometry is None:
        return input_size
    top, left, bottom, right = geometry.region
    return max(1, bottom - top), max(1, right - left)


def _box(plane: NDArray[np.float32], threshold: float) -> opencv.Box | None:
    top = plane.max()
    return opencv.largest_component(plane > plane.dtype.type(threshold) * top) if top > 0 else None


def box_iou(first: Boxes, second: Boxes) -> Tensor:
    """Return the intersection over union ``(n, m)`` of half-open boxes; 0 where both are empty.

    Parameters
    ----------
    first, second
        ``n`` and ``m`` boxes.

    Raises
    ------
    InputError
        The boxes are in different frames.
    """
    if first.frame != second.frame:
        raise InputError(
            f"boxes of frame {first.frame!r} cannot be compared with boxes of frame {second.frame!r}:"
            " explain pictures instead of tensors, or give boxes in pixels of the input"
        )
    a, b = first.xyxy.double()[:, None], second.xyxy.double()[None]
    sides = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp_min(0)
    shared = sides.prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    return torch.where(union > 0, shared / torch.where(union > 0, union, torch.ones_like(union)), 0.0)
