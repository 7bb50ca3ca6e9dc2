"""ImageNet-S: classes of ImageNet's pixels as RGB pictures, ``id = R + 256 G``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from explain.data.formats.assembling import Item, assembled
from explain.data.formats.lines import listed, need_folder
from explain.data.formats.wnids import is_wnid, read_class_list
from explain.data.object_masks import IdMasks, in_threads, tight_box
from explain.data.tables import Report, refuse
from explain.errors import DataError
from explain.types import LocalizationSet

__all__ = ["imagenet_s_parts", "is_imagenet_s", "open_imagenet_s", "read_rgb_ids"]

_IGNORED = 1000
_SUFFIX = "-segmentation"


@dataclass(frozen=True)
class _Shown:
    """What one segmentation holds: the box of each class id."""

    size: tuple[int, int]
    boxes: dict[int, NDArray[np.float64]]


def is_imagenet_s(root: Path) -> bool:
    """Say whether a folder is laid out as ``ImageNetS50``: segmentations of ``validation`` or ``train-semi``."""
    return bool(imagenet_s_parts(root))


def imagenet_s_parts(root: Path) -> list[tuple[Path, str | None]]:
    """Return the splits that a folder has segmentations of."""
    return [(root, split) for split in ("validation", "train-semi") if (root / f"{split}{_SUFFIX}").is_dir()]


def read_rgb_ids(path: Path, where: str) -> NDArray[np.int32]:
    """Read a segmentation of ImageNet-S as ids ``(h, w)``: red plus 256 times green."""
    try:
        with Image.open(path) as picture:
            if picture.mode not in ("RGB", "RGBA"):
                raise DataError(f"{where}: {path} is a {picture.mode} picture: segmentations of ImageNet-S are RGB")
            values = np.asarray(picture).astype(np.int32)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{where}: {path} cannot be read ({error}): replace the file") from None
    return values[..., 0] + 256 * values[..., 1]


def _shown(path: Path) -> _Shown | str:
    try:
        ids = read_rgb_ids(path, str(path.parent))
    except DataError as error:
        return str(error)
    present = [int(each) for each in np.unique(ids) if each not in (0, _IGNORED)]
    return _Shown((ids.shape[0], ids.shape[1]), {each: tight_box((ids == each).astype(np.uint8)) for each in present})


def _wnids(folder: Path, root: Path) -> list[str]:
    """Return the wnids in the order of their ids: the folders' names sorted."""
    wnids = sorted(entry.name for entry in folder.iterdir() if is_wnid(entry.name))
    published = re.fullmatch(r"ImageNetS(\d+)", root.resolve().name)
    if not wnids or (published is not None and len(wnids) != int(published[1])):
        expected = published[1] if published is not None else "some"
        raise DataError(
            f"{folder} has {len(wnids)} folders named by wnids where {expected} are expected: ids count these folders,"
            " so all must be there"
        )
    return wnids


def _class_indices(wnids: list[str], given: str | Path | None) -> tuple[list[int], tuple[str, ...]]:
    """Return the class index of each id, and the names of all classes."""
    if given is None:
        return list(range(len(wnids))), tuple(wnids)
    classes = read_class_list(Path(given))
    unknown = [wnid for wnid in wnids if wnid not in classes.indices]
    if unknown:
        raise DataError(f"{classes.source} lacks {len(unknown)} of the {len(wnids)} classes ({listed(unknown)})")
    return [classes.indices[wnid] for wnid in wnids], classes.names


def open_imagenet_s(
    path: str | Path, *, split: str | None = None, classes: str | Path | None = None, report: Report = refuse
) -> LocalizationSet:
    """Open ImageNet-S, with one row per image and class that it shows; every segmentation is decoded.

    Id 0 is any other thing (background of every row), 1000 is ignored; id ``i`` is the i-th of the folders' wnids
    in sorted order. Boxes are the tight boxes of the class's pixels. Pictures need not be there.

    Parameters
    ----------
    path : str or Path
        The folder ``ImageNetS50`` (or 300, 919), with ``validation`` and ``validation-segmentation``.
    split : {"validation", "train-semi"}, optional
        "validation" where it is not given.
    classes : str or Path, optional
        All wnids of ImageNet in their order (``LOC_synset_mapping.txt``): class indices are then those of ImageNet's
        networks. Without it they are ``id - 1``.
    report : callable
        Told of every problem that leaves the rest readable; without it, the first one is raised.

    Raises
    ------
    DataError
        Segmentations that cannot be read, ids of no class, missing pictures where others are found; with the file.
    """
    root = need_folder(Path(path), "give a folder such as ImageNetS50")
    chosen = "validation" if split is None else split
    folder = need_folder(root / f"{chosen}{_SUFFIX}", "use split='validation' or 'train-semi'")
    wnids = _wnids(folder, root)
    indices, names = _class_indices(wnids, classes)
    files = sorted(file for wnid in wnids for file in (folder / wnid).glob("*.png"))
    items: list[Item] = []
    boxes: list[NDArray[np.float64]] = []
    masks: list[tuple[Path, int]] = []
    for file, shown in zip(files, in_threads(_shown, files), strict=True):
        if isinstance(shown, str):
            report(shown)
            continue
        picture = root / chosen / file.parent.name / f"{file.stem}.JPEG"
        for identity, box in shown.boxes.items():
            if identity > len(wnids):
                report(f"{file} has id {identity}, but there are {len(wnids)} classes: the file is of another version")
                continue
            name = f"{file.stem}:{wnids[identity - 1]}"
            items.append(Item(name, picture, indices[identity - 1], shown.size, str(file)))
            boxes.append(box)
            masks.append((file, identity))
    _need_images(items, root / chosen, report)
    read = IdMasks(
        tuple(file for file, _ in masks),
        tuple((identity,) for _, identity in masks),
        (_IGNORED,),
        tuple(item.where for item in items),
        read=read_rgb_ids,
    )
    return assembled(
        f"{root.resolve().name.lower()}-{chosen}",
        root,
        items,
        tuple(boxes),
        report,
        edges="inclusive",
        class_names=names,
        masks=read,
        files=files,
    )


def _need_images(items: list[Item], folder: Path, report: Report) -> None:
    pictures = list(dict.fromkeys(item.image for item in items))
    missing = [picture.name for picture in pictures if not picture.is_file()]
    if missing and len(missing) < len(pictures):
        report(f"{folder} lacks {len(missing)} of {len(pictures)} images ({listed(missing)}): add them")
