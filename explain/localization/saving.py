"""A localization result → its folder: result.json, arrays, pictures. See docs/architecture.md for the contract."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explain.localization.boxes import image_maps
from explain.localization.evaluate import LocalizationResult
from explain.nets.inputs import read_image
from explain.pictures import overlay
from explain.runs import SCHEMA, make_manifest, run_folder, write_json

__all__ = ["save_result", "write_result"]

SHOWN = 12
"""Pictures of the best and as many of the worst images."""
LONGEST = 320


def save_result(result: LocalizationResult, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a run folder in one step; returns it."""
    with run_folder(path, config=result.protocol.as_dict(), overwrite=overwrite) as folder:
        write_result(result, folder.path)
    return Path(path)


def write_result(result: LocalizationResult, folder: Path, *, config: Mapping[str, Any] | None = None) -> None:
    """Write all files of a localization result into ``folder``; ``config``: the settings to record."""
    (folder / "arrays").mkdir(exist_ok=True)
    (folder / "images").mkdir(exist_ok=True)
    records, data, protocol = result.records, result.data, result.protocol
    fixed = round(protocol.threshold * protocol.threshold_steps)
    iou = records["ious"][:, fixed]
    order = np.argsort(iou, kind="stable")
    chosen = {int(number) for number in (*order[:SHOWN], *order[-SHOWN:])}
    files = {number: _picture(result, number, folder) for number in sorted(chosen)}
    manifest = make_manifest(
        "localization",
        config=config or {"method": result.method, "protocol": protocol.name},
        model={**result.subject.describe(), "layer": result.layer},
        data={"name": data.name, "path": str(data.root) if data.root else None, "hash": data.hash},
    )
    accuracy = (records["ious"] >= protocol.iou).mean(0) * 100
    thresholds = np.arange(protocol.threshold_steps) / protocol.threshold_steps
    value: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": "localization",
        "manifest": manifest,
        "accuracy": dict(result.accuracy),
        "warnings": list(result.warnings),
        "residual": result.residual,
        "metrics": {
            method: {name: {key: score.as_dict() for key, score in scores.items()} for name, scores in rows.items()}
            for method, rows in result.metrics.items()
        },
        "baselines": {
            name: {key: score.as_dict() for key, score in scores.items()} for name, scores in result.baselines.items()
        },
        "best_threshold": {result.method: {protocol.name: result.best_threshold}},
        "curve": {result.method: {protocol.name: {"thresholds": thresholds.tolist(), "accuracy": accuracy.tolist()}}},
        "protocols": {protocol.name: protocol.as_dict()},
        "images": [_image(result, number, float(iou[number]), files.get(number)) for number in range(len(data))],
    }
    write_json(folder / "result.json", value)
    arrays: Any = {key: records[key] for key in ("ious", "rank", "predicted", "boxes", "maps")}
    np.savez_compressed(folder / "arrays" / "records.npz", **arrays)
    write_json(folder / "manifest.json", manifest)


def _image(result: LocalizationResult, number: int, iou: float, file: str | None) -> dict[str, Any]:
    data, records = result.data, result.records
    box = records["boxes"][number]
    predicted = int(records["predicted"][number, 0])
    return {
        "name": data.names[number],
        "class": int(data.classes[number]),
        "class_name": _name(result, data.classes[number]),
        "predicted": predicted,
        "predicted_name": _name(result, predicted),
        "correct": bool(records["rank"][number] == 0),
        "iou": iou,
        "box": box.tolist() if box[2] > box[0] else None,
        "truth": data.boxes[number].tolist(),
        "size": [int(side) for side in data.sizes[number]],
        "subset": data.subsets[number] if data.subsets is not None else None,
        "file": file,
    }


def _name(result: LocalizationResult, index: int) -> str:
    names = result.subject.classes or result.data.class_names
    return names[index] if names is not None and index < len(names) else f"class {index}"


def _picture(result: LocalizationResult, number: int, folder: Path) -> str | None:
    """Write image ``number`` with its map over it; the report draws the boxes."""
    source = result.data.images[number]
    if isinstance(source, Tensor):
        return None
    photo = read_image(source).convert("RGB")
    known = result.subject.preprocess
    geometry = known.geometry(result.data.sizes[number]) if known is not None else None
    picture = photo
    if geometry is None or geometry.covers:
        plane = torch.from_numpy(result.records["maps"][number])[None]
        picture = overlay(photo, image_maps(plane, geometry, result.data.sizes[number])[0].clamp(min=0), alpha=0.5)
    picture.thumbnail((LONGEST, LONGEST))
    name = f"images/{number:05d}.webp"
    picture.save(folder / name, quality=78)
    return name
