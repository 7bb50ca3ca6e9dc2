"""The pictures of a page: each is embedded once, as a CSS class that many places share."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from PIL import Image, UnidentifiedImageError

from explain.errors import RunError

__all__ = ["Album", "linked_album", "make_album"]

_TYPES = {"WEBP": "image/webp", "PNG": "image/png", "JPEG": "image/jpeg"}


@dataclass(frozen=True)
class Album:
    """Pictures by file name: the CSS class that shows each, its size, and the rules that carry the data."""

    classes: dict[str, str]
    sizes: dict[str, tuple[int, int]]
    """(width, height) of the stored picture."""
    css: str
    notes: list[str]


def make_album(folder: Path, files: Iterable[str | None], prefix: str, *, budget: int) -> Album:
    """Read pictures of a run folder into an album.

    Where they take more than ``budget`` bytes together, the page carries smaller copies and says so.
    A picture that is missing or broken is left out, and the album says how many are.

    Raises
    ------
    RunError
        A name points outside the run folder.
    """
    wanted = list(dict.fromkeys(name for name in files if name))
    read = {name: found for name in wanted if (found := _read(folder, name)) is not None}
    side = _side([content for content, _, _ in read.values()], budget)
    classes, sizes, rules = {}, {}, []
    for number, (name, (content, kind, size)) in enumerate(read.items()):
        if side:
            content, kind = _smaller(content, side), "image/webp"
        classes[name], sizes[name] = f"{prefix}{number}", size
        data = base64.b64encode(content).decode("ascii")
        rules.append(
            f".{prefix}{number}{{background-image:url(data:{kind};base64,{data});aspect-ratio:{size[0]}/{size[1]}}}"
        )
    notes = []
    if side:
        notes.append(f"Pictures are shown with at most {side} pixels a side; the run folder has the full ones.")
    if len(read) < len(wanted):
        notes.append(f"{len(wanted) - len(read)} of {len(wanted)} pictures are missing from the run folder.")
    return Album(classes, sizes, "\n".join(rules), notes)


def linked_album(folder: Path, files: Iterable[str | None], prefix: str, up: str) -> Album:
    """Return an album of pictures that stay in the run folder; ``up`` leads there from the page.

    Raises
    ------
    RunError
        A name points outside the run folder.
    """
    wanted = list(dict.fromkeys(name for name in files if name))
    read = {name: found[2] for name in wanted if (found := _read(folder, name)) is not None}
    classes = {name: f"{prefix}{number}" for number, name in enumerate(read)}
    rules = [
        f'.{classes[name]}{{background-image:url("{up}{quote(name)}");aspect-ratio:{size[0]}/{size[1]}}}'
        for name, size in read.items()
    ]
    lost = len(wanted) - len(read)
    notes = [f"{lost} of {len(wanted)} pictures are missing from the run folder."] if lost else []
    return Album(classes, read, "\n".join(rules), notes)


def _read(folder: Path, name: str) -> tuple[bytes, str, tuple[int, int]] | None:
    """Return content, media type and (width, height); None where there is no such picture."""
    path = folder / name
    if folder.resolve() not in path.resolve().parents:
        raise RunError(f"{folder} names the picture {name!r}, which is outside the run folder")
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as picture:
            kind, size = _TYPES.get(picture.format or ""), picture.size
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError):
        return None
    return (content, kind, size) if kind else None


def _side(contents: list[bytes], budget: int) -> int | None:
    """Return the side at which all pictures fit the budget, by a sample; None where they fit as they are."""
    if sum(map(len, contents)) <= budget:
        return None
    sample = contents[:: max(1, len(contents) // 24)]
    for side in (640, 480, 320, 224, 160, 128, 112):
        if sum(len(_smaller(content, side)) for content in sample) / len(sample) * len(contents) <= budget:
            return side
    return 96


def _smaller(content: bytes, side: int) -> bytes:
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(content)) as picture:
        small = picture.convert("RGB")
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        small.save(buffer, format="WEBP", quality=65)
    return buffer.getvalue()
