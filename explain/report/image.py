"""The part of a page that shows photos with the maps of their classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from explain.report.album import Album, make_album
from explain.report.parts import Part, header_rows

__all__ = ["image_part"]

_BUDGET = 12 * 2**20
"""Bytes of pictures in the page, before their encoding as text adds a third."""
_SHOWN = 800
"""Pictures in the page: photos beyond them are rows of a table, so that a page of thousands still opens."""
_WORDS = 40
"""Words of the command that the page repeats; the manifest has all."""


def image_part(folder: Path, run: dict[str, Any], prefix: str) -> Part:
    """Build the part from ``image.json``."""
    manifest = run["manifest"]
    shown, listed = _divided(run["images"])
    files = [image["picture"] for image in shown]
    files += [one["file"] for image in shown for one in image["maps"]]
    album = make_album(folder, files, f"{prefix}p", budget=_BUDGET)
    methods = run.get("methods") or [{key: run[key] for key in ("method", "layer", "exact", "residual")}]
    facts = {
        "Layer": ", ".join(dict.fromkeys(one["layer"] for one in methods)),
        "Method": ", ".join(one["method"] for one in methods),
        "Images": f"{len(run['images']):,}",
        "Time": _time(manifest.get("seconds")),
    }
    view = {
        "methods": methods,
        "images": [_image(image, album) for image in shown],
        "listed": [{**image, "sheet": image.get("sheet"), "first": image["maps"][0]} for image in listed],
        "faithfulness": [_measures(name, found) for name, found in run.get("faithfulness", {}).items()],
    }
    title = f"Class maps of {manifest.get('model', {}).get('name') or 'a network'}"
    notes = [*run.get("warnings", []), *album.notes]
    return Part("image", title, prefix, header_rows(_short(manifest), facts), album, notes, view)


def _divided(images: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the images to show with their pictures, and those to list; where none has pictures, all are listed."""
    drawn = [image for image in images if image["picture"]]
    most = max(1, _SHOWN // (1 + max((len(image["maps"]) for image in images), default=0)))
    shown = drawn[:most]
    kept = {id(image) for image in shown}
    return shown, [image for image in images if id(image) not in kept]


def _image(image: Mapping[str, Any], album: Album) -> dict[str, Any]:
    height, width = image["size"]
    # Boxes in pixels of the input (a transform of unknown geometry) do not lie on the photo.
    own = image.get("frame", "original") == "original"
    maps = [
        {
            **one,
            "picture": album.classes.get(one["file"] or ""),
            "box": one["box"] if own and _same_shape(album.sizes.get(one["file"] or ""), (width, height)) else None,
            "where": ", ".join(f"{edge:g}" for edge in one["box"]) if one["box"] else None,
            "alt": f"{one.get('method') or 'map'}: map of {one['name']} over {image['name']}",
        }
        for one in image["maps"]
    ]
    groups = [list(found) for _, found in groupby(maps, lambda one: one.get("method"))]
    return {
        **image,
        "columns": [{"class": one["class"], "name": one["name"]} for one in groups[0]] if groups else [],
        "rows": [_grid_row(found, groups[0]) for found in groups],
        "one_scale": all(one.get("scale") for one in maps),
        "photo": album.classes.get(image["picture"] or ""),
        "viewbox": f"0 0 {width} {height}",
        "sheet": image.get("sheet"),
    }


def _grid_row(maps: Sequence[dict[str, Any]], first: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one method's maps in the order of the columns, and what the colours of all of them span."""
    by_class = {one["class"]: one for one in maps}
    low, high = maps[0].get("scale") or (0.0, 0.0)
    return {
        "method": maps[0].get("method"),
        "maps": [by_class.get(one["class"]) for one in first],
        "low": low,
        "high": high,
        "most": max(-low, high),
    }


def _measures(method: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return one method's faithfulness as a table: a row per measure, a column per control."""
    controls = list(dict.fromkeys(control for row in found.values() for control in row["controls"]))
    rows = [
        {
            "name": name,
            "unit": row.get("unit"),
            "better": {True: "higher", False: "lower"}.get(row.get("higher_is_better"), "–"),
            "found": [row["maps"], *(row["controls"].get(control) for control in controls)],
        }
        for name, row in found.items()
    ]
    return {"method": method, "controls": controls, "rows": rows}


def _short(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest with a command of a thousand files cut to its beginning."""
    words = manifest.get("command") or []
    return {**manifest, "command": [*words[:_WORDS], "…"] if len(words) > _WORDS else words}


def _time(seconds: Mapping[str, float] | None) -> str | None:
    if not seconds:
        return None
    return f"maps and boxes {seconds['maps']:.1f} s, pictures {seconds['pictures']:.1f} s"


def _same_shape(picture: tuple[int, int] | None, size: tuple[int, int]) -> bool:
    """Tell whether a stored picture has the image's proportions, so that a box can be drawn over it."""
    return picture is not None and abs(picture[0] * size[1] / (picture[1] * size[0]) - 1) < 0.03
