"""From a recipe to a folder that readers open: download, check, unpack, and a note of what was done.

DATA/NAME/prepared.json   which parts are there, their checksums, the licence that was accepted
DATA/NAME/...             what the archives hold, in the published layout
DATA/archives/NAME/       archives, until they are unpacked
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from explain.data.downloading import download, need_pooch, remote_bytes, started_bytes
from explain.data.recipes import MADE_NAMES, Archive, Recipe, data_home, read_recipe, recipe_names
from explain.data.unpacking import need_space, unpack
from explain.errors import DataError, RunError
from explain.runs import SCHEMA, read_json, write_json

__all__ = ["Plan", "data_folder", "need_prepared", "plan", "prepare", "prepared_parts", "prepared_path"]

Progress = Callable[[str, int, int], object]
"""Takes a name, and how much of how much is done (0: it is not known how much there will be)."""

_NOTE = "prepared.json"


@dataclass(frozen=True)
class Plan:
    """What preparing a data set will do."""

    recipe: Recipe
    folder: Path
    """Where the set will lie."""
    done: tuple[str, ...]
    """Parts that are there already."""
    archives: tuple[Archive, ...]
    """What is left to do."""
    given: Path | None
    """A folder of archives that the user has already."""
    sizes: tuple[int | None, ...]
    """Bytes of each archive; None where nobody says."""
    fetch: int
    """Bytes to download, as far as they are known."""
    needed: int
    """Bytes on the disk at the peak, as far as they are known: archives, and as much again unpacked."""
    free: int


def data_folder(recipe: Recipe) -> Path:
    """Return where a set lies, or will lie, in the user's data folder."""
    return data_home() / recipe.name


def prepared_parts(folder: Path) -> dict[str, Any]:
    """Return what ``prepared.json`` says of each part of a set, by name; nothing where there is none."""
    try:
        parts = read_json(folder / _NOTE).get("parts")
    except RunError:
        return {}
    return parts if isinstance(parts, dict) else {}


def prepared_path(name: str) -> Path | None:
    """Return what readers are given of a set that was prepared by ``explain data prepare NAME``; else None."""
    if name not in recipe_names():
        return None
    recipe = read_recipe(name)
    return _opens(recipe, data_folder(recipe))


def need_prepared(name: str) -> Path | None:
    """Return what readers are given of a set that was prepared; None where ``name`` is no set's.

    Raises
    ------
    DataError
        It is a set's name, and the set is not on this machine.
    """
    path = prepared_path(name)
    if path is None and name in recipe_names() and name not in MADE_NAMES:
        recipe = read_recipe(name)
        how = f"explain data prepare {name}" if recipe.archives else recipe.made or f"see {recipe.folder / 'card.md'}"
        raise DataError(f"{name} is not on this machine: {how}; or give its folder")
    return path


def _opens(recipe: Recipe, folder: Path) -> Path | None:
    """Return what readers are given: what the first part that is there says; "." says nothing of its own."""
    there = prepared_parts(folder)
    said = [archive.opens for archive in recipe.archives if archive.part in there]
    return folder / next((place for place in said if place != "."), ".") if said else None


def plan(recipe: Recipe, parts: Sequence[str] = (), archives: str | Path | None = None) -> Plan:
    """Say what `prepare` would do; servers are asked for the sizes that the recipe does not know.

    Parameters
    ----------
    recipe : Recipe
        See `explain.data.recipes.read_recipe`.
    parts : sequence of str
        Its parts; the default ones where none is named.
    archives : str or Path, optional
        A folder with archives that need not be fetched.

    Raises
    ------
    DataError
        The set is not fetched at all, has no such part, or comes only to people with an account and its archive is
        not in ``archives``.
    DependencyError
        Something is to be fetched, and pooch is not installed.
    """
    if not recipe.archives:
        how = recipe.made or f"{recipe.folder / 'card.md'} says where it is to be had"
        raise DataError(f"{recipe.name} has no archives to fetch: {how}")
    folder, given = data_folder(recipe), Path(archives).expanduser() if archives is not None else None
    if given is not None and not given.is_dir():
        raise DataError(f"no folder {given}: give the folder of the archives")
    there, wanted = prepared_parts(folder), recipe.wanted(tuple(parts))
    left = tuple(archive for archive in wanted if archive.part not in there)
    store = _store(recipe)
    sizes, fetch, needed = [], 0, 0
    for archive in left:
        own = _given(archive, given)
        if own is None and archive.account is not None:
            raise DataError(
                f"{archive.file} of {recipe.name} is given to people with an account at {archive.account}: get it"
                f" there ({archive.addresses[0]}), and give its folder (--archives)"
            )
        if own is None:
            need_pooch()  # said now, not after the licence
        size = own.stat().st_size if own is not None else remote_bytes(archive)
        missing = 0 if own is not None or size is None else max(size - started_bytes(archive, store), 0)
        sizes.append(size)
        fetch, needed = fetch + missing, needed + missing + (size or 0)
    place = next(each for each in (folder, *folder.absolute().parents) if each.is_dir())
    done = tuple(archive.part for archive in wanted if archive.part in there)
    return Plan(recipe, folder, done, left, given, tuple(sizes), fetch, needed, shutil.disk_usage(place).free)


