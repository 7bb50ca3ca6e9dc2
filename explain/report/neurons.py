"""The part of a page that shows what units detect."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.errors import RunError
from explain.opencv import outline_paths
from explain.report.album import Album, make_album
from explain.report.formatting import number
from explain.report.parts import Part, header_rows

__all__ = ["neurons_part", "path_data"]

_NOT_ASKED = dict.fromkeys(
    "iou_heldout heldout_length p_value q_value chance_95 low high win_probability stability bound gap certified kind"
    " f1 correlation iou_annotated range lower upper".split()
)
"""What a run may lack."""

_BUDGET = 3 * 2**20
"""Bytes of pictures in the page, before their encoding as text adds a third."""


def neurons_part(folder: Path, run: dict[str, Any], prefix: str) -> Part:
    """Build the part from ``run.json`` and ``arrays/examples.npz``."""
    manifest, settings, summary = run["manifest"], run["settings"], run["summary"]
    images = run["images"]
    shown = {example["image"] for unit in run["units"] for example in unit["examples"]}
    files = [images[index]["file"] for index in sorted(shown)]
    album = make_album(folder, files, f"{prefix}p", budget=_BUDGET)
    masks = _read_masks(folder / "arrays" / "examples.npz")
    flat = [{**_NOT_ASKED, **unit, **(unit.get("evidence") or {})} for unit in run["units"]]
    for unit in flat:
        unit["key"] = str(unit["unit"]) if unit["range"] is None else f"{unit['unit']}-{unit['range']}"
        unit["name"] = str(unit["unit"]) if unit["range"] is None else f"{unit['unit']}, range {unit['range']}"
    ordered = sorted(flat, key=lambda unit: (-unit["iou"], unit["unit"], unit["range"] or 0))
    units = [_unit(unit, images, album, masks, summary["threshold_iou"]) for unit in ordered]
    notes = [*album.notes, *run.get("warnings", [])]
    if masks is None and shown:
        notes.append("The outlines of the examples (arrays/examples.npz) are missing from the run folder.")
    view = {
        "run": run,
        "summary": summary,
        "categories": _bars(summary, [unit for unit in units if unit["detector"]]),
        "rule": _RULES[settings.get("iou", "all")],
        "related": (settings.get("related") or {}).get("words", "a shared category"),
        "gains": _gains(ordered),
        "units": units,
        "viewbox": f"0 0 {masks['shape'][1]} {masks['shape'][0]}" if masks else "0 0 1 1",
        "kinds": summary.get("kinds", {}),
        "held_out": any(unit.get("iou_heldout") is not None for unit in ordered),
        "ranges": settings.get("ranges"),
        "tested": any(unit.get("p_value") is not None for unit in ordered),
    }
    title = f"Neurons of {manifest.get('model', {}).get('name') or 'a network'}, {run['layer']}"
    return Part("neurons", title, prefix, _header(run, settings), album, notes, view)


def path_data(mask: NDArray[np.bool_]) -> str:
    """Return the outline of a mask as SVG path data: relative steps along pixel edges."""
    return "".join(_steps(path) for path in outline_paths(mask))


def _steps(path: NDArray[np.int64]) -> str:
    """One closed path. Its steps alternate between horizontal and vertical; ``z`` draws the last one."""
    sizes = np.diff(path, axis=0).sum(axis=1).tolist()
    (x, y), level = path[0].tolist(), bool(path[0, 1] == path[1, 1])
    pair, last = ("h%dv%d", "h%dz") if level else ("v%dh%d", "v%dz")
    return f"M{x} {y}" + (pair * (len(sizes) // 2) + last) % tuple(sizes)


def _header(run: Mapping[str, Any], settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = {
        "Layer": run["layer"],
        "Grid": _size(run["grid"]),
        "Resolution": _size(run["resolution"]),
        "Images": f"{len(run['images']):,}",
        "Pixels": f"{run['pixels']:,}",
        "Cells": f"{run['cells']:,}",
        "Concepts": f"{len(run['concepts']):,}",
        "Passes": run.get("passes"),
        "Quantile": settings.get("quantile") if settings.get("ranges") is None else None,
        "Ranges per unit": settings.get("ranges"),
        "Length": settings.get("length"),
        "Search": settings.get("search"),
        "Beam": settings.get("beam"),
    }
    return header_rows(run["manifest"], facts)


def _size(size: list[int]) -> str:
    return f"{size[0]} × {size[1]}"


_RULES = {
    "all": "over all counted pixels",
    "annotated": "over the images annotated for the concept’s category",
    "netdissect-lite": "with a unit’s pixels only in images where it meets a label of the concept’s category"
    " (NetDissect-Lite’s rule)",
}


def _bars(summary: Mapping[str, Any], units: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Units per category, most first, with how many different single concepts describe them best.

    ``each`` and ``distinct``: the same where a unit has a label in every category; None in older runs.
    """
    each = {row["category"]: row for row in summary.get("histogram", [])}
    by_category = {name: row["detectors"] for name, row in each.items() if row["detectors_per_category"]}
    by_category |= summary["by_category"]
    labels = {(unit["label_category"], unit["label"]) for unit in units}
    distinct = Counter(category for category, _ in labels)
    top = max(by_category.values(), default=0)
    rows = sorted(by_category.items(), key=lambda item: (-item[1], item[0]))
    return [
        {
            "name": name,
            "units": count,
            "concepts": distinct[name],
            "each": each[name]["detectors_per_category"] if name in each else None,
            "distinct": each[name]["unique_detectors_per_category"] if name in each else None,
            "width": 100 * count / top if top else 0,
        }
        for name, count in rows
    ]


