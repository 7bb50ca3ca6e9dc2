"""A discovery → its run folder: result.json, arrays, pictures. See docs/architecture.md for the contract."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from explain.drawing import as_picture, draw_boxes, overlay
from explain.localization.discovery.findings import Discovery, Example
from explain.nets.inputs import read_image
from explain.runs import SCHEMA, make_manifest, run_folder, write_json
from explain.types import resize_maps

__all__ = ["save_discovery", "write_discovery"]

_LONGEST = 320
_FOUND, _TRUTH = (255, 176, 0), (111, 208, 255)


def save_discovery(result: Discovery[Any], path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a run folder in one step; returns it."""
    with run_folder(path, config={"kind": result.kind, **result.settings}, overwrite=overwrite) as folder:
        write_discovery(result, folder.path)
    return Path(path)


def write_discovery(result: Discovery[Any], folder: Path, *, config: Mapping[str, Any] | None = None) -> None:
    """Write all files of a discovery into ``folder``; ``config``: the settings to record."""
    (folder / "arrays").mkdir(exist_ok=True)
    (folder / "images").mkdir(exist_ok=True)
    source = result.source
    manifest = make_manifest(
        "discovery",
        config=config or result.settings,
        model={**result.subject.describe(), "layer": result.layer},
        data={"name": source.name, "path": source.path, "hash": source.hash},
    )
    value = {
        "schema": SCHEMA,
        "kind": "discovery",
        "job": result.kind,
        "manifest": manifest,
        "layer": result.layer,
        "notes": list(result.notes),
        "warnings": list(result.warnings),
        "findings": result.as_dict(),
        "tables": [
            {
                "title": table.title,
                "columns": list(table.columns),
                "rows": [list(row) for row in table.rows],
                "words": list(table.words),
            }
            for table in result.tables
        ],
        "pictures": [_picture(result, place, one, folder) for place, one in enumerate(result.examples)],
    }
    write_json(folder / "result.json", value)
    arrays: Any = dict(result.arrays)
    np.savez_compressed(folder / "arrays" / "records.npz", **arrays)
    write_json(folder / "manifest.json", manifest)


def _picture(result: Discovery[Any], place: int, example: Example, folder: Path) -> dict[str, Any]:
    """Draw one example: the photo, the map over it, the boxes; return its entry in ``result.json``."""
    photo = _photo(result, example.number)
    size = (photo.height, photo.width)
    plane = resize_maps(torch.from_numpy(example.values)[None, None], size)[0, 0].clamp(min=0)
    picture = overlay(photo, plane, alpha=0.5)
    boxes = [*example.found, *example.truth]
    if boxes:
        colors = [_FOUND] * len(example.found) + [_TRUTH] * len(example.truth)
        picture = draw_boxes(picture, boxes, colors)
    picture.thumbnail((_LONGEST, _LONGEST))
    name = f"images/{place:03d}-{example.number:05d}.webp"
    picture.save(folder / name, quality=78)
    return {
        "name": result.source.names[example.number],
        "caption": example.caption,
        "file": name,
        "size": list(size),
        "found": [list(box) for box in example.found],
        "truth": [list(box) for box in example.truth],
    }


def _photo(result: Discovery[Any], number: int) -> Image.Image:
    source = result.source.images[number]
    return as_picture(source) if isinstance(source, Tensor) else read_image(source)
