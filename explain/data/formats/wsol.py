"""The metadata of wsolevaluation: text files that list images, classes, sizes, and boxes or masks; no pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from explain.data.formats.assembling import fitting, grouped
from explain.data.formats.lines import Lines, listed, need_folder, read_lines
from explain.data.formats.wsol_tables import IDS, Split, numbers_of, owners_of, per_image, read_split, rows_of
from explain.data.object_masks import in_threads, opencv_nearest
from explain.data.tables import Report, files_hash, header_size, refuse
from explain.errors import DataError, near
from explain.types import Edges, LocalizationSet

__all__ = ["DATASETS", "OpenImagesMasks", "is_wsol", "open_wsol", "wsol_parts"]

_LABELS, _SIZES, _TRUTH = "class_labels.txt", "image_sizes.txt", "localization.txt"


@dataclass(frozen=True)
class Conventions:
    """What the files do not say of a data set."""

    pattern: str
    """What its image ids look like; the group ``label`` is a class index, ``number`` one that counts from 1."""
    edges: Edges


DATASETS: Mapping[str, Conventions] = {
    "ilsvrc": Conventions(r"(val/ILSVRC2012_val_\d{8}|train/n\d{8}/n\d{8}_\d+)\.JPEG", "inclusive"),
    "imagenetv2": Conventions(r"val2/(?P<label>\d+)/[^/]+\.jpeg", "inclusive"),
    "cubv2": Conventions(r"(?P<number>\d{3})\.[^/]+/\d+\.jpg", "exclusive"),
    "cub": Conventions(r"(?P<number>\d{3})\.[^/]+/[^/]+\.jpg", "exclusive"),
    "openimages30k": Conventions(r"(train|val|test)/[^/]+/[0-9a-f]{16}\.jpg", "inclusive"),
}
"""The data sets by name; ids are held against the patterns in this order."""


@dataclass(frozen=True, eq=False)
class OpenImagesMasks:
    """Object masks of OpenImages30k: instances united; ignored is what the ignore mask marks and no instance does."""

    masks: tuple[tuple[Path, ...], ...]
    """Per image: one file per instance."""
    ignores: tuple[Path | None, ...]
    where: tuple[str, ...]

    def __call__(self, index: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Return the mask of image ``index`` at ``size = (height, width)``: 1 object, 0 background, 255 ignored."""
        mask = np.zeros(size, np.uint8)
        ignore = self.ignores[index]
        if ignore is not None:
            mask[self._marked(ignore, index, size)] = 255
        for path in self.masks[index]:
            mask[self._marked(path, index, size)] = 1
        return mask

    def _marked(self, path: Path, index: int, size: tuple[int, int]) -> NDArray[np.bool_]:
        try:
            with Image.open(path) as picture:
                grey = np.asarray(picture.convert("L"))
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(f"{self.where[index]}: mask {path} cannot be read ({error}): replace the file") from None
        return np.asarray(opencv_nearest(grey, size)) > 0  # "> 0.5" on the scale of 0 to 255


def _folders(root: Path) -> list[Path]:
    """Return all folders of metadata at or below a folder: itself, ``val``, ``ILSVRC/val``, ``metadata/ILSVRC/val``."""
    if (root / IDS).is_file():
        return [root]
    found = [path.parent for below in ("*", "*/*", "metadata/*/*") for path in root.glob(f"{below}/{IDS}")]
    return sorted(folder for folder in found if (folder / _LABELS).is_file())


def is_wsol(root: Path) -> bool:
    """Say whether a folder is a split of wsolevaluation's metadata, or holds some."""
    return bool(_folders(root))


def wsol_parts(root: Path) -> list[tuple[Path, str | None]]:
    """Return all splits at or below a folder, each as a folder."""
    return [(folder, None) for folder in _folders(root)]


def _chosen_folder(root: Path, split: str | None) -> Path:
    need_folder(root, f"give the folder with {IDS}")
    found = _folders(root)
    if not found:
        raise DataError(f"{root} has no {IDS} and {_LABELS}: give the folder of one split, such as ILSVRC/val")
    if split is not None and found != [root]:
        named = [folder for folder in found if folder.name == split]
        if not named:
            there = ", ".join(dict.fromkeys(folder.name for folder in found))
            raise DataError(f"{root} has no split {split!r} (it has: {there})")
        found = named
    if len(found) > 1:
        there = listed([str(folder.relative_to(root)) for folder in found], 12)
        raise DataError(f"{root} holds several splits ({there}): give the folder of one of them")
    return found[0]


def _known(name: str | None, split: Split) -> str:
    if name is not None:
        if name not in DATASETS:
            raise DataError(f"unknown data set {name!r}{near(name, DATASETS)} (known: {', '.join(DATASETS)})")
        return name
    for known, conventions in DATASETS.items():
        if re.fullmatch(conventions.pattern, split.ids[0]):
            return known
    raise DataError(
        f"{split.lines.where(0)}: {split.ids[0]!r} is an image of no data set that is known: say whose conventions"
        f" hold with dataset= (one of {', '.join(DATASETS)})"
    )


