"""Boxes at 1000 thresholds: one sweep beside thresholding one by one with OpenCV, the same counts.

    python -m benchmarks.localization [--maps 200]

Maps of 224 x 224 in the families that localization meets: class activation maps of 7 x 7, 14 x 14 and 28 x 28 cells
(blurred noise and a bump, bicubic), the same with ReLU, sums of Gaussians, and pixel saliency (blurred noise). Each map
is scored both ways, one right after the other, which goes first alternates; the number of right boxes at every
threshold and IoU level has to be the same, or nothing is written. Baselines: ``wsolevaluation``: its evaluation as
published (Choe et al. 2020), written again from its description, with its maximum of the map at each threshold and its
maximum of all IoUs inside the loop; ``OpenCV one by one``: threshold, contours and boxes, nothing done twice. One
thread, CPU time. One map, cold, warm and steady, is timed in fresh processes (`timing.phases`). Rows go to
``benchmarks/results/localization.csv``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for `python -m`

from timing import HERE, Row, commit, device_name, phases, plain_row, ratio, today, write_rows

from explain.localization.planes import box_curve, sweep_plane
from explain.localization.protocols import find_protocol
from explain.localization.sweep import threshold_grid

RESULTS = HERE / "results" / "localization.csv"
SIDE = 224
GRID = threshold_grid(1000).numpy()
LEVELS = (0.3, 0.5, 0.7)
FAMILIES = ("cam 7x7", "cam 7x7 relu", "cam 14x14", "cam 28x28", "blobs")
NOISY = ("saliency 4",)


def made(family: str, rng: np.random.Generator) -> np.ndarray:
    """Return a map ``(224, 224)`` within 0…1, float64."""
    if family == "blobs":
        centres, spreads = rng.uniform(20, 204, (6, 2)), rng.uniform(8, 40, 6)
        y, x = np.mgrid[:SIDE, :SIDE]
        bumps = zip(centres, spreads, strict=True)
        found = sum(np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * s**2)) for (cy, cx), s in bumps)
    elif family.startswith("saliency"):
        found = np.abs(cv2.GaussianBlur(rng.standard_normal((SIDE, SIDE)), (0, 0), float(family.split()[1])))
    else:
        cells = int(family.split("x")[1].split()[0])
        grid = cv2.GaussianBlur(rng.standard_normal((cells, cells)), (3, 3), 0.8)
        y, x = np.mgrid[:cells, :cells]
        cy, cx = rng.uniform(0.25 * cells, 0.75 * cells, 2)
        grid += 3 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * (cells / 5) ** 2))
        large = F.interpolate(torch.from_numpy(grid)[None, None], (SIDE, SIDE), mode="bicubic", align_corners=False)
        found = large[0, 0].numpy()
        if "relu" in family:
            found = found.clip(0)
    return (found - found.min()) / (found.max() - found.min())


def truth_of(plane: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return one to three boxes ``(m, 4)``, inclusive, around what is bright."""
    boxes = []
    for _ in range(rng.integers(1, 4)):
        ys, xs = np.nonzero(plane > rng.uniform(0.3, 0.8))
        edges = np.array([xs.min(), ys.min(), xs.max(), ys.max()]) + rng.integers(-15, 16, 4)
        x0, y0 = edges[:2].clip(0, SIDE - 20)
        boxes.append([x0, y0, max(x0 + 5, min(edges[2], SIDE - 1)), max(y0 + 5, min(edges[3], SIDE - 1))])
    return np.array(boxes, np.float64)


