"""Small run folders as jobs would write them, with hostile names, for tests of the report."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from explain.runs import make_manifest, write_json

HOSTILE = ['<script>alert("x")</script>', "say \"hi\" & 'bye'", "قطة على العشب", "</style><b>", "snow 雪"]


def manifest(kind: str) -> dict[str, Any]:
    return make_manifest(
        kind,
        config={"length": 3, "seed": 0},
        model={"name": "resnet18 <b>", "hash": "ab" * 32, "layer": "layer4", "transform": "squash to 224"},
        data={"name": "probe & more", "path": "data/probe", "hash": "cd" * 32},
        command=["explain", kind, "resnet18", "--data", "a folder"],
    )


def picture(path: Path, size: tuple[int, int], seed: int) -> None:
    """Write a smooth picture; ``size`` is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(path, quality=70)


def blob(rng: np.random.Generator, size: int) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    center, radius = rng.uniform(0.2, 0.8, 2) * size, rng.uniform(0.08, 0.25) * size
    wave = 1 + 0.3 * np.sin(3 * np.arctan2(y - center[0], x - center[1]) + rng.uniform(0, 6))
    return (y - center[0]) ** 2 + (x - center[1]) ** 2 < (radius * wave) ** 2


def neurons(
    folder: Path,
    *,
    units: int = 6,
    images: int = 5,
    examples: int = 2,
    size: int = 28,
    pixels: int = 64,
    cells: int = 300,
) -> Path:
    """Write a run of kind "neurons"; the last unit never fires."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for index in range(images):
        picture(folder / "images" / f"{index:05d}.webp", (pixels, pixels), index)
    names = [*HOSTILE, "red", "blue", "sky", "street-s", "dog", "grass"]
    listed = [{"name": HOSTILE[i % 5] + f" {i}.jpg", "file": f"images/{i:05d}.webp"} for i in range(images)]
    listed.append({"name": "shown by no unit.jpg", "file": None})
    rows: dict[str, list[Any]] = {"unit": [], "formula": []}
    found = [_unit(rng, number, names, images, examples, rows, size) for number in range(units - 1)]
    found.append(_silent(units - 1))
    (folder / "arrays").mkdir()
    np.savez(folder / "arrays" / "examples.npz", **{k: np.array(v) for k, v in rows.items()}, shape=[size, size])
    summary = {
        "units": units,
        "firing": units - 1,
        "interpretable": sum((u["score"] or 0) > 0.04 for u in found),
        "threshold_iou": 0.04,
        "unique_concepts": len({u["label"] for u in found}) - 1,
        "mean_iou": float(np.mean([u["iou"] for u in found])),
        "by_category": {"object": units // 2, "color": units // 3, "<i>part</i>": 1},
    }
    whole = manifest("neurons")
    run = {
        "schema": 1,
        "kind": "neurons",
        "manifest": whole,
        "layer": "layer4",
        "grid": [7, 7],
        "resolution": [size, size],
        "images": listed,
        "pixels": images * size * size,
        "cells": 321,
        "passes": 2,
        "settings": {
            "quantile": 0.005,
            "k": 40,
            "length": 3,
            "beam": 5,
            "search": "auto",
            "resolution": size,
            "min_pixels": 0,
        },
        "concepts": [{"name": n, "category": "object", "pixels": 9} for n in names],
        "units": found,
        "summary": summary,
    }
    _counts(rng, folder, run, cells)
    write_json(folder / "run.json", run)
    write_json(folder / "manifest.json", whole)
    with (folder / "units.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["unit", "formula", "iou"])
        writer.writerows([unit["unit"], unit["formula"] or "", repr(unit["iou"])] for unit in found)
    return folder


def pairs(folder: Path) -> Path:
    """Write a run of kind "neurons" over sentence pairs, with hostile words."""
    run = json.loads((neurons(folder) / "run.json").read_text(encoding="utf-8"))
    run |= {"domain": "text", "text": {"accuracy": 0.625, "neighbors": {"dog": ["puppy"]}}}
    for concept in run["concepts"]:
        concept["category"] = "premise word"
    for number, image in enumerate(run["images"]):
        tokens = ["a", HOSTILE[number % 5], "dog", "puppy"]
        image |= {"file": None, "premise": {"tokens": tokens}, "hypothesis": {"tokens": ["no", *tokens[:2]]}}
        image |= {"gold": "neutral", "predicted": "entailment"}
    for name, concept in zip(("pre:dog", "NEIGHBORS(pre:dog)"), run["concepts"], strict=False):
        concept |= {"name": name, "category": "premise neighbors" if "(" in name else "premise word"}
    weights = {"entail": 0.5, "neutral": 0.25, "contra": -2.0}
    for number, unit in enumerate(run["units"][:-1]):
        unit["formula"] = ["NEIGHBORS(pre:dog)", "sky AND NOT pre:dog"][number % 2]
        unit |= {"also": {}, "more": {"weights": weights, "hits": [0], "false_alarms": [1, 2], "misses": [3]}}
    write_json(folder / "run.json", run)
    return folder


def _counts(rng: np.random.Generator, folder: Path, run: dict[str, Any], cells: int) -> None:
    """Write tables of cells, of active pixels and of activations, invented but consistent; the last unit is silent."""
    concepts, units = len(run["concepts"]), len(run["units"])
    sets = np.unique(rng.random((cells, concepts)) < 0.2, axis=0)
    pixels = rng.integers(1, 5000, len(sets))
    active = np.minimum(rng.integers(0, 300, (units, len(sets))) * (rng.random((units, len(sets))) < 0.3), pixels)
    active[-1] = 0
    for concept, row in zip(run["concepts"], sets.T, strict=True):
        concept["pixels"] = int(pixels[row].sum())
    for unit, row in zip(run["units"], active, strict=True):
        unit["active"] = int(row.sum())
    run |= {"pixels": int(pixels.sum()), "cells": len(sets)}
    ends = [np.concatenate([[0], np.cumsum((table > 0).sum(1))]) for table in (sets, active)]
    arrays = folder / "arrays"
    np.savez(arrays / "cells.npz", counts=pixels, indptr=ends[0], indices=np.nonzero(sets)[1].astype(np.int32))
    found = {"cells": np.nonzero(active)[1], "counts": active[active > 0], "active": active.sum(1)}
    np.savez(arrays / "units.npz", units=np.arange(units), thresholds=np.ones(units), indptr=ends[1], **found)
    bins = rng.integers(0, 50, (units, 40))
    np.savez(arrays / "histograms.npz", counts=bins, edges=np.linspace(-1.0, 9.0, 41))


def quoted(name: str) -> str:
    """Write a name as the formula language does."""
    if any(sign in ' ()"\\' for sign in name):
        return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return name


def _unit(rng, number, names, images, examples, rows, size) -> dict[str, Any]:
    first, *_ = chosen = [names[i] for i in rng.permutation(len(names))[:3]]
    a, b, c = (quoted(name) for name in chosen)
    iou = float(rng.beta(1.2, 9))

    def example(rank: int, silent: bool = False) -> dict[str, Any]:
        unit, formula = blob(rng, size), blob(rng, size)
        rows["unit"].append(np.packbits((unit & (not silent)).reshape(-1)))
        rows["formula"].append(np.packbits((unit | formula).reshape(-1)))
        peak = None if silent else 9.5 - rank
        return {"image": int(rng.integers(images)), "peak": peak, "iou": iou, "row": len(rows["unit"]) - 1}

    shown = [example(rank) for rank in range(examples)]
    also = {kind: [example(0, kind == "misses")] for kind in ("random", "false_alarms", "misses", "negation")}
    by_length = [
        {"length": 1, "formula": a, "iou": iou * 0.7},
        {"length": 2, "formula": f"{a} OR {b}", "iou": iou * 0.9},
        {"length": 3, "formula": f"({a} OR {b}) AND NOT {c}", "iou": iou},
    ]
    return {
        "unit": number,
        "formula": by_length[2]["formula"],
        "iou": iou,
        "length": 3,
        "category": "object",
        "threshold": 3.25,
        "active": 90 + number,
        "precision": 0.31,
        "recall": 0.4,
        "ceiling": 0.8,
        "search": "beam",
        "label": first,
        "score": iou * 0.7,
        "label_category": "object",
        "by_length": by_length,
        "runners_up": [{"formula": f"{a} AND {c}", "iou": iou * 0.8, "length": 2}],
        "examples": shown,
        "also": also,
    }


def _silent(number: int) -> dict[str, Any]:
    names = "formula length category precision recall ceiling search label score label_category"
    empty = dict.fromkeys(names.split())
    return {
        "unit": number,
        "iou": 0.0,
        "threshold": 0.0,
        "active": 0,
        "by_length": [],
        "runners_up": [],
        "examples": [],
        **empty,
    }


def localization(folder: Path, *, images: int = 7) -> Path:
    """Write a run of kind "localization" with two protocols; every other image has a picture."""
    folder.mkdir(parents=True)

    def measure(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 2, "high": value + 2, "n": images}

    listed = []
    for i in range(images):
        file = f"images/{i:05d}.webp" if i % 2 == 0 else None
        if file:
            picture(folder / file, (120, 80), i)
        listed.append(
            {
                "name": f"{HOSTILE[i % 5]}.jpg",
                "class": i,
                "class_name": HOSTILE[i % 5],
                "predicted": i + i % 2,
                "predicted_name": HOSTILE[(i + i % 2) % 5],
                "correct": i % 2 == 0,
                "iou": (i * 5 % 7) / 7,
                "box": [10, 12, 60, 50] if i else None,
                "truth": [[5, 10, 70, 60]],
                "size": [80, 120],
                "subset": "val",
                "file": file,
            }
        )
    thresholds = [i / 50 for i in range(51)]
    metrics = {
        "gt_known": measure(61.25),
        "top1_loc_error": measure(55.5),
        "top5_loc_error": measure(44.0),
        "top1_cls_error": measure(30.0),
        "top5_cls_error": measure(10.0),
        "maxboxacc": measure(62.0),
    }
    centre = {name: {**value, "value": value["value"] - 10} for name, value in metrics.items()}
    curve = {"thresholds": thresholds, "accuracy": [62 * 4 * t * (1 - t) for t in thresholds]}
    names = ["cam-2016", "maxboxacc-v2"]
    whole = manifest("localization")
    write_json(folder / "manifest.json", whole)
    write_json(
        folder / "result.json",
        {
            "schema": 1,
            "kind": "localization",
            "manifest": whole,
            "accuracy": {"top1": 70.0, "top5": 90.0, "n": images, "classes": 5},
            "metrics": {"cam": {name: metrics for name in names}, "gradcam++": {names[0]: metrics}},
            "baselines": {"centre": {name: centre for name in names}},
            "best_threshold": {"cam": {name: 0.5 for name in names}},
            "curve": {
                "cam": {name: curve for name in names},
                "gradcam++": {names[0]: {**curve, "accuracy": [0.8 * y for y in curve["accuracy"]]}},
            },
            "protocols": {name: {"threshold": 0.2, "per_class": False, "ious": [0.3, 0.5]} for name in names},
            "images": listed,
            "warnings": ["2 maps were flat <b>"],
        },
    )
    return folder


KINDS = ("right", "misclassified", "part", "more", "multi-instance", "background", "no box")


def localized(
    folder: Path,
    *,
    methods: Sequence[str] = ("cam", "layercam"),
    protocols: Sequence[str] = ("cam2016", "bas"),
    images: int = 24,
    classes: int = 5,
    seed: int = 0,
    pictures: bool = True,
) -> Path:
    """Write a run of kind "localization" as `explain localize` does; ``seed`` makes the maps, the truth is fixed."""
    from explain.localization.protocols import find_protocol
    from explain.localization.summary import summarise

    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    rules = [find_protocol(name) for name in protocols]
    truth = truth_of(images, classes)
    labels, ranks = np.array([one["class"] for one in truth]), rng.integers(0, 7, images)
    records = {
        f"{method}/{one.name}/{key}": array
        for method in methods
        for one in rules
        for key, array in made_records(rng, one, truth).items()
    }
    found = {
        method: {one.name: summarise(one, only(records, method, one.name), ranks, labels, seed=0) for one in rules}
        for method in methods
    }
    scores = {
        method: {name: {key: one.as_dict() for key, one in summary.scores.items()} for name, summary in rows.items()}
        for method, rows in found.items()
    }
    centre = {
        name: {key: {**value, "value": value["value"] - 20} for key, value in rows.items()}
        for name, rows in scores[methods[0]].items()
    }
    first = only(records, methods[0], protocols[0])
    listed = [_localized_image(folder, number, one, ranks, first, pictures) for number, one in enumerate(truth)]
    write_result(folder, methods, rules, found, scores, centre, listed)
    (folder / "arrays").mkdir()
    np.savez_compressed(folder / "arrays" / "records.npz", **records)
    for name in ("maps.npz", "maps_crop.npz"):
        np.savez(folder / "arrays" / name, rank=ranks)
    return folder


def only(records: dict[str, np.ndarray], method: str, protocol: str) -> dict[str, np.ndarray]:
    """Return the records of one method and protocol."""
    start = f"{method}/{protocol}/"
    return {key.removeprefix(start): array for key, array in records.items() if key.startswith(start)}


def truth_of(images: int, classes: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(99)
    return [
        {
            "name": f"{HOSTILE[number % 5]} {number}.jpg",
            "class": int(rng.integers(classes)),
            "size": [80, 120],
            "truth": [[5.0, 10.0, 70.0, 60.0]] * (1 + number % 3),
        }
        for number in range(images)
    ]


def made_records(rng: np.random.Generator, rules: Any, truth: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Return records of invented maps: IoUs that rise and fall with the threshold."""
    from explain.localization.planes import thresholds_of

    grid, n = thresholds_of(rules), len(truth)
    peak, height = rng.uniform(0.1, 0.7, (n, 1)), rng.uniform(0.3, 0.95, (n, 1))
    ious = np.clip(height - 1.5 * np.abs(grid - peak), 0, 1)
    ranks = len(rules.guesses)
    nearest = int(np.abs(thresholds_of(rules) - rules.threshold).argmin())
    fixed = ious[:, [nearest]] * np.ones(1 if ranks == len({r for r, _ in rules.guesses}) else 2)
    boxes = np.tile([10.0, 12.0, 60.0, 50.0], (n, 1)) + rng.integers(0, 8, (n, 4))
    boxes[0] = np.nan
    records = {
        "ious": ious,
        "counts": np.ones(ious.shape, np.int32),
        "at_fixed": np.sort(fixed, axis=1),
        "box": boxes,
        "shown": rng.integers(1, 7, n).astype(np.int32),
        "truths": np.array([len(one["truth"]) for one in truth], np.int32),
        "budget": rng.integers(0, 2, (n, 2, 2)).astype(np.int32),
        "pointing": rng.random(n) < 0.6,
        "energy": rng.random(n),
    }
    if rules.masks:
        records["pixels"] = rng.integers(0, 50, (n, 2, rules.threshold_steps + 2))
    return records


