"""What to explain where it is no class's score: functions of the output for ``classes=`` of `explain.attribute`.

Each returns a function that takes the network's output (the part that ``output=`` picks) and returns one number per
image ``(b,)``, or ``k`` numbers ``(b, k)``, with their graph. A function of one's own does as well.

The network runs on some of the images at a time (``batch_size``), and Score-CAM and Ablation-CAM repeat them. What a
target holds for each image has to follow: `loss` with a goal and `region` with masks do. So does any callable with a
method ``of_images(rows)``, which returns the target for the images ``rows``, int64 ``(n,)``. Captum's methods repeat
images without saying which: such a target needs ``batch_size=1`` there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from explain.errors import InputError

__all__ = ["detections", "difference", "loss", "region", "similarity"]

Target = Callable[[Any], Tensor]


def region(class_index: int, mask: Tensor | None = None) -> Target:
    """Return the mean score of a class over pixels, for segmentation networks (Vinogradova et al. 2020, Seg-Grad-CAM).

    Parameters
    ----------
    class_index
        A channel of the output ``(b, classes, H, W)``.
    mask
        Which pixels: ``(H, W)`` or ``(b, H, W)``, of any size; those where the class has the largest score where None.
    """
    return _Region(class_index, mask)


@dataclass(frozen=True, eq=False)
class _Region:
    class_index: int
    mask: Tensor | None

    def of_images(self, rows: Tensor) -> _Region:
        """Return the target for some of the images (int64 ``(n,)``), where each has a mask of its own."""
        if self.mask is None or self.mask.ndim == 2 or len(self.mask) == 1:
            return self
        return replace(self, mask=_rows(self.mask, rows, f"region({self.class_index})", "masks"))

    def __call__(self, scores: Tensor) -> Tensor:
        """Return the mean score ``(b,)``."""
        index, mask = self.class_index, self.mask
        if not isinstance(scores, Tensor) or scores.ndim != 4 or not 0 <= index < scores.shape[1]:
            raise InputError(f"region({index}) needs scores (b, classes, H, W) with that class: {_shape(scores)}")
        if mask is None:
            inside = (scores.argmax(1) == index).to(scores.dtype)
        else:
            given = mask.to(scores.device, scores.dtype)
            given = given[None] if given.ndim == 2 else given
            if given.ndim != 3 or len(given) not in (1, len(scores)):
                raise InputError(
                    f"region({index}) has a mask of shape {tuple(mask.shape)} for {len(scores)} images:"
                    " give (H, W) or (b, H, W)"
                )
            inside = F.interpolate(given[:, None], scores.shape[2:], mode="nearest")[:, 0].expand(len(scores), -1, -1)
        # An image without such a pixel has nothing to explain: its map is zero, not NaN.
        return (scores[:, index] * inside).sum((1, 2)) / inside.sum((1, 2)).clamp_min(1)


def similarity(reference: Tensor) -> Target:
    """Return the cosine similarity of an embedding ``(b, d)`` with ``reference`` ``(d,)``, or ``(k, d)`` for k maps."""

    def target(embedding: Tensor) -> Tensor:
        goals = reference.to(embedding.device, embedding.dtype)
        goals = goals[None] if goals.ndim == 1 else goals
        if embedding.ndim != 2 or goals.ndim != 2 or embedding.shape[1] != goals.shape[1]:
            raise InputError(f"similarity needs embeddings (b, {goals.shape[-1]}): {_shape(embedding)}")
        return F.normalize(embedding, dim=1) @ F.normalize(goals, dim=1).T

    return target


def difference(first: int, second: int) -> Target:
    """Return the logit of one class less that of another: why this and not that."""

    def target(logits: Tensor) -> Tensor:
        if logits.ndim != 2 or not max(first, second) < logits.shape[1] or min(first, second) < 0:
            raise InputError(f"difference({first}, {second}) needs logits (b, classes) with both: {_shape(logits)}")
        return logits[:, first] - logits[:, second]

    return target


def loss(function: Callable[..., Tensor], goal: Tensor | None = None) -> Target:
    """Return minus a loss, so that the map shows what lowers it.

    Parameters
    ----------
    function
        ``function(output)``, or ``function(output, goal)`` where there is a goal: one loss per image ``(b,)``, for
        example ``loss(lambda out, goal: F.mse_loss(out, goal, reduction="none").mean(1), goals)``.
    goal
        One row for each image, which follows its image, or a single row for all.
    """
    if goal is not None:
        return _Loss(function, goal)

    def target(output: Any) -> Tensor:
        return -function(output)

    return target


@dataclass(frozen=True, eq=False)
class _Loss:
    function: Callable[[Any, Tensor], Tensor]
    goal: Tensor

    def of_images(self, rows: Tensor) -> _Loss:
        """Return the target for some of the images (int64 ``(n,)``)."""
        return self if len(self.goal) == 1 else replace(self, goal=_rows(self.goal, rows, "loss", "goals"))

    def __call__(self, output: Any) -> Tensor:
        """Return minus the loss ``(b,)``."""
        goal = self.goal.to(output.device) if isinstance(output, Tensor) else self.goal
        if isinstance(output, Tensor) and len(goal) == 1:
            goal = goal.expand(len(output), *goal.shape[1:])
        return -self.function(output, goal)


def _rows(values: Tensor, rows: Tensor, target: str, kind: str) -> Tensor:
    if int(rows.max()) >= len(values):
        raise InputError(f"{target} has {len(values)} {kind}, which are fewer than the images")
    return values[rows.to(values.device)]


def detections(label: int, box: Sequence[float] | None = None, *, iou: float = 0.5) -> Target:
    """Return the summed scores of an image's detections of a class, for torchvision's detection networks.

    Parameters
    ----------
    label
        The class.
    box
        Only detections whose box has at least ``iou`` with this one (``x0, y0, x1, y1``, half-open, input pixels).
    """

    def target(output: Any) -> Tensor:
        if not isinstance(output, (list, tuple)) or not all(isinstance(one, dict) for one in output):
            raise InputError(
                f"detections needs a list of dicts with boxes, labels, scores: got {type(output).__name__}"
            )
        return torch.stack([_detected(one, label, box, iou) for one in output])

    return target


def _detected(one: dict[str, Tensor], label: int, box: Sequence[float] | None, iou: float) -> Tensor:
    chosen = one["labels"] == label
    if box is not None:
        goal = one["boxes"].new_tensor(box)
        sides = torch.minimum(one["boxes"][:, 2:], goal[2:]) - torch.maximum(one["boxes"][:, :2], goal[:2])
        shared = sides.clamp_min(0).prod(1)
        areas = (one["boxes"][:, 2:] - one["boxes"][:, :2]).prod(1) + (goal[2:] - goal[:2]).prod()
        chosen = chosen & (shared / (areas - shared) >= iou)
    return one["scores"][chosen].sum()


def _shape(value: Any) -> str:
    return f"got {tuple(value.shape)}" if isinstance(value, Tensor) else f"got {type(value).__name__}"
