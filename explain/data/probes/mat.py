"""Reading MATLAB's files, which some data sets publish their labels in; SciPy is asked for only then."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.errors import DataError, DependencyError

__all__ = ["cells", "field", "load_mat", "text_of"]


def load_mat(path: Path, name: str, where: str) -> Any:
    """Return one variable of a ``.mat`` file (up to version 7).

    Raises
    ------
    DependencyError
        SciPy is not installed.
    DataError
        The file cannot be read, or lacks the variable.
    """
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError:
        raise DependencyError(f"{path} needs scipy, which is not installed: pip install scipy") from None
    # What SciPy raises where a file is cut or its bytes are changed; it checks little before it reads.
    broken = (OSError, ValueError, TypeError, IndexError, UnboundLocalError, MatReadError, zlib.error)
    try:
        data = loadmat(path)
    except NotImplementedError:
        raise DataError(f"{where}: {path} is of MATLAB's version 7.3: save it again with -v7") from None
    except broken as error:
        raise DataError(f"{where}: {path} cannot be read ({error}): replace the file") from None
    if name not in data:
        there = ", ".join(key for key in data if not key.startswith("__"))
        raise DataError(f"{where}: {path} has no variable {name!r} (it has: {there})")
    return data[name]


def cells(value: Any) -> list[Any]:
    """Return the elements of a cell or struct array, in MATLAB's order; none for None."""
    return [] if value is None else list(np.asarray(value).ravel(order="F"))


def field(struct: Any, name: str) -> Any:
    """Return a field of a 1x1 struct, as SciPy reads it; None where it has none of that name."""
    array: NDArray[Any] = np.asarray(struct)
    while array.dtype == object and array.size == 1:
        array = np.asarray(array.item())
    if array.dtype.names is None or name not in array.dtype.names or array.size == 0:
        return None
    return array.ravel()[0][name]


def text_of(value: Any) -> str:
    """Return a MATLAB string."""
    while isinstance(value, np.ndarray):
        if value.size == 0:
            return ""
        value = value.ravel()[0] if value.size == 1 else "".join(map(str, value.ravel()))
    return str(value)
