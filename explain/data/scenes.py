"""Drawn scenes: a probe set and a localization set of our own making, every pixel labelled.

Each scene has one main object (its class) in one of seven places; masks name objects, parts, colours and
textures. The same seed gives the same pixels.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from explain.data.recipes import data_home
from explain.data.scene_paint import (
    COLORS,
    SIDE,
    TEXTURES,
    Canvas,
    Ring,
    blank_canvas,
    hard_pixels,
    lay,
    soft_shadow,
)
from explain.data.scene_places import OBJECTS, SCENES, draw_place, object_id, scatter
from explain.data.scene_shapes import CLASSES, PARTS, STANDING, Piece, draw_object
from explain.errors import DataError

__all__ = ["CLASSES", "LAYERS", "SCENES", "VERSION", "Scene", "draw_scene", "scenes_folder", "write_scenes"]

VERSION = "1"
"""Changes with the pixels: part of the name of the folder that scenes are kept in."""

LAYERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "mask": ("object", OBJECTS),
    "part_mask": ("part", PARTS),
    "color_mask": ("color", tuple(COLORS)),
    "texture_mask": ("texture", TEXTURES),
}
"""Mask columns: category and the names of ids 1, 2, …"""

_MARGIN = 3.0


@dataclass(frozen=True, eq=False)
class Scene:
    """One drawn scene."""

    image: NDArray[np.uint8]
    """``(224, 224, 3)``."""
    masks: Mapping[str, NDArray[np.uint8]]
    """Ids by mask column (see ``LAYERS``), each ``(224, 224)``."""
    scene: str
    label: int
    """The class of the main object: an index into ``CLASSES``."""
    box: tuple[int, int, int, int]
    """The tight box of the main object: x0, y0, x1, y1, half-open."""


def _turned(pieces: Sequence[Piece], angle: float) -> list[Piece]:
    turn = np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))])
    return [replace(piece, rings=tuple((points @ turn, adds) for points, adds in piece.rings)) for piece in pieces]


def _moved(pieces: Sequence[Piece], scale: float | NDArray[np.float64], shift: NDArray[np.float64]) -> list[Piece]:
    return [
        replace(piece, rings=tuple((points * scale + shift, adds) for points, adds in piece.rings)) for piece in pieces
    ]


def _all_rings(pieces: Sequence[Piece]) -> list[Ring]:
    return [ring for piece in pieces for ring in piece.rings]


def _bounds(pieces: Sequence[Piece]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    corners = np.concatenate([points for points, _ in _all_rings(pieces)])
    return corners.min(0), corners.max(0)


def _sized(pieces: Sequence[Piece], share: float) -> list[Piece]:
    """Scale an object to a share of the picture's area, as far as it fits in."""
    low, high = _bounds(pieces)
    reference = 0.6 * SIDE / float((high - low).max())
    drawn = _moved(pieces, reference, -low * reference + 8)
    area = max(hard_pixels(_all_rings(drawn)), 1)
    scale = reference * math.sqrt(share * SIDE * SIDE / area)
    scale = min(scale, (0.94 * SIDE) / float((high - low).max()))
    return _moved(pieces, scale, np.zeros(2))


def _placed(pieces: Sequence[Piece], standing: bool, level: float, rng: Generator) -> list[Piece]:
    """Put an object at a random place inside the picture; what stands has its foot on the ground."""
    low, high = _bounds(pieces)
    least, most = _MARGIN - low, SIDE - _MARGIN - high
    if standing:
        least[1] = max(least[1], min(level + 8 - high[1], most[1]))
    return _moved(pieces, 1.0, rng.uniform(least, np.maximum(most, least)))


def _main_object(canvas: Canvas, name: str, level: float, rng: Generator) -> None:
    avoid = _present_colors(canvas)
    standing = name in STANDING
    pieces = _turned(draw_object(name, rng, avoid), rng.uniform(-1, 1) * (0.06 if standing else 0.4))
    pieces = _placed(_sized(pieces, float(rng.uniform(0.075, 0.24))), standing, level, rng)
    low, high = _bounds(pieces)
    shift = np.array([0.05, 0.04]) * (high - low)
    soft_shadow(canvas, _all_rings(_moved(pieces, 1.0, shift)), 5, 0.38)
    for piece in pieces:
        part = PARTS.index(piece.part) + 1 if piece.part else 0
        lay(canvas, piece.rings, piece.paint, rng, object_id(name), part)


def _present_colors(canvas: Canvas) -> Collection[str]:
    """Return the colours of at least a twelfth of the picture: an object of them would drown."""
    counts = np.bincount(canvas.colors.ravel(), minlength=len(COLORS) + 1)[1:]
    return {name for name, count in zip(COLORS, counts, strict=True) if count > SIDE * SIDE / 12}


