"""Findings → their run folder: JSON, arrays, pictures. See docs/architecture.md for the contract."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from explain.drawing import as_picture, overlay
from explain.findings.result import Example, Family, Findings
from explain.nets.inputs import read_image
from explain.runs import SCHEMA, make_manifest, run_folder, write_json
from explain.types import resize_maps

__all__ = ["FILES", "save_findings", "write_findings"]

FILES: dict[Family, str] = {"discovery": "result.json", "effects": "effects.json"}


def save_findings(result: Findings[Any], path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a run folder in one step; returns it."""
    with run_folder(path, config={"kind": result.kind, **result.settings}, overwrite=overwrite) as folder:
        write_findings(result, folder.path)
    return Path(path)


def write_findings(result: Findings[Any], folder: Path, *, config: Mapping[str, Any] | None = None) -> None:
    """Write all files of findings into ``folder``; ``config``: the settings to record."""
    (folder / "arrays").mkdir(exist_ok=True)
    (folder / "images").mkdir(exist_ok=True)
    source = result.source
    manifest = make_manifest(
        result.family,
        config=config or result.settings,
        model={**result.subject.describe(), "layer": result.layer},
        data={"name": source.name, "path": source.path, "hash": source.hash},
    )
    value = {
        "schema": SCHEMA,
        "kind": result.family,
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
    write_json(folder / FILES[result.family], value)
    arrays: Any = dict(result.arrays)
    np.savez_compressed(folder / "arrays" / "records.npz", **arrays)
    write_json(folder / "manifest.json", manifest)


def _picture(result: Findings[Any], place: int, example: Example, folder: Path) -> dict[str, Any]:
    """Draw one example, the map over the photo, and return its entry in the JSON; a page draws the boxes."""
    photo = example.picture or _photo(result, example.number)
    size = (photo.height, photo.width)
    picture = photo.copy()
    if example.values is not None:
        plane = resize_maps(torch.from_numpy(example.values)[None, None], size)[0, 0].clamp(min=0)
        picture = overlay(photo, plane, alpha=0.5)
    picture.thumbnail((example.longest, example.longest))
    name = f"images/{place:03d}-{example.number:05d}.webp"
    picture.save(folder / name, quality=78)
    return {
        "name": example.name or result.source.names[example.number],
        "caption": example.caption,
        "file": name,
        "size": list(size),
        "found": [list(box) for box in example.found],
        "truth": [list(box) for box in example.truth],
    }


def _photo(result: Findings[Any], number: int) -> Image.Image:
    source = result.source.images[number]
    return as_picture(source) if isinstance(source, Tensor) else read_image(source)
