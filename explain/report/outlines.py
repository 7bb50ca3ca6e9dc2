"""Outlines of masks over pictures: SVG path data, short enough for thousands on a page."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.errors import RunError
from explain.opencv import outline_paths, simplified

__all__ = ["outline", "path_data", "read_masks"]

_FINE = 112
"""The longest side of a mask of which one pixel is about one point on the page: what is finer cannot be seen."""
_SHORT = 12
"""A path of at most so many corners stays as it is."""
_AREA = 0.05
"""So does one whose area would change by more than this share."""


def path_data(mask: NDArray[np.bool_]) -> str:
    """Return the outline of a mask as SVG path data, filled by the even-odd rule.

    It runs along pixel edges. Where the mask is fine enough, stairs of more than a dozen corners become straight lines
    that keep within one pixel of them.
    """
    fine = max(mask.shape) >= _FINE
    return "".join(_short(path) if fine else _steps(path) for path in outline_paths(mask))


def _short(path: NDArray[np.int64]) -> str:
    found = simplified(path, 1.0) if len(path) > _SHORT else path
    close = abs(_area(found) - _area(path)) <= _AREA * abs(_area(path))
    return _lines(found) if 3 < len(found) < len(path) and close else _steps(path)


def _area(path: NDArray[np.int64]) -> float:
    """Return the signed area within a closed path."""
    x, y = path[:, 0], path[:, 1]
    return float(x[:-1] @ y[1:] - x[1:] @ y[:-1] + x[-1] * y[0] - x[0] * y[-1]) / 2


def _steps(path: NDArray[np.int64]) -> str:
    """One closed path. Its steps alternate between horizontal and vertical; ``z`` draws the last one."""
    sizes = np.diff(path, axis=0).sum(axis=1).tolist()
    (x, y), level = path[0].tolist(), bool(path[0, 1] == path[1, 1])
    pair, last = ("h%dv%d", "h%dz") if level else ("v%dh%d", "v%dz")
    return f"M{x} {y}" + (pair * (len(sizes) // 2) + last) % tuple(sizes)


def _lines(path: NDArray[np.int64]) -> str:
    """One closed path of straight lines; a minus separates two numbers as well as a blank."""
    steps = " ".join(f"{x} {y}" for x, y in np.diff(path, axis=0).tolist())
    return f"M{path[0, 0]} {path[0, 1]}l{steps}z".replace(" -", "-")


def read_masks(path: Path) -> dict[str, Any] | None:
    """Return the bit-packed rows ``unit`` and ``formula`` and their ``shape``; None without a file."""
    if not path.is_file():
        return None
    try:
        # From memory: numpy leaves a file that it cannot read open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            unit, formula, shape = stored["unit"], stored["formula"], stored["shape"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    height, width = (int(size) for size in shape[-2:])
    return {"unit": unit, "formula": formula, "shape": (height, width)}


def outline(masks: Mapping[str, Any], name: str, row: int) -> str:
    """Return the outline of one row of `read_masks`."""
    height, width = masks["shape"]
    bits = np.unpackbits(masks[name][row].reshape(-1), count=height * width)
    return path_data(bits.reshape(height, width).astype(np.bool_))