def _gains(units: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The mean over all units of the best IoU with at most so many concepts; a unit without formula counts as 0."""
    by_length: dict[int, list[float]] = {}
    for unit in units:
        for entry in unit["by_length"]:
            by_length.setdefault(entry["length"], []).append(entry["iou"])
    return [
        {"length": length, "units": len(units), "iou": sum(values) / len(units)}
        for length, values in sorted(by_length.items())
    ]


def _read_masks(path: Path) -> dict[str, Any] | None:
    """Return the bit-packed rows ``unit`` and ``formula`` and their ``shape``; None without a file."""
    if not path.is_file():
        return None
    try:
        # From memory: numpy leaves a file that it cannot read open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            unit, formula, shape = stored["unit"], stored["formula"], stored["shape"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    height, width = (int(size) for size in shape[-2:])
    return {"unit": unit, "formula": formula, "shape": (height, width)}


def _outline(masks: Mapping[str, Any], name: str, row: int) -> str:
    height, width = masks["shape"]
    bits = np.unpackbits(masks[name][row].reshape(-1), count=height * width)
    return path_data(bits.reshape(height, width).astype(np.bool_))


def _silence(unit: Mapping[str, Any]) -> str:
    """Why a unit has no formula."""
    if unit["active"]:
        return "overlaps with no concept"
    if unit.get("range") is not None:
        return "holds no pixel"
    if unit["threshold"] and unit["threshold"] > 0:
        return f"saturates: nothing above {number(unit['threshold'], 2)}"
    return "never fires"


def _unit(
    unit: Mapping[str, Any],
    images: list[dict[str, Any]],
    album: Album,
    masks: Mapping[str, Any] | None,
    threshold: float,
) -> dict[str, Any]:
    examples = []
    for rank, example in enumerate(unit["examples"], start=1):
        image = images[example["image"]]
        outlines = masks is not None and example.get("row") is not None
        examples.append(
            {
                "name": image["name"],
                "picture": album.classes.get(image["file"] or ""),
                "peak": example["peak"],
                "iou": example["iou"],
                "unit": _outline(masks, "unit", example["row"]) if outlines and masks else "",
                "formula": _outline(masks, "formula", example["row"]) if outlines and masks else "",
                "alt": f"unit {unit['name']}, rank {rank}, activation {number(example['peak'], 2)}, "
                f"IoU here {number(example['iou'], 2)}, image {image['name']}",
            }
        )
    return {
        "silent": _silence(unit),
        **unit,
        "shown": examples,
        "good": unit["formula"] is not None and unit["iou"] > threshold,
        "detector": (unit["score"] or 0.0) > threshold,  # network dissection's rule: one concept is enough
    }
