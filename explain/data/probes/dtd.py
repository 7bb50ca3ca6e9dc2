"""DTD, the describable textures: each photo shows a texture as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from explain.data.formats.lines import read_lines
from explain.data.probes.assembling import Item, Vocabulary, assembled
from explain.data.tables import Report, refuse
from explain.errors import DataError
from explain.types import ProbeSet

__all__ = ["is_dtd", "open_dtd"]

_SPLITS = ("train", "val", "test")


def is_dtd(root: Path) -> bool:
    """Say whether a folder is laid out as ``dtd``: ``images/TEXTURE`` and ``labels/train1.txt``."""
    return (root / "images").is_dir() and any((root / "labels" / f"{name}1.txt").is_file() for name in _SPLITS)


def _list_of(path: Path, report: Report) -> dict[str, tuple[str, list[str]]]:
    """Return where each image of a list stands, and the words after it, by its name (``banded/banded_0002.jpg``)."""
    lines, found = read_lines(path), dict[str, tuple[str, list[str]]]()
    for number, text in enumerate(lines.texts):
        words = text.split()
        if not words or "/" not in words[0]:
            report(f"{lines.where(number)}: {text[:60]!r} is no texture/image.jpg")
        elif words[0] in found:
            report(f"{lines.where(number)}: {words[0]!r} is already in {found[words[0]][0]}: keep one of them")
        else:
            found[words[0]] = lines.where(number), words[1:]
    return found


def _listed(root: Path, split: str | None, report: Report) -> dict[str, tuple[str, str]]:
    """Return where each image stands and its split, from one list or from all of the first partition."""
    labels = root / "labels"
    known = sorted(path.stem for path in labels.glob("*.txt") if path.stem.rstrip("0123456789") in _SPLITS)
    if split is not None and split not in known:
        raise DataError(f"{labels} has no list {split!r} (it has: {', '.join(known)})")
    chosen = [f"{name}1" for name in _SPLITS if f"{name}1" in known] if split is None else [split]
    found: dict[str, tuple[str, str]] = {}
    for name in chosen:
        for image, (where, _) in _list_of(labels / f"{name}.txt", report).items():
            if image in found:
                report(f"{where}: {image!r} is already in {found[image][0]}: splits must not share an image")
            else:
                found[image] = where, name.rstrip("0123456789")
    return found


def open_dtd(
    path: str | Path,
    *,
    split: str | None = None,
    joint: bool = False,
    categories: Sequence[str] | None = None,
    report: Report = refuse,
) -> ProbeSet:
    """Open a folder of DTD; the texture of an image (its folder) is a concept of the whole image.

    Parameters
    ----------
    path : str or Path
        The folder with ``images`` and ``labels``.
    split : str, optional
        A list in ``labels``, such as ``"train1"`` or ``"test10"``; without it all images, with the split of the first
        of the ten partitions in ``columns["split"]``.
    joint : bool
        Also take the further textures of ``labels/labels_joint_anno.txt``.
    categories : sequence of str, optional
        There is only ``"texture"``.
    report : callable
        Told of every problem that leaves the rest readable; without it, the first one is raised.

    Raises
    ------
    DataError
        Missing files, lines that cannot be read, an image in two splits; with file and line.
    """
    root = Path(path)
    listed = _listed(root, split, report)
    further = _list_of(root / "labels/labels_joint_anno.txt", report) if joint else {}
    textures = {
        name: list(dict.fromkeys([name.split("/")[0], *(further[name][1] if name in further else [])]))
        for name in listed
    }
    words = Vocabulary()
    words.numbers(sorted({each for own in textures.values() for each in own}), "texture")
    items = [
        Item(
            name=name,
            image=root / "images" / name,
            where=where,
            whole=tuple(words.numbers(textures[name], "texture")),
            columns={"split": own},
        )
        for name, (where, own) in listed.items()
    ]
    label = f"dtd-{split or 'all'}{'-joint' if joint else ''}"
    return assembled(label, root, items, words.concepts.values(), report, categories=categories)
