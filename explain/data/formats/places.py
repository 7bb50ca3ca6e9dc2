"""Photos of scenes: Places365 and SUN397, labelled images by list, without boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from explain.data.formats.assembling import Item, assembled
from explain.data.formats.lines import first_folder, listed, need_folder, read_keyed, read_lines
from explain.data.object_masks import in_threads
from explain.data.tables import Report, header_size, refuse
from explain.errors import DataError, near
from explain.types import LocalizationSet

__all__ = ["is_places365", "is_sun397", "open_places365", "open_sun397", "places365_parts", "sun397_parts"]

_CATEGORIES, _CLASSES = "categories_places365.txt", "ClassName.txt"
_LISTS = {"val": "places365_val.txt", "train-standard": "places365_train_standard.txt"}
_FOLDERS = {
    "val": ("val_256", "val_large"),
    "train-standard": ("data_256", "data_large", "data_256_standard", "data_large_standard"),
}


def is_places365(root: Path) -> bool:
    """Say whether a folder holds ``categories_places365.txt`` and a list of photos."""
    return (root / _CATEGORIES).is_file() and any((root / name).is_file() for name in _LISTS.values())


def is_sun397(root: Path) -> bool:
    """Say whether a folder holds ``ClassName.txt`` and a folder of the first class in it."""
    path = root / _CLASSES
    if not path.is_file():
        return False
    first = path.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0].strip()
    return first.startswith("/") and (root / first[1:]).is_dir()


def _there(root: Path) -> list[str]:
    return [split for split, name in _LISTS.items() if (root / name).is_file()]


def places365_parts(root: Path) -> list[tuple[Path, str | None]]:
    """Return the splits whose list and photos a folder holds; for checks of all of it."""
    return [(root, split) for split in _there(root) if first_folder(root / name for name in _FOLDERS[split])]


def sun397_parts(root: Path) -> list[tuple[Path, str | None]]:
    """Return all of a folder and each partition in it; for checks of all of it."""
    return [(root, None), *((root, path.stem) for path in _partitions(root).values())]


def _place(name: str) -> str:
    """Return ``"apartment_building/outdoor"`` for ``"/a/apartment_building/outdoor"``."""
    return name.split("/", 2)[2] if name.count("/") > 1 else name.strip("/")


def _labelled(
    name: str, root: Path, found: Sequence[tuple[str, Path, int, str]], names: Sequence[str], report: Report
) -> LocalizationSet:
    """Put photos together, each as its name, file, class, and where it is listed."""
    items = []
    sizes = in_threads(header_size, [picture for _, picture, _, _ in found])
    for (key, picture, label, where), size in zip(found, sizes, strict=True):
        if size is None:
            report(f"{where}: no image {picture}, or it cannot be opened: add the file")
        else:
            items.append(Item(key, picture, label, size, where))
    boxes = tuple(np.zeros((0, 4)) for _ in items)
    return assembled(name, root, items, boxes, report, edges="inclusive", class_names=tuple(map(_place, names)))


def _numbered(path: Path, report: Report) -> dict[str, int]:
    """Return the number of each class of ``categories_places365.txt``, which counts from 0 without gaps."""
    numbers: dict[str, int] = {}
    for key, line in read_keyed(path, 1, report).items():
        if line.cells[0] != str(len(numbers)):
            raise DataError(f"{line.where}: class {key!r} has number {line.cells[0]!r} where {len(numbers)} comes next")
        numbers[key] = len(numbers)
    return numbers


def open_places365(
    path: str | Path, *, split: str | None = None, images: str | Path | None = None, report: Report = refuse
) -> LocalizationSet:
    """Open Places365; the class of a photo is its scene, in the numbers of ``categories_places365.txt``.

    Parameters
    ----------
    path : str or Path
        The folder with ``categories_places365.txt``, the lists and the folders of photos.
    split : {"val", "train-standard"}, optional
        "val" where it is not given and its list is there.
    images : str or Path, optional
        The folder of the split's photos, where it is not ``val_256``, ``val_large``, ``data_256`` or ``data_large``.
    report : callable
        Told of every problem that leaves the rest readable; without it, the first one is raised.

    Raises
    ------
    DataError
        Missing lists or photos, lines that cannot be read, unknown classes; with file and line.
    """
    root = need_folder(Path(path), f"give the folder with {_CATEGORIES}")
    known = _there(root)
    chosen = (known[0] if known else "val") if split is None else split
    if chosen not in known:
        raise DataError(f"{root} has no split {chosen!r}{near(chosen, known)} (it has: {listed(known)})")
    folder = Path(images) if images is not None else first_folder(root / name for name in _FOLDERS[chosen])
    if folder is None:
        raise DataError(
            f"{root} has none of the folders {', '.join(_FOLDERS[chosen])}: unpack the photos, or give images"
        )
    need_folder(folder, f"give the folder of the photos of {chosen}")
    numbers = _numbered(root / _CATEGORIES, report)
    found = []
    for key, line in read_keyed(root / _LISTS[chosen], 1, report).items():
        label = line.cells[0]
        if label.isdecimal() and int(label) < len(numbers):
            found.append((key.lstrip("/"), folder / key.lstrip("/"), int(label), line.where))
        else:
            report(f"{line.where}: class {label!r} is none of 0 to {len(numbers) - 1} of {_CATEGORIES}")
    return _labelled(f"places365-{chosen}", root, found, list(numbers), report)


def _partitions(root: Path) -> dict[str, Path]:
    folders = (root / "Partitions", root, root.parent / "Partitions")
    paths = (
        path for folder in folders for kind in ("Training", "Testing") for path in sorted(folder.glob(f"{kind}_*.txt"))
    )
    found: dict[str, Path] = {}
    for path in paths:
        found.setdefault(path.stem, path)
    return found


def _all_of(root: Path, classes: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return every photo of every class with where its class is listed."""
    where = {name: f"{root / _CLASSES} line {number + 1}" for name, number in classes.items()}
    return [
        (f"{name}/{path.name}", where[name]) for name in classes for path in sorted((root / name[1:]).glob("sun_*.jpg"))
    ]


