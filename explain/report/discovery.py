"""The part of a page that shows what class maps discover: features, crops, objects in scenes, concepts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from explain.report.album import Album, make_album
from explain.report.parts import Part, header_rows

__all__ = ["discovery_part", "findings_album", "findings_view"]

_BUDGET = 5 * 2**20
"""Bytes of pictures in the page, before their encoding as text adds a third."""
_TITLES = {
    "features": "Generic features",
    "crops": "Recognition from crops",
    "scene-objects": "Objects under the maps of scenes",
    "concepts": "Concepts learned from whole images",
}


def discovery_part(folder: Path, run: dict[str, Any], prefix: str) -> Part:
    """Build the part from ``result.json``."""
    manifest, job = run["manifest"], run["job"]
    album = findings_album(folder, run, prefix)
    view = findings_view(run, album)
    title = f"{_TITLES.get(job, job)}: {manifest.get('model', {}).get('name') or 'a network'}"
    facts = {"Job": job, "Layer": run.get("layer")}
    notes = [*run.get("warnings", []), *album.notes]
    return Part("discovery", title, prefix, header_rows(manifest, facts), album, notes, view)


def findings_album(folder: Path, run: Mapping[str, Any], prefix: str) -> Album:
    """Read the pictures of a run with findings."""
    return make_album(folder, [picture["file"] for picture in run["pictures"]], f"{prefix}p", budget=_BUDGET)


def findings_view(run: Mapping[str, Any], album: Album) -> dict[str, Any]:
    """Return what ``discovery.html.j2`` shows: sentences, tables and pictures of any run with findings."""
    return {
        "told": run["notes"],
        "tables": [_table(table) for table in run["tables"]],
        "pictures": [_picture(picture, album) for picture in run["pictures"]],
        "found": any(picture["found"] for picture in run["pictures"]),
        "truth": any(picture["truth"] for picture in run["pictures"]),
    }


def _table(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table whose cells say whether they hold words or numbers."""
    words = set(table["words"])
    return {
        "title": table["title"],
        "columns": [(name, number in words) for number, name in enumerate(table["columns"])],
        "rows": [[(cell, number in words) for number, cell in enumerate(row)] for row in table["rows"]],
    }


def _picture(picture: Mapping[str, Any], album: Album) -> dict[str, Any]:
    height, width = picture["size"]
    boxes = [name for name, there in (("the box found", picture["found"]), ("the true box", picture["truth"])) if there]
    with_boxes = f", with {' and '.join(boxes)}" if boxes else ""
    return {
        **picture,
        "picture": album.classes.get(picture["file"]),
        "viewbox": f"0 0 {width} {height}",
        "alt": f"{picture['name']}: map of {picture['caption']}{with_boxes}",
    }
