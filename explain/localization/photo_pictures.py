"""The pictures of the image job's run folder, drawn from the folder and the photo files, without the network.

Those that are there already are kept.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from explain.localization.photo_run import box_rows, clean_name, stored_maps, write_facts
from explain.nets.inputs import read_image
from explain.pictures import compare, saliency_overlay, saliency_picture, shared_scale
from explain.runs import read_json, write_json
from explain.types import Saliency

__all__ = ["draw_pictures"]

LONGEST = 480
"""Longest side of the pictures in a report; the sheet beside them is larger."""
_SHEET, _PHOTO, _MAP = {"compress_level": 3}, {"quality": 80}, {"quality": 80}


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
    it (WebP, for the report; all maps of a method in the colours of one scale). ``run`` is what ``image.json``
    holds; it is brought up to date, as is the file.

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
    results = [stored_maps(folder, one) for one in run["methods"]]
    rows = run["images"][:count]
    jobs = [_Drawing(folder, results, number, row) for number, row in enumerate(rows)]
    drawn = 0
    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        for done, (job, new) in enumerate(zip(jobs, pool.map(_draw, jobs), strict=True), 1):
            drawn += new
            job.row.update(_names(job.number, job.row))
            _note_scales(job)
            if progress is not None:
                progress("pictures", done, len(jobs))
    seconds = run["manifest"]["seconds"]
    if drawn:
        seconds["pictures"] = round(seconds["pictures"] + time.perf_counter() - start, 3)
    if run != read_json(folder / "image.json"):
        write_json(folder / "manifest.json", run["manifest"])
        write_facts(folder, run)
    return drawn


@dataclass(frozen=True)
class _Drawing:
    """What the pictures of one photo are made from."""

    folder: Path
    results: Sequence[tuple[Saliency, NDArray[np.float32]]]
    number: int
    row: dict[str, Any]


def _names(number: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of ``image.json`` that name a photo's pictures."""
    stem = f"images/{number:04d}-{clean_name(Path(row['path']).stem)[:60]}"
    several = len({one["method"] for one in row["maps"]}) > 1
    ranks: dict[str, int] = {}
    maps = []
    for one in row["maps"]:
        rank = ranks[one["method"]] = ranks.get(one["method"], 0) + 1
        middle = f"-{clean_name(one['method'])}" if several else ""
        maps.append({**one, "file": f"{stem}{middle}-{rank}.webp"})
    return {"picture": f"{stem}.webp", "sheet": f"{stem}.png", "maps": maps}


def _note_scales(job: _Drawing) -> None:
    """Write into a photo's row the raw values that the colours of its pictures span."""
    scales = {maps.method: shared_scale(maps, job.number) for maps, _ in job.results}
    for one in job.row["maps"]:
        one["scale"] = list(scales[one["method"]])


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
            scale = shared_scale(maps, 0)
            picture, options = saliency_overlay(maps, 0, rank, longest=LONGEST, image=photo, scale=scale), _MAP
        _save(picture, job.folder / name, options)
    return True


def _known_boxes(maps: Saliency, boxes: NDArray[np.float32]) -> bool | list[list[float] | None]:
    """Return the boxes to draw; where they are in pixels of the input, the photo gets boxes of its own."""
    return box_rows(boxes) if maps.frame == "original" else True


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