def _localized_image(
    folder: Path, number: int, truth: dict[str, Any], ranks: np.ndarray, records: dict[str, np.ndarray], pictures: bool
) -> dict[str, Any]:
    file = f"images/{number:05d}.webp" if pictures and number % 2 == 0 else None
    if file:
        picture(folder / file, (120, 80), number)
    box, iou = records["box"][number], float(records["at_fixed"][number, 0])
    return {
        **truth,
        "class_name": HOSTILE[truth["class"] % 5],
        "predicted": truth["class"] + int(ranks[number] > 0),
        "predicted_name": HOSTILE[(truth["class"] + int(ranks[number] > 0)) % 5],
        "correct": bool(ranks[number] == 0),
        "iou": iou,
        "error": "right" if iou >= 0.5 else KINDS[2 + number % 5],
        "box": None if np.isnan(box).any() else box.tolist(),
        "subset": "val",
        "file": file,
    }


def write_result(
    folder: Path,
    methods: Sequence[str],
    rules: Sequence[Any],
    found: dict[str, dict[str, Any]],
    scores: dict[str, Any],
    centre: dict[str, Any],
    listed: list[dict[str, Any]],
) -> None:
    """Write result.json and manifest.json with the keys of `explain.localization.saving`."""
    from explain.localization.planes import thresholds_of

    kinds = [image["error"] for image in listed]
    rows: dict[int, list[str]] = {}
    for image in listed:
        rows.setdefault(image["class"], []).append(image["error"])
    whole = manifest("localization")
    whole["config"] = {"limit": None, "align": "grid", "val": None, "blacklist": None, "seed": 0}
    truth = [[image[key] for key in ("name", "class", "size", "truth")] for image in listed]
    write_json(folder / "manifest.json", whole)
    write_json(
        folder / "result.json",
        {
            "schema": 1,
            "kind": "localization",
            "manifest": whole,
            "accuracy": {"top1": 70.0, "top5": 90.0, "n": len(listed), "classes": 5},
            "warnings": ["2 maps were flat <b>"],
            "residual": 2e-7,
            "metrics": scores,
            "baselines": {"centre": centre[rules[0].name]},
            "baselines_by_protocol": {"centre": centre, "full": centre, "random_weights": centre},
            "best_threshold": {
                method: {name: one.thresholds["oracle"] for name, one in found[method].items()} for method in methods
            },
            "thresholds": {
                method: {name: dict(one.thresholds) for name, one in found[method].items()} for method in methods
            },
            "curve": {
                method: {
                    one.name: {
                        "thresholds": thresholds_of(one).tolist(),
                        "accuracy": found[method][one.name].accuracy[1].tolist(),
                        "levels": list(one.iou_levels),
                        "surface": found[method][one.name].accuracy.tolist(),
                    }
                    for one in rules
                }
                for method in methods
            },
            "protocols": {one.name: one.as_dict() for one in rules},
            "truth": {
                "checksum": hashlib.sha256(json.dumps(truth).encode()).hexdigest(),
                "images": len(listed),
                "boxes": sum(len(image["truth"]) for image in listed),
            },
            "errors": {
                "counts": {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
                "by_size": [{"name": "0% to 10% of the image", **_counted(kinds)}],
                "by_class": [{"name": f"{HOSTILE[k % 5]} {k}", **_counted(own)} for k, own in rows.items()],
            },
            "images": listed,
        },
    )


def _counted(kinds: Sequence[str]) -> dict[str, int]:
    return {"n": len(kinds)} | {kind: kinds.count(kind) for kind in KINDS}


def blind(folder: Path) -> Path:
    """Write the run of a baseline that no network made: scores only, no images and no arrays."""
    localized(folder, methods=("centre",), pictures=False)
    run = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    for name in ("maps.npz", "maps_crop.npz", "records.npz"):
        (folder / "arrays" / name).unlink()
    (folder / "arrays").rmdir()
    run.pop("errors")
    run |= {"accuracy": {}, "warnings": [], "residual": None, "images": []}
    run["baselines_by_protocol"] = {"centre": run["metrics"]["centre"]}
    run["manifest"]["config"] = {"baseline": "centre", "seed": 0, "limit": None}
    run["manifest"]["model"] = {"name": "centre"}
    write_json(folder / "result.json", run)
    write_json(folder / "manifest.json", run["manifest"])
    return folder


def image(folder: Path) -> Path:
    """Write a run of kind "image": two photos with two maps each."""
    folder.mkdir(parents=True)
    listed = []
    for i in range(2):
        files = [f"images/{i}.webp", f"images/{i}-0.webp", f"images/{i}-1.webp"]
        for number, file in enumerate(files):
            picture(folder / file, (120, 80), 100 + 10 * i + number)
        maps = [
            {
                "class": k,
                "name": HOSTILE[k],
                "score": 8.5 - k,
                "probability": 0.9 - 0.85 * k,
                "constant": 0.1,
                "box": [10, 12, 60, 50] if k == 0 else None,
                "file": files[1 + k],
            }
            for k in range(2)
        ]
        listed.append(
            {
                "name": f"{HOSTILE[i]}.jpg",
                "path": "x/y.jpg",
                "size": [80, 120],
                "picture": files[0],
                "maps": maps,
            }
        )
    whole = manifest("image")
    write_json(folder / "manifest.json", whole)
    write_json(
        folder / "image.json",
        {
            "schema": 1,
            "kind": "image",
            "manifest": whole,
            "method": "cam",
            "layer": "layer4",
            "exact": True,
            "residual": 3e-7,
            "images": listed,
        },
    )
    return folder


def demo(folder: Path) -> Path:
    """Write a run of kind "demo" with its three parts."""
    folder.mkdir(parents=True)
    image(folder / "photos")
    localization(folder / "localization")
    neurons(folder / "neurons")
    whole = manifest("demo")
    write_json(folder / "manifest.json", whole)
    write_json(
        folder / "demo.json",
        {
            "schema": 1,
            "kind": "demo",
            "manifest": whole,
            "parts": ["photos", "localization", "neurons"],
            "photos": [
                {
                    "name": HOSTILE[0],
                    "expected": [HOSTILE[0]],
                    "top1_right": True,
                    "class": HOSTILE[0],
                    "box_iou": 0.7,
                }
            ],
        },
    )
    return folder


def discovery(folder: Path) -> Path:
    """Write a run of kind "discovery" with two tables and two pictures."""
    folder.mkdir(parents=True)
    pictures = []
    for number in range(2):
        file = f"images/{number:03d}.webp"
        picture(folder / file, (120, 80), 300 + number)
        boxes = {"found": [[10, 12, 60, 50], [70, 20, 90, 60]], "truth": [[5, 10, 70, 60]] if number else []}
        pictures.append(
            {"name": f"{HOSTILE[number]}.jpg", "caption": HOSTILE[2 + number], "file": file, "size": [80, 120], **boxes}
        )
    whole = manifest("discovery")
    write_json(folder / "manifest.json", whole)
    table = {"columns": ["class", "crops", "IoU"], "rows": [[HOSTILE[0], "12", "0.5"], [HOSTILE[4], "3", "0.25"]]}
    write_json(
        folder / "result.json",
        {
            "schema": 1,
            "kind": "discovery",
            "manifest": whole,
            "job": "crops",
            "layer": "layer4",
            "notes": ["Crops are recognised by <b>their</b> maps."],
            "warnings": ["few images"],
            "tables": [{"title": title, "words": ["class"], **table} for title in ("By class", HOSTILE[1])],
            "pictures": pictures,
        },
    )
    return folder
