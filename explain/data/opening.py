"""``open_data``: find out what a path or name stands for, and open it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

from explain.data.formats.catalog import FORMATS, Format, Options, detect, format_named, need_options
from explain.data.memory import Names, localization_from_items, probe_from_arrays, probe_from_dataset
from explain.data.plain import open_plain, open_plain_probe
from explain.data.preparing import need_prepared
from explain.data.probes.catalog import (
    PROBE_FORMATS,
    ProbeFormat,
    ProbeOptions,
    detect_probe,
    open_published,
    probe_format_named,
)
from explain.data.recipes import MADE_NAMES
from explain.data.tables import refuse
from explain.errors import DataError, near
from explain.types import LocalizationSet, ProbeSet

__all__ = ["KNOWN_NAMES", "Kind", "as_localization", "as_probe", "open_data", "open_localization", "open_probe"]

Kind = Literal["probe", "localization"]

KNOWN_NAMES = MADE_NAMES
"""Data that needs no path, and is there on every machine."""

_TABLES: dict[Kind, str] = {"probe": "index.csv", "localization": "images.csv"}
_HEADS: dict[Kind, str] = {
    "probe": "a table image,mask with a line per image, and classes.json beside it",
    "localization": "a table image,class_index with a line per image",
}


def _plain_kinds(root: Path) -> list[Kind]:
    return [kind for kind, table in _TABLES.items() if (root / table).is_file()]


def _kinds(root: Path) -> list[Kind]:
    """Return what a folder (or COCO's file) can be opened as, the one that it is taken for first."""
    kinds = _plain_kinds(root)
    # A published data set that is both (VOC, COCO) is labelled images, unless it is asked for as a probe set.
    if not kinds and detect(root) is not None:
        kinds.append("localization")
    if "probe" not in kinds and detect_probe(root) is not None:
        kinds.append("probe")
    return kinds


def _place(path_or_name: str | Path) -> Path:
    """Return what a path or the name of a prepared set stands for; paths come first."""
    root = Path(path_or_name).expanduser()
    return root if root.exists() else need_prepared(str(path_or_name)) or root


def _resolve(path_or_name: str | Path) -> Path:
    root = _place(path_or_name)
    if str(path_or_name) == "scenes" and not _kinds(root):
        from explain.data.scenes import scenes_folder

        return scenes_folder()
    if root.is_dir() or (root.is_file() and _kinds(root)):
        return root
    known = f"known names: {', '.join(KNOWN_NAMES)}{near(str(path_or_name), KNOWN_NAMES)}"
    if root.exists():
        raise DataError(f"{root} is a file: give the folder with index.csv or images.csv ({known})")
    raise DataError(f"no folder {root}: give a folder with index.csv or images.csv, or a name ({known})")


def _told(formats: Sequence[Format | ProbeFormat]) -> str:
    """Return what tells each format, for messages."""
    return ", ".join(f"{each.name}: {each.marks}" for each in formats)


def open_data(path_or_name: str | Path, kind: Kind | None = None) -> ProbeSet | LocalizationSet:
    """Open a data folder or a known name, whatever its format is.

    Parameters
    ----------
    path_or_name : str or Path
        A folder of the plain format, of a published format (see `open_localization` and `open_probe`), the name of a
        set that ``explain data prepare`` brought, ``"scenes"`` (drawn on first use into the data folder) or
        ``"sample"``.
    kind : {"probe", "localization"}, optional
        What to open a folder as that can be both. Without it, one with ``index.csv`` and ``images.csv`` is a probe
        set, a published one (VOC, COCO) labelled images.

    Raises
    ------
    DataError
        An unknown name, a folder in no known format, or one whose tables, images' headers or boxes are broken.
    """
    if kind is not None and kind not in _TABLES:
        raise DataError(f"unknown kind of data {kind!r}: use 'probe' or 'localization'")
    if str(path_or_name) == "sample" and not _kinds(Path(path_or_name)):
        from explain.data.sample import sample_set

        if kind == "probe":
            raise DataError("'sample' has no masks of concepts: use 'scenes' or a folder with index.csv")
        return sample_set()
    root = _resolve(path_or_name)
    kinds = _kinds(root)
    if kind is not None and kind not in kinds:
        raise DataError(f"{root} has no {_TABLES[kind]}, which {kind} data needs{_instead(kinds)}: {_HEADS[kind]}")
    if not kinds:
        raise DataError(
            f"{root} has neither index.csv (probe set) nor images.csv (labelled images), nor what tells a published"
            f" format ({_told(FORMATS)}; probe sets: {_told(PROBE_FORMATS)}): add one of them or give a name"
            f" ({', '.join(KNOWN_NAMES)})"
        )
    return open_probe(root) if (kind or kinds[0]) == "probe" else open_localization(root)


def _instead(kinds: list[Kind]) -> str:
    return f" (it can be opened as {kinds[0]} data)" if kinds else ""


def open_localization(
    path: str | Path,
    format: str | None = None,
    *,
    split: str | None = None,
    dataset: str | None = None,
    images: str | Path | None = None,
    masks: str | Path | None = None,
    classes: str | Path | None = None,
    boxes: str | None = None,
    difficult: bool | None = None,
) -> LocalizationSet:
    """Open a folder of labelled images with boxes or masks: a plain folder, or one of a published format.

    Parameters
    ----------
    path : str or Path
        The folder, or the name of a set that ``explain data prepare`` brought.
    format : str, optional
        Its format, ``"plain"`` or one of those in ``docs/data.md``; without it, told by what lies in the folder.
    split : str, optional
        Which part of the data: "test", "val", "trainval", …; all formats but the plain one and ILSVRC's.
    dataset : str, optional
        ``wsol``: whose conventions hold, where the image ids do not tell.
    images, masks : str or Path, optional
        Folders of pictures (``wsol, cub, coco, ilsvrc, ilsvrc-csv, places365``) and of masks (``wsol``) that lie
        elsewhere.
    classes : str or Path, optional
        A list of classes in their order (``voc, imagenet-s, ilsvrc, ilsvrc-csv``).
    boxes : {"trimap", "head"}, optional
        ``pets``: the box of the pet or of its head.
    difficult : bool, optional
        ``voc``: also take objects that are marked as difficult.

    Raises
    ------
    DataError
        At the first thing that does not fit, with file and line; an option that the format does not take.
    """
    root = _place(path)
    chosen = Options(
        split=split,
        dataset=dataset,
        images=images,
        masks=masks,
        classes=classes,
        boxes=boxes,
        difficult=difficult,
    )
    if format == "plain" or (format is None and (root / "images.csv").is_file()):
        need_options("plain", (), chosen.given())
        return open_plain(root)
    found = format_named(format) if format is not None else detect(root)
    if found is None:
        if not root.is_dir():
            raise DataError(f"no folder {root}: give a folder with images.csv, or of a published format")
        raise DataError(
            f"{root} has no images.csv (labelled images), nor what tells a published format ({_told(FORMATS)})"
        )
    need_options(found.name, found.options, chosen.given())
    return found.opens(root, chosen, refuse)


def open_probe(
    path: str | Path,
    format: str | None = None,
    *,
    split: str | None = None,
    categories: Sequence[str] | None = None,
    images: str | Path | None = None,
    masks: str | Path | None = None,
    classes: str | Path | None = None,
    index: str | None = None,
    joint: bool | None = None,
    certainty: int | None = None,
) -> ProbeSet:
    """Open photos whose pixels are labelled with concepts: a plain folder, or one of a published format.

    Parameters
    ----------
    path : str or Path
        The folder, or the name of a set that ``explain data prepare`` brought; of COCO also the JSON file, of
        attributes also the table.
    format : str, optional
        Its format, ``"plain"`` or one of those in ``docs/data.md``; without it, told by what lies in the folder.
    split : str, optional
        Which part of the data; without it all (COCO, which has a file for each, must be told), told apart by
        ``columns["split"]``.
    categories : sequence of str, optional
        Keep only concepts of these categories (``broden``: columns of the index).
    images, masks : str or Path, optional
        Folders of images (``coco…, pascal-part, pascal-context, celeba, attributes``) and of masks
        (``coco-panoptic, pascal-context``) that lie elsewhere.
    classes : str or Path, optional
        The list of classes (``voc, pascal-context``).
    index : str, optional
        ``broden``: another index in the folder.
    joint : bool, optional
        ``dtd``: also take the further textures of an image.
    certainty : int, optional
        ``cub-attributes``: the least certainty of an answer, 1 to 4.

    Raises
    ------
    DataError
        At the first thing that does not fit, with file and line; an option that the format does not take. Masks
        are checked when they are read.
    """
    root = _place(path)
    chosen = ProbeOptions(
        split=split,
        categories=categories,
        images=images,
        masks=masks,
        classes=classes,
        index=index,
        joint=joint,
        certainty=certainty,
    )
    found = _probe_format(root, format)
    if found is not None:
        return open_published(found, root, chosen, refuse)
    need_options("plain", (), chosen.given())
    return open_plain_probe(root)


def _probe_format(root: Path, format: str | None) -> ProbeFormat | None:
    """Return the published format that is meant, None for the plain one."""
    if format is not None:
        return None if format == "plain" else probe_format_named(format)
    found = detect_probe(root)
    if found is None and root.is_dir() and not (root / _TABLES["probe"]).is_file():
        raise DataError(
            f"{root} has no index.csv (a probe folder needs one), nor what tells a published probe format"
            f" ({_told(PROBE_FORMATS)})"
        )
    return found


def as_probe(data: Any, names: Names | None = None) -> ProbeSet:
    """Return the probe set that a caller means.

    Parameters
    ----------
    data : ProbeSet, str, Path, tuple (images, masks, names) or Dataset of (image, mask)
        What ``dissect`` takes as ``probe``.
    names : mapping or sequence, optional
        Concept names for a Dataset; without it, its attribute ``names``.

    Raises
    ------
    DataError
        A folder or name that `open_data` refuses, masks or names that `probe_from_arrays` refuses.
    """
    if isinstance(data, ProbeSet):
        return data
    if isinstance(data, str | Path):
        return cast(ProbeSet, open_data(data, "probe"))
    if isinstance(data, tuple) and len(data) == 3:
        return probe_from_arrays(*data)
    if names is None:
        names = getattr(data, "names", None)  # "classes" would be a guess: some count the background, some not
    if names is None:
        raise DataError(
            f"a {type(data).__name__} does not say what its ids mean: give (images, masks, names), or"
            " the Dataset an attribute 'names'"
        )
    return probe_from_dataset(data, names)


def as_localization(data: Any) -> LocalizationSet:
    """Return the localization set meant: a set, a path, a known name, or items (image, class, boxes).

    Parameters
    ----------
    data
        A `LocalizationSet`, a folder, a known name such as ``"scenes"``, or items ``(image, class index, boxes)``
        with boxes ``(n, 4)``: xyxy, half-open, in pixels of the image.

    Raises
    ------
    DataError
        A folder or name that `open_data` refuses, items that `localization_from_items` refuses.
    """
    if isinstance(data, LocalizationSet):
        return data
    if isinstance(data, str | Path):
        return cast(LocalizationSet, open_data(data, "localization"))
    return localization_from_items(data)
