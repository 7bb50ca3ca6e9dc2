"""The frozen dataclasses that travel between rooms: maps, boxes, and the data that jobs run on.

Shapes: images ``b c h w``, maps ``b k h w`` (k = classes asked for). Boxes are ``xyxy``, half-open
(``x2 = x1 + width``). A *frame* says whose pixels a map or box is in: ``"input"`` (the tensor that the
network saw) or ``"original"`` (the image file).
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain.concepts import Concept, Labels
from explain.errors import InputError
from explain.maps import Align, Cells, Normalization, normalize_maps, resize_aligned, resize_maps

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "Align",
    "Boxes",
    "Cells",
    "Concept",
    "Edges",
    "Frame",
    "Geometry",
    "Labels",
    "LocalizationSet",
    "ProbeSet",
    "Saliency",
    "normalize_maps",
    "resize_aligned",
    "resize_maps",
]

Frame = Literal["input", "original"]
Edges = Literal["inclusive", "exclusive"]
"""How a data set writes the right and lower edge of a box: the last pixel, or the one after it."""


@dataclass(frozen=True)
class Geometry:
    """Where the pixels of an input tensor lie in the image file: one scale and offset per axis.

    ``original = input * scale + offset`` holds for pixel *edges* (0 is the left edge of the first pixel).
    """

    original: tuple[int, int]
    """(height, width) of the image file, in pixels."""
    input: tuple[int, int]
    """(height, width) of the input tensor, in pixels."""
    scale: tuple[float, float]
    """(y, x): original pixels per input pixel."""
    offset: tuple[float, float] = (0.0, 0.0)
    """(y, x): original position of the input tensor's upper left corner."""

    @property
    def covers(self) -> bool:
        """True where the input tensor shows the whole image and nothing else (a squash, not a crop)."""
        spans = (self.input[0] * self.scale[0], self.input[1] * self.scale[1])
        return self.offset == (0.0, 0.0) and all(
            abs(span - size) < 1e-6 * size for span, size in zip(spans, self.original, strict=True)
        )

    @property
    def region(self) -> tuple[int, int, int, int]:
        """(top, left, bottom, right): what the input tensor shows, rounded to original pixels."""
        top, left = self.offset
        bottom, right = (start + n * s for start, n, s in zip(self.offset, self.input, self.scale, strict=True))
        return round(top), round(left), round(bottom), round(right)

    def from_region(self, xyxy: Tensor) -> Tensor:
        """Move boxes ``(n, 4)`` in pixels of `region` to the image, clipped to it."""
        top, left, _, _ = self.region
        height, width = self.original
        moved = xyxy + xyxy.new_tensor([left, top, left, top])
        return torch.minimum(moved.clamp(min=0), xyxy.new_tensor([width, height, width, height]))


@dataclass(frozen=True)
class Boxes:
    """Boxes of one image and class: ``xyxy`` float32 ``(n, 4)``, half-open; ``scores`` float32 ``(n,)``."""

    xyxy: Tensor
    scores: Tensor
    frame: Frame

    def __len__(self) -> int:
        return int(self.xyxy.shape[0])

    def __repr__(self) -> str:
        rows = ", ".join("[" + ", ".join(f"{edge:g}" for edge in box) + "]" for box in self.xyxy.tolist())
        return f"Boxes([{rows}], frame={self.frame!r})"


