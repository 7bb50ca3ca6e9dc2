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
from explain.localization.summary import known_hits, pixel_ap, top_hits
from explain.localization.sweep import threshold_grid

__all__ = ["LocalizationError", "MaxBoxAcc", "PointingGame", "PxAP"]


Counts = dict[str, NDArray[np.int64]]


class _Counts:
    """Named sums of whole numbers; what metrics share is their bookkeeping, nothing of what they count."""

    def __init__(self, settings: tuple[Any, ...], state: Counts) -> None:
        self._settings = settings
        self._start = state
        self.state: Counts = {}
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
        if type(other) is not type(self) or other._settings != self._settings:
            raise InputError("only metrics of the same kind and settings can be merged")
        self._add(other.state)

    def sync(self, group: Any = None) -> None:
        """Add up the states of all processes of ``torch.distributed``, in every one of them (call it once)."""
        for values in self.state.values():
            summed = torch.from_numpy(values)
            torch.distributed.all_reduce(summed, group=group)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state, for a checkpoint."""
        return {name: torch.from_numpy(values.copy()) for name, values in self.state.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a state that `state_dict` gave.

        Raises
        ------
        InputError
            It is of another metric, or of other settings.
        """
        shapes = {name: tuple(values.shape) for name, values in state.items()}
        if shapes != {name: values.shape for name, values in self.state.items()}:
            raise InputError(f"the state is of another metric or of other settings: {shapes}")
        self.state = {name: values.to(torch.int64).cpu().numpy().copy() for name, values in state.items()}

    def _add(self, counts: Counts) -> None:
        for name, values in counts.items():
            self.state[name] += values

    def _none(self) -> Counts:
        """Return counts to add a batch up in: one that is refused halfway leaves no trace."""
        return {name: np.zeros_like(values) for name, values in self.state.items()}


