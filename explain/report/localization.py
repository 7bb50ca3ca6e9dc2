"""The part of a page that shows how well maps localize: the main scores first, everything else folded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from explain.report.album import Album, make_album
from explain.report.charts import curve_chart, interval_chart
from explain.report.formatting import spoken
from explain.report.headline import chosen_on, interval_scores, overview, protocol_tables, threshold_rows
from explain.report.mistakes import mistakes_view
from explain.report.parts import Part, header_rows
from explain.report.scores import methods_of, protocols_of, setting, thresholds_of

__all__ = ["localization_part"]

_BUDGET = 5 * 2**20
"""Bytes of pictures in the page, before their encoding as text adds a third."""
_ROWS, _SHOWN = 2000, 8
_OPEN = 3
"""Protocols whose main scores are open when the page is; the others are folded."""
_FLIPS = 60
"""Lines of each comparison of protocols that the page repeats; the file beside it has all."""
_CHART = (250, 150)


def localization_part(folder: Path, run: dict[str, Any], prefix: str) -> Part:
    """Build the part from ``result.json``."""
    manifest, accuracy = run["manifest"], run.get("accuracy") or {}
    ordered = sorted(run["images"], key=lambda image: (image["iou"] or 0.0, str(image["name"])))
    pictured = [image for image in ordered if image.get("file")]
    worst = pictured[: min(_SHOWN, len(pictured) // 2)]
    best = pictured[::-1][: min(_SHOWN, len(pictured) - len(worst))]
    album = make_album(folder, [image["file"] for image in [*worst, *best]], f"{prefix}p", budget=_BUDGET)
    rows = ordered if len(ordered) <= _ROWS else [*ordered[: _ROWS // 2], *ordered[-_ROWS // 2 :]]
    protocols, methods = protocols_of(run), methods_of(run)
    judged = _judged(run)
    view = {
        "accuracy": accuracy,
        "judged": judged,
        "blind": bool(setting(run, "baseline")),
        "tables": protocol_tables(run),
        "intervals": [interval_chart(scores) if (scores := interval_scores(run, name)) else None for name in protocols],
        "open": _OPEN,
        "overview": overview(run) if len(protocols) > 1 else None,
        "chosen_on": chosen_on(run),
        "thresholds": threshold_rows(run),
        "charts": [_charts(run, protocol) for protocol in protocols],
        "protocols": list(run.get("protocols") or {}),
        "switches": _switches(run.get("protocols") or {}),
        "sources": [(name, one["source"]) for name, one in (run.get("protocols") or {}).items() if one.get("source")],
        "mistakes": mistakes_view(run.get("errors")),
        "first": {"method": methods[0], "protocol": protocols[0]},
        "flips": _flips(folder),
        "worst": [_picture(image, album) for image in worst],
        "best": [_picture(image, album) for image in best],
        "images": rows,
        "told_errors": any(image.get("error") for image in rows),
        "left_out": len(ordered) - len(rows),
        "total": len(ordered),
    }
    name = manifest.get("model", {}).get("name") or "a network"
    title = f"Localization by the baseline {name}" if view["blind"] else f"Localization by {name}"
    facts = {
        "Images": f"{judged['images']:,}",
        "Methods": ", ".join(methods),
        "Protocols": ", ".join(protocols),
        "Ground truth": _truth(run),
        "Residual of exact maps": f"{run['residual']:.1e}" if run.get("residual") is not None else None,
    }
    notes = [*run.get("warnings", []), *album.notes]
    return Part("localization", title, prefix, header_rows(manifest, facts), album, notes, view)


def _judged(run: Mapping[str, Any]) -> dict[str, int | None]:
    """Return how many images and boxes the run was judged by."""
    truth = run.get("truth") or {}
    return {"images": truth.get("images", len(run["images"])), "boxes": truth.get("boxes")}


def _truth(run: Mapping[str, Any]) -> str | None:
    checksum = (run.get("truth") or {}).get("checksum")
    return f"{run['truth'].get('boxes')} boxes · {checksum[:12]}" if checksum else None


def _charts(run: Mapping[str, Any], protocol: str) -> dict[str, Any]:
    """Return a protocol's charts, one per IoU level on one scale; none where it has a single threshold."""
    curves = {
        method: rows[protocol]
        for method, rows in (run.get("curve") or {}).items()
        if protocol in rows and len(rows[protocol]["thresholds"]) > 1
    }
    if not curves:
        return {"protocol": protocol, "charts": []}
    levels = next(iter(curves.values())).get("levels") or [None]
    fixed = thresholds_of(run, next(iter(curves)), protocol).get("fixed")
    lines = [
        {method: _line(run, method, protocol, curve, place, level) for method, curve in curves.items()}
        for place, level in enumerate(levels)
    ]
    top = max(max(line["accuracy"], default=0.0) for level in lines for line in level.values())
    charts = [
        curve_chart("" if level is None else f"IoU ≥\u202f{level:g}", level_lines, fixed=fixed, top=top, size=_CHART)
        for level, level_lines in zip(levels, lines, strict=True)
    ]
    return {"protocol": protocol, "charts": charts}


def _line(
    run: Mapping[str, Any], method: str, protocol: str, curve: Mapping[str, Any], place: int, level: float | None
) -> dict[str, Any]:
    thresholds = thresholds_of(run, method, protocol)
    if level is None:  # an older run: the curve at the protocol's IoU only
        return {**curve, "best": thresholds.get("oracle")}
    best = thresholds.get(f"oracle_{100 * level:.0f}")
    return {"thresholds": curve["thresholds"], "accuracy": curve["surface"][place], "best": best}


def _switches(protocols: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every switch with its value under each protocol, and whether they differ."""
    names = dict.fromkeys(name for switches in protocols.values() for name in switches)
    names = {name: None for name in names if name not in ("name", "source")}
    rows = [(name, [spoken(switches.get(name)) for switches in protocols.values()]) for name in names]
    return [{"name": name, "cells": cells, "differs": len(set(cells)) > 1} for name, cells in rows]


def _flips(folder: Path) -> list[dict[str, Any]]:
    """Return what the files ``flips_METHOD.txt`` say: images that two protocols judge differently."""
    found = []
    for file in sorted(folder.glob("flips_*.txt")):
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        found.append(
            {
                "method": file.stem.removeprefix("flips_"),
                "file": file.name,
                "text": "\n".join(lines[:_FLIPS]),
                "left_out": max(0, len(lines) - _FLIPS),
                "summary": lines[0] if lines else "",
            }
        )
    return found


def _picture(image: Mapping[str, Any], album: Album) -> dict[str, Any]:
    height, width = image["size"]
    error = image.get("error")
    return {
        **image,
        "error": error,
        "picture": album.classes.get(image["file"]),
        "viewbox": f"0 0 {width} {height}",
        "alt": f"{image['name']}: {image['class_name'] or image['class']}, predicted "
        f"{image['predicted_name'] or image['predicted']}, box IoU {image['iou'] or 0:.2f}"
        f"{f', {error}' if error else ''}",
    }
