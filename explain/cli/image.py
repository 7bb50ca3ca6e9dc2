"""``explain image``: class activation maps and boxes of pictures."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from explain.cli import options as opt
from explain.cli.progress import progress_bars
from explain.errors import DataError, InputError

__all__ = ["explain_images", "find_images", "image", "image_table"]

LONGEST = 480
"""Longest side of the pictures in a report; the sheet beside them is larger."""
SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def image(
    model: opt.Model,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="files, folders or globs")],
    classes: Annotated[str, typer.Option(help="top5, or indices or names separated by ';'")] = "top1",
    method: Annotated[str, typer.Option(help="cam")] = "cam",
    out: Annotated[Path | None, typer.Option(help="run folder: pictures, JSON, report.html")] = None,
    weights: opt.Weights = "DEFAULT",
    transform: opt.Transform = None,
    class_names: opt.ClassNames = None,
    input_size: opt.InputSize = None,
    mean: opt.Mean = None,
    std: opt.Std = None,
    device: opt.Device = "auto",
    batch_size: opt.BatchSize = 32,
    workers: opt.Workers = 0,
    seed: opt.Seed = 0,
    limit: opt.Limit = None,
    resume: opt.Resume = False,
    overwrite: opt.Overwrite = False,
) -> None:
    """Explain pictures: the classes found, where each is seen, and a box."""
    from explain.report import render
    from explain.runs import run_folder

    if method != "cam":
        raise InputError(f"unknown method {method!r}: known: cam")
    paths = find_images(images)[:limit]
    subject = opt.open_subject(opt.ModelOptions(model, weights, transform, class_names, input_size, mean, std, device))
    wanted = parse_classes(classes)
    console = Console()
    if out is None:
        rows, _ = explain_images(subject, paths, wanted, None, batch_size=batch_size, workers=workers)
        console.print(image_table(rows))
        console.print("pictures and a report: add --out DIR")
        return
    config = {
        "model": subject.describe(),
        "images": [str(path) for path in paths],
        "classes": classes,
        "method": method,
        "seed": seed,
    }
    with run_folder(out, config=config, overwrite=overwrite, resume=resume) as folder:
        if not folder.done:
            with progress_bars() as progress:
                rows, facts = explain_images(
                    subject, paths, wanted, folder.path, batch_size=batch_size, workers=workers, progress=progress
                )
            write_image_run(folder.path, rows, facts, config)
            console.print(image_table(rows))
            render(folder.path)
    console.print(f"report: {out / 'report.html'}")


def find_images(sources: Sequence[str]) -> list[Path]:
    """Return picture files: files as they are, folders and globs sorted.

    Raises
    ------
    DataError
        Something that does not exist, or a folder without pictures.
    """
    found: list[Path] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            inside = sorted(child for child in path.iterdir() if child.suffix.lower() in SUFFIXES)
            if not inside:
                raise DataError(f"folder {path} holds no pictures ({', '.join(sorted(SUFFIXES))})")
            found += inside
        elif any(sign in source for sign in "*?[") and not path.exists():
            anchor = Path(path.anchor) if path.is_absolute() else Path()
            matches = sorted(anchor.glob(str(path.relative_to(path.anchor) if path.is_absolute() else path)))
            if not matches:
                raise DataError(f"no file matches {source}")
            found += matches
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"image {path} does not exist")
    return found


def parse_classes(text: str) -> Any:
    """Return the class specification of a command line: ``top5``, or indices and names separated by ``;``."""
    if re.fullmatch(r"top\d+", text):
        return text
    return [int(part) if part.strip().isdigit() else part.strip() for part in text.split(";") if part.strip()]


def explain_images(
    subject: Any,
    paths: Sequence[Path],
    classes: Any,
    folder: Path | None,
    *,
    batch_size: int = 32,
    workers: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Map pictures batch by batch; write their pictures into ``folder`` and return rows for JSON, and facts."""
    from explain.localization import locate
    from explain.nets.inputs import read_image
    from explain.saliency.cam import cam

    rows: list[dict[str, Any]] = []
    facts: dict[str, Any] = {"residual": 0.0}
    for start in range(0, len(paths), batch_size):
        part = list(paths[start : start + batch_size])
        with ThreadPoolExecutor(max(1, workers)) as readers:  # Pillow decodes outside Python's lock
            photos = list(readers.map(partial(read_image, upright=True), part))
        maps = cam(subject, photos, classes, batch_size=batch_size)
        boxes = locate(maps)
        facts |= {"layer": maps.layer, "exact": maps.exact, "residual": max(facts["residual"], maps.residual)}
        for index, path in enumerate(part):
            rows.append(_image_row(maps, index, boxes[index], path, start + index, folder))
            if progress is not None:
                progress("images", len(rows), len(paths))
    return rows, facts