@dataclass(frozen=True, repr=False)
class Saliency:
    """Maps of ``k`` classes for each of ``b`` images, raw and signed, as the network gave them.

    For an exact class activation map ``values.mean((2, 3)) + constants == scores`` up to rounding;
    ``residual`` is the largest deviation, relative to the largest logit of the image.
    """

    values: Tensor
    """float32 ``(b, k, h, w)``."""
    classes: Tensor
    """int64 ``(b, k)``: the class of each map."""
    scores: Tensor
    """float32 ``(b, k)``: the logit of each class."""
    probabilities: Tensor
    """float32 ``(b, k)``: the softmax over all classes."""
    constants: Tensor
    """float32 ``(b, k)``: the part of the logit that no position owns (the bias)."""
    exact: bool
    residual: float
    method: str
    layer: str
    input_size: tuple[int, int]
    """(height, width) of the input tensor."""
    names: tuple[str, ...] | None = None
    """Class names in index order, where the subject has them."""
    geometries: tuple[Geometry, ...] | None = None
    """One per image, where images came in as files, PIL images or uint8 arrays."""
    cells: Cells | None = None
    """Where the maps' cells look, where it could be traced; None: they are taken to tile the input."""
    align: Align = "grid"
    """How the maps are laid over the input when they are resized."""
    images: tuple[Image, ...] | None = field(default=None, repr=False, compare=False)
    """The pictures as they came in, for showing; None for tensors."""

    @property
    def frame(self) -> Frame:
        """Whose pixels boxes and pictures of these maps are in."""
        return "original" if self.geometries is not None else "input"

    def __len__(self) -> int:
        return int(self.values.shape[0])

    def __repr__(self) -> str:
        b, k, h, w = self.values.shape
        exact = f"exact, residual {self.residual:.0e}" if self.exact else "not exact"
        return f"Saliency({b} image(s) x {k} class(es), {h} x {w} at {self.layer!r}, {exact}, frame={self.frame!r})"

    def name(self, class_index: int) -> str:
        """Return the class name, or ``"class 7"`` where names are not known."""
        return self.names[class_index] if self.names is not None else f"class {class_index}"

    def resized(self, size: tuple[int, int], align: Align | None = None) -> Saliency:
        """Return the maps at ``(height, width)``, over the same extent as the input; see `upsampled`."""
        values = self.upsampled(self.values, size, align)
        if self.cells is None:
            return replace(self, values=values)
        if (align or self.align) == "receptive-field":
            cells = Cells.tiling(size, self.input_size)
        else:
            cells = self.cells.resampled((self.values.shape[2], self.values.shape[3]), size)
        return replace(self, values=values, cells=cells)

    def upsampled(self, values: Tensor, size: tuple[int, int], align: Align | None = None) -> Tensor:
        """Resize maps ``(b, k, h, w)`` that lie as these do to ``size = (height, width)``; bilinear.

        Parameters
        ----------
        align
            ``"grid"``: cells tile the input (``align_corners=False``). ``"receptive-field"``: each cell's value
            stands where the cell looks (`resize_aligned`). None: ``self.align``.

        Raises
        ------
        InputError
            ``"receptive-field"`` where it is not known where the cells look, an unknown way, a size below 1.
        """
        how = self.align if align is None else align
        if how == "grid":
            return resize_maps(values, size)
        if how != "receptive-field":
            raise InputError(f"unknown alignment {how!r}: use 'grid' or 'receptive-field'")
        if self.cells is None:
            raise InputError(
                f"it is not known where the cells of the map at {self.layer!r} look (a compiled or scripted model, or"
                " a map that was made elsewhere): use align='grid'"
            )
        return resize_aligned(values, size, self.cells, self.input_size)

    def normalized(self, how: Normalization = "max") -> Saliency:
        """Return maps divided by their maximum (``"max"``) or scaled to 0…1 (``"minmax"``), map by map."""
        return replace(self, values=normalize_maps(self.values, how))

    def picture(self, index: int = 0, *, boxes: bool = True) -> Image:
        """Return image ``index`` with its maps, names, scores and boxes as one PIL image."""
        from explain.pictures import saliency_picture

        return saliency_picture(self, index, boxes=boxes)

    def show(self, index: int = 0) -> None:
        """Show image ``index`` with its maps: in the notebook where there is one, else in the system's viewer."""
        picture = self.picture(index)
        notebook = sys.modules.get("IPython")
        if notebook is not None and notebook.get_ipython() is not None:
            notebook.display.display(picture)
        else:
            picture.show()

    def save(self, path: str | Path, index: int = 0) -> Path:
        """Write the picture of image ``index``; the format follows the name's ending."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        self.picture(index).save(target)
        return target

    def _repr_html_(self) -> str:
        from explain.pictures import as_img_tag

        return "".join(as_img_tag(self.picture(index)) for index in range(min(len(self), 16)))


@dataclass(frozen=True)
class ProbeSet:
    """Images whose pixels are labelled with concepts: what network dissection runs on."""

    name: str
    images: Sequence[Any]
    """Paths, PIL images or tensors ``(c, h, w)``, one per image."""
    concepts: tuple[Concept, ...]
    labels: Callable[[int, tuple[int, int]], Labels]
    """``labels(index, (h, w))``: the labels of one image at a resolution (nearest, Pillow's rule)."""
    names: tuple[str, ...]
    """One name per image, for reports."""
    hash: str
    root: Path | None = None
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What else is known of the images, as text: ``columns["split"]`` has one value per image."""
    files: tuple[tuple[Path, ...], ...] = ()
    """The files that each image's labels are read from (``hash`` covers their names and sizes only); empty where that
    is not known, or where ``hash`` covers the labels themselves."""

    def __len__(self) -> int:
        return len(self.images)

    def first(self, count: int) -> ProbeSet:
        """Return the first images; the hash says how many."""
        if count >= len(self):
            return self
        return replace(
            self,
            images=self.images[:count],
            names=self.names[:count],
            hash=f"{self.hash}:{count}",
            columns={name: values[:count] for name, values in self.columns.items()},
            files=self.files[:count],
        )


def _chosen_mask(
    masks: Callable[[int, tuple[int, int]], NDArray[np.uint8]],
    chosen: tuple[int, ...],
    index: int,
    size: tuple[int, int],
) -> NDArray[np.uint8]:
    return masks(chosen[index], size)


@dataclass(frozen=True)
class LocalizationSet:
    """Labelled images with ground-truth boxes (xyxy, half-open, pixels of the stored image)."""

    name: str
    images: Sequence[Any]
    """Paths, PIL images or tensors ``(c, h, w)``, one per image."""
    classes: tuple[int, ...]
    boxes: tuple[NDArray[np.float64], ...]
    """One ``(n, 4)`` array per image; n may be 0 for data without boxes."""
    sizes: tuple[tuple[int, int], ...]
    """(height, width) of the stored images."""
    names: tuple[str, ...]
    """One name per image."""
    hash: str
    class_names: tuple[str, ...] | None = None
    """Class names in index order, where the data has them for every class."""
    frame: Frame = "original"
    subsets: tuple[str, ...] | None = None
    """The subset of each image, where the data has a column ``subset``."""
    root: Path | None = None
    masks: Callable[[int, tuple[int, int]], NDArray[np.uint8]] | None = None
    """``masks(index, (h, w))``: one image's objects at a resolution (nearest, OpenCV's rule): 1 object, 0 background,
    255 ignored; None for data with boxes only."""
    edges: Edges = "inclusive"
    """How the data set publishes its boxes, for protocols that calculate with published numbers: ``boxes`` here are
    half-open in any case."""

    def __len__(self) -> int:
        return len(self.images)

    def select(self, numbers: Sequence[int], name: str | None = None) -> LocalizationSet:
        """Return some of the images, in the order given; the hash says which."""
        chosen = list(numbers)
        picked = hashlib.sha256(f"{self.hash}{chosen}".encode()).hexdigest()
        return replace(
            self,
            name=name or self.name,
            images=[self.images[number] for number in chosen],
            classes=tuple(self.classes[number] for number in chosen),
            boxes=tuple(self.boxes[number] for number in chosen),
            sizes=tuple(self.sizes[number] for number in chosen),
            names=tuple(self.names[number] for number in chosen),
            subsets=tuple(self.subsets[number] for number in chosen) if self.subsets is not None else None,
            masks=partial(_chosen_mask, self.masks, tuple(chosen)) if self.masks is not None else None,
            hash=picked,
        )
