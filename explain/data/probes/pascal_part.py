"""Pascal-Part (Chen et al., CVPR 2014): masks of objects and of their parts, one ``.mat`` file per image."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.data.formats.lines import first_folder
from explain.data.masks import nearest
from explain.data.object_masks import in_threads
from explain.data.probes.assembling import Item, Vocabulary, assembled
from explain.data.probes.mat import cells, field, load_mat, text_of
from explain.data.probes.sources import class_layers, need_size
from explain.data.probes.voc import listed_images, voc_splits
from explain.data.tables import Report, refuse
from explain.errors import DataError
from explain.types import ProbeSet

__all__ = ["is_pascal_part", "open_pascal_part"]

_FOLDER = "Annotations_Part"


def is_pascal_part(root: Path) -> bool:
    """Say whether a folder holds ``Annotations_Part``."""
    return (root / _FOLDER).is_dir()


def part_name(text: str) -> str:
    """Return a part without the number that tells one from another: ``"wheel"`` for ``"wheel_2"``."""
    return re.sub(r"_\d+$", "", text)


def _found(path: Path, where: str) -> list[tuple[str, str, NDArray[np.bool_]]]:
    """Return (category, name, mask) of every object and part of an image."""
    objects = field(load_mat(path, "anno", where), "objects")
    found = []
    for place, each in enumerate(cells(objects)):
        masks = [("object", text_of(field(each, "class")), field(each, "mask"))]
        for part in cells(field(each, "parts")):
            masks.append(("part", part_name(text_of(field(part, "part_name"))), field(part, "mask")))
        for category, name, mask in masks:
            if not name or np.ndim(mask) != 2:
                raise DataError(f"{where}: {path} objects({place + 1}) has a {category} without name or mask")
            found.append((category, name, np.asarray(mask) != 0))
    return found


@dataclass(frozen=True, eq=False)
class PartSource:
    """Objects and parts of one image."""

    path: Path
    numbers: Mapping[str, int]
    """Concept number by name."""

    def __call__(self, where: str, own: tuple[int, int], size: tuple[int, int]) -> NDArray[np.int32]:
        """Return the labels ``(layers, h, w)``, with as many layers as overlapping concepts need; see `Source`."""
        regions = []
        for _, name, mask in _found(self.path, where):
            need_size(self.path, mask.shape, own, where)
            regions.append((self.numbers[name], mask))
        return np.asarray(nearest(class_layers(regions, own), size), np.int32)


def _listed(root: Path, split: str | None, report: Report) -> dict[str, tuple[str, str | None]]:
    """Return where each image stands, and its split: of a list in ``ImageSets``, else of all annotations."""
    folder = first_folder(root / "ImageSets" / name for name in ("Segmentation", "Main"))
    if split is not None:
        if folder is None or not (folder / f"{split}.txt").is_file():
            known = "none" if folder is None else ", ".join(voc_splits(folder))
            raise DataError(f"{root} has no list ImageSets/Segmentation/{split}.txt (it has: {known})")
        return {
            name: found
            for name, found in listed_images(folder, [split], report).items()
            if (root / _FOLDER / f"{name}.mat").is_file()  # not every image of VOC2010 has parts
        }
    return {path.stem: (str(path), None) for path in sorted((root / _FOLDER).glob("*.mat"))}


def _vocabulary(paths: Sequence[Path], report: Report) -> Vocabulary:
    """Return the names that occur, objects before parts, each sorted; reads every file."""

    def names(path: Path) -> Any:
        try:
            return {(category, name) for category, name, _ in _found(path, str(path))}
        except DataError as error:
            return str(error)

    met: set[tuple[str, str]] = set()
    for found in in_threads(names, paths):
        if isinstance(found, str):
            report(found)
        else:
            met |= found
    words = Vocabulary()
    for category, name in sorted(met):
        words.number(name, category)
    return words


def open_pascal_part(
    path: str | Path,
    *,
    split: str | None = None,
    images: str | Path | None = None,
    categories: Sequence[str] | None = None,
    report: Report = refuse,
) -> ProbeSet:
    """Open a folder with ``Annotations_Part``; needs SciPy.

    Objects and parts that overlap go to several label layers. Parts keep their published names (``lear`` is a left
    ear), without the numbers that tell one wheel from another; parts of the same name on several classes are one
    concept, as in Broden. Every file is read once on opening, for the names.

    Parameters
    ----------
    path : str or Path
        The folder, such as ``VOC2010`` with ``Annotations_Part`` added, or ``trainval`` of the download.
    split : str, optional
        A list in ``ImageSets/Segmentation`` (or ``Main``); without it all annotated images.
    images : str or Path, optional
        The folder of the images; without it ``JPEGImages``.
    categories : sequence of str, optional
        ``"object"``, ``"part"``.
    report : callable
        Told of every problem that leaves the rest readable; without it, the first one is raised.

    Raises
    ------
    DependencyError
        SciPy is not installed.
    DataError
        Missing images, files that are not in this form; sizes when labels are read.
    """
    root = Path(path)
    folder = Path(images) if images is not None else root / "JPEGImages"
    listed = _listed(root, split, report)
    files = {name: root / _FOLDER / f"{name}.mat" for name in listed}
    words = _vocabulary(list(files.values()), report)
    numbers = {name: number for number, name in enumerate(words.concepts)}
    items = [
        Item(
            name=name,
            image=folder / f"{name}.jpg",
            where=where,
            sources=(PartSource(files[name], numbers),),
            columns={} if own is None else {"split": own},
        )
        for name, (where, own) in listed.items()
    ]
    label = f"pascal-part-{split or 'all'}"
    return assembled(label, root, items, words.concepts.values(), report, categories=categories)
