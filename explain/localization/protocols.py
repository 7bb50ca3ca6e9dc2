"""Localization protocols as data: every switch by name, one TOML file each, printed with each result.

The built-in ones lie in ``explain/localization/rules/``; one's own is a file with the same keys, or with
``base = "maxboxacc"`` and the keys that differ.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from explain.errors import InputError, near

__all__ = ["Protocol", "check_protocol", "find_protocol", "protocol_names", "read_protocol"]


@dataclass(frozen=True)
class Protocol:
    """How maps become boxes and boxes become numbers."""

    name: str
    source: str
    """Paper or code that the switches were read from."""

    # The picture and the frame.
    frame: Literal["original", "input"]
    """Whose pixels maps are thresholded and boxes compared in: the image's own, or the network's input."""
    crop: bool
    """The input is the centre of the picture squashed to 8/7 of the size (224 of 256), else all of it, squashed."""
    truth: Literal["exact", "truncated", "clipped"]
    """How published boxes go to the frame: exactly; ``int()`` of each published edge; clipped to the crop."""
    instances: Literal["any", "first", "largest"]
    """Which of several boxes of the class count."""

    # From map to mask.
    sign: Literal["signed", "relu", "absolute"]
    interpolation: Literal["bilinear", "bicubic", "matlab"]
    """``"bicubic"``: OpenCV's and torch's (a = -0.75); ``"matlab"``: ``imresize`` (a = -0.5), by way of the input."""
    normalization: Literal["maximum", "minmax", "minmax-before"]
    """``"maximum"``: thresholds are shares of the raw maximum; ``"minmax"``: the resized map is scaled to 0…1;
    ``"minmax-before"``: the map is, before it is resized, and thresholds are taken as they are."""
    precision: Literal["float32", "float64", "8-bit", "jpeg"]
    """Of the normalised map when it is thresholded; ``"8-bit"`` cuts off, ``"jpeg"``: rounded, and stored as JPEG."""
    threshold: float
    """The fixed threshold: of GT-known and top-k scores."""
    threshold_steps: int
    """MaxBoxAcc and PxAP look at ``i / threshold_steps``, ``i = 0 …``."""

    # From mask to boxes.
    component: Literal["pixels", "polygon", "all", "distance-transform"]
    """Most pixels (ties raster-first); largest contour (as OpenCV); every contour, holes too; the released CAM code."""
    edges: Literal["half-open", "exclusive", "clipped"]
    """``"half-open"``: areas of boxes as they are. Else ``x1 = x + width`` goes into an IoU that counts the last pixel
    (+1), as it is or cut off at ``width - 1``, against published edges."""
    empty: Literal["none", "origin", "corner", "image"]
    """The box of an empty mask: none, [0, 0, 0, 0], [0, 0, 1, 1], or the whole image."""
    guesses: tuple[tuple[int, int], ...]
    """The guesses of the top-k error in order: (rank of the class, number of its box), from 1 on."""

    # From boxes to numbers.
    iou: float
    """A box is right from this IoU on."""
    iou_levels: tuple[float, ...]
    """MaxBoxAccV2 is the mean over these."""
    strict: bool
    """GT-known asks for ``IoU > iou`` instead of ``>=``."""
    strict_top: bool
    """The same for top-k scores."""
    average: Literal["images", "classes"]
    blacklist: bool
    """Leaves out the images that the ILSVRC devkit lists, where its file is given."""
    masks: bool
    """Scores pixels against masks (PxAP); needs data with masks."""

    def as_dict(self) -> dict[str, Any]:
        """Return every switch, for a run folder."""
        return asdict(self)


def find_protocol(name: str | Path | Protocol) -> Protocol:
    """Return a protocol by name, or from the TOML file of one's own.

    Parameters
    ----------
    name
        One of `protocol_names`, a file, or a protocol, which comes back as it is.

    Raises
    ------
    InputError
        Unknown name (the known ones are listed), or a file that holds no protocol.
    """
    if isinstance(name, Protocol):
        return name
    if str(name).endswith(".toml"):
        return read_protocol(name)
    known = protocol_names()
    if name not in known:
        raise InputError(
            f"unknown protocol {str(name)!r}{near(str(name), known)}; known: {', '.join(known)}, or a file.toml"
        )
    return _built_in()[str(name)]


def protocol_names() -> tuple[str, ...]:
    """Return the names of the built-in protocols."""
    return tuple(_built_in())


def read_protocol(path: str | Path) -> Protocol:
    """Read a protocol of one's own: all switches, or ``base = "NAME"`` and those that differ.

    Raises
    ------
    InputError
        No such file, no TOML, unknown or missing switches, or values that a switch does not take.
    """
    file = Path(path)
    try:
        with file.open("rb") as opened:
            values = tomllib.load(opened)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"protocol {file} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    base = values.pop("base", None)
    given = {"name": file.stem, "source": str(file.name)} | values
    return _checked(str(file), given, find_protocol(base) if base is not None else None)


@cache
def _built_in() -> Mapping[str, Protocol]:
    folder = Path(__file__).parent / "rules"
    order = (folder / "order.txt").read_text(encoding="utf-8").split()
    return {name: read_protocol(folder / f"{name}.toml") for name in order}


def _checked(where: str, values: Mapping[str, Any], base: Protocol | None) -> Protocol:
    hints = get_type_hints(Protocol)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise InputError(f"protocol {where}: unknown switch {unknown[0]!r}{near(unknown[0], hints)}")
    missing = [field.name for field in fields(Protocol) if field.name not in values]
    if missing and base is None:
        raise InputError(f"protocol {where}: switch {missing[0]!r} is missing: give it, or base = a known protocol")
    found = {name: _value(where, name, value, hints[name]) for name, value in values.items()}
    rules = replace(base, **found) if base is not None else Protocol(**found)
    check_protocol(rules, where)
    return rules


def _value(where: str, name: str, value: Any, hint: Any) -> Any:
    """Return a switch's value as its type, or say what it takes."""
    options = get_args(hint) if get_origin(hint) is Literal else None
    if options is not None:
        if value in options:
            return value
        takes = ", ".join(repr(one) for one in options)
    elif hint is bool or hint is str:
        if isinstance(value, hint):
            return value
        takes = "true or false" if hint is bool else "text"
    elif hint is int or hint is float:
        if not isinstance(value, bool) and isinstance(value, (int,) if hint is int else (int, float)):
            return hint(value)
        takes = "a whole number" if hint is int else "a number"
    elif name == "guesses":
        pairs = isinstance(value, (list, tuple)) and all(
            isinstance(one, (list, tuple)) and len(one) == 2 for one in value
        )
        if pairs and value and all(isinstance(part, int) and part >= 1 for one in value for part in one):
            return tuple((int(rank), int(box)) for rank, box in value)
        takes = "a list of pairs [rank of the class, number of its box], from 1 on"
    else:
        numbers = isinstance(value, (list, tuple)) and all(isinstance(one, (int, float)) for one in value)
        if numbers and value and all(0 < one <= 1 for one in value):
            return tuple(float(one) for one in value)
        takes = "a list of shares, 0 < share <= 1"
    raise InputError(f"protocol {where}: {name} = {value!r}: it takes {takes}")


