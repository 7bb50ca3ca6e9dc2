"""Where data lives: the user's data folder, and the recipes that the package brings along.

A recipe is a folder with ``card.md`` (for people), ``recipe.toml`` (for ``explain data``) and, mostly, ``sample/``.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from platformdirs import user_cache_dir

from explain.errors import DataError, near

__all__ = ["MADE_NAMES", "Archive", "Recipe", "data_home", "is_shipped", "read_recipe", "recipe_names", "recipe_path"]

MADE_NAMES = ("sample", "scenes")
"""Data that is never fetched: photos that come with scikit-image, and drawn scenes (made on first use)."""

_FILE = "recipe.toml"
_CHECKSUMS = {"sha256": 64, "md5": 32}
"""Names of checksums, and how many hexadecimal digits they have."""


@dataclass(frozen=True)
class Archive:
    """A file that a data set is published in, and what to do with it."""

    part: str
    """What ``--part`` calls it."""
    file: str
    addresses: tuple[str, ...]
    """The same file at each of them: one after the other is tried."""
    sha256: str | None = None
    md5: str | None = None
    bytes: int | None = None
    """Its size, where it is known; the server is asked otherwise."""
    account: str | None = None
    """Who gives it to people with an account only: it is not fetched, but taken from a folder."""
    into: str = "."
    """Where it is unpacked, below the set's folder."""
    members: tuple[str, ...] = ()
    """What is unpacked of it; all where this is empty."""
    inner: tuple[str, ...] = ()
    """Archives in it that are unpacked where they lie, and then removed."""
    holds: tuple[str, ...] = ()
    """Files and folders, below the set's folder, that are there afterwards."""
    opens: str = "."
    """What a reader is given, below the set's folder."""

    @property
    def checksum(self) -> str | None:
        """Return ``"sha256:…"`` or ``"md5:…"``, where one is published."""
        found = ((name, getattr(self, name)) for name in _CHECKSUMS)
        return next((f"{name}:{value}" for name, value in found if value is not None), None)


@dataclass(frozen=True)
class Recipe:
    """What ``recipe.toml`` says of a data set."""

    name: str
    folder: Path
    """Where the recipe lies."""
    title: str
    size: str
    licence: str
    kind: str = "images"
    """``"images"``, ``"sentences"`` (pairs) or ``"vectors"`` (of words)."""
    formats: tuple[str, ...] = ()
    """Readers of labelled images."""
    probe_formats: tuple[str, ...] = ()
    """Readers of probe sets."""
    protocols: tuple[str, ...] = ()
    """Localization protocols it is used with, and commands."""
    made: str | None = None
    """How it comes about, where it is not fetched."""
    default: tuple[str, ...] = ()
    """The parts that are prepared where none is asked for."""
    also: tuple[str, ...] = ()
    """Sets that are prepared together with it."""
    archives: tuple[Archive, ...] = ()

    def wanted(self, parts: tuple[str, ...] = ()) -> tuple[Archive, ...]:
        """Return the archives of some parts; of the default ones where none is named."""
        known = [archive.part for archive in self.archives]
        for part in parts:
            if part not in known:
                raise DataError(f"{self.name} has no part {part!r}{near(part, known)} (it has: {', '.join(known)})")
        return tuple(archive for archive in self.archives if archive.part in (parts or self.default))


def data_home() -> Path:
    """Return the folder of data made or fetched: ``$EXPLAIN_DATA``, else the platform's cache folder."""
    chosen = os.environ.get("EXPLAIN_DATA", "").strip()
    return Path(chosen).expanduser() if chosen else Path(user_cache_dir("explain"))


def _recipe_roots() -> list[Path]:
    package = Path(__file__).resolve().parent.parent
    # The wheel carries the recipes inside the package; an editable install has them beside it.
    return [root for root in (package / "_recipes", package.parent / "datasets") if root.is_dir()]


