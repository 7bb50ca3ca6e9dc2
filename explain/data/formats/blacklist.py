"""The images of ILSVRC2012's validation set whose boxes are bad: the development kit leaves them out."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from explain.data.formats.lines import read_lines
from explain.errors import DataError
from explain.types import LocalizationSet

__all__ = ["blacklisted", "read_blacklist"]

_IMAGES = 50_000


def read_blacklist(path: str | Path, count: int | None = 1762) -> frozenset[int]:
    """Read the development kit's list, such as ``ILSVRC2014_clsloc_validation_blacklist.txt``.

    Parameters
    ----------
    path : str or Path
        One number from 1 to 50000 per line: that of ``ILSVRC2012_val_00000001.JPEG`` and so on.
    count : int, optional
        How many there must be; None: any number of them.

    Raises
    ------
    DataError
        Something else than such numbers, a number twice, another count; with the line.
    """
    lines = read_lines(Path(path))
    numbers: dict[int, int] = {}
    for line, text in enumerate(lines.texts):
        number = int(text) if text.strip().isdecimal() else 0
        if not 1 <= number <= _IMAGES:
            raise DataError(f"{lines.where(line)}: {text[:40]!r} is no number of an image (1 to {_IMAGES})")
        if number in numbers:
            raise DataError(f"{lines.where(line)}: {number} is already on line {numbers[number] + 1}")
        numbers[number] = line
    if count is not None and len(numbers) != count:
        raise DataError(f"{path} has {len(numbers)} numbers where {count} were published: is it complete?")
    return frozenset(numbers)


def blacklisted(data: LocalizationSet, numbers: Collection[int]) -> NDArray[np.bool_]:
    """Say of each image of ILSVRC's validation set whether its number is on the list, by its name.

    Parameters
    ----------
    data
        The validation set, or a part of it.
    numbers
        Image numbers from 1, as `read_blacklist` returns them.

    Raises
    ------
    DataError
        An image whose name holds no ``ILSVRC2012_val_`` and eight digits.
    """
    found = [re.search(r"ILSVRC2012_val_(\d{8})", name) for name in data.names]
    for name, match in zip(data.names, found, strict=True):
        if match is None:
            raise DataError(f"{name!r} of {data.name} is no image of ILSVRC2012's validation set: it has no number")
    chosen = frozenset(numbers)
    return np.array([match is not None and int(match[1]) in chosen for match in found], np.bool_)