class MaxBoxAcc(_Counts):
    r"""MaxBoxAcc and MaxBoxAccV2 (Choe et al. 2020): box accuracy at the best threshold of the whole data.

    .. math:: \operatorname{MaxBoxAcc}_\delta = \max_t \frac{1}{N} \sum_n
        \left[\operatorname{IoU}(\operatorname{box}(M_n, t), B_n) \ge \delta\right]

    Version 2 is the mean over :math:`\delta` = 0.3, 0.5 and 0.7, each at its own threshold.

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
        hits = np.zeros((levels, self.protocol.threshold_steps), np.int64)
        super().__init__((self.protocol,), {"hits": hits, "images": np.zeros(1, np.int64)})

    def update(self, maps: Tensor, boxes: Sequence[Any]) -> None:
        """Count a batch.

        Parameters
        ----------
        maps
            ``(b, h, w)`` or ``(b, 1, h, w)``: the map of each image's true class at the size in which boxes are
            compared; within 0…1 for protocols that scale them so (`explain.maps.normalize_maps`), any scale otherwise.
        boxes
            One ``(m, 4)`` per image: half-open xyxy in pixels of the map.

        Raises
        ------
        InputError
            Shapes or ranges that do not fit.
        """
        counts = self._none()
        for plane, own in zip(_planes_for(maps, len(boxes), self.protocol), boxes, strict=True):
            truth = _published(own, self.protocol)
            ious = box_curve(sweep_plane(plane, self.protocol, grid=self._steps), self.protocol, truth).ious
            for level, least in enumerate(self.protocol.iou_levels):
                counts["hits"][level] += ious > least if self.protocol.strict else ious >= least
            counts["images"] += 1
        self._add(counts)

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
        super().__init__((steps,), {"pixels": np.zeros((2, steps + 2), np.int64)})

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
        counts = self._none()
        for plane, mask in zip(planes, marks, strict=True):
            counts["pixels"] += pixel_histogram(plane, mask, self._steps)
        self._add(counts)

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
        super().__init__((), {"hits": np.zeros(1, np.int64), "images": np.zeros(1, np.int64)})

    def update(self, maps: Tensor, boxes: Sequence[Any]) -> None:
        """Count a batch of maps ``(b, h, w)`` and half-open boxes in their pixels."""
        counts = self._none()
        for plane, own in zip(_planes(maps, len(boxes), bounded=False), boxes, strict=True):
            counts["hits"] += int(pointing_and_energy(plane, _boxes(own))["pointing"])
            counts["images"] += 1
        self._add(counts)

    def compute(self) -> dict[str, float]:
        """Return ``pointing_game`` in percent."""
        return {"pointing_game": 100 * float(self.state["hits"][0]) / max(1, int(self.state["images"][0]))}


class LocalizationError(_Counts):
    """Top-k localization error, classification error and GT-known at a protocol's fixed threshold."""

    def __init__(self, protocol: str | Protocol = "cam2016", topk: Sequence[int] = (1, 5)) -> None:
        self.protocol, self._topk = find_protocol(protocol), tuple(topk)
        if not self._topk or min(self._topk) < 1:
            raise InputError(f"topk={self._topk}: give numbers from 1 on")
        one, each = np.zeros(1, np.int64), np.zeros(len(self._topk), np.int64)
        state = {"wrong": each, "wrong_class": each, "known": one, "images": one}
        super().__init__((self.protocol, self._topk), state)

    def update(self, maps: Tensor, boxes: Sequence[Any], logits: Tensor, targets: Tensor) -> None:
        """Count a batch.

        Parameters
        ----------
        maps, boxes
            As for `MaxBoxAcc.update`: each image's map of its *true* class, and its boxes.
        logits, targets
            ``(b, classes)`` and ``(b,)``.

        Raises
        ------
        InputError
            Shapes, ranges or classes that do not fit; then nothing is counted.
        """
        rules, counts = self.protocol, self._none()
        ranks = _ranks(logits, targets, len(boxes))
        grid = np.array([rules.threshold])
        for plane, own, rank in zip(_planes_for(maps, len(boxes), rules), boxes, ranks, strict=True):
            best = box_curve(sweep_plane(plane, rules, grid=grid), rules, _published(own, rules)).at_fixed[None]
            record, place = {"at_fixed": best}, np.array([rank])
            counts["known"] += known_hits(rules, record)
            counts["wrong"] += [not top_hits(rules, record, place, k)[0] for k in self._topk]
            counts["wrong_class"] += [rank >= k for k in self._topk]
            counts["images"] += 1
        self._add(counts)

    def compute(self) -> dict[str, float]:
        """Return percentages: ``gt_known``, ``top1_loc_error``, ``top1_cls_error``, …."""
        share = 100 / max(1, int(self.state["images"][0]))
        found = {"gt_known": float(self.state["known"][0]) * share}
        for place, k in enumerate(self._topk):
            found[f"top{k}_loc_error"] = float(self.state["wrong"][place]) * share
            found[f"top{k}_cls_error"] = float(self.state["wrong_class"][place]) * share
        return found


def _ranks(logits: Tensor, targets: Tensor, count: int) -> list[int]:
    """Return the place of each image's class, 0 is first; ties count against the network."""
    scores, truth = logits.detach().cpu(), targets.detach().cpu()
    if scores.ndim != 2 or truth.shape != (count,) or len(scores) != count:
        given = f"logits {tuple(scores.shape)} and targets {tuple(truth.shape)}"
        raise InputError(f"{given} for {count} images: give (b, classes) and (b,)")
    if not bool(scores.isfinite().all()):
        raise InputError("the logits hold NaN or infinity: they have no order")
    if count and not (0 <= int(truth.min()) and int(truth.max()) < scores.shape[1]):
        raise InputError(f"a target is not among the {scores.shape[1]} classes, 0 to {scores.shape[1] - 1}")
    own = scores.gather(1, truth[:, None])
    found: list[int] = ((scores > own).sum(1) + (scores == own).sum(1) - 1).tolist()
    return found


def _planes_for(maps: Tensor, count: int, rules: Protocol) -> NDArray[Any]:
    """Return maps in the precision that a protocol thresholds them in."""
    planes = _planes(maps, count, bounded=rules.precision in ("8-bit", "jpeg") or rules.normalization != "maximum")
    return planes.astype(np.float32) if rules.precision == "float32" else planes


def _published(rows: Any, rules: Protocol) -> NDArray[np.float64]:
    """Return half-open boxes as the protocol's numbers: for a +1 IoU the last pixel instead of the one after it."""
    boxes = _boxes(rows)
    return boxes if rules.edges == "half-open" else boxes - np.array([0.0, 0.0, 1.0, 1.0])


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
