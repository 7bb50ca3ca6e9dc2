"""ADE20K with all its classes and parts, in the layouts of 2016 (``index_ade20k.mat``) and 2021 (a JSON per image).

``X_seg.png`` holds the class of each pixel as ``R // 10 * 256 + G``, ``X_parts_1.png``, ``X_parts_2.png``, … those of
parts, parts of parts, …. Classes are named by the JSON files (``name_ndx``) where there are any, else by the index.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.data.masks import IdTable
from explain.data.object_masks import in_threads
from explain.data.probes.ade_scenes import scene_name, short_names
from explain.data.probes.assembling import Item, Vocabulary, assembled, class_table, pick_split
from explain.data.probes.mat import cells, field, load_mat, text_of
from explain.data.probes.sources import IdSource, read_pixels
from explain.data.tables import Report, read_text, refuse
from explain.errors import DataError
from explain.types import ProbeSet

__all__ = ["is_ade_full", "open_ade_full", "read_class_codes"]

_SPLITS = ("training", "validation")
_SEG = "_seg.png"
_NO_SCENES = ("outliers", "misc")
_INDEX = "index_ade20k.mat"


@dataclass(frozen=True)
class _Class:
    name: str
    part: bool
    """Labelled as a part more often than as an object."""


def read_class_codes(path: Path, where: str) -> NDArray[np.int32]:
    """Read class codes: ``R // 10 * 256 + G``; 0 is no label."""
    pixels = read_pixels(path, where).astype(np.int32)
    codes: NDArray[np.int32] = pixels[..., 0] // 10 * 256 + pixels[..., 1]
    return codes


def _split_folder(root: Path, split: str) -> Path | None:
    places = (root / "images" / split, root / "images/ADE" / split)
    return next((place for place in places if place.is_dir()), None)


def is_ade_full(root: Path) -> bool:
    """Say whether a folder holds ``images/training`` (or ``images/ADE/training``) with pictures ``*_seg.png``."""
    folders = [found for split in _SPLITS if (found := _split_folder(root, split)) is not None]
    return any(next(folder.rglob(f"*{_SEG}"), None) is not None for folder in folders)


def _json_objects(path: Path) -> list[tuple[int, str, bool]] | str:
    """Return (code, name, whether it is a part) of each object in an image's JSON file, or what is wrong with it."""
    try:
        data = json.loads(read_text(path)[1])
        objects = data["annotation"]["object"]
        listed = objects if isinstance(objects, list) else [objects]
        return [(int(each["name_ndx"]), str(each["name"]), _level(each) > 0) for each in listed]
    except json.JSONDecodeError as error:
        return f"{path} line {error.lineno} is not valid JSON: {error.msg}"
    except DataError as error:
        return str(error)
    except (KeyError, TypeError, ValueError):
        return f"{path} does not list objects with name and name_ndx under annotation"


def _level(entry: Mapping[str, Any]) -> int:
    parts = entry.get("parts")
    level = parts.get("part_level", 0) if isinstance(parts, Mapping) else 0
    return int(level) if level not in ([], "", None) else 0


def _named_by_json(paths: Sequence[Path], report: Report) -> dict[int, _Class]:
    names: dict[int, str] = {}
    votes: dict[int, Counter[bool]] = {}
    for found in in_threads(_json_objects, paths):
        if isinstance(found, str):
            report(found)
            continue
        for code, name, part in found:
            names.setdefault(code, name)
            votes.setdefault(code, Counter())[part] += 1
    return {code: _Class(name, votes[code][True] > votes[code][False]) for code, name in sorted(names.items())}


def _named_by_index(path: Path) -> dict[int, _Class]:
    """Return the classes of ``index_ade20k.mat``: ``objectnames`` by code, from 1 on, and how often each is a part."""
    index = load_mat(path, "index", "ADE20K")
    names = [text_of(each) for each in cells(field(index, "objectnames"))]
    if not names:
        raise DataError(f"{path} has no list objectnames in index: give the index of ADE20K")
    share = _part_shares(field(index, "objectIsPart"), field(index, "objectPresence"), len(names))
    return {code: _Class(name, bool(share[code - 1] > 0.5)) for code, name in enumerate(names, 1) if name}


def _part_shares(parts: Any, present: Any, count: int) -> NDArray[np.float64]:
    """Return the share of each class's instances that are parts; both tables are classes by images."""
    if parts is None or present is None or np.shape(parts) != np.shape(present) or np.shape(parts)[0] != count:
        return np.zeros(count)
    sums = [np.asarray(table.sum(axis=1), np.float64).ravel() for table in (parts, present)]
    return sums[0] / np.maximum(sums[1], 1)


