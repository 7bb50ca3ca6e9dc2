"""VOC-style XML, one file per image: as Pascal VOC, ILSVRC and the Pets' heads are published."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from explain.data.tables import Report
from explain.errors import DataError

__all__ = ["XmlImage", "XmlObject", "one_based", "read_voc_xml"]

_EDGES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class XmlObject:
    """One ``object`` of an annotation."""

    name: str
    box: tuple[float, float, float, float]
    """xmin, ymin, xmax, ymax as they are written."""
    difficult: bool
    line: int


@dataclass(frozen=True)
class XmlImage:
    """One annotation file."""

    path: Path
    filename: str
    size: tuple[int, int] | None
    """(height, width); None where the file does not say it, or says 0."""
    objects: tuple[XmlObject, ...]

    def where(self, each: XmlObject) -> str:
        """Return ``"Annotations/1.xml line 7"``."""
        return f"{self.path} line {each.line}"

    def told(self, each: XmlObject) -> str:
        """Return where an object's box stands and how it is written there."""
        return f"{self.where(each)}: box {','.join(f'{edge:g}' for edge in each.box)}"


@dataclass
class _Reading:
    """What the parser has seen: paths of open elements, and texts by path inside the object at hand."""

    path: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    top: dict[str, str] = field(default_factory=dict)
    objects: list[tuple[int, dict[str, str]]] = field(default_factory=list)


def _parsed(path: Path) -> _Reading:
    # expat, as it alone tells the line of an element; persons have parts with boxes of their own, so whole paths count.
    seen, parser = _Reading(), expat.ParserCreate()
    parser.buffer_text = True

    def start(tag: str, _: dict[str, str]) -> None:
        seen.path.append(tag)
        seen.text.clear()
        if seen.path[1:] == ["object"]:
            seen.objects.append((parser.CurrentLineNumber, {}))

    def end(_: str) -> None:
        inside = "/".join(seen.path[1:])
        if inside.startswith("object/"):
            seen.objects[-1][1].setdefault(inside.removeprefix("object/"), "".join(seen.text).strip())
        else:
            seen.top.setdefault(inside, "".join(seen.text).strip())
        seen.path.pop()
        seen.text.clear()

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = seen.text.append
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise DataError(f"{path} line {error.lineno} is not valid XML: {expat.ErrorString(error.code)}") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    return seen


def _box(texts: dict[str, str]) -> tuple[float, float, float, float] | None:
    try:
        edges = [float(texts[f"bndbox/{edge}"]) for edge in _EDGES]
    except (KeyError, ValueError):
        return None
    return (edges[0], edges[1], edges[2], edges[3]) if all(map(math.isfinite, edges)) else None


def _size(texts: dict[str, str]) -> tuple[int, int] | None:
    try:
        height, width = int(texts["size/height"]), int(texts["size/width"])
    except (KeyError, ValueError):
        return None
    return (height, width) if height > 0 and width > 0 else None


def read_voc_xml(path: Path, report: Report) -> XmlImage:
    """Read one annotation; objects without a name or four finite numbers are told and left out.

    Raises
    ------
    DataError
        A file that cannot be read or is not XML, with its line.
    """
    seen = _parsed(path)
    objects: list[XmlObject] = []
    for line, texts in seen.objects:
        box, name = _box(texts), texts.get("name", "")
        if not name or box is None:
            report(f"{path} line {line}: the object has no {'bndbox of four numbers' if name else 'name'}")
        else:
            objects.append(XmlObject(name, box, texts.get("difficult", "0") == "1", line))
    return XmlImage(path, seen.top.get("filename", ""), _size(seen.top), tuple(objects))


def one_based(box: Sequence[float]) -> tuple[float, float, float, float]:
    """Return a box of pixels counted from 1, both ends included, as half-open and counted from 0."""
    return box[0] - 1, box[1] - 1, box[2], box[3]