def ious(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return inclusive IoUs ``(n, m)``."""
    a, b = boxes[:, None].astype(np.float64), truth[None]
    sides = np.maximum(0, np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + 1)
    shared = sides.prod(-1)
    return shared / ((a[..., 2:] - a[..., :2] + 1).prod(-1) + (b[..., 2:] - b[..., :2] + 1).prod(-1) - shared)


def contours_of(eight: np.ndarray, level: int, every: bool) -> list[list[int]]:
    """Return the boxes of all contours, or of the largest, in the reference's form."""
    _, mask = cv2.threshold(eight, level, 255, cv2.THRESH_BINARY)
    contours = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
    if not contours:
        return [[0, 0, 0, 0]]
    if not every:
        contours = [max(contours, key=cv2.contourArea)]
    found = (cv2.boundingRect(contour) for contour in contours)
    return [[x, y, min(x + w, SIDE - 1), min(y + h, SIDE - 1)] for x, y, w, h in found]


def published(plane: np.ndarray, truth: np.ndarray, every: bool) -> np.ndarray:
    """Return hits ``(levels, 1000)`` as wsolevaluation counts them."""
    eight = np.expand_dims((plane * 255).astype(np.uint8), 2)
    boxes, numbers = [], []
    for threshold in GRID:
        own = contours_of(eight, int(threshold * np.max(eight)), every)
        boxes.append(np.asarray(own))
        numbers.append(len(own))
    table = ious(np.concatenate(boxes), truth)
    best, start = [], 0
    for number in numbers:
        best.append(max(table.max(1)[start : start + number]))
        start += number
    return np.array([np.asarray(best) >= level for level in LEVELS])


def one_by_one(plane: np.ndarray, truth: np.ndarray, every: bool) -> np.ndarray:
    """Return the same, with nothing done twice."""
    eight = (plane * 255).astype(np.uint8)
    top = int(eight.max())
    boxes = [contours_of(eight, int(threshold * top), every) for threshold in GRID]
    each = ious(np.array([box for own in boxes for box in own]), truth).max(1)
    starts = np.cumsum([0, *(len(own) for own in boxes[:-1])])
    best = np.maximum.reduceat(each, starts)
    return np.array([best >= level for level in LEVELS])


def swept(plane: np.ndarray, truth: np.ndarray, every: bool) -> np.ndarray:
    """Return the same from one sweep."""
    rules = RULES[every]
    best = box_curve(sweep_plane(plane, rules, GRID), rules, truth).ious
    return np.array([best >= level for level in LEVELS])


ONE_MAP = """
import numpy as np
from localization import FAMILIES, made, swept, truth_of
rng = np.random.default_rng(0)
plane = made(FAMILIES[0], rng)
truth = truth_of(plane, rng)
"""
RULES = {False: find_protocol("maxboxacc"), True: find_protocol("maxboxacc-v2")}
Scored = Callable[[np.ndarray, np.ndarray, bool], np.ndarray]


def compared(maps: Sequence[np.ndarray], truths: Sequence[np.ndarray], baseline: Scored, every: bool) -> np.ndarray:
    """Return seconds ``(n, 2)`` of (sweep, baseline); the counts have to be equal."""
    swept(maps[0], truths[0], every)
    seconds, counts = np.zeros((len(maps), 2)), np.zeros((2, len(LEVELS), len(GRID)), int)
    for number, (plane, truth) in enumerate(zip(maps, truths, strict=True)):
        order = ((0, swept), (1, baseline))
        for place, run in order[:: 1 if number % 2 else -1]:
            start = time.process_time()
            counts[place] += run(plane, truth, every)
            seconds[number, place] = time.process_time() - start
    if not np.array_equal(counts[0], counts[1]):
        raise SystemExit("counts differ: the sweep is wrong")
    return seconds


def main() -> None:
    """Time, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, default=200, help="of the families together")
    parser.add_argument("--noisy", type=int, default=6, help="pixel saliency maps: seconds each for the baseline")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    maps = [made(FAMILIES[number % len(FAMILIES)], rng) for number in range(arguments.maps)]
    noisy = [made(NOISY[0], rng) for _ in range(arguments.noisy)]
    sets = {"CAM-like maps": (maps, [truth_of(plane, rng) for plane in maps])}
    sets["pixel saliency"] = (noisy, [truth_of(plane, rng) for plane in noisy])
    versions = f"OpenCV {cv2.__version__}, numpy {np.__version__}"
    rows = []
    for kind, (planes, truths) in sets.items():
        for every in (False, True):
            for name, baseline in (("wsolevaluation", published), ("OpenCV one by one", one_by_one)):
                if kind == "pixel saliency" and name == "wsolevaluation" and every:
                    continue  # it takes minutes per map
                seconds = compared(planes, truths, baseline, every)
                middle, low, high = ratio(seconds)
                own, other = seconds.mean(0)
                case = f"{kind}, {'all contours' if every else 'largest contour'}"
                print(
                    f"{case:34} {1000 * own:7.2f} ms, {name} {1000 * other:9.2f} ms: {1 / middle:6.1f} times as fast"
                    f" [{1 / high:.1f}, {1 / low:.1f}], in all {other / own:.1f}; counts equal",
                    flush=True,
                )
                rows.append(
                    Row(f"sweep {case}", f"1000 thresholds, {SIDE}x{SIDE}", name, own, other, own / other, low, high,
                        float("nan"), len(planes), device_name(torch.device("cpu")), 1, versions, commit(), today())
                )  # fmt: skip
    for name, taken in phases(ONE_MAP, "swept(plane, truth, False)").items():
        print(f"one map, {name}: {taken:.4f} s", flush=True)
        rows.append(plain_row(f"one map, {name}", f"1000 thresholds, {SIDE}x{SIDE}", taken, 1, versions))
    write_rows(arguments.out, rows, [row.name for row in rows], device_name(torch.device("cpu")))
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