def _classes(root: Path, masks: Sequence[Path], report: Report) -> tuple[dict[int, _Class], str]:
    described = [path for path in map(_json_of, masks) if path.is_file()]
    if described:
        return _named_by_json(described, report), "the JSON files (name_ndx)"
    index = root / _INDEX
    if not index.is_file():
        raise DataError(f"{root} has neither JSON files beside its images nor {_INDEX}: nothing names its classes")
    return _named_by_index(index), str(index)


def _json_of(mask: Path) -> Path:
    return mask.with_name(mask.name.removesuffix(_SEG) + ".json")


def _table(classes: Mapping[int, _Class], words: Vocabulary) -> IdTable:
    """Number the concepts, objects before parts; a class is named by the first of its names where that is unique."""
    short = short_names({code: each.name for code, each in classes.items()})
    for wanted, category in ((False, "object"), (True, "part")):
        words.numbers([short[code] for code, each in classes.items() if each.part == wanted], category)
    return class_table(words, short)


def _scene(mask: Path, folder: Path) -> str | None:
    """Return the scene that an image's folder names: what follows the first letter (2016) or kind of place (2021)."""
    parts = mask.parent.relative_to(folder).parts
    none = len(parts) < 2 or parts[0] in _NO_SCENES or parts[-1] in _NO_SCENES
    return None if none else scene_name("/".join(parts[1:]))


def _item(mask: Path, split: str, scene: str | None, table: IdTable, named: str, words: Vocabulary) -> Item:
    name = mask.name.removesuffix(_SEG)
    parts = sorted(mask.parent.glob(f"{name}_parts_*.png"))
    known = {"object": True, "part": bool(parts), "scene": scene is not None}
    return Item(
        name=name,
        image=mask.with_name(f"{name}.jpg"),
        where=str(mask),
        sources=tuple(IdSource(path, table, named, read_class_codes) for path in (mask, *parts)),
        whole=() if scene is None else (words.number(scene, "scene"),),
        annotated=tuple(category for category, there in known.items() if there),
        columns={"split": split},
    )


def _masks(root: Path, splits: Iterable[str]) -> list[tuple[str, Path, Path]]:
    """Return split, its folder and mask of each image."""
    found = []
    for split in splits:
        folder = _split_folder(root, split)
        if folder is not None:
            found += [(split, folder, mask) for mask in sorted(folder.rglob(f"*{_SEG}"))]
    return found


def open_ade_full(
    path: str | Path,
    *,
    split: str | None = None,
    categories: Sequence[str] | None = None,
    report: Report = refuse,
) -> ProbeSet:
    """Open a folder such as ``ADE20K_2016_07_26`` or ``ADE20K_2021_17_01``.

    A class is a part where more of its instances are parts than objects; a scene is the image's folder, with
    ``-s`` as in Broden. Images
    without ``_parts_1.png`` count as not annotated for parts. The layout of 2016 needs SciPy for its index, which
    takes gigabytes of memory while it is read; the JSON files of 2021 are all read on opening.

    Parameters
    ----------
    path : str or Path
        The folder with ``images``.
    split : str, optional
        ``"training"`` or ``"validation"``; without it both, told apart by ``columns["split"]``.
    categories : sequence of str, optional
        ``"object"``, ``"part"``, ``"scene"``.
    report : callable
        Told of every problem that leaves the rest readable; without it, the first one is raised.

    Raises
    ------
    DependencyError
        SciPy is not installed, and classes are named by ``index_ade20k.mat``.
    DataError
        Missing files, an index or JSON file in another form; codes without a name and sizes when a mask is read.
    """
    root = Path(path)
    known = [name for name in _SPLITS if _split_folder(root, name) is not None]
    found = _masks(root, pick_split(split, known, root))
    classes, named = _classes(root, [mask for _, _, mask in found], report)
    words = Vocabulary()
    table = _table(classes, words)
    scenes = [_scene(mask, folder) for _, folder, mask in found]
    words.numbers(sorted({scene for scene in scenes if scene is not None}), "scene")
    items = [_item(mask, own, scene, table, named, words) for (own, _, mask), scene in zip(found, scenes, strict=True)]
    label = f"{root.resolve().name.lower()}-{split or 'all'}"
    return assembled(label, root, items, words.concepts.values(), report, categories=categories)