def open_sun397(path: str | Path, *, split: str | None = None, report: Report = refuse) -> LocalizationSet:
    """Open SUN397; the class of a photo is its scene, in the order of ``ClassName.txt``.

    Parameters
    ----------
    path : str or Path
        The folder with ``ClassName.txt`` and the folders ``a``, ``b``, …
    split : str, optional
        One of the published partitions, as ``"Testing_01"``, whose list lies in the folder, in ``Partitions`` there or
        beside it; all photos where it is not given.
    report : callable
        Told of every problem that leaves the rest readable; without it, the first one is raised.

    Raises
    ------
    DataError
        Missing lists or photos, photos of no class; with file and line.
    """
    root = need_folder(Path(path), f"give the folder with {_CLASSES}")
    classes = {name.strip(): number for number, name in enumerate(read_lines(root / _CLASSES).texts)}
    lists = _partitions(root)
    if split is not None and split not in lists:
        raise DataError(f"{root} has no split {split!r}{near(split, lists)} (it has: {listed(list(lists)) or 'none'})")
    if split is None:
        named = _all_of(root, classes)
    else:
        lines = read_lines(lists[split])
        named = [(text.strip(), lines.where(number)) for number, text in enumerate(lines.texts)]
    found = []
    for key, where in named:
        label = classes.get(key.rpartition("/")[0])
        if label is None:
            report(f"{where}: {key!r} lies in no class of {_CLASSES}")
        else:
            found.append((key.lstrip("/"), root / key.lstrip("/"), label, where))
    return _labelled(f"sun397-{split or 'all'}", root, found, list(classes), report)
