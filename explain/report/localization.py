"""The part of a page that shows how well maps localize."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from explain.report.album import Album, make_album
from explain.report.charts import curve_chart
from explain.report.parts import Part, header_rows

__all__ = ["localization_part"]

_BUDGET = 5 * 2**20
"""Bytes of pictures in the page, before their encoding as text adds a third."""
_ROWS, _SHOWN = 2000, 8


def localization_part(folder: Path, run: dict[str, Any], prefix: str) -> Part:
    """Build the part from ``result.json``."""
    manifest, accuracy = run["manifest"], run.get("accuracy") or {}
    ordered = sorted(run["images"], key=lambda image: (image["iou"] or 0.0, str(image["name"])))
    pictured = [image for image in ordered if image.get("file")]
    worst = pictured[: min(_SHOWN, len(pictured) // 2)]
    best = pictured[::-1][: min(_SHOWN, len(pictured) - len(worst))]
    album = make_album(folder, [image["file"] for image in [*worst, *best]], f"{prefix}p", budget=_BUDGET)
    rows = ordered if len(ordered) <= _ROWS else [*ordered[: _ROWS // 2], *ordered[-_ROWS // 2 :]]
    protocols = run.get("protocols") or {}
    view = {
        "accuracy": accuracy,
        "metrics": _metric_rows(run),
        "charts": [curve_chart(name, lines) for name, lines in _curves(run).items()],
        "protocols": list(protocols),
        "switches": _switches(protocols),
        "worst": [_picture(image, album) for image in worst],
        "best": [_picture(image, album) for image in best],
        "images": rows,
        "left_out": len(ordered) - len(rows),
        "total": len(ordered),
    }
    names = {"Methods": ", ".join(run["metrics"]), "Protocols": ", ".join(protocols)}
    facts = {"Images": f"{len(ordered):,}", **names}
    title = f"Localization by {manifest.get('model', {}).get('name') or 'a network'}"
    notes = [*run.get("warnings", []), *album.notes]
    return Part("localization", title, prefix, header_rows(manifest, facts), album, notes, view)


def _labels() -> dict[str, str]:
    return {
        "gt_known": "GT-known localization accuracy",
        "top1_loc_error": "Top-1 localization error",
        "top5_loc_error": "Top-5 localization error",
        "top1_cls_error": "Top-1 classification error",
        "top5_cls_error": "Top-5 classification error",
        "maxboxacc": "MaxBoxAcc",
        "pxap": "PxAP",
    }


def _metric_rows(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per method, protocol and metric, with the centre baseline's value for the same."""
    labels = _labels()
    centre = (run.get("baselines") or {}).get("centre") or {}
    rows = []
    for method, protocols in run["metrics"].items():
        for protocol, metrics in protocols.items():
            base = centre.get(protocol, centre)
            for name, value in metrics.items():
                rows.append(
                    {
                        "method": method,
                        "protocol": protocol,
                        "name": labels.get(name, name),
                        "better": "lower" if "error" in name else "higher",
                        "threshold": _threshold(run, method, protocol, name),
                        **_measure(value),
                        "centre": _measure(base.get(name))["value"],
                    }
                )
    return rows


def _threshold(run: Mapping[str, Any], method: str, protocol: str, name: str) -> float | None:
    """The threshold behind a score: the best one for MaxBoxAcc, the protocol's for boxes, none for classification."""
    if "cls" in name:
        return None
    if name == "maxboxacc":
        best: float | None = ((run.get("best_threshold") or {}).get(method) or {}).get(protocol)
        return best
    fixed: float | None = ((run.get("protocols") or {}).get(protocol) or {}).get("threshold")
    return fixed


def _measure(value: Any) -> dict[str, Any]:
    empty = {"value": None, "low": None, "high": None, "n": None}
    return empty | (dict(value) if isinstance(value, Mapping) else {"value": value})


def _curves(run: Mapping[str, Any]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Turn ``curve[method][protocol]`` round: one chart per protocol, one line per method."""
    by_protocol: dict[str, dict[str, Mapping[str, Any]]] = {}
    for method, protocols in (run.get("curve") or {}).items():
        for protocol, curve in protocols.items():
            best = ((run.get("best_threshold") or {}).get(method) or {}).get(protocol)
            by_protocol.setdefault(protocol, {})[method] = {**curve, "best": best}
    return by_protocol


def _switches(protocols: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    names = dict.fromkeys(name for switches in protocols.values() for name in switches)
    return [(name, [_text(switches.get(name)) for switches in protocols.values()]) for name in names]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    return "–" if value is None else str(value)


def _picture(image: Mapping[str, Any], album: Album) -> dict[str, Any]:
    height, width = image["size"]
    return {
        **image,
        "picture": album.classes.get(image["file"]),
        "viewbox": f"0 0 {width} {height}",
        "alt": f"{image['name']}: {image['class_name'] or image['class']}, predicted "
        f"{image['predicted_name'] or image['predicted']}, box IoU {image['iou'] or 0:.2f}",
    }