def is_shipped(path: Path) -> bool:
    """Tell whether a path lies in the samples that the package brings along: nothing is to be written there."""
    return any(path.resolve().is_relative_to(root) for root in _recipe_roots())


def recipe_names() -> list[str]:
    """Return the names of the data sets that there is a recipe for."""
    return sorted({card.parent.name for root in _recipe_roots() for card in root.glob("*/card.md")})


def recipe_path(name: str) -> Path:
    """Return the folder of a recipe (``card.md``, ``sample/``, …).

    Parameters
    ----------
    name
        Of a data set, as ``explain data list`` prints it.

    Raises
    ------
    DataError
        No recipe of this name; the message lists those that there are.
    """
    for root in _recipe_roots():
        if (root / name / "card.md").is_file():
            return root / name
    known = recipe_names()
    raise DataError(f"no recipe {name!r}{near(name, known)} (known: {', '.join(known) or 'none'})")


def read_recipe(name_or_folder: str | Path) -> Recipe:
    """Read what a recipe says: by its name, or of a folder of one's own with ``recipe.toml``.

    Raises
    ------
    DataError
        No such recipe, or a ``recipe.toml`` that cannot be read; with the file and the key.
    """
    own = Path(name_or_folder).expanduser()
    folder = own if (own / _FILE).is_file() else recipe_path(str(name_or_folder))
    path = folder / _FILE
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}): correct it") from None
    listed = said.pop("archives", [])
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise DataError(f"{path}: archives are tables, [[archives]]")
    archives = tuple(_archive(entry, f"{path} archives[{place}]") for place, entry in enumerate(listed))
    recipe = _filled(Recipe, said, str(path), name=folder.resolve().name, folder=folder, archives=archives)
    parts = [archive.part for archive in archives]
    wrong = [part for part in recipe.default if part not in parts] or [part for part in parts if parts.count(part) > 1]
    if wrong or (archives and not recipe.default):
        raise DataError(
            f"{path}: default {list(recipe.default)} must name some of the parts {parts}, each of them once"
        )
    return recipe


def _archive(said: Mapping[str, Any], where: str) -> Archive:
    archive = _filled(Archive, said, where)
    paths = (archive.file, archive.into, archive.opens, *archive.members, *archive.inner, *archive.holds)
    for path in paths:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "\\" in path:
            raise DataError(f"{where}: path {path!r} leaves the folder of the set: give one below it")
    if "/" in archive.file or not archive.addresses:
        raise DataError(f"{where}: file {archive.file!r} is a name without folder, with an address at least")
    for name, digits in _CHECKSUMS.items():
        value = getattr(archive, name)
        if value is not None and (len(value) != digits or set(value) - set("0123456789abcdef")):
            raise DataError(f"{where}: {name} {value!r} is not {digits} hexadecimal digits")
    return archive


_Kind = TypeVar("_Kind", Archive, Recipe)
_TYPES: dict[str, tuple[type, str]] = {
    "str": (str, "a text"),
    "str | None": (str, "a text"),
    "int | None": (int, "a whole number"),
    "tuple[str, ...]": (list, "a list of texts"),
}


def _filled(kind: type[_Kind], said: Mapping[str, Any], where: str, **known: Any) -> _Kind:
    """Make a value of what a table says; every key and type is checked."""
    asked = {field.name: field for field in fields(kind) if field.name not in known}
    for key, value in said.items():
        if key not in asked:
            raise DataError(f"{where} has no key {key!r}{near(key, asked)} (known: {', '.join(asked)})")
        wanted, told = _TYPES[str(asked[key].type)]
        texts = value if isinstance(value, list) else []
        if not isinstance(value, wanted) or not all(isinstance(each, str) for each in texts):
            raise DataError(f"{where}: {key} is {value!r}: give {told}")
    missing = [key for key, field in asked.items() if field.default is MISSING and key not in said]
    if missing:
        raise DataError(f"{where} lacks {', '.join(map(repr, missing))}")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in said.items()}
    return kind(**values, **known)
