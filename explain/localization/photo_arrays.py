"""A result as named arrays and back: what a checkpoint and a run folder keep of maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain.types import Cells, Geometry, Saliency

__all__ = ["FACTS", "Arrays", "as_numpy", "from_arrays", "to_arrays"]

Arrays = dict[str, NDArray[Any]]

_TENSORS = ("values", "classes", "scores", "probabilities", "constants")
FACTS = ("exact", "residual", "method", "layer", "input_size", "align")


def to_arrays(maps: Saliency) -> Arrays:
    """Return a result as named arrays, without class names and photos; `from_arrays` is the way back."""
    arrays = {name: as_numpy(getattr(maps, name)) for name in _TENSORS}
    arrays |= {name: np.asarray(getattr(maps, name)) for name in FACTS}
    if maps.cells is not None:
        arrays["cells"] = np.array([*maps.cells.offset, *maps.cells.stride])
    if maps.geometries is not None:
        # original height and width, input height and width, scale y and x, offset y and x
        rows = [(*one.original, *one.input, *one.scale, *one.offset) for one in maps.geometries]
        arrays["geometries"] = np.array(rows, dtype=np.float64)
    return arrays


def from_arrays(arrays: Mapping[str, NDArray[Any]], names: Sequence[str] | None = None) -> Saliency:
    """Return the result that `to_arrays` took apart."""
    geometries, cells = None, None
    if "cells" in arrays:
        y, x, step_y, step_x = arrays["cells"].tolist()
        cells = Cells((y, x), (step_y, step_x))
    if "geometries" in arrays:
        geometries = tuple(
            Geometry((round(r[0]), round(r[1])), (round(r[2]), round(r[3])), (r[4], r[5]), (r[6], r[7]))
            for r in arrays["geometries"].tolist()
        )
    tensors: Any = {name: torch.from_numpy(np.ascontiguousarray(arrays[name])) for name in _TENSORS}
    facts: Any = {name: arrays[name].item() for name in FACTS if name != "input_size"}
    height, width = arrays["input_size"].tolist()
    return Saliency(
        **tensors,
        **facts,
        input_size=(height, width),
        names=tuple(names) if names is not None else None,
        geometries=geometries,
        cells=cells,
    )


def as_numpy(value: Any) -> NDArray[Any]:
    """Return a tensor or value as an array."""
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
