"""What localization scores are called, which way is better, and where a run folder keeps them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = [
    "HEADLINE",
    "baselines_of",
    "better",
    "label",
    "measure",
    "methods_of",
    "protocols_of",
    "setting",
    "thresholds_of",
    "told",
    "val_name",
]

HEADLINE = (
    "pxap",
    "gt_known",
    "gt_known_val",
    "maxboxacc",
    "maxboxacc_v2",
    "maxboxacc_v2_val",
    "top1_loc_error",
    "top5_loc_error",
    "top1_cls_error",
    "top5_cls_error",
)
"""The scores that papers print, in the order of the first table."""

_NAMES: Mapping[str, tuple[str, str]] = {
    "gt_known": ("GT-known, fixed threshold", "share of images whose box of the true class is right"),
    "gt_known_val": (
        "GT-known, threshold chosen on other images",
        "at a threshold that no scored image chose",
    ),
    "maxboxacc": (
        "GT-known, best threshold (MaxBoxAcc)",
        "at the threshold best on the scored images: an oracle",
    ),
    "maxboxacc_v2": (
        "MaxBoxAccV2, best threshold",
        "mean over IoU levels, each at its best threshold: an oracle",
    ),
    "maxboxacc_v2_shared": ("MaxBoxAccV2, one threshold", "mean over IoU levels at the one threshold that is best"),
    "maxboxacc_v2_val": (
        "MaxBoxAccV2, thresholds chosen on other images",
        "mean over IoU levels, no oracle",
    ),
    "top1_loc_error": ("Top-1 localization error", "the best class or its box is wrong"),
    "top5_loc_error": ("Top-5 localization error", "none of five guesses has the class and a right box"),
    "top1_cls_error": ("Top-1 classification error", "the best class is wrong"),
    "top5_cls_error": ("Top-5 classification error", "the true class is not among the five best"),
    "pxap": ("PxAP", "average precision over all pixels, against masks"),
    "mean_ap": ("Mean average precision", "of each image's pixels, averaged over images"),
    "corloc": ("CorLoc", "GT-known as the mean over classes"),
    "mean_iou": ("Mean IoU", "of the boxes at the fixed threshold"),
    "pointing_game": ("Pointing game", "the map's maximum lies in a true box"),
    "energy_in_box": ("Energy in the box", "share of what is positive that lies in true boxes"),
    "boxes_per_image": ("Boxes per image", "a number, not a percentage"),
}
_MISSING: Mapping[str, Any] = {"value": None, "low": None, "high": None, "n": None}


def label(name: str) -> str:
    """Return how a score is called on a page."""
    if name in _NAMES:
        return _NAMES[name][0]
    if found := re.fullmatch(r"maxboxacc_(\d+)", name):
        return f"MaxBoxAcc at IoU {int(found[1]) / 100:g}"
    if found := re.fullmatch(r"box_(precision|recall)_(\d+)", name):
        return f"Box {found[1]}, first {found[2]} box{'' if found[2] == '1' else 'es'}"
    return name


def told(name: str) -> str:
    """Return what a score says, in a few words; empty where its name says it."""
    return _NAMES.get(name, ("", ""))[1]


def better(name: str) -> str:
    """Return whether ``"lower"`` or ``"higher"`` is better; ``"–"`` where neither is."""
    return "–" if name == "boxes_per_image" else "lower" if name.endswith("_error") else "higher"


def measure(value: Any) -> dict[str, Any]:
    """Return a score as value, low, high, n, each None where it is not known."""
    return {**_MISSING, **(value if isinstance(value, Mapping) else {"value": value})}


def methods_of(run: Mapping[str, Any]) -> list[str]:
    """Return the methods of a run."""
    return list(run["metrics"])


def protocols_of(run: Mapping[str, Any]) -> list[str]:
    """Return the protocols under which a run was scored."""
    return list(dict.fromkeys(name for rows in run["metrics"].values() for name in rows))


def baselines_of(run: Mapping[str, Any], protocol: str) -> dict[str, Mapping[str, Any]]:
    """Return ``[name][score]`` of the baselines under a protocol; older runs have those of the first one only."""
    if "baselines_by_protocol" in run:
        return {name: rows[protocol] for name, rows in run["baselines_by_protocol"].items() if protocol in rows}
    found = {}
    for name, scores in (run.get("baselines") or {}).items():
        if protocol in scores:
            found[name] = scores[protocol]
        elif "gt_known" in scores and protocol == protocols_of(run)[0]:
            found[name] = scores
    return found


def thresholds_of(run: Mapping[str, Any], method: str, protocol: str) -> dict[str, float]:
    """Return the thresholds ``fixed``, ``oracle``, ``val`` …, as far as the run says them."""
    own = ((run.get("thresholds") or {}).get(method) or {}).get(protocol)
    if own is not None:
        return dict(own)
    fixed = ((run.get("protocols") or {}).get(protocol) or {}).get("threshold")
    best = ((run.get("best_threshold") or {}).get(method) or {}).get(protocol)
    return {name: value for name, value in (("fixed", fixed), ("oracle", best)) if isinstance(value, (int, float))}


def setting(run: Mapping[str, Any], name: str) -> Any:
    """Return a setting of the run's configuration, a path as its last part; None where there is none."""
    value = (run["manifest"].get("config") or {}).get(name)
    return Path(value).name if isinstance(value, str) and name in ("val", "blacklist") else value


def val_name(run: Mapping[str, Any]) -> str | None:
    """Return the name of the data that chose the thresholds of ``…_val`` scores; None: halves of the images did."""
    given = setting(run, "val") or setting(run, "threshold_chosen_on")
    return None if given in (None, "the other half of the images") else str(given)
