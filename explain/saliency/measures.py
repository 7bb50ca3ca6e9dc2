"""The measures of faithfulness: which images are made of a map, and what the probabilities say of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from explain.errors import ModelError
from explain.nets.modes import naming_errors
from explain.nets.outputs import OutputSpec, logits_of
from explain.nets.subject import Subject
from explain.saliency.controls import ranked
from explain.saliency.faithfulness_result import Curve
from explain.saliency.imputation import Baseline, baseline_of, impute
from explain.types import Saliency, normalize_maps

__all__ = ["Job", "measure", "probabilities"]


@dataclass(frozen=True)
class Job:
    """What all measures share. The images lie on the model's device, in its floating point type."""

    subject: Subject
    output: OutputSpec
    images: Tensor
    maps: Saliency
    ties: Tensor
    """int64 ``(h * w,)``: the order in which pixels of equal saliency are taken."""
    steps: int
    fractions: tuple[float, ...]
    baseline: Baseline
    insertion_baseline: Baseline
    blur: float
    noise: Tensor | None
    batch_size: int

    @property
    def items(self) -> int:
        """Maps in all: images x classes."""
        return self.maps.classes.numel()

    def image_of(self, items: Tensor) -> Tensor:
        """Return which image each map belongs to."""
        return items // self.maps.classes.shape[1]

    def upsampled(self, values: Tensor, items: Tensor) -> Tensor:
        """Return some of the maps ``values (b, k, h, w)`` at the input's size, ``(n, H, W)``."""
        small = values.flatten(0, 1)[items, None]
        return self.maps.upsampled(small, (self.images.shape[2], self.images.shape[3]))[:, 0]


Make = Callable[[Tensor, Tensor], Tensor]
"""Maps ``(n,)`` and steps ``(n,)`` in, the changed images ``(n, c, h, w)`` out."""


# --- forward passes -------------------------------------------------------------------------------------------


def probabilities(job: Job, steps: int, make: Make) -> Tensor:
    """Return the probability of each map's class at each step, float32 ``(b, k, steps)``."""
    classes = job.maps.classes.to(job.images.device).flatten()
    last = int(classes.max())
    found = []
    for chunk in torch.arange(job.items * steps, device=job.images.device).split(job.batch_size):
        items, step = chunk // steps, chunk % steps
        changed = make(items, step)
        with naming_errors(changed):
            logits = logits_of(job.subject.model(changed), job.output)
        if logits.ndim != 2 or last >= logits.shape[1]:
            raise ModelError(
                f"the network returns {tuple(logits.shape)} for maps of class {last}: faithfulness needs"
                " the logits of all classes (batch, classes), of the network that the maps belong to"
            )
        found.append(logits.float().softmax(1).gather(1, classes[items, None])[:, 0])
    told = torch.cat(found).view(*job.maps.classes.shape, steps)
    if not bool(told.isfinite().all()):
        raise ModelError("the network gives NaN on changed images: check its weights and precision")
    return told


def _ranks(job: Job, values: Tensor, items: Tensor) -> Tensor:
    """Return ``(n, H, W)``: how many pixels are more salient than each; every map of a chunk is sorted once."""
    distinct, place = items.unique(return_inverse=True)
    order = ranked(job.upsampled(values, distinct).flatten(1), job.ties)
    counting = torch.arange(order.shape[1], device=order.device).expand_as(order)
    ranks = torch.empty_like(order).scatter_(1, order, counting)
    return ranks[place].view(len(items), *job.images.shape[2:])


# --- measures -------------------------------------------------------------------------------------------------


def measure(
    job: Job, values: Tensor, metrics: Sequence[str], whole: Tensor
) -> tuple[dict[str, Tensor], dict[str, Curve]]:
    """Return metric → scores ``(b, k)`` of the maps ``values``, and the curves they come from."""
    scores: dict[str, Tensor] = {}
    curves: dict[str, Curve] = {}
    masked = (
        probabilities(job, 1, partial(_masked, job, values))[..., 0]
        if {"average_drop", "increase"} & {*metrics}
        else whole
    )
    for name in metrics:
        if name in ("deletion", "insertion"):
            curves[name] = _curve(job, values, name == "insertion")
            scores[name] = _area(curves[name])
        elif name == "average_drop":
            # A probability that underflows to 0 cannot drop.
            scores[name] = torch.where(whole > 0, 100 * (whole - masked).clamp(min=0) / whole, 0.0)
        elif name == "increase":
            scores[name] = 100.0 * (whole < masked).float()
        else:
            curves["road_morf"], curves["road_lerf"] = (_road(job, values, most) for most in (True, False))
            gap = curves["road_lerf"].probabilities - curves["road_morf"].probabilities
            scores[name] = gap.mean(2) / 2
    return scores, curves


def _masked(job: Job, values: Tensor, items: Tensor, _: Tensor) -> Tensor:
    """Return images times their maps, scaled to 0…1 (Grad-CAM++: ``E = L * I``)."""
    images = job.images[job.image_of(items)]
    mask = normalize_maps(job.upsampled(values, items).clamp(min=0))[:, None].to(images.dtype)
    return torch.lerp(_behind(job, job.baseline, items), images, mask)


def _behind(job: Job, baseline: Baseline, items: Tensor) -> Tensor:
    """Return what stands behind the image of each map; every image of a chunk is blurred once."""
    distinct, place = job.image_of(items).unique(return_inverse=True)
    if isinstance(baseline, Tensor):
        return baseline_of(job.images, baseline)[distinct][place]
    return baseline_of(job.images[distinct], baseline, job.blur)[place]


def _curve(job: Job, values: Tensor, insertion: bool) -> Curve:
    """Return the probability while the most salient pixels are put back, or taken away."""
    size = job.images.shape[2] * job.images.shape[3]
    counts = torch.linspace(0, size, job.steps + 1, dtype=torch.float64).round().long()
    changed_counts = counts.to(job.images.device)

    def make(items: Tensor, step: Tensor) -> Tensor:
        images = job.images[job.image_of(items)]
        salient = (_ranks(job, values, items) < changed_counts[step, None, None])[:, None]
        if insertion:
            return torch.where(salient, images, _behind(job, job.insertion_baseline, items))
        return torch.where(salient, _behind(job, job.baseline, items), images)

    return Curve((counts / size).to(job.images.device), probabilities(job, job.steps + 1, make))


def _area(curve: Curve) -> Tensor:
    """Return the area under the curve by trapezoids, float32 ``(b, k)``."""
    return torch.trapezoid(curve.probabilities.double(), curve.fractions, dim=2).float()


def _road(job: Job, values: Tensor, most_first: bool) -> Curve:
    """Return the probability after the most (or least) salient pixels were removed and imputed."""
    size = job.images.shape[2] * job.images.shape[3]
    shares = torch.tensor(job.fractions, dtype=torch.float64)
    # At least one pixel goes and one stays: a tiny image keeps something to impute from.
    counts = (shares * size).round().long().clamp(1, size - 1).to(job.images.device)

    def make(items: Tensor, step: Tensor) -> Tensor:
        images = job.image_of(items)
        ranks = _ranks(job, values, items)
        number = counts[step, None, None]
        missing = ranks < number if most_first else ranks >= size - number
        return impute(job.images[images], missing, job.noise[images] if job.noise is not None else None)

    return Curve(shares.to(job.images.device), probabilities(job, len(job.fractions), make))
