"""Cityscapes: street scenes with fine annotations of 30 classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from explain.data.formats.lines import need_folder
from explain.data.masks import IdTable
from explain.data.probes.assembling import Item, Vocabulary, assembled, class_table, pick_split
from explain.data.probes.sources import IdSource
from explain.data.tables import Report, refuse
from explain.types import ProbeSet

__all__ = ["is_cityscapes", "open_cityscapes"]

_CLASSES = (
    *("ground", "road", "sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge"),
    *("tunnel", "pole", "polegroup", "traffic light", "traffic sign", "vegetation", "terrain", "sky", "person"),
    *("rider", "car", "truck", "bus", "caravan", "trailer", "train", "motorcycle", "bicycle"),
)
"""Ids 6 to 33."""
_FIRST = 6
_DROPPED = (0, 1, 2, 3)
"""unlabeled, ego vehicle, rectification border, out of roi: not of the scene."""
_UNNAMED = (4, 5)
"""static, dynamic: whatever else stands or moves."""
_PLATE = 255
"""License plates have the id -1, which an 8 bit picture holds as 255: part of a car, left out."""


def is_cityscapes(root: Path) -> bool:
    """Say whether a folder holds ``leftImg8bit`` and ``gtFine``."""
    return (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir()


def _items(root: Path, split: str, table: IdTable) -> list[Item]:
    found = []
    for mask in sorted((root / "gtFine" / split).glob("*/*_gtFine_labelIds.png")):
        name = mask.name.removesuffix("_gtFine_labelIds.png")
        image = root / "leftImg8bit" / split / mask.parent.name / f"{name}_leftImg8bit.png"
        own = IdSource(mask, table, "the list of Cityscapes' labels")
        columns = {"split": split, "city": mask.parent.name}
        found.append(Item(name=name, image=image, where=str(mask), sources=(own,), columns=columns))
    return found


def open_cityscapes(
    path: str | Path,
    *,
    split: str | None = None,
    categories: Sequence[str] | None = None,
    report: Report = refuse,
) -> ProbeSet:
    """Open a folder of Cityscapes: ``leftImg8bit`` and the ``*_labelIds.png`` of ``gtFine``.

    Ids 6 to 33 are concepts, also those that the benchmark leaves out (parking, bridge, …). Unlabelled pixels, the
    own car, the border, what is out of the region of interest, and license plates are left out of every count;
    ``static`` and ``dynamic`` are no concepts, but count.

    Parameters
    ----------
    path : str or Path
        The folder.
    split : str, optional
        ``"train"``, ``"val"`` or ``"test"`` (whose published masks are empty); without it train and val, told apart
        by ``columns["split"]``; ``columns["city"]`` is the city.
    categories : sequence of str, optional
        There is only ``"object"``.
    report : callable
        Told of every problem that leaves the rest readable; without it, the first one is raised.

    Raises
    ------
    DataError
        Missing folders or pictures; ids and sizes when a mask is read.
    """
    root = Path(path)
    need_folder(root / "gtFine", "Cityscapes has its masks there")
    known = [name for name in ("train", "val", "test") if (root / "gtFine" / name).is_dir()]
    splits = pick_split(split, known, root)
    if split is None:
        splits = [name for name in splits if name != "test"] or splits
    words = Vocabulary()
    classes = dict(enumerate(_CLASSES, _FIRST))
    table = class_table(words, classes, unnamed=_UNNAMED, ignored=[*_DROPPED, _PLATE])
    items = [item for name in splits for item in _items(root, name, table)]
    return assembled(
        f"cityscapes-{split or 'all'}", root, items, words.concepts.values(), report, categories=categories
    )