def _labels(split: Split, known: str, report: Report) -> tuple[Lines, tuple[int, ...]]:
    """Read the classes, and hold them against ids whose folder says the class."""
    lines = read_lines(split.folder / _LABELS)
    numbers, line_of = per_image(lines, "path,class", split, report)
    pattern = re.compile(DATASETS[known].pattern)
    labels = numbers[:, 0].tolist()
    for name, label, number in zip(split.ids, labels, line_of, strict=True):
        if number < 0:
            continue
        if label < 0:
            report(f"{lines.where(number)}: class {label} is not a whole number from 0 on")
            continue
        parts = match.groupdict() if (match := pattern.fullmatch(name)) else {}
        told = int(parts["label"]) if "label" in parts else int(parts["number"]) - 1 if "number" in parts else label
        if told != label:
            report(f"{lines.where(number)}: class {label}, but the folder of {name!r} says {told}: correct one of them")
    return lines, tuple(labels)


def _class_names(labels: Sequence[int], split: Split, known: str) -> tuple[str, ...] | None:
    if known not in ("cub", "cubv2"):
        return None
    names = {label: name.split("/")[0].partition(".")[2] for label, name in zip(labels, split.ids, strict=True)}
    return tuple(names[label] for label in range(len(names))) if set(names) == set(range(len(names))) else None


def _boxes(
    lines: Lines, split: Split, sizes: NDArray[np.int64], edges: Edges, report: Report
) -> tuple[NDArray[np.float64], ...]:
    shape = "path,x0,y0,x1,y1"
    rows = rows_of(lines, shape, report)
    published = numbers_of(lines, rows, shape, report)
    owners = owners_of(lines, rows, split, report)
    good = np.flatnonzero(owners >= 0)
    good = good[sizes[owners[good], 0] >= 0]  # without a size, which was told, a box cannot be checked
    half_open = published[good] + np.array([0, 0, 1, 1] if edges == "inclusive" else [0, 0, 0, 0])

    def told(index: int) -> str:
        line = int(good[index])
        return f"{lines.where(line)}: box {','.join(rows[line][1:])}"

    clipped, fine = fitting(half_open.astype(np.float64), sizes[owners[good]], told, report)
    boxes = grouped(clipped[fine], owners[good][fine], len(split.ids))
    without = [index for index, each in enumerate(boxes) if not len(each)]
    if without:
        report(split.lacking(lines.path, "a box", without))
    return boxes


def _masks(lines: Lines, split: Split, root: Path | None, report: Report) -> OpenImagesMasks | None:
    """Read the rows of masks; None where no folder of masks was found."""
    rows = rows_of(lines, "path,mask.png,ignore.png", report)
    masks: list[list[str]] = [[] for _ in split.ids]
    ignores, line_of = [""] * len(split.ids), [0] * len(split.ids)
    for number, owner in enumerate(owners_of(lines, rows, split, report).tolist()):
        if owner < 0:
            continue
        _, mask, ignore = rows[number]
        if masks[owner] and ignore:
            report(f"{lines.where(number)}: an ignore mask stands on an image's first row only: drop {ignore!r} here")
        elif not masks[owner]:
            ignores[owner], line_of[owner] = ignore, number
            if not ignore:
                report(f"{lines.where(number)}: the first row of {split.ids[owner]!r} names no ignore mask")
        masks[owner].append(mask)
    without = [index for index, each in enumerate(masks) if not each]
    if without:
        report(split.lacking(lines.path, "a mask", without))
    if root is None:
        return None
    found = OpenImagesMasks(
        masks=tuple(tuple(root / name for name in each) for each in masks),
        ignores=tuple(root / name if name else None for name in ignores),
        where=tuple(lines.where(number) for number in line_of),
    )
    for where, path in _mask_files(found):
        if not path.is_file():
            report(f"{where}: no mask {path}: say with masks= where the masks lie")
    return found


def _mask_files(masks: OpenImagesMasks) -> list[tuple[str, Path]]:
    return [
        (where, path)
        for where, paths, ignore in zip(masks.where, masks.masks, masks.ignores, strict=True)
        for path in [*paths, *([] if ignore is None else [ignore])]
    ]


def _roots(folder: Path) -> list[Path]:
    # Beside metadata/ILSVRC/val, wsolevaluation keeps pictures and masks in dataset/ILSVRC.
    beside = [folder.parents[2] / "dataset" / folder.parent.name] if len(folder.parents) > 2 else []
    return [*beside, folder / "images", folder]


def _root(given: str | Path | None, folder: Path, first: str, what: str) -> Path | None:
    """Return the folder given, or the one where the first file lies; None where there is none."""
    if given is None:
        return next((root for root in _roots(folder) if (root / first).is_file()), None)
    root = need_folder(Path(given), f"give the folder that the paths of the {what} are relative to")
    if not (root / first).is_file():
        raise DataError(f"{root} has no {first}: give the folder that the paths of the {what} are relative to")
    return root


def _mask_root(given: str | Path | None, split: Split, truth: Lines, images: Path | None) -> Path | None:
    # Published masks lie beside the pictures; where neither the first one nor pictures are found, there are none.
    return _root(given, split.folder, truth.texts[0].split(",")[1], "masks") or images


