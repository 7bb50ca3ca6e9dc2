"""Concepts, and what is known of the pixels of an image: the part of `explain.types` that needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Concept", "Labels"]


@dataclass(frozen=True)
class Concept:
    """A named thing that pixels or whole images can be labelled with."""

    name: str
    category: str


@dataclass(frozen=True)
class Labels:
    """What is known of one image: concept numbers count from 0, ``-1`` means no concept."""

    maps: NDArray[np.int32]
    """``(layers, h, w)``: the concept of each pixel in each label layer, or -1."""
    whole: tuple[int, ...] = ()
    """Concepts that hold for every pixel of the image (a scene, a texture)."""
    ignored: NDArray[np.bool_] | None = None
    """``(h, w)``: pixels that are left out of every count; None where there are none."""
    annotated: tuple[str, ...] | None = None
    """The categories that this image was annotated for; None: all of them."""
