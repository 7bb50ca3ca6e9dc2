"""Where labels come from: one mask file or one list of regions, read when a job asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from explain.data.masks import IdTable, nearest, read_ids, unknown_ids, unknown_problem
from explain.errors import DataError

__all__ = [
    "DROPPED",
    "IdSource",
    "ReadIds",
    "SegmentSource",
    "Source",
    "class_layers",
    "need_size",
    "read_ids",
    "read_pixels",
    "read_red_green",
    "read_rgb",
]

DROPPED = -2
"""In the labels of a source: the pixel is left out of every count (-1: it shows no concept)."""

ReadIds = Callable[[Path, str], NDArray[np.int32]]


class Source(Protocol):
    """Labels of one image from one file; plain data, so that workers can be sent a copy."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    def __call__(self, where: str, own: tuple[int, int], size: tuple[int, int]) -> NDArray[np.int32]:
        """Return ``(layers, h, w)`` concept numbers at ``size``, read from a file of ``own`` pixels."""
        ...


def need_size(path: Path, found: tuple[int, ...], own: tuple[int, int], where: str) -> None:
    """Refuse a mask of another size than its image (or than the index says)."""
    if found != own:
        raise DataError(
            f"{where}: mask {path} is {found[1]}x{found[0]} pixels where {own[1]}x{own[0]} are expected:"
            " mask and image do not belong together"
        )


def read_pixels(path: Path, where: str) -> NDArray[np.uint8]:
    """Read a colour mask: ``(h, w, 3)``."""
    try:
        with Image.open(path) as picture:
            if picture.mode not in ("RGB", "RGBA"):
                raise DataError(f"{where}: mask {path} is a {picture.mode} picture: this format has colour pictures")
            pixels: NDArray[np.uint8] = np.asarray(picture)[..., :3]
            return pixels
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{where}: mask {path} cannot be read ({error}): replace the file") from None


def read_red_green(path: Path, where: str) -> NDArray[np.int32]:
    """Read ids written as ``R + 256 G``."""
    pixels = read_pixels(path, where).astype(np.int32)
    ids: NDArray[np.int32] = pixels[..., 0] + 256 * pixels[..., 1]
    return ids


def read_rgb(path: Path, where: str) -> NDArray[np.int32]:
    """Read ids written as ``R + 256 G + 65536 B``: segments of panoptic pictures, or colours."""
    pixels = read_pixels(path, where).astype(np.int32)
    ids: NDArray[np.int32] = pixels[..., 0] + 256 * pixels[..., 1] + 65536 * pixels[..., 2]
    return ids


@dataclass(frozen=True, eq=False)
class IdSource:
    """A picture of class ids with the table of what they mean."""

    path: Path
    table: IdTable
    named: str
    """Where the ids are named, for messages."""
    read: ReadIds = read_ids

    def __call__(self, where: str, own: tuple[int, int], size: tuple[int, int]) -> NDArray[np.int32]:
        """Return the labels ``(1, h, w)``; see `Source`."""
        ids = self.read(self.path, where)
        need_size(self.path, ids.shape, own, where)
        unknown = unknown_ids(ids, self.table)
        if unknown:
            raise DataError(unknown_problem(where, self.path, unknown, self.named))
        small = nearest(ids, size)
        found: NDArray[np.int32] = self.table.numbers[small]
        if self.table.dropped is not None:
            found[self.table.dropped[small]] = DROPPED
        return found[None]


@dataclass(frozen=True, eq=False)
class SegmentSource:
    """A picture whose ids are rare among very many: segments of this image, or colours of classes."""

    path: Path
    ids: NDArray[np.int32]
    """The ids that may occur, ascending."""
    numbers: NDArray[np.int32]
    """What each means: a concept number, -1 for none, `DROPPED`."""
    named: str
    told: Callable[[int], str] = str
    """How an id is written in messages."""

    def __call__(self, where: str, own: tuple[int, int], size: tuple[int, int]) -> NDArray[np.int32]:
        """Return the labels ``(1, h, w)``; see `Source`."""
        found = read_rgb(self.path, where)
        need_size(self.path, found.shape, own, where)
        present = np.unique(found)
        known = np.isin(present, self.ids)
        if not known.all():
            wrong = ", ".join(self.told(int(each)) for each in present[~known][:3])
            raise DataError(f"{where}: mask {self.path} has {wrong}, which {self.named} does not name")
        small = nearest(found, size)
        numbers: NDArray[np.int32] = self.numbers[np.searchsorted(self.ids, small)]
        return numbers[None]


def class_layers(regions: Sequence[tuple[int, NDArray[np.bool_]]], size: tuple[int, int]) -> NDArray[np.int32]:
    """Put masks of concepts, which may overlap, into as few label layers ``(k, h, w)`` as a greedy order finds.

    Regions of one concept are united first; each concept then goes into the first layer where its pixels are free.
    """
    united: dict[int, NDArray[np.bool_]] = {}
    for number, mask in regions:
        united[number] = united[number] | mask if number in united else mask
    layers: list[NDArray[np.int32]] = []
    for number, mask in united.items():
        free = next((layer for layer in layers if not (layer[mask] >= 0).any()), None)
        if free is None:
            free = np.full(size, -1, np.int32)
            layers.append(free)
        free[mask] = number
    return np.stack(layers) if layers else np.full((0, *size), -1, np.int32)
