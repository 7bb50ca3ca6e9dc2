"""SceneParse150 (``ADEChallengeData2016``): ADE20K with 150 classes of objects and stuff, and scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from explain.data.formats.lines import Lines, read_keyed, read_lines
from explain.data.masks import IdTable
from explain.data.probes.assembling import Item, Vocabulary, assembled, class_table, pick_split
from explain.data.probes.sources import IdSource
from explain.data.tables import Report, refuse
from explain.errors import DataError
from explain.types import ProbeSet

__all__ = ["is_sceneparsing", "open_sceneparsing", "scene_name", "short_names"]


def is_sceneparsing(root: Path) -> bool:
    """Say whether a folder is laid out as ``ADEChallengeData2016``."""
    return (root / "objectInfo150.txt").is_file() and (root / "annotations").is_dir()


def _object_names(lines: Lines, report: Report) -> dict[int, str]:
    """Return each class's names, joined by commas, by its id: first and last column of ``objectInfo150.txt``."""
    found: dict[int, str] = {}
    for number, text in enumerate(lines.texts[1:], 1):
        cells = [cell.strip() for cell in text.split("\t")]
        if len(cells) < 2 or not cells[0].isdecimal() or not cells[-1]:
            report(f"{lines.where(number)}: {text[:60]!r} is not a number and names, divided by tabs")
        elif int(cells[0]) in found:
            report(f"{lines.where(number)}: class {cells[0]} is named twice: keep one of them")
        else:
            found[int(cells[0])] = cells[-1]
    return found


def short_names(names: dict[int, str]) -> dict[int, str]:
    """Return the first of each class's names, all of them where the first would not be unique."""
    first = {number: text.split(",")[0].strip() for number, text in names.items()}
    counts = list(first.values())
    return {number: name if counts.count(name) == 1 else names[number] for number, name in first.items()}


def scene_name(text: str) -> str:
    """Return a scene's name with ``-s``, as in Broden: a photo of a bridge and a bridge in it are two concepts."""
    return f"{text}-s"


def open_sceneparsing(
    path: str | Path,
    *,
    split: str | None = None,
    categories: Sequence[str] | None = None,
    report: Report = refuse,
) -> ProbeSet:
    """Open a folder such as ``ADEChallengeData2016``.

    Pixels with id 0 are unlabelled: no concept, counted. A class is named by the first of its names; a scene is a
    concept of the whole image, with ``-s`` as in Broden, by ``sceneCategories.txt`` where that is there.

    Parameters
    ----------
    path : str or Path
        The folder with ``images``, ``annotations`` and ``objectInfo150.txt``.
    split : str, optional
        ``"training"`` or ``"validation"``; without it both, told apart by ``columns["split"]``.
    categories : sequence of str, optional
        ``"object"``, ``"scene"``.
    report : callable
        Told of every problem that leaves the rest readable; without it, the first one is raised.

    Raises
    ------
    DataError
        Missing files, lines that cannot be read, scenes of unknown images; ids and sizes when a mask is read.
    """
    root = Path(path)
    info = read_lines(root / "objectInfo150.txt")
    words = Vocabulary()
    table = class_table(words, short_names(_object_names(info, report)))
    listed = root / "sceneCategories.txt"
    scenes = (
        {key: scene_name(line.cells[0]) for key, line in read_keyed(listed, 1, report).items()}
        if listed.is_file()
        else {}
    )
    words.numbers(sorted(set(scenes.values())), "scene")
    found = [name for name in ("training", "validation") if (root / "images" / name).is_dir()]
    splits = pick_split(split, found, root)
    items = [item for name in splits for item in _items(root, name, table, str(info.path), scenes, words)]
    return assembled(
        f"sceneparsing-{split or 'all'}",
        root,
        items,
        words.concepts.values(),
        report,
        categories=categories,
        texts=[info.raw, listed.read_bytes() if scenes else b""],
    )


def _items(root: Path, split: str, table: IdTable, named: str, scenes: dict[str, str], words: Vocabulary) -> list[Item]:
    masks = root / "annotations" / split
    images = sorted((root / "images" / split).glob("*.jpg"))
    if not masks.is_dir():
        raise DataError(f"no folder {masks}: images/{split} has its masks there")
    return [
        Item(
            name=image.stem,
            image=image,
            where=f"{image.parent}: {image.name}",
            sources=(IdSource(masks / f"{image.stem}.png", table, named),),
            whole=(words.number(scenes[image.stem], "scene"),) if image.stem in scenes else (),
            annotated=("object", "scene") if image.stem in scenes else ("object",),
            columns={"split": split},
        )
        for image in images
    ]