def _image_row(
    maps: Any, index: int, boxes: Sequence[Any], path: Path, number: int, folder: Path | None
) -> dict[str, Any]:
    photo = maps.images[index]
    stem = f"{number:04d}-{re.sub(r'[^A-Za-z0-9_-]+', '_', path.stem)[:60]}"
    if folder is not None:
        (folder / "images").mkdir(exist_ok=True)
        maps.save(folder / "images" / f"{stem}.png", index)
        small = photo.convert("RGB")
        small.thumbnail((LONGEST, LONGEST))
        small.save(folder / "images" / f"{stem}.webp", quality=80)
    rows = []
    for k in range(maps.values.shape[1]):
        file = _write_overlay(maps, index, k, folder, stem) if folder is not None else None
        rows.append(
            {
                "class": int(maps.classes[index, k]),
                "name": maps.name(int(maps.classes[index, k])),
                "score": float(maps.scores[index, k]),
                "probability": float(maps.probabilities[index, k]),
                "constant": float(maps.constants[index, k]),
                "box": boxes[k].xyxy[0].tolist() if len(boxes[k]) else None,
                "file": file,
            }
        )
    return {
        "name": path.name,
        "path": str(path),
        "size": [photo.height, photo.width],
        "frame": maps.frame,
        "picture": f"images/{stem}.webp" if folder is not None else None,
        "sheet": f"images/{stem}.png" if folder is not None else None,
        "maps": rows,
    }


def _write_overlay(maps: Any, index: int, k: int, folder: Path, stem: str) -> str:
    """Write the map of one class over the picture, in the picture's own proportions."""
    from explain.pictures import saliency_overlay

    name = f"images/{stem}-{k + 1}.webp"
    saliency_overlay(maps, index, k, longest=LONGEST).save(folder / name, quality=80)
    return name


def write_image_run(folder: Path, rows: list[dict[str, Any]], facts: dict[str, Any], config: dict[str, Any]) -> None:
    """Write ``image.json`` and the manifest; see docs/architecture.md for the contract."""
    from explain.runs import SCHEMA, make_manifest, write_json

    described = config["model"]
    manifest = make_manifest("image", config=config, model={**described, "layer": facts["layer"]})
    write_json(
        folder / "image.json",
        {"schema": SCHEMA, "kind": "image", "manifest": manifest, "method": "cam", **facts, "images": rows},
    )
    write_json(folder / "manifest.json", manifest)


def image_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return the classes and boxes of pictures as a table."""
    table = Table("image", "class", "logit", "probability", "box (x0, y0, x1, y1)")
    for row in rows:
        for place, found in enumerate(row["maps"]):
            box = ", ".join(f"{edge:.0f}" for edge in found["box"]) if found["box"] else "none"
            table.add_row(
                row["name"] if place == 0 else "",
                found["name"],
                f"{found['score']:.2f}",
                f"{found['probability']:.3f}",
                box,
            )
    return replace_if_long(table, rows)


def replace_if_long(table: Table, rows: Sequence[dict[str, Any]], most: int = 40) -> Table:
    """Return the table, cut to its first pictures where there are very many; the report has them all."""
    if len(rows) <= most:
        return table
    short = image_table(rows[:most])
    short.caption = f"{most} of {len(rows)} pictures; image.json has all"
    return short
