"""CUB-200-2011's 312 attributes of birds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from explain.data.formats.lines import read_keyed, read_lines
from explain.data.probes.attributes import listed_attributes, spoken
from explain.data.tables import Report, refuse
from explain.types import ProbeSet

__all__ = ["is_cub_attributes", "open_cub_attributes"]

_BIRDS = Path("attributes/image_attribute_labels.txt")


def is_cub_attributes(root: Path) -> bool:
    """Say whether a folder is ``CUB_200_2011`` with its attributes."""
    return (root / _BIRDS).is_file() and (root / "images.txt").is_file()


def open_cub_attributes(
    path: str | Path,
    *,
    split: str | None = None,
    certainty: int = 1,
    categories: Sequence[str] | None = None,
    report: Report = refuse,
) -> ProbeSet:
    """Open the 312 attributes of ``CUB_200_2011``; ``has_wing_color::blue`` becomes ``wing color: blue``.

    Parameters
    ----------
    path : str or Path
        The folder with ``images``, ``images.txt`` and ``attributes/image_attribute_labels.txt``; ``attributes.txt``
        lies in it, in ``attributes`` or beside it.
    split : str, optional
        ``"train"`` or ``"test"``, by ``train_test_split.txt``; without it all, told apart by ``columns["split"]``.
    certainty : int
        The least certainty of an answer: 1 not visible, 2 guessing, 3 probably, 4 definitely.
    categories : sequence of str, optional
        There is only ``"attribute"``.
    report : callable
        Told of every problem that leaves the rest readable; without it, the first one is raised.

    Raises
    ------
    DataError
        Missing files, lines that cannot be read, unknown images or attributes; with file and line.
    """
    root = Path(path)
    images = read_keyed(root / "images.txt", 1, report)
    places = (root / "attributes.txt", root / "attributes/attributes.txt", root.parent / "attributes.txt")
    listed = next((place for place in places if place.is_file()), places[0])
    names = {key: _bird_name(line.cells[0]) for key, line in read_keyed(listed, 1, report).items()}
    held: dict[str, list[str]] = {key: [] for key in images}
    lines = read_lines(root / _BIRDS)
    for number, text in enumerate(lines.texts):
        # Some published lines have a cell too many: the first four are what is needed.
        words = text.split()
        if len(words) < 4 or words[0] not in images or words[1] not in names or not words[3].isdecimal():
            report(f"{lines.where(number)}: {text[:60]!r} is no known image and attribute, 0 or 1, and a certainty")
        elif words[2] == "1" and int(words[3]) >= certainty:
            held[words[0]].append(names[words[1]])
    parts = root / "train_test_split.txt"
    rows = read_keyed(parts, 1, report) if parts.is_file() else {}
    splits = {images[key].cells[0]: "train" if row.cells[0] == "1" else "test" for key, row in rows.items()}
    listing = {line.cells[0]: (line.where, held[key]) for key, line in images.items()}
    return listed_attributes(
        "cub-attributes", root, names.values(), listing, root / "images", report,
        splits=splits, split=split, categories=categories, text=str(certainty).encode(),
    )  # fmt: skip


def _bird_name(text: str) -> str:
    """Return ``"wing color: blue"`` for ``"has_wing_color::blue"``."""
    return spoken(text.removeprefix("has_").replace("::", ": "))
