"""Components and outlines of masks, cloning and inpainting: the only module that imports OpenCV, when it is used.

OpenCV needs system libraries that servers often lack. Here that is one clear error when a component is asked
for, and nothing at all for everyone else.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from explain.errors import DependencyError, InputError

__all__ = [
    "Components",
    "components",
    "contour_boxes",
    "distance_to_background",
    "inpainted",
    "largest_component",
    "load",
    "outline_paths",
    "seamless_clone",
    "simplified",
]

Box = tuple[int, int, int, int]


def load() -> ModuleType:
    """Return the module ``cv2``.

    Raises
    ------
    DependencyError
        OpenCV is not installed, or a library of the system that it needs is missing (``libGL.so.1``).
    """
    try:
        import cv2
    except ImportError as error:
        reason = (str(error).splitlines() or ["import failed"])[0]
        raise DependencyError(
            f"OpenCV cannot be imported ({reason}): install 'opencv-python-headless' instead of"
            " 'opencv-python' (uninstall the other first), or the system package 'libgl1'"
        ) from error
    module: ModuleType = cv2
    return module


class Components(NamedTuple):
    """The 8-connected components of a mask, in raster order of their first pixels."""

    labels: NDArray[np.int32]
    """``(h, w)``: 0 outside, else the number of the component, counted from 1."""
    boxes: NDArray[np.int64]
    """``(n, 4)``: xyxy, half-open."""
    areas: NDArray[np.int64]
    """``(n,)``: pixels."""


def components(mask: NDArray[Any]) -> Components:
    """Return the 8-connected components of ``mask`` (``(h, w)``, zero is outside)."""
    labels, stats = _label(mask)
    order = sorted(range(1, len(stats)), key=lambda label: _first_pixel(labels, stats, label))
    renumber = np.zeros(len(stats), dtype=np.int32)
    renumber[order] = np.arange(1, len(stats), dtype=np.int32)
    chosen = stats[order].astype(np.int64).reshape(-1, 5)
    boxes = np.concatenate([chosen[:, :2], chosen[:, :2] + chosen[:, 2:4]], axis=1)
    return Components(renumber[labels], boxes, chosen[:, 4])


def contour_boxes(mask: NDArray[Any], *, border: bool = True) -> list[Box]:
    """Return ``(x, y, width, height)`` of every contour of ``mask``, outer ones and holes, as OpenCV lists them.

    ``border=False`` leaves out the outermost pixels, as OpenCV did before 3.2.
    """
    binary = _as_uint8(mask)
    if not border:
        binary = binary.copy()
        binary[[0, -1]] = 0
        binary[:, [0, -1]] = 0
    cv2 = load()
    contours, _ = cv2.findContours(binary, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [tuple(cv2.boundingRect(contour)) for contour in contours]


def distance_to_background(mask: NDArray[Any]) -> NDArray[np.float64]:
    """Return the Euclidean distance ``(h, w)`` of each pixel to the nearest zero; the edge of the mask is none."""
    cv2 = load()
    found = cv2.distanceTransform(_as_uint8(mask), cv2.DIST_L2, cv2.DIST_MASK_PRECISE).astype(np.float64)
    exact: NDArray[np.float64] = np.sqrt(np.round(found**2))  # OpenCV's are float32; their squares are whole numbers
    return exact


def inpainted(image: NDArray[np.uint8], mask: NDArray[Any], *, radius: float = 5.0) -> NDArray[np.uint8]:
    """Return an image ``(h, w, 3)`` whose masked pixels are filled from around them (Telea 2004)."""
    cv2 = load()
    found: NDArray[np.uint8] = cv2.inpaint(np.ascontiguousarray(image), _as_uint8(mask), radius, cv2.INPAINT_TELEA)
    return found


def seamless_clone(patch: NDArray[np.uint8], image: NDArray[np.uint8], mask: NDArray[Any]) -> NDArray[np.uint8]:
    """Return ``image`` with the gradients of ``patch`` inside a mask, all ``(h, w, ...)``: Poisson image editing.

    Perez et al. 2003. Inside, colours grow from those of ``image`` at the mask's edge, so the outermost pixels of the
    image belong to no mask. Of a mask that is nowhere three pixels high and wide, the patch's own pixels are taken.
    """
    inside = _as_uint8(mask).copy()
    inside[[0, -1]] = 0
    inside[:, [0, -1]] = 0
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if len(rows) == 0 or min(rows[-1] - rows[0], columns[-1] - columns[0]) < 2:  # OpenCV fails on those
        return np.where(inside[..., None] != 0, patch, image)
    # OpenCV cuts the mask's box out and centres it at a point; this one puts it back to where it was.
    middle = (int(columns[0] + columns[-1] + 1) // 2, int(rows[0] + rows[-1] + 1) // 2)
    cv2 = load()
    found: NDArray[np.uint8] = cv2.seamlessClone(
        np.ascontiguousarray(patch), np.ascontiguousarray(image), inside * np.uint8(255), middle, cv2.NORMAL_CLONE
    )
    return found


def largest_component(mask: NDArray[Any]) -> Box | None:
    """Return the box ``(x1, y1, x2, y2)``, half-open, of the 8-connected component with most pixels.

    Among components of equal size, the one whose first pixel comes first in raster order wins. An empty mask
    has no box.
    """
    binary = _as_uint8(mask)
    if binary.size == 0:
        return None
    cv2 = load()
    # Most maps have one component without holes: its one contour is found at half the cost of labels.
    contours, _ = cv2.findContours(binary, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    if len(contours) == 1:
        left, top, width, height = cv2.boundingRect(contours[0])
        return left, top, left + width, top + height
    # Without OpenCV's statistics, which cost five times the components themselves.
    count, labels = cv2.connectedComponents(binary, connectivity=8)
    if count < 2:
        return None
    if count > 2:
        areas = np.bincount(labels.ravel(), minlength=count)[1:]
        tied = np.flatnonzero(areas == areas.max()) + 1
        # OpenCV's label numbers do not follow raster order: its algorithm scans blocks of 2x2 pixels.
        label = tied[0] if len(tied) == 1 else labels.flat[np.argmax(np.isin(labels, tied))]
        binary = (labels == label).view(np.uint8)
    left, top, width, height = cv2.boundingRect(binary)
    return left, top, left + width, top + height


def outline_paths(mask: NDArray[Any]) -> list[NDArray[np.int64]]:
    """Return closed outlines of ``mask`` along pixel edges, as arrays ``(n, 2)`` of corners ``(x, y)``.

    Outer borders and borders of holes alike: filled by the even-odd rule they give the mask back. Steps are
    horizontal and vertical in turn, so a rectangle gives exactly its four corners, half-open:
    ``mask[2:5, 1:3]`` gives x in {1, 3} and y in {2, 5}. Pixels that touch at a corner share an outline.
    """
    binary = _as_uint8(mask)
    if not binary.any():
        return []
    cv2 = load()
    # Times 0x0101, each byte becomes two equal ones.
    doubled = np.repeat((binary * np.uint16(0x0101)).view(np.uint8), 2, axis=0)
    found, _ = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    # A contour runs through border pixels. In the doubled mask, pixel p has the halves 2p and 2p+1, which
    # lie at its two edges p and p+1: (half + 1) // 2. Holes are seen from outside, and the same rule holds.
    points = (np.concatenate(found).reshape(-1, 2).astype(np.int64) + 1) // 2
    return _corners(points, np.repeat(np.arange(len(found)), [len(contour) for contour in found]))


def simplified(path: NDArray[np.int64], tolerance: float) -> NDArray[np.int64]:
    """Return fewer corners of a closed path ``(n, 2)``: none that is left out lies farther than ``tolerance`` from it.

    Douglas & Peucker 1973.
    """
    cv2 = load()
    found: NDArray[np.int64] = cv2.approxPolyDP(path.astype(np.int32)[:, None], tolerance, True)[:, 0].astype(np.int64)
    return found


def _corners(points: NDArray[np.int64], path: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Keep the points where closed paths of horizontal and vertical steps turn; all paths in one go."""
    step = points != points[_previous(path)]
    moved = step[:, 0] | step[:, 1]
    points, path = points[moved], path[moved]
    before = _previous(path)
    horizontal = points[:, 1] == points[before, 1]
    turns = np.empty(len(path), dtype=np.bool_)
    turns[before] = horizontal != horizontal[before]  # the step out of a point against the step into it
    points, path = points[turns], path[turns]
    return np.split(points, np.flatnonzero(path[1:] != path[:-1]) + 1)