def _need_images(split: Split, root: Path, report: Report) -> None:
    missing = [index for index, name in enumerate(split.ids) if not (root / name).is_file()]
    if missing:
        report(split.lacking(root, "the file", missing))


def _sizes(
    split: Split, root: Path | None, masks: OpenImagesMasks | None, report: Report
) -> tuple[Lines | None, NDArray[np.int64]]:
    """Return (height, width) of every image ``(images, 2)``, -1 where unknown: from the file, else from headers."""
    path = split.folder / _SIZES
    lines = read_lines(path) if path.is_file() else None
    if lines is not None and lines.texts:
        numbers, line_of = per_image(lines, "path,width,height", split, report)
        for index in np.flatnonzero((numbers < 1).any(1)).tolist():
            if line_of[index] >= 0:
                report(f"{lines.where(line_of[index])}: an image has at least one pixel")
        return lines, numbers[:, ::-1]
    if root is not None:
        files = [root / name for name in split.ids]
    elif masks is not None and all(masks.masks):
        files = [paths[0] for paths in masks.masks]
    else:
        raise DataError(
            f"{path} says no sizes and there are neither images nor masks beside it: give images=, the folder that"
            " the paths are relative to"
        )
    sizes = in_threads(header_size, files)
    for file, size in zip(files, sizes, strict=True):
        if size is None and file.is_file():
            report(f"{file} cannot be opened as an image: replace the file")
    return lines, np.array([size or (-1, -1) for size in sizes], np.int64)


def open_wsol(
    path: str | Path,
    *,
    split: str | None = None,
    dataset: str | None = None,
    images: str | Path | None = None,
    masks: str | Path | None = None,
    report: Report = refuse,
) -> LocalizationSet:
    """Open metadata of wsolevaluation: ILSVRC, ImageNetV2, CUB, CUBV2 (boxes) or OpenImages30k (masks).

    Pictures need not be there where the sizes are published (all but OpenImages30k): ``images`` are then the paths
    where they would be. ``boxes`` are half-open. Published are whole numbers ``x0,y0,x1,y1``: in ILSVRC and
    ImageNetV2 the last two are the last pixel (``edges="inclusive"``: one is added), in CUB and CUBV2 they are
    ``x0 + width`` (``"exclusive"``: taken as they are), cut there to ``image width - 1``, so that a bird that
    touches the right or lower border lacks its last pixel.

    Parameters
    ----------
    path : str or Path
        The folder of a split (``image_ids.txt, class_labels.txt, image_sizes.txt, localization.txt``), or one above
        it (``metadata/ILSVRC``, ``metadata``), where there is one split only or ``split`` says which.
    split : str, optional
        The name of its folder: ``val`` (ImageNetV2 in ILSVRC, CUBV2 in CUB), ``test`` or ``train``.
    dataset : {"ilsvrc", "imagenetv2", "cub", "cubv2", "openimages30k"}, optional
        Whose conventions hold; without it, the image ids tell.
    images : str or Path, optional
        The folder that ids are relative to; without it, ``dataset/NAME`` beside ``metadata``, or the split's folder.
    masks : str or Path, optional
        The folder of OpenImages30k's masks; without it, sought like the images.
    report : callable
        Told of every problem that leaves the rest readable; without it, the first one is raised.

    Raises
    ------
    DataError
        Files that do not name the same images, repeated images, classes other than the ids say, boxes that are
        empty or leave their image, missing pictures or masks where others are found; with file and line.
    """
    found = read_split(_chosen_folder(Path(path), split), report)
    known = _known(dataset, found)
    label_lines, labels = _labels(found, known, report)
    root = _root(images, found.folder, found.ids[0], "images")
    if root is not None:
        _need_images(found, root, report)
    truth = read_lines(found.folder / _TRUTH)
    fields = truth.texts[0].count(",") if truth.texts else 0
    object_masks = _masks(truth, found, _mask_root(masks, found, truth, root), report) if fields == 2 else None
    size_lines, sizes = _sizes(found, root, object_masks, report)
    boxes = (np.zeros((0, 4)),) * len(found.ids)
    if truth.texts and fields != 2:
        boxes = _boxes(truth, found, sizes, DATASETS[known].edges, report)
    place = _roots(found.folder)[0] if root is None else root
    pictures = tuple(place / name for name in found.ids)
    texts = [lines.raw for lines in (found.lines, label_lines, size_lines, truth) if lines is not None]
    files = [] if root is None else list(zip(found.ids, pictures, strict=True))
    files += [] if object_masks is None else [(file.name, file) for _, file in _mask_files(object_masks)]
    return LocalizationSet(
        name=f"{known}-{found.folder.name}",
        images=pictures,
        classes=labels,
        boxes=boxes,
        sizes=tuple((height, width) for height, width in sizes.tolist()),
        names=found.ids,
        hash=files_hash([known.encode(), *texts], ((name, file) for name, file in files if file.is_file())),
        class_names=_class_names(labels, found, known),
        root=found.folder,
        masks=object_masks,
        edges=DATASETS[known].edges,
    )
