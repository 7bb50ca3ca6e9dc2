"""Downloads by way of pooch: checked, and gone on with where they were interrupted."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from explain.data.recipes import Archive
from explain.errors import DataError, DependencyError

__all__ = ["download", "need_pooch", "remote_bytes", "started_bytes"]

Progress = Callable[[str, int, int], object]

_TIMEOUT = (20.0, 60.0)
"""Seconds to connect, and between two pieces."""
_PAUSES = (0.5, 2.0, 8.0)
"""Seconds before another attempt; only attempts that brought nothing are counted."""
_PIECE = 1 << 18
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "explain-nets (data recipes)"}


class _Cut(Exception):
    """The connection ended before the file did."""


def need_pooch() -> Any:
    """Return pooch, which the extra ``data`` installs."""
    try:
        import pooch
    except ImportError:
        raise DependencyError(
            "downloads need pooch: pip install 'explain-nets[data]'; or get the archives yourself and give their"
            " folder (--archives)"
        ) from None
    return pooch


def started_bytes(archive: Archive, folder: Path) -> int:
    """Return how many bytes of an archive are in a folder already, whole or begun."""
    for path in (folder / archive.file, _begun(folder, archive.file)[0]):
        if path.is_file():
            return path.stat().st_size
    return 0


def remote_bytes(archive: Archive) -> int | None:
    """Return the size of an archive, as its recipe or else the server says; None where neither does."""
    if archive.bytes is not None or archive.account is not None:
        return archive.bytes
    need_pooch()
    import requests

    for address in archive.addresses:
        with suppress(requests.RequestException):
            said = requests.head(address, headers=_HEADERS, timeout=_TIMEOUT, allow_redirects=True)
            if said.ok and said.headers.get("Content-Length", "").isdecimal():
                return int(said.headers["Content-Length"])
    return None


def download(archive: Archive, folder: Path, progress: Progress = lambda name, done, total: None) -> Path:
    """Bring an archive into a folder, from the first of its addresses that gives it, and check it.

    What an interrupted download left (``.FILE.part``) is gone on with, if the server still has the same file.

    Parameters
    ----------
    archive, folder
        What to get, and where to.
    progress : callable
        Told of the bytes that are there, and of how many there will be (0 where the server does not say).

    Raises
    ------
    DependencyError
        pooch is not installed.
    DataError
        No address gives the file, or it is not the one that was published; it is deleted then.
    """
    pooch = need_pooch()
    folder.mkdir(parents=True, exist_ok=True)
    problems = []
    for address in archive.addresses:
        try:
            with _quiet(pooch):
                found = pooch.retrieve(
                    address,
                    known_hash=archive.checksum,
                    fname=archive.file,
                    path=folder,
                    downloader=_going_on(archive, progress),
                )
        except DataError as error:
            problems.append(str(error))
        except ValueError:  # pooch's word for another checksum; it has removed the file
            problems.append(
                f"{address} gives a file that is not the published one ({archive.checksum}): it was deleted; the"
                " download was damaged, or the file has changed since"
            )
        else:
            return Path(found)
    raise DataError("; ".join(problems))


@contextmanager
def _quiet(pooch: Any) -> Iterator[None]:
    log = pooch.get_logger()
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(before)


def _begun(folder: Path, file: str) -> tuple[Path, Path]:
    """Return where a download goes on, and the note of what it is a part of."""
    return folder / f".{file}.part", folder / f".{file}.part.json"


def _going_on(archive: Archive, progress: Progress) -> Callable[[str, str, object], None]:
    """Return what pooch calls a downloader: ``(address, output file, its own registry)``."""

    def fetch(address: str, output: str, _: object) -> None:
        part, note = _begun(Path(output).parent, archive.file)
        _whole(address, part, note, archive, progress)
        part.replace(output)
        note.unlink(missing_ok=True)

    return fetch


def _whole(address: str, part: Path, note: Path, archive: Archive, progress: Progress) -> None:
    """Ask for what is missing until all of it is there."""
    import requests

    pauses = list(_PAUSES)
    while True:
        before = part.stat().st_size if part.is_file() else 0
        try:
            return _piece(address, part, note, archive, progress)
        except (_Cut, requests.RequestException) as error:
            there = part.stat().st_size if part.is_file() else 0
            if there > before:
                pauses = list(_PAUSES)
            if not pauses:
                raise DataError(
                    f"{address} cannot be fetched ({_brief(error)}), {there} bytes are there: the same command goes"
                    " on from them"
                ) from None
            time.sleep(pauses.pop(0))


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}".strip("_ :")


def _piece(address: str, part: Path, note: Path, archive: Archive, progress: Progress) -> None:
    """Ask for what is missing, once."""
    import requests
    from urllib3.exceptions import HTTPError

    begun = part.stat().st_size if part.is_file() else 0
    mark = _mark(note, address)
    # Without a mark of the file's version, only a published checksum can tell that two versions were joined.
    resumes = begun > 0 and (mark is not None or archive.checksum is not None)
    asked = {"Range": f"bytes={begun}-"} | ({"If-Range": mark} if mark else {}) if resumes else {}
    with requests.get(address, headers={**_HEADERS, **asked}, stream=True, timeout=_TIMEOUT) as said:
        if said.status_code == 416:  # nothing beyond what is there: all of it, or of another file
            if said.headers.get("Content-Range") == f"bytes */{begun}":
                return
            part.unlink(missing_ok=True)
            raise _Cut("the file on the server is shorter than what is there")
        if said.status_code >= 500 or said.status_code == 429:
            raise _Cut(f"the server answers {said.status_code} {said.reason}")
        if said.status_code not in (200, 206):
            raise DataError(
                f"{address} answers {said.status_code} {said.reason}: get the file elsewhere and give its folder"
                " (--archives)"
            )
        start, total = _extent(said.status_code, said.headers, begun)
        if start == 0:
            part.write_bytes(b"")
            note.write_text(json.dumps({"address": address, "mark": _version(said.headers)}), encoding="utf-8")
        there = start
        with part.open("r+b") as written:
            written.seek(start)
            try:
                for piece in said.raw.stream(_PIECE, decode_content=False):
                    written.write(piece)
                    there += len(piece)
                    progress(archive.file, there, total)
            except HTTPError as error:
                raise _Cut(str(error)) from None
    if total and there != total:  # urllib3 before 2.0 does not notice
        raise _Cut(f"{there} of {total} bytes came")


def _extent(status: int, headers: Mapping[str, str], begun: int) -> tuple[int, int]:
    """Return where an answer begins in the file, and the file's size (0: not said)."""
    if status == 206:
        span, _, total = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        if span.partition("-")[0] == str(begun):
            return begun, int(total) if total.isdecimal() else 0
        raise _Cut(f"the server gives bytes {span!r} where {begun} were asked for")
    length = headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else 0


def _version(headers: Mapping[str, str]) -> str | None:
    """Return what tells a version of a file from another: its strong ETag, else its date."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _mark(note: Path, address: str) -> str | None:
    with suppress(OSError, ValueError, AttributeError):
        said = json.loads(note.read_text(encoding="utf-8"))
        if said.get("address") == address and isinstance(said.get("mark"), str):
            return str(said["mark"])
    return None
