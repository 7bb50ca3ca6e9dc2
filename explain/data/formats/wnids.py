"""Lists of ImageNet's classes: from wnid (``n01440764``) to index, in the order that torchvision's networks use.

That order is the wnids sorted. The development kit of ILSVRC2012 numbers classes otherwise
(``ILSVRC2012_ID``, in its ``meta.mat`` and ``ILSVRC2012_validation_ground_truth.txt``): those numbers are not read
here, and a list of wnids that is not sorted is refused, as its line numbers would be no class of any network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from explain.data.formats.lines import read_lines
from explain.errors import DataError

__all__ = ["ClassList", "class_list", "is_wnid", "read_class_list"]

_IMAGENET = 1000


@dataclass(frozen=True)
class ClassList:
    """Classes in index order."""

    indices: dict[str, int]
    """Class index by wnid."""
    names: tuple[str, ...]
    source: str
    """The file, or what the list was made from, for messages."""


def is_wnid(text: str) -> bool:
    """Say whether a text is a wnid: ``n`` and eight digits."""
    return re.fullmatch(r"n\d{8}", text) is not None


def read_class_list(path: Path) -> ClassList:
    """Read ``LOC_synset_mapping.txt`` or ``synset_words.txt``: lines of a wnid and, if any, names.

    A class's name is what stands before the first comma.

    Raises
    ------
    DataError
        A line without a wnid, a repeated wnid, wnids that are not sorted.
    """
    lines = read_lines(path)
    indices: dict[str, int] = {}
    names, last = [], ""
    for number, text in enumerate(lines.texts):
        wnid, _, words = text.strip().partition(" ")
        if not is_wnid(wnid):
            raise DataError(f"{lines.where(number)}: {text[:40]!r} does not begin with a wnid such as n01440764")
        if wnid in indices:
            raise DataError(f"{lines.where(number)}: {wnid} is already on line {indices[wnid] + 1}: keep one of them")
        if wnid < last:
            raise DataError(
                f"{lines.where(number)}: {wnid} comes after {last}, but classes are numbered in the order of their"
                " wnids: give a sorted list (the development kit's order is another one)"
            )
        indices[wnid], last = number, wnid
        names.append(words.split(",")[0].strip() or wnid)
    if not indices:
        raise DataError(f"{path} names no class")
    return ClassList(indices, tuple(names), str(path))


def class_list(given: str | Path | None, root: Path, present: Iterable[str]) -> ClassList:
    """Return the classes of a file that is given or lies in ``root``, else of a thousand wnids that are present.

    Parameters
    ----------
    given : str or Path, optional
        ``LOC_synset_mapping.txt`` or ``synset_words.txt``.
    root : Path
        The folder where, without it, such a file is looked for.
    present : iterable of str
        The wnids of the data; if they are a thousand, their sorted order is ImageNet's.

    Raises
    ------
    DataError
        No list, and fewer or more than a thousand wnids.
    """
    candidates = [root / name for name in ("LOC_synset_mapping.txt", "synset_words.txt")]
    path = Path(given) if given is not None else next((each for each in candidates if each.is_file()), None)
    if path is not None:
        return read_class_list(path)
    wnids = sorted(set(present))
    if len(wnids) != _IMAGENET:
        raise DataError(
            f"{root} has {len(wnids)} wnids and no LOC_synset_mapping.txt, so it is not known which of ImageNet's"
            " 1000 classes they are: give classes=, a file of all wnids in order"
        )
    return ClassList({wnid: index for index, wnid in enumerate(wnids)}, tuple(wnids), f"the folders of {root}")