def _developed(canvas: Canvas, rng: Generator) -> NDArray[np.uint8]:
    """Return the picture with a camera's doings: light falling off, a cast, noise."""
    away = np.linspace(-1, 1, SIDE, dtype=np.float32) ** 2
    fall = 1 - np.float32(rng.uniform(0.03, 0.12)) * (away[:, None] + away)
    cast = (rng.uniform(0.96, 1.04, (3, 1, 1)) * rng.uniform(0.93, 1.05)).astype(np.float32)
    noise = rng.standard_normal((SIDE, SIDE), np.float32) * np.float32(rng.uniform(1.5, 3.5))
    rgb = canvas.rgb * (fall * cast) + (noise + 2)
    # Steps of four grey levels, hidden by the noise: the files are half as large.
    steps = np.clip(rgb, 0, 255).astype(np.uint8) & np.uint8(0xFC)
    return np.ascontiguousarray(steps.transpose(1, 2, 0))


def _tight_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def draw_scene(rng: Generator, label: int | None = None) -> Scene:
    """Draw one scene.

    Parameters
    ----------
    rng : numpy.random.Generator
        All chance comes from it.
    label : int, optional
        The class of the main object; without it, one at random.
    """
    kind = int(rng.integers(len(CLASSES))) if label is None else label
    scene = SCENES[int(rng.integers(len(SCENES)))]
    canvas = blank_canvas()
    level = draw_place(canvas, scene, rng)
    scatter(canvas, scene, level, rng)
    _main_object(canvas, CLASSES[kind], level, rng)
    masks = dict(zip(LAYERS, (canvas.objects, canvas.parts, canvas.colors, canvas.textures), strict=True))
    box = _tight_box(canvas.objects == object_id(CLASSES[kind]))
    return Scene(_developed(canvas, rng), masks, scene, kind, box)


def _classes_json() -> str:
    layers = {
        column: {
            "category": category,
            "classes": [{"id": number, "name": name, "category": category} for number, name in enumerate(names, 1)],
        }
        for column, (category, names) in LAYERS.items()
    }
    return json.dumps({"layers": layers, "ignored": {}}, indent=1) + "\n"


def _write_csv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _write_all(folder: Path, count: int, seed: int, progress: Callable[[int, int], object] | None) -> None:
    for name in ("images", *LAYERS):
        (folder / _folder_of(name)).mkdir()
    index: list[list[object]] = [["image", *LAYERS, "scene", "split"]]
    images: list[list[object]] = [["image", "class_index", "name", "subset"]]
    boxes: list[list[object]] = [["image", "x0", "y0", "x1", "y1"]]
    for number in range(count):
        # Classes take turns and every fourth scene is for testing: eleven and four share no factor.
        scene = draw_scene(np.random.default_rng([seed, number]), number % len(CLASSES))
        file, split = f"{number:05d}.png", "test" if number % 4 == 3 else "train"
        Image.fromarray(scene.image).save(folder / "images" / file, compress_level=4)
        masks = [f"{_folder_of(column)}/{file}" for column in LAYERS]
        for mask, ids in zip(masks, scene.masks.values(), strict=True):
            Image.fromarray(ids).save(folder / mask, compress_level=6)
        index.append([file, *masks, scene.scene, split])
        images.append([file, scene.label, CLASSES[scene.label], split])
        boxes.append([file, *scene.box])
        if progress is not None:
            progress(number + 1, count)
    (folder / "classes.json").write_text(_classes_json(), encoding="utf-8")
    for name, rows in (("index.csv", index), ("images.csv", images), ("boxes.csv", boxes)):
        _write_csv(folder / name, rows)


def _folder_of(column: str) -> str:
    return column if column == "images" else f"{column.removesuffix('_mask').removesuffix('mask') or 'object'}_masks"


def write_scenes(
    folder: str | Path,
    count: int = 320,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> Path:
    """Write scenes as a folder that is both a probe set and a localization set; complete or not at all.

    Parameters
    ----------
    folder : str or Path
        Must not exist, or be empty.
    count, seed : int
        How many scenes; scene ``i`` depends on the seed and on ``i`` only.
    progress : callable, optional
        Called with the number of scenes done and wanted.
    """
    target = Path(folder)
    if count < 1 or seed < 0:
        raise DataError(f"cannot draw {count} scenes with seed {seed}: give a count from 1 and a seed from 0")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target} exists and is not an empty folder: give another folder or remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _write_all(draft, count, seed, progress)
        draft.chmod(0o755)  # a temporary folder is closed to others, this one is to be read
        if target.is_dir():
            target.rmdir()
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def scenes_folder(count: int = 320, seed: int = 0, progress: Callable[[int, int], object] | None = None) -> Path:
    """Return the folder of drawn scenes in the data folder, drawing them where they are not there yet."""
    folder = data_home() / f"scenes-{count}-{seed}-{VERSION}"
    if (folder / "index.csv").is_file():
        return folder
    try:
        return write_scenes(folder, count, seed, progress)
    except (DataError, OSError):
        if (folder / "index.csv").is_file():  # another process was faster: it drew the same pixels
            return folder
        raise
