"""``open_data``: find out what a path or name stands for, and open it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast

from explain.data.memory import Names, localization_from_items, probe_from_arrays, probe_from_dataset
from explain.data.plain import open_localization, open_probe
from explain.errors import DataError, near
from explain.types import LocalizationSet, ProbeSet

__all__ = ["KNOWN_NAMES", "Kind", "as_localization", "as_probe", "open_data"]

Kind = Literal["probe", "localization"]

KNOWN_NAMES = ("sample", "scenes")
"""Data that needs no path: photos that come with scikit-image, and drawn scenes (made on first use)."""

_TABLES: dict[Kind, str] = {"probe": "index.csv", "localization": "images.csv"}


def _formats(root: Path) -> list[Kind]:
    return [kind for kind, table in _TABLES.items() if (root / table).is_file()]


def _resolve(path_or_name: str | Path) -> Path:
    root = Path(path_or_name).expanduser()
    if str(path_or_name) == "scenes" and not _formats(root):
        from explain.data.scenes import scenes_folder

        return scenes_folder()
    if root.is_dir():
        return root
    known = f"known names: {', '.join(KNOWN_NAMES)}{near(str(path_or_name), KNOWN_NAMES)}"
    if root.exists():
        raise DataError(f"{root} is a file: give the folder with index.csv or images.csv ({known})")
    raise DataError(f"no folder {root}: give a folder with index.csv or images.csv, or a name ({known})")


def open_data(path_or_name: str | Path, kind: Kind | None = None) -> ProbeSet | LocalizationSet:
    """Open a data folder or a known name, whatever its format is.

    Parameters
    ----------
    path_or_name : str or Path
        A folder of the plain format, ``"scenes"`` (drawn on first use into the data folder) or ``"sample"``.
    kind : {"probe", "localization"}, optional
        What to open a folder as that holds both ``index.csv`` and ``images.csv``; without it, a probe set.
    """
    if kind is not None and kind not in _TABLES:
        raise DataError(f"unknown kind of data {kind!r}: use 'probe' or 'localization'")
    if str(path_or_name) == "sample" and not _formats(Path(path_or_name)):
        from explain.data.sample import sample_set

        if kind == "probe":
            raise DataError("'sample' has no masks of concepts: use 'scenes' or a folder with index.csv")
        return sample_set()
    root = _resolve(path_or_name)
    formats = _formats(root)
    if kind is not None and kind not in formats:
        raise DataError(f"{root} has no {_TABLES[kind]}, which {kind} data needs{_instead(formats)}")
    if not formats:
        raise DataError(
            f"{root} has neither index.csv (probe set) nor images.csv (labelled images): add one of them"
            f" or give a name ({', '.join(KNOWN_NAMES)})"
        )
    return open_probe(root) if (kind or formats[0]) == "probe" else open_localization(root)


def _instead(formats: list[Kind]) -> str:
    return f" (it can be opened as {formats[0]} data)" if formats else ""


def as_probe(data: Any, names: Names | None = None) -> ProbeSet:
    """Return the probe set that a caller means.

    Parameters
    ----------
    data : ProbeSet, str, Path, tuple (images, masks, names) or Dataset of (image, mask)
        What ``dissect`` takes as ``probe``.
    names : mapping or sequence, optional
        Concept names for a Dataset; without it, its attribute ``names``.
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
    """Return the localization set meant: a set, a path, a known name, or items (image, class, boxes)."""
    if isinstance(data, LocalizationSet):
        return data
    if isinstance(data, str | Path):
        return cast(LocalizationSet, open_data(data, "localization"))
    return localization_from_items(data)
