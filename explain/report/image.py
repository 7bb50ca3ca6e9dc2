"""The part of a page that shows photos with the maps of their classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from explain.report.album import Album, make_album
from explain.report.parts import Part, header_rows

__all__ = ["image_part"]

_BUDGET = 12 * 2**20
"""Bytes of pictures in the page, before their encoding as text adds a third."""


def image_part(folder: Path, run: dict[str, Any], prefix: str) -> Part:
    """Build the part from ``image.json``."""
    manifest = run["manifest"]
    files = [image["picture"] for image in run["images"]]
    files += [one["file"] for image in run["images"] for one in image["maps"]]
    album = make_album(folder, files, f"{prefix}p", budget=_BUDGET)
    images = [_image(image, album) for image in run["images"]]
    facts = {"Layer": run["layer"], "Method": run["method"], "Images": f"{len(images):,}"}
    view = {"exact": run["exact"], "residual": run["residual"], "method": run["method"], "images": images}
    title = f"Class maps of {manifest.get('model', {}).get('name') or 'a network'}"
    notes = [*run.get("warnings", []), *album.notes]
    return Part("image", title, prefix, header_rows(manifest, facts), album, notes, view)


def _image(image: Mapping[str, Any], album: Album) -> dict[str, Any]:
    height, width = image["size"]
    maps = [
        {
            **one,
            "picture": album.classes.get(one["file"] or ""),
            "box": one["box"] if _same_shape(album.sizes.get(one["file"] or ""), (width, height)) else None,
            "where": one["box"],
            "alt": f"map of {one['name']} over {image['name']}",
        }
        for one in image["maps"]
    ]
    return {
        **image,
        "maps": maps,
        "photo": album.classes.get(image["picture"] or ""),
        "viewbox": f"0 0 {width} {height}",
    }


def _same_shape(picture: tuple[int, int] | None, size: tuple[int, int]) -> bool:
    """Tell whether a stored picture has the image's proportions, so that a box can be drawn over it."""
    return picture is not None and abs(picture[0] * size[1] / (picture[1] * size[0]) - 1) < 0.03
