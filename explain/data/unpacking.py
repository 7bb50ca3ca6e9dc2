"""Unpacking archives: nothing is written outside the folder, and only what was published."""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from explain.errors import DataError

__all__ = ["need_space", "unpack", "unpacked_bytes"]

Progress = Callable[[str, int, int], object]
"""Takes a name, and how much of how much is done."""

_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)
_JUNK = (".DS_Store", "Thumbs.db")
"""What systems leave in archives; "._name" and "__MACOSX", too."""


@dataclass(frozen=True)
class _Member:
    """A file in an archive."""

    name: str
    size: int
    opens: Callable[[], IO[bytes] | None]


def need_space(folder: Path, needed: int, what: str) -> None:
    """Refuse what the disk does not hold.

    Raises
    ------
    DataError
        Less than ``needed`` bytes are free where ``folder`` lies, or will lie.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise DataError(
            f"{what} needs {needed / 1e9:.2f} GB in {there}, where {free / 1e9:.2f} GB are free: make room, or set"
            " EXPLAIN_DATA to a folder on another disk"
        )


def unpacked_bytes(path: Path, members: Collection[str] = ()) -> int:
    """Return how many bytes an archive (or some of its members) unpacks to; every name in it is checked.

    Raises
    ------
    DataError
        It is no archive, is damaged, lacks a member, or holds a link or a name that leaves the folder.
    """
    with _opened(path, members) as held:
        return sum(member.size for member in held)


def unpack(
    path: Path, folder: Path, members: Collection[str] = (), progress: Progress = lambda name, done, total: None
) -> int:
    """Unpack an archive (zip, tar, packed tar) into a folder, after its names and the disk were checked.

    Files that are there already are replaced. Links, devices and whatever systems leave in archives are not made.

    Parameters
    ----------
    path, folder
        The archive, and where its names begin.
    members : collection of str
        What to unpack; all where it is empty.
    progress : callable
        Told of the bytes written.

    Returns
    -------
    int
        The number of files.

    Raises
    ------
    DataError
        As `unpacked_bytes`, or the disk is too small; before anything is written. Damage found on the way.
    """
    total = unpacked_bytes(path, members)
    need_space(folder, total, f"unpacking {path.name}")
    done = count = 0
    root = folder.resolve()
    with _opened(path, members) as held:
        for member in held:
            target = folder / member.name
            # A link that lies in the folder from elsewhere must not lead out of it.
            if not target.parent.resolve().is_relative_to(root):
                raise DataError(f"{path}: {member.name!r} would be written through a link that leaves {folder}")
            target.parent.mkdir(parents=True, exist_ok=True)
            _write(member, target, path)
            done, count = done + member.size, count + 1
            progress(f"unpacking {path.name}", done, total)
    return count


def _write(member: _Member, target: Path, path: Path) -> None:
    source = member.opens()
    if source is None:
        raise DataError(f"{path}: {member.name!r} cannot be read: get the archive again")
    partial = target.with_name(f".{target.name}.partial")
    try:
        with source, partial.open("wb") as written:
            shutil.copyfileobj(source, written, 1 << 20)
        if partial.stat().st_size != member.size:
            raise DataError(f"{path}: {member.name!r} is cut short: get the archive again")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _opened(path: Path, members: Collection[str]) -> Iterator[Iterator[_Member]]:
    """Give the files of an archive, in their order; errors of all kinds of archives become one kind."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as packed:
                yield _chosen(_of_zip(packed, path), members, path)
        else:
            with tarfile.open(path) as rolled:
                yield _chosen(_of_tar(rolled, path), members, path)
    except _BROKEN as error:
        told = str(error).partition("\n")[0]  # tarfile lists on further lines what it is not
        raise DataError(f"{path} cannot be unpacked ({told}): delete it and get it again") from None
    except OSError as error:
        raise DataError(f"{path} cannot be unpacked ({error.strerror or error})") from None


def _chosen(held: Iterator[_Member], members: Collection[str], path: Path) -> Iterator[_Member]:
    found = set()
    for member in held:
        _need_inside(member.name, path)
        base = PurePosixPath(member.name)
        if "__MACOSX" in base.parts or base.name.startswith("._") or base.name in _JUNK:
            continue
        if not members or member.name in members:
            found.add(member.name)
            yield member
    missing = sorted(set(members) - found)
    if missing:
        raise DataError(f"{path} does not hold {', '.join(missing)}: is it the right archive?")


def _need_inside(name: str, path: Path) -> None:
    parts = PurePosixPath(name)
    if not name or parts.is_absolute() or ".." in parts.parts or any(sign in name for sign in ("\\", ":", "\0")):
        raise DataError(f"{path} holds {name!r}, which leaves the folder: nothing was unpacked; get it elsewhere")


def _of_zip(packed: zipfile.ZipFile, path: Path) -> Iterator[_Member]:
    for entry in packed.infolist():
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise DataError(f"{path} holds a link, {entry.filename!r}: nothing was unpacked; get it elsewhere")
        if entry.flag_bits & 1:
            raise DataError(f"{path} is encrypted ({entry.filename!r}): unpack it by hand")
        if not entry.is_dir():
            yield _Member(entry.filename, entry.file_size, lambda entry=entry: packed.open(entry))  # type: ignore[misc]


def _of_tar(rolled: tarfile.TarFile, path: Path) -> Iterator[_Member]:
    for entry in rolled:
        name = entry.name.removeprefix("./")
        if not (entry.isfile() or entry.isdir()):
            raise DataError(f"{path} holds a link or device, {name!r}: nothing was unpacked; get it elsewhere")
        if entry.isfile():
            yield _Member(name, entry.size, lambda entry=entry: rolled.extractfile(entry))  # type: ignore[misc]
