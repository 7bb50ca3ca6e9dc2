"""CelebA: forty attributes of faces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from explain.data.formats.lines import Lines, first_folder, read_keyed, read_lines
from explain.data.probes.attributes import listed_attributes, spoken
from explain.data.tables import Report, refuse
from explain.errors import DataError
from explain.types import ProbeSet

__all__ = ["is_celeba", "open_celeba"]

_FACES = "list_attr_celeba.txt"
_PARTS = {"0": "train", "1": "val", "2": "test"}


def is_celeba(root: Path) -> bool:
    """Say whether a folder holds CelebA's list of attributes, also in ``Anno``."""
    return any((root / folder / _FACES).is_file() for folder in ("", "Anno"))


def _partition(root: Path, report: Report) -> dict[str, str]:
    """Return the split of each face, from ``list_eval_partition.txt`` where it is there."""
    found = first_folder(each for each in (root, root / "Eval") if (each / "list_eval_partition.txt").is_file())
    if found is None:
        return {}
    splits = {}
    for name, line in read_keyed(found / "list_eval_partition.txt", 1, report).items():
        if line.cells[0] in _PARTS:
            splits[name] = _PARTS[line.cells[0]]
        else:
            report(f"{line.where}: {line.cells[0]!r} is neither 0 (train), 1 (val) nor 2 (test)")
    return splits


def _face_rows(lines: Lines, report: Report) -> dict[str, tuple[str, list[str]]]:
    """Return where each face stands, and the attributes it has, from a count, a line of names, and lines of ±1."""
    if len(lines.texts) < 2 or not lines.texts[0].strip().isdecimal():
        raise DataError(f"{lines.where(0)}: CelebA's list begins with the number of its images, then the names")
    names = lines.texts[1].split()
    found: dict[str, tuple[str, list[str]]] = {}
    for number, text in enumerate(lines.texts[2:], 2):
        words = text.split()
        if len(words) != len(names) + 1 or not set(words[1:]) <= {"1", "-1"}:
            report(f"{lines.where(number)}: it is not an image and {len(names)} numbers 1 or -1: {text[:40]!r}")
        elif words[0] in found:
            report(f"{lines.where(number)}: {words[0]!r} is already in {found[words[0]][0]}: keep one of them")
        else:
            held = [spoken(name) for name, value in zip(names, words[1:], strict=True) if value == "1"]
            found[words[0]] = lines.where(number), held
    if len(found) != int(lines.texts[0]):
        report(f"{lines.where(0)}: it says {lines.texts[0].strip()} images, but {len(found)} are listed: cut short?")
    return found


def open_celeba(
    path: str | Path,
    *,
    split: str | None = None,
    images: str | Path | None = None,
    categories: Sequence[str] | None = None,
    report: Report = refuse,
) -> ProbeSet:
    """Open CelebA's forty attributes of faces; underscores in names become blanks.

    Parameters
    ----------
    path : str or Path
        The folder with ``list_attr_celeba.txt`` (or ``Anno`` with it) and ``img_align_celeba``.
    split : str, optional
        ``"train"``, ``"val"`` or ``"test"``, by ``list_eval_partition.txt``; without it all, told apart by
        ``columns["split"]`` where that list is there.
    images : str or Path, optional
        The folder of the images; without it ``img_align_celeba``, ``Img/img_align_celeba`` or ``images``.
    categories : sequence of str, optional
        There is only ``"attribute"``.
    report : callable
        Told of every problem that leaves the rest readable; without it, the first one is raised.

    Raises
    ------
    DataError
        Missing files, lines that cannot be read, another number of images than the list says; with file and line.
    """
    root = Path(path)
    file = next((each for each in (root / _FACES, root / "Anno" / _FACES) if each.is_file()), root / _FACES)
    lines = read_lines(file)
    rows = _face_rows(lines, report)
    splits = _partition(root, report)
    places = ("img_align_celeba", "Img/img_align_celeba", "images")
    folder = Path(images) if images is not None else first_folder(root / place for place in places) or root / places[0]
    names = map(spoken, lines.texts[1].split())
    return listed_attributes(
        "celeba", root, names, rows, folder, report, splits=splits, split=split, categories=categories, text=lines.raw
    )
