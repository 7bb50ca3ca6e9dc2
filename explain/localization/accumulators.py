"""Metrics that are fed batch by batch, in torchmetrics' manner: ``update``, ``compute``, ``reset``, ``merge_state``.

State is whole numbers (sums of counts), so the order of batches and the way they are shared among processes do not
matter. ``sync`` adds up the states of a process group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain.errors import InputError
from explain.localization.planes import box_curve, sweep_plane
from explain.localization.protocols import Protocol, find_protocol
from explain.localization.scoring import pixel_histogram, pointing_and_energy
from explain.localization.summary import pixel_ap
from explain.localization.sweep import threshold_grid

__all__ = ["LocalizationError", "MaxBoxAcc", "PointingGame", "PxAP"]


class _Counts:
    """Named sums of whole numbers; what metrics share is their bookkeeping, nothing of what they count."""

    def __init__(self, **state: NDArray[np.int64]) -> None:
        self._start = {name: values.copy() for name, values in state.items()}
        self.state: dict[str, NDArray[np.int64]] = {}
        self.reset()

    def reset(self) -> None:
        """Forget all that was seen."""
        self.state = {name: values.copy() for name, values in self._start.items()}

    def merge_state(self, other: Self) -> None:
        """Add what another object of the same settings saw.

        Raises
        ------
        InputError
            It counts something else.
        """
        if type(other) is not type(self) or {k: v.shape for k, v in self.state.items()} != {
            k: v.shape for k, v in other.state.items()
        }:
            raise InputError("only metrics of the same kind and settings can be merged")
        for name, values in other.state.items():
            self.state[name] += values

    def sync(self, group: Any = None) -> None:
        """Add up the states of all processes of ``torch.distributed``, in every one of them (call it once)."""
        for values in self.state.values():
            summed = torch.from_numpy(values)
            torch.distributed.all_reduce(summed, group=group)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state, for a checkpoint."""
        return {name: torch.from_numpy(values.copy()) for name, values in self.state.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a state that `state_dict` gave."""
        self.state = {name: values.numpy().copy() for name, values in state.items()}


class MaxBoxAcc(_Counts):
    """MaxBoxAcc and MaxBoxAccV2 (Choe et al. 2020): box accuracy at the best threshold of the whole data.

    Parameters
    ----------
    protocol
        ``"maxboxacc"`` (largest contour), ``"maxboxacc-v2"`` (best of all contours), or any other that scores boxes.
    """

    def __init__(self, protocol: str | Protocol = "maxboxacc-v2") -> None:
        self.protocol = find_protocol(protocol)
        if self.protocol.component == "distance-transform":
            raise InputError(f"protocol {self.protocol.name} has no threshold to choose: there is no best one")
        self._steps: NDArray[np.float64] = threshold_grid(self.protocol.threshold_steps).numpy()
        levels = len(self.protocol.iou_levels)
        super().__init__(hits=np.zeros((levels, self.protocol.threshold_steps), np.int64), images=np.zeros(1, np.int64))

    def update(self, maps: Tensor, boxes: Sequence[Any]) -> None:
        """Count a batch.

        Parameters
        ----------
        maps
            ``(b, h, w)`` or ``(b, 1, h, w)``: the map of each image's true class at the size in which boxes are
            compared; within 0…1 for protocols of 8 bit (`explain.maps.normalize_maps`), any scale otherwise.
        boxes
            One ``(m, 4)`` per image: half-open xyxy in pixels of the map.

        Raises
        ------
        InputError
            Shapes or ranges that do not fit.
        """
        planes = _planes(maps, len(boxes), bounded=self.protocol.precision == "8-bit")
        for plane, own in zip(planes, boxes, strict=True):
            truth = _boxes(own)
            if self.protocol.edges != "half-open":
                truth = truth - np.array([0.0, 0.0, 1.0, 1.0])
            curve = box_curve(sweep_plane(plane, self.protocol, grid=self._steps), self.protocol, truth)
            for level, least in enumerate(self.protocol.iou_levels):
                right = curve.ious > least if self.protocol.strict else curve.ious >= least
                self.state["hits"][level] += right
            self.state["images"] += 1

    def compute(self) -> dict[str, float]:
        """Return percentages: ``maxboxacc_30`` …; ``maxboxacc_v2``, their mean; ``…_shared``: one threshold for all."""
        accuracy = 100 * self.state["hits"] / max(1, int(self.state["images"][0]))
        found = {
            f"maxboxacc_{100 * level:.0f}": float(row.max())
            for level, row in zip(self.protocol.iou_levels, accuracy, strict=True)
        }
        return found | {
            "maxboxacc_v2": float(accuracy.max(1).mean()),
            "maxboxacc_v2_shared": float(accuracy.mean(0).max()),
        }


class PxAP(_Counts):
    """PxAP (Choe et al. 2020, section 4.2): average precision over the pixels of all images, without ignored ones."""

    def __init__(self, steps: int = 1000) -> None:
        if steps < 1:
            raise InputError(f"steps={steps}: give at least 1")
        self._steps = steps
        super().__init__(pixels=np.zeros((2, steps + 2), np.int64))

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Count a batch of maps ``(b, h, w)`` within 0…1 and masks ``(b, h, w)``: 1 object, 0 background, 255 ignored.

        Raises
        ------
        InputError
            Shapes, ranges or mask values that do not fit.
        """
        planes = _planes(maps, len(masks), bounded=True)
        marks = masks.detach().cpu().numpy()
        if marks.shape != planes.shape:
            raise InputError(f"masks of shape {marks.shape} for maps of {planes.shape}: give the same size")
        if not np.isin(marks, (0, 1, 255)).all():
            raise InputError("masks hold other values than 1 (object), 0 (background) and 255 (ignored)")
        for plane, mask in zip(planes, marks, strict=True):
            self.state["pixels"] += pixel_histogram(plane, mask, self._steps)

    def compute(self) -> dict[str, float]:
        """Return ``pxap`` in percent.

        Raises
        ------
        InputError
            No pixel seen belongs to an object.
        """
        if self.state["pixels"][0].sum() == 0:
            raise InputError("no pixel of an object was seen: PxAP is not defined")
        return {"pxap": float(pixel_ap(self.state["pixels"]))}


class PointingGame(_Counts):
    """Pointing game (Zhang et al. 2016): whether the map's maximum lies in a box of the object."""

    def __init__(self) -> None:
        super().__init__(hits=np.zeros(1, np.int64), images=np.zeros(1, np.int64))

    def update(self, maps: Tensor, boxes: Sequence[Any]) -> None:
        """Count a batch of maps ``(b, h, w)`` and half-open boxes in their pixels."""
        for plane, own in zip(_planes(maps, len(boxes), bounded=False), boxes, strict=True):
            self.state["hits"] += int(pointing_and_energy(plane, _boxes(own))["pointing"])
            self.state["images"] += 1

    def compute(self) -> dict[str, float]:
        """Return ``pointing_game`` in percent."""
        return {"pointing_game": 100 * float(self.state["hits"][0]) / max(1, int(self.state["images"][0]))}


class LocalizationError(_Counts):
    """Top-k localization error, classification error and GT-known at a protocol's fixed threshold."""

    def __init__(self, protocol: str | Protocol = "cam2016", topk: Sequence[int] = (1, 5)) -> None:
        self.protocol, self._topk = find_protocol(protocol), tuple(topk)
        zero = np.zeros(len(self._topk), np.int64)
        super().__init__(wrong=zero, wrong_class=zero, known=np.zeros(1, np.int64), images=np.zeros(1, np.int64))

    def update(self, maps: Tensor, boxes: Sequence[Any], logits: Tensor, targets: Tensor) -> None:
        """Count a batch.

        Parameters
        ----------
        maps, boxes
            As for `MaxBoxAcc.update`: each image's map of its *true* class, and its boxes.
        logits, targets
            ``(b, classes)`` and ``(b,)``.
        """
        scores, truth = logits.detach().cpu(), targets.detach().cpu()[:, None]
        own = scores.gather(1, truth)
        ranks = ((scores > own).sum(1) + (scores == own).sum(1) - 1).tolist()
        planes = _planes(maps, len(boxes), bounded=self.protocol.precision == "8-bit")
        for plane, rows, rank in zip(planes, boxes, ranks, strict=True):
            published = _boxes(rows)
            if self.protocol.edges != "half-open":
                published = published - np.array([0.0, 0.0, 1.0, 1.0])
            best = float(box_curve(sweep_plane(plane, self.protocol), self.protocol, published).at_fixed[0])
            hit = best > self.protocol.iou if self.protocol.strict else best >= self.protocol.iou
            top = best > self.protocol.iou if self.protocol.strict_top else best >= self.protocol.iou
            self.state["known"] += int(hit)
            self.state["wrong"] += np.array([not (top and rank < k) for k in self._topk])
            self.state["wrong_class"] += np.array([rank >= k for k in self._topk])
            self.state["images"] += 1

    def compute(self) -> dict[str, float]:
        """Return percentages: ``gt_known``, ``top1_loc_error``, ``top1_cls_error``, …."""
        share = 100 / max(1, int(self.state["images"][0]))
        found = {"gt_known": float(self.state["known"][0]) * share}
        for place, k in enumerate(self._topk):
            found[f"top{k}_loc_error"] = float(self.state["wrong"][place]) * share
            found[f"top{k}_cls_error"] = float(self.state["wrong_class"][place]) * share
        return found


def _planes(maps: Tensor, count: int, *, bounded: bool) -> NDArray[np.float64]:
    if maps.ndim == 4 and maps.shape[1] == 1:
        maps = maps[:, 0]
    if maps.ndim != 3 or len(maps) != count:
        raise InputError(f"maps of shape {tuple(maps.shape)} for {count} images: give (b, h, w), one map per image")
    if not bool(maps.isfinite().all()):
        raise InputError("a map holds NaN or infinity: it cannot be thresholded")
    values = maps.detach().double().cpu()
    if bounded and values.numel() and not (0 <= float(values.min()) and float(values.max()) <= 1):
        raise InputError("maps leave 0…1: normalise them first, explain.maps.normalize_maps(maps, 'minmax')")
    found: NDArray[np.float64] = values.numpy()
    return found


def _boxes(rows: Any) -> NDArray[np.float64]:
    found = np.asarray(rows.detach().cpu() if isinstance(rows, Tensor) else rows, np.float64).reshape(-1, 4)
    if len(found) and not (found[:, 2:] > found[:, :2]).all():
        raise InputError("a box is empty: boxes are half-open xyxy, x1 > x0 and y1 > y0")
    return found
