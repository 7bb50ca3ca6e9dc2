"""A localization result → its folder: result.json, arrays, pictures. See docs/architecture.md for the contract."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain.errors import RunError
from explain.localization.boxes import image_maps
from explain.localization.mapping import Mapped, from_arrays, to_arrays
from explain.localization.metrics import Score
from explain.localization.planes import thresholds_of
from explain.localization.protocols import Protocol
from explain.localization.result import LocalizationResult
from explain.localization.summary import Summary, known_hits
from explain.localization.taxonomy import by_class, by_size, kinds_of
from explain.nets.inputs import read_image
from explain.pictures import overlay
from explain.runs import SCHEMA, make_manifest, read_json, run_folder, write_json
from explain.types import LocalizationSet

__all__ = ["read_maps", "save_result", "truth_checksum", "write_blind", "write_result"]

SHOWN = 12
"""Pictures of the best and as many of the worst images, and of those nearest to the protocol's IoU."""
LONGEST = 320


def save_result(result: LocalizationResult, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a run folder in one step; returns it."""
    with run_folder(path, config=result.config, overwrite=overwrite) as folder:
        write_result(result, folder.path)
    return Path(path)


def write_result(result: LocalizationResult, folder: Path, *, config: Mapping[str, Any] | None = None) -> None:
    """Write all files of a localization result into ``folder``; ``config``: the settings to record."""
    (folder / "arrays").mkdir(exist_ok=True)
    (folder / "images").mkdir(exist_ok=True)
    data, rules = result.data, result.protocol
    main = result.scored[result.method][rules.name]
    iou, right = main["at_fixed"][:, 0], known_hits(rules, main)
    order = np.argsort(iou, kind="stable")
    near = np.argsort(np.abs(iou - rules.iou), kind="stable")  # where another run is likely to judge otherwise
    chosen = {int(number) for number in (*order[:SHOWN], *order[-SHOWN:], *near[:SHOWN])}
    files = {number: _picture(result, number, folder) for number in sorted(chosen)}
    ranks = result.mapped[rules.crop].rank
    kinds = kinds_of(main["box"], right, ranks, data)
    manifest = make_manifest(
        "localization",
        config=config or dict(result.config),
        model={**result.subject.describe(), "layer": result.layer},
        data={"name": data.name, "path": str(data.root) if data.root else None, "hash": data.hash},
    )
    value: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": "localization",
        "manifest": manifest,
        "accuracy": dict(result.accuracy),
        "warnings": list(result.warnings),
        "residual": result.residual if np.isfinite(result.residual) else None,
        "metrics": {
            method: {name: _scores(scores) for name, scores in rows.items()} for method, rows in result.metrics.items()
        },
        "baselines": {name: _scores(scores) for name, scores in result.baselines.items()},
        "baselines_by_protocol": {
            name: {protocol: _scores(scores) for protocol, scores in rows.items()}
            for name, rows in result.by_protocol.items()
        },
        **_thresholds(result),
        "protocols": {one.name: one.as_dict() for one in result.protocols},
        "truth": {"checksum": truth_checksum(data), "images": len(data), "boxes": sum(map(len, data.boxes))},
        "errors": {
            "counts": {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
            "by_size": by_size(kinds, data),
            "by_class": by_class(kinds, data, result.subject.classes or data.class_names),
        },
        "images": [
            _image(result, number, float(iou[number]), kinds[number], files.get(number)) for number in range(len(data))
        ],
    }
    write_json(folder / "result.json", value)
    for crop, mapped in result.mapped.items():
        np.savez_compressed(folder / "arrays" / _maps_name(crop), **to_arrays(mapped))  # type: ignore[arg-type]
    first = result.records
    records: Any = {key: first[key] for key in ("ious", "rank", "predicted", "boxes", "maps")}
    records |= {
        f"{method}/{name}/{key}": array
        for method, rows in result.scored.items()
        for name, fields in rows.items()
        for key, array in fields.items()
    }
    np.savez_compressed(folder / "arrays" / "records.npz", **records)
    write_json(folder / "manifest.json", manifest)


def write_blind(
    kind: str,
    found: Mapping[str, tuple[Summary, Mapping[str, NDArray[Any]]]],
    data: LocalizationSet,
    rules: Sequence[Protocol],
    folder: Path,
    *,
    config: Mapping[str, Any],
) -> None:
    """Write the result of a baseline that no network made."""
    scores = {one.name: _scores(found[one.name][0].scores) for one in rules}
    manifest = make_manifest(
        "localization",
        config=config,
        model={"name": kind},
        data={"name": data.name, "path": str(data.root) if data.root else None, "hash": data.hash},
    )
    value: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": "localization",
        "manifest": manifest,
        "accuracy": {},
        "warnings": [],
        "residual": None,
        "metrics": {kind: scores},
        "baselines": {kind: scores[rules[0].name]},
        "baselines_by_protocol": {kind: scores},
        "thresholds": {kind: {one.name: dict(found[one.name][0].thresholds) for one in rules}},
        "best_threshold": {kind: {one.name: found[one.name][0].thresholds["oracle"] for one in rules}},
        "curve": {kind: {one.name: _curve(one, found[one.name][0]) for one in rules}},
        "protocols": {one.name: one.as_dict() for one in rules},
        "truth": {"checksum": truth_checksum(data), "images": len(data), "boxes": sum(map(len, data.boxes))},
        "images": [],
    }
    write_json(folder / "result.json", value)
    write_json(folder / "manifest.json", manifest)


def truth_checksum(data: LocalizationSet) -> str:
    """Return SHA-256 over names, classes, sizes and boxes: equal where two runs were judged by the same truth."""
    digest = hashlib.sha256()
    for name, index, size, boxes in zip(data.names, data.classes, data.sizes, data.boxes, strict=True):
        digest.update(f"{name}|{index}|{size[0]}x{size[1]}|".encode())
        digest.update(np.ascontiguousarray(boxes, np.float64).tobytes())
    return digest.hexdigest()


def read_maps(folder: str | Path) -> dict[bool, Mapped]:
    """Return what the network said in an earlier run, for `evaluate_localization`'s ``maps``.

    Raises
    ------
    RunError
        The folder holds no complete localization run.
    """
    root = Path(folder)
    if read_json(root / "manifest.json").get("kind") != "localization":
        raise RunError(f"{root} is no localization run: give the folder of an earlier `explain localize`")
    found: dict[bool, Mapped] = {}
    for crop in (False, True):
        file = root / "arrays" / _maps_name(crop)
        if file.is_file():
            with np.load(file, allow_pickle=False) as stored:
                found[crop] = from_arrays({key: stored[key] for key in stored.files})
    if not found:
        raise RunError(f"{root} holds no maps: it was made by an older version; run it again")
    return found


def _maps_name(crop: bool) -> str:
    return "maps_crop.npz" if crop else "maps.npz"


def _scores(scores: Mapping[str, Score]) -> dict[str, Any]:
    return {key: score.as_dict() for key, score in scores.items()}


def _thresholds(result: LocalizationResult) -> dict[str, Any]:
    """Return which thresholds were chosen, and the accuracy at every one."""
    found: dict[str, Any] = {"best_threshold": {}, "thresholds": {}, "curve": {}}
    for method, rows in result.summaries.items():
        for kind in found.values():
            kind[method] = {}
        for rules in result.protocols:
            one = rows[rules.name]
            found["best_threshold"][method][rules.name] = one.thresholds["oracle"]
            found["thresholds"][method][rules.name] = dict(one.thresholds)
            found["curve"][method][rules.name] = _curve(rules, one)
    return found


def _curve(rules: Protocol, summary: Summary) -> dict[str, Any]:
    return {
        "thresholds": thresholds_of(rules).tolist(),
        "accuracy": summary.accuracy[_main_level(rules)].tolist(),
        "levels": list(rules.iou_levels),
        "surface": summary.accuracy.tolist(),
    }


def _main_level(rules: Protocol) -> int:
    return min(range(len(rules.iou_levels)), key=lambda level: abs(rules.iou_levels[level] - rules.iou))


def _image(result: LocalizationResult, number: int, iou: float, kind: str, file: str | None) -> dict[str, Any]:
    data, mapped = result.data, result.mapped[result.protocol.crop]
    box: NDArray[np.float64] = result.scored[result.method][result.protocol.name]["box"][number]
    predicted = int(mapped.predicted[number, 0])
    return {
        "name": data.names[number],
        "class": int(data.classes[number]),
        "class_name": _name(result, data.classes[number]),
        "predicted": predicted,
        "predicted_name": _name(result, predicted),
        "correct": bool(mapped.rank[number] == 0),
        "iou": iou,
        "error": kind,
        "box": None if np.isnan(box).any() else box.tolist(),
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
    if not result.protocol.crop and (geometry is None or geometry.covers):
        plane: torch.Tensor = result.maps().values[number]
        picture = overlay(photo, image_maps(plane, geometry, result.data.sizes[number])[0].clamp(min=0), alpha=0.5)
    picture.thumbnail((LONGEST, LONGEST))
    name = f"images/{number:05d}.webp"
    picture.save(folder / name, quality=78)
    return name