def prepare(
    work: Plan, *, accept_licence: bool = False, keep: bool = False, progress: Progress = lambda name, done, total: None
) -> Path:
    """Carry out a plan; return what readers are given.

    An interrupted preparation is gone on with by the same call: downloads where they stopped, parts that are done are
    left as they are.

    Parameters
    ----------
    work : Plan
        See `plan`.
    accept_licence : bool
        The user has read the licence (``work.recipe.licence``, the card) and accepts it.
    keep : bool
        Keep the downloaded archives.
    progress : callable
        Told of bytes downloaded and unpacked.

    Raises
    ------
    DataError
        The licence is not accepted or the disk too small, before anything is fetched; a server that does not give
        the file, another checksum than the published one, a damaged or unsafe archive.
    DependencyError
        pooch is not installed, and something is to be fetched.
    """
    recipe = work.recipe
    if work.archives and not accept_licence:
        raise DataError(
            f"the licence of {recipe.name} is not accepted ({recipe.licence}): read {recipe.folder / 'card.md'}, then"
            " add --accept-licence (accept_licence=True)"
        )
    need_space(work.folder, work.needed, f"preparing {recipe.name}")
    for archive in work.archives:
        _prepare_part(work, archive, keep, progress)
    return _opens(recipe, work.folder) or work.folder


def _store(recipe: Recipe) -> Path:
    return data_home() / "archives" / recipe.name


def _given(archive: Archive, folder: Path | None) -> Path | None:
    return folder / archive.file if folder is not None and (folder / archive.file).is_file() else None


def _prepare_part(work: Plan, archive: Archive, keep: bool, progress: Progress) -> None:
    own = _given(archive, work.given)
    try:
        path = own if own is not None else download(archive, _store(work.recipe), progress)
        found = _checked(path, archive)
        target = work.folder / archive.into
        unpack(path, target, archive.members, progress)
        for name in archive.inner:
            _unpack_inner(work.folder / name, progress)
    except OSError as error:  # the disk is full, or may not be written to
        raise DataError(f"{archive.file}: {error.strerror or error} ({error.filename or work.folder})") from None
    missing = [name for name in archive.holds if not (work.folder / name).exists()]
    if missing:
        raise DataError(f"{path} did not bring {', '.join(missing)} into {work.folder}: is it the right archive?")
    _note(work, archive, path, found)
    if own is None and not keep:
        path.unlink()


def _checked(path: Path, archive: Archive) -> dict[str, str]:
    """Hold an archive against its published checksum; return the checksum, its SHA-256 where none is published."""
    name, _, wanted = (archive.checksum or "sha256:").partition(":")
    with path.open("rb") as content:
        found = hashlib.file_digest(content, name).hexdigest()
    if wanted and found != wanted:
        raise DataError(f"{path} has {name} {found}, but {wanted} is published: get it again")
    return {name: found}


def _unpack_inner(path: Path, progress: Progress) -> None:
    if path.is_file():  # gone where an earlier, interrupted preparation has unpacked it
        unpack(path, path.parent, (), progress)
        path.unlink()


def _note(work: Plan, archive: Archive, path: Path, found: Mapping[str, str]) -> None:
    """Write down that a part is done; the note of one part never loses that of another."""
    work.folder.mkdir(parents=True, exist_ok=True)
    parts = prepared_parts(work.folder) | {
        archive.part: {
            "file": archive.file,
            "bytes": path.stat().st_size,
            **found,
            "published": archive.checksum is not None,
            "licence_accepted": work.recipe.licence,
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    }
    write_json(work.folder / _NOTE, {"schema": SCHEMA, "name": work.recipe.name, "parts": parts})
