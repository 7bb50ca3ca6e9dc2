"""The image job's run folder: arrays, ``image.json``, pictures. See docs/architecture.md for the contract.

Arrays and JSON come first and are complete without pictures. Pictures are drawn from the folder and the photo
files, without the network; those that are there already are kept.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from explain.errors import InputError, RunError, near
from explain.localization.photo_arrays import from_arrays, to_arrays
from explain.localization.photos import PhotoMaps
from explain.nets.inputs import read_image
from explain.pictures import compare, saliency_overlay, saliency_picture
from explain.runs import SCHEMA, make_manifest, read_json, write_json
from explain.saliency.faithfulness_result import METRICS, estimate
from explain.types import Saliency

__all__ = ["draw_pictures", "faithfulness_means", "load_maps", "photo_rows", "write_photo_run"]

LONGEST = 480
"""Longest side of the pictures in a report; the sheet beside them is larger."""
_SHEET, _PHOTO, _MAP = {"compress_level": 3}, {"quality": 80}, {"quality": 80}


def write_photo_run(
    folder: Path, found: PhotoMaps, paths: Sequence[str | Path], config: Mapping[str, Any]
) -> dict[str, Any]:
    """Write arrays, ``image.json`` and the manifest, without pictures, and return what ``image.json`` holds.

    ``config``: the settings to record; ``config["model"]`` is what the subject's ``describe()`` returned.
    """
    start = time.perf_counter()
    (folder / "arrays").mkdir(exist_ok=True)
    methods = []
    for maps, boxes, measures in zip(found.maps, found.boxes, found.measures, strict=True):
        file = "arrays/maps.npz" if len(found.maps) == 1 else f"arrays/maps-{_clean(maps.method)}.npz"
        arrays: Any = to_arrays(maps) | {"boxes": boxes, "sizes": found.sizes}
        arrays |= {f"faithfulness.{name}": value for name, value in measures.items()}
        if maps.names is not None:
            arrays["names"] = np.array(maps.names)
        np.savez_compressed(folder / file, **arrays)
        methods.append({**_method_facts(maps), "arrays": file})
    model = {**config["model"], "layer": found.maps[0].layer}
    run = {
        "schema": SCHEMA,
        "kind": "image",
        "manifest": make_manifest("image", config=config, model=model),
        **_method_facts(found.maps[0]),
        "methods": methods,
        "warnings": found.warnings,
        "images": photo_rows(found, paths),
    }
    if means := faithfulness_means(found):
        run["faithfulness"] = means
    run["manifest"]["seconds"] = {"maps": round(found.seconds, 3), "pictures": 0.0}
    write_json(folder / "manifest.json", run["manifest"])
    _write_run(folder, run)
    # What the files took is known only now; it stands in them once the pictures are drawn.
    run["manifest"]["seconds"]["maps"] = round(found.seconds + time.perf_counter() - start, 3)
    return run


def _write_run(folder: Path, run: Mapping[str, Any]) -> None:
    """Write ``image.json`` in one step, a line per photo: Python's encoder is five times faster without indents."""

    def told(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    fields = [f"{told(key)}:{told(value)}" for key, value in run.items() if key != "images"]
    rows = ",\n".join(told(row) for row in run["images"])
    temporary = folder / "image.json.tmp"
    temporary.write_text("{" + ",\n".join([*fields, f'"images":[\n{rows}\n]']) + "}\n", encoding="utf-8")
    temporary.replace(folder / "image.json")


def photo_rows(found: PhotoMaps, paths: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Return the rows of ``image.json``, one per photo, without pictures."""
    return [_image_row(found, index, Path(path)) for index, path in enumerate(paths)]


def faithfulness_means(found: PhotoMaps) -> dict[str, Any]:
    """Return ``faithfulness`` of ``image.json``: by method the means over photos; empty where nothing was measured."""
    pairs = zip(found.maps, found.measures, strict=True)
    return {maps.method: _summary(measures) for maps, measures in pairs if measures}


def draw_pictures(
    folder: Path,
    run: dict[str, Any],
    count: int | None = None,
    *,
    workers: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> int:
    """Draw the pictures of the first ``count`` photos (None: all) into a run folder; returns how many lacked any.

    For each photo: a sheet (PNG: the photo and all maps with scale, score and box), the photo and each map over
    it (WebP, for the report). ``run`` is what ``image.json`` holds; it is brought up to date, as is the file.

    Parameters
    ----------
    workers
        Threads that draw; 0: one per processor, at most 8.

    Raises
    ------
    DataError
        A photo is no longer where it was.
    """
    start = time.perf_counter()
    (folder / "images").mkdir(exist_ok=True)
    results = [_load(folder, one) for one in run["methods"]]
    rows = run["images"][:count]
    jobs = [_Drawing(folder, results, number, row) for number, row in enumerate(rows)]
    drawn = 0
    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        for done, (job, new) in enumerate(zip(jobs, pool.map(_draw, jobs), strict=True), 1):
            drawn += new
            job.row.update(_names(job.number, job.row))
            if progress is not None:
                progress("pictures", done, len(jobs))
    seconds = run["manifest"]["seconds"]
    if drawn:
        seconds["pictures"] = round(seconds["pictures"] + time.perf_counter() - start, 3)
    if run != read_json(folder / "image.json"):
        write_json(folder / "manifest.json", run["manifest"])
        _write_run(folder, run)
    return drawn


def load_maps(run: str | Path, method: str | None = None) -> Saliency:
    """Return the maps of a run of ``explain image``, as `explain.cam` returned them: raw values, scores, classes.

    The photos themselves are not loaded: ``maps.picture(i)`` shows the maps alone, and
    ``explain.pictures.saliency_picture(maps, i, image=path)`` lays them over the file.

    Parameters
    ----------
    run
        The run folder.
    method
        One of the run's methods; the first where not given.

    Raises
    ------
    RunError
        No such run, or its arrays are missing.
    InputError
        The run has no such method.
    """
    folder = Path(run)
    if not folder.is_dir():
        raise RunError(f"{folder} is no run folder: give the --out of `explain image`")
    whole = read_json(folder / "image.json")
    methods = {one["method"]: one for one in whole.get("methods", [])}
    if method is not None and method not in methods:
        raise InputError(f"the run {folder} has no method {method!r}{near(method, list(methods))}")
    if not methods:
        raise RunError(f"{folder} was written by an older version, without arrays: run the job again")
    return _load(folder, methods[method] if method is not None else next(iter(methods.values())))[0]


def _load(folder: Path, method: Mapping[str, Any]) -> tuple[Saliency, NDArray[np.float32]]:
    path = folder / method["arrays"]
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return from_arrays(arrays, arrays["names"].tolist() if "names" in arrays else None), arrays["boxes"]
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{path} cannot be read ({error}): run the job again") from None


def _method_facts(maps: Saliency) -> dict[str, Any]:
    return {"method": maps.method, "layer": maps.layer, "exact": maps.exact, "residual": _number(maps.residual)}


def _image_row(found: PhotoMaps, index: int, path: Path) -> dict[str, Any]:
    row = {
        "name": path.name,
        "path": str(path),
        "size": found.sizes[index].tolist(),
        "frame": found.maps[0].frame,
        "picture": None,
        "sheet": None,
        "maps": [
            one
            for maps, boxes in zip(found.maps, found.boxes, strict=True)
            for one in _map_rows(maps, boxes[index], index)
        ],
    }
    if any(found.measures):
        row["faithfulness"] = {
            maps.method: {name: _number(value[index]) for name, value in measures.items()}
            for maps, measures in zip(found.maps, found.measures, strict=True)
        }
    return row


def _map_rows(maps: Saliency, boxes: NDArray[np.float32], index: int) -> list[dict[str, Any]]:
    columns = (maps.classes, maps.scores, maps.probabilities, maps.constants)
    return [
        {
            "method": maps.method,
            "class": chosen,
            "name": maps.name(chosen),
            "score": _number(score),
            "probability": _number(probability),
            "constant": _number(constant),
            "box": box,
            "file": None,
        }
        for chosen, score, probability, constant, box in zip(
            *(column[index].tolist() for column in columns), _box_rows(boxes), strict=True
        )
    ]


def _box_rows(boxes: NDArray[np.float32]) -> list[list[float] | None]:
    return [None if math.isnan(box[0]) else box for box in boxes.tolist()]


def _summary(measures: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return the mean of each measure over photos, with its interval; controls beside the maps they belong to."""
    found: dict[str, Any] = {}
    for name, values in measures.items():
        metric, _, control = name.partition(".")
        known = METRICS.get(metric)
        mean = known.mean if known is not None else estimate
        told = _number(mean(torch.from_numpy(values.reshape(len(values), -1))).as_dict())
        row = found.setdefault(metric, {"controls": {}})
        if control:
            row["controls"][control] = told
            continue
        row["maps"] = told
        if known is not None:
            row |= {"unit": known.unit, "higher_is_better": known.higher_is_better}
    return found


def _number(value: Any) -> Any:
    """Return a number, or a list or dict of them, for JSON, which has no NaN: null."""
    plain = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    if isinstance(plain, dict):
        return {key: _number(one) for key, one in plain.items()}
    if isinstance(plain, list):
        return [_number(one) for one in plain]
    return plain if plain is not None and math.isfinite(plain) else None


# --- pictures ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Drawing:
    """What the pictures of one photo are made from."""

    folder: Path
    results: Sequence[tuple[Saliency, NDArray[np.float32]]]
    number: int
    row: dict[str, Any]


def _names(number: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of ``image.json`` that name a photo's pictures."""
    stem = f"images/{number:04d}-{_clean(Path(row['path']).stem)[:60]}"
    several = len({one["method"] for one in row["maps"]}) > 1
    ranks: dict[str, int] = {}
    maps = []
    for one in row["maps"]:
        rank = ranks[one["method"]] = ranks.get(one["method"], 0) + 1
        middle = f"-{_clean(one['method'])}" if several else ""
        maps.append({**one, "file": f"{stem}{middle}-{rank}.webp"})
    return {"picture": f"{stem}.webp", "sheet": f"{stem}.png", "maps": maps}


def _draw(job: _Drawing) -> bool:
    """Draw what is missing of one photo's pictures; True where anything was."""
    names = _names(job.number, job.row)
    files = [names["sheet"], names["picture"], *(one["file"] for one in names["maps"])]
    missing = [name for name in files if not (job.folder / name).exists()]
    if not missing:
        return False
    photo = read_image(job.row["path"], upright=True)  # as the network saw it
    singles = [(_single(maps, job.number), _known_boxes(maps, boxes[job.number])) for maps, boxes in job.results]
    ranks = [(maps, rank) for maps, _ in singles for rank in range(maps.values.shape[1])]
    overlays = {one["file"]: place for one, place in zip(names["maps"], ranks, strict=True)}
    for name in missing:
        if name == names["sheet"]:
            picture, options = _sheet(singles, photo), _SHEET
        elif name == names["picture"]:
            picture, options = photo.copy(), _PHOTO
            picture.thumbnail((LONGEST, LONGEST))
        else:
            maps, rank = overlays[name]
            picture, options = saliency_overlay(maps, 0, rank, longest=LONGEST, image=photo), _MAP
        _save(picture, job.folder / name, options)
    return True


def _known_boxes(maps: Saliency, boxes: NDArray[np.float32]) -> bool | list[list[float] | None]:
    """Return the boxes to draw; where they are in pixels of the input, the photo gets boxes of its own."""
    return _box_rows(boxes) if maps.frame == "original" else True


def _sheet(singles: Sequence[tuple[Saliency, bool | list[list[float] | None]]], photo: Image.Image) -> Image.Image:
    if len(singles) == 1:
        maps, boxes = singles[0]
        return saliency_picture(maps, boxes=boxes, image=photo)
    return compare([maps for maps, _ in singles], boxes=[boxes for _, boxes in singles], image=photo)


def _single(maps: Saliency, index: int) -> Saliency:
    """Return the result on one photo."""
    part = slice(index, index + 1)
    return replace(
        maps,
        values=maps.values[part],
        classes=maps.classes[part],
        scores=maps.scores[part],
        probabilities=maps.probabilities[part],
        constants=maps.constants[part],
        geometries=maps.geometries[part] if maps.geometries is not None else None,
    )


def _save(picture: Image.Image, path: Path, options: Mapping[str, Any]) -> None:
    """Write a picture in one step, so that what exists after an interruption is whole."""
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    picture.save(temporary, **options)
    temporary.replace(path)


def _clean(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text)