def check_protocol(rules: Protocol, where: str = "") -> None:
    """Refuse switches that contradict each other.

    Raises
    ------
    InputError
        Which ones, and what they take.
    """
    where = where or rules.name
    eight = rules.precision in ("8-bit", "jpeg")
    problems = {
        f"threshold = {rules.threshold}: it takes a share, 0 <= threshold < 1": not 0 <= rules.threshold < 1,
        f"iou = {rules.iou}: it takes a share, 0 < iou <= 1": not 0 < rules.iou <= 1,
        f"threshold_steps = {rules.threshold_steps}: it takes at least 1": rules.threshold_steps < 1,
        'component = "polygon" or "all" needs precision = "8-bit"': rules.component in ("polygon", "all")
        and rules.precision != "8-bit",
        'component = "distance-transform" needs precision "8-bit" or "jpeg"': rules.component == "distance-transform"
        and not eight,
        'precision = "jpeg" is for component = "distance-transform"': rules.precision == "jpeg"
        and rules.component != "distance-transform",
        'normalization = "minmax-before" needs a precision of "float32" or "float64"': eight
        and rules.normalization == "minmax-before",
        'normalization = "maximum" in 8 bit needs sign = "relu" or "absolute"': eight
        and rules.normalization == "maximum"
        and rules.sign == "signed",
        'truth = "truncated" needs frame = "input"': rules.truth == "truncated" and rules.frame != "input",
        'crop = true needs frame = "input"': rules.crop and rules.frame != "input",
        'truth = "clipped" is for crop = true': (rules.truth == "clipped") != rules.crop,
        'guesses ask for a second box, which only component = "distance-transform" or "all" has': rules.component
        in ("pixels", "polygon")
        and any(box > 1 for _, box in rules.guesses),
    }
    for problem, found in problems.items():
        if found:
            raise InputError(f"protocol {where}: {problem}")