def _previous(path: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the index of each point's predecessor; ``path`` numbers the closed paths in order."""
    index = np.arange(-1, len(path) - 1)
    ends = np.append(np.flatnonzero(path[1:] != path[:-1]), len(path) - 1)
    index[ends[:-1] + 1] = ends[1:]
    index[0] = ends[0]
    return index


def _label(mask: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return OpenCV's labels and statistics (left, top, width, height, area); row 0 is the outside."""
    binary = _as_uint8(mask)
    if binary.size == 0:
        return np.zeros(binary.shape, dtype=np.int32), np.zeros((1, 5), dtype=np.int32)
    cv2 = load()
    _, labels, stats, _ = cv2.connectedComponentsWithStats(binary, connectivity=8)
    return labels, stats


def _first_pixel(labels: NDArray[np.int32], stats: NDArray[np.int32], label: int) -> tuple[int, int]:
    """Return (row, column) of the component's first pixel in raster order."""
    left, top, width = stats[label, :3].tolist()
    return top, left + int(np.argmax(labels[top, left : left + width] == label))


def _as_uint8(mask: NDArray[Any]) -> NDArray[np.uint8]:
    array = np.asarray(mask)
    if array.ndim != 2:
        raise InputError(f"a mask has two dimensions (height, width), got shape {array.shape}")
    return np.ascontiguousarray(array if array.dtype == np.bool_ else array != 0).view(np.uint8)
