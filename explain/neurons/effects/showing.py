"""Passes of a network over photos, cut-outs alone, and pasted pictures: what it says of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import softmax

from explain.data.fetching import Fetched
from explain.errors import ModelError
from explain.nets.modes import eval_mode, naming_errors
from explain.nets.outputs import logits_of
from explain.nets.passes import Arrays, Work, run_pass
from explain.nets.subject import Subject
from explain.neurons.effects.clusters import Resampling
from explain.neurons.effects.outcomes import Counted, Result, Told, count_outcomes, outcomes_of
from explain.neurons.effects.pasting import Blend, Cutout, Pixels, pasted_pictures
from explain.neurons.effects.trials import Trials

__all__ = ["Shown", "logits_pass", "on_ground", "show_trials", "two_logits_pass"]

Ints = NDArray[np.int64]
_GROUND = 1.25
"""Side of the plain ground that a cut-out is shown on alone, in its own longer side."""


def logits_pass(subject: Subject, images: Sequence[Any], name: str, work: Work) -> NDArray[np.float32]:
    """Return the logits of images, float32 ``(n, classes)``."""

    def measure(batch: Tensor, numbers: range) -> Arrays:
        return {"logits": _logits(subject, batch).cpu().numpy()}

    found: NDArray[np.float32] = run_pass(subject, images, measure, name, work)["logits"]
    return found


def two_logits_pass(
    subject: Subject, images: Sequence[Any], source: Ints, target: Ints, name: str, work: Work
) -> Arrays:
    """Return what a network says of images, and how much it gives to two classes of each.

    Parameters
    ----------
    source, target
        ``(n,)``: the two classes of each image.

    Returns
    -------
    arrays
        ``predicted`` and its ``probability`` ``(n,)``; ``logits`` and ``probabilities`` ``(n, 2)`` of the two classes.
    """
    classes = np.stack([source, target], 1)

    def measure(batch: Tensor, numbers: range) -> Arrays:
        logits = _logits(subject, batch)
        asked = torch.from_numpy(classes[numbers.start : numbers.stop]).to(logits.device)
        shares = logits.softmax(1)
        top = shares.max(1)
        return {
            "predicted": top.indices.cpu().numpy(),
            "probability": top.values.cpu().numpy(),
            "logits": logits.gather(1, asked).cpu().numpy(),
            "probabilities": shares.gather(1, asked).cpu().numpy(),
        }

    return run_pass(subject, images, measure, name, work)


def _logits(subject: Subject, batch: Tensor) -> Tensor:
    with eval_mode(subject.model), naming_errors(batch):
        logits = logits_of(subject.model(batch.clone())).float()
    if not bool(logits.isfinite().all()):
        raise ModelError("the logits hold NaN or infinity: check the weights, the input and the precision")
    return logits


def on_ground(cutout: Cutout, ground: tuple[int, int, int]) -> Pixels:
    """Return a cut-out in the middle of a square of one colour, uint8 ``(s, s, 3)``."""
    height, width = cutout.alpha.shape
    side = int(np.ceil(_GROUND * max(height, width)))
    picture = np.full((side, side, 3), ground, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    inside = picture[top : top + height, left : left + width]
    inside[cutout.alpha > 0] = cutout.pixels[cutout.alpha > 0]
    return picture


def _alone(cutouts: tuple[Cutout, ...], ground: tuple[int, int, int], number: int) -> Image.Image:
    return Image.fromarray(on_ground(cutouts[number], ground))


def _ground_of(subject: Subject) -> tuple[int, int, int]:
    """Return the colour that a network's transform turns to zero."""
    known = subject.preprocess
    mean = known.mean if known is not None else (0.5,) * 3
    red, green, blue = (int(np.clip(round(255 * value), 0, 255)) for value in (mean if len(mean) == 3 else mean * 3))
    return red, green, blue


@dataclass(frozen=True, eq=False)
class Shown:
    """All pasted pictures, what a network said of them, and what came of it."""

    trials: Trials
    rows: Arrays
    """Of `two_logits_pass`: a row per picture, of its source and target class."""
    before: NDArray[np.float32]
    """``(n,)``: the probability of the source class before the paste."""
    related: NDArray[np.bool_]
    """``(n,)``: the cut-out alone is the target class to the network."""
    result: Result
    blend: Blend

    @property
    def firsts(self) -> Ints:
        """The first row of each trial: the concept's."""
        return np.unique(self.trials.trial, return_index=True)[1]

    def related_share(self, pair: int) -> float:
        """Return the share of a pair's cut-outs of the concept that alone are the target class to the network."""
        own = (self.trials.pair == pair) & (self.trials.arm == 0)
        _, first = np.unique(self.trials.cutout[own], return_index=True)
        return float(self.related[own][first].mean())

    def counted(self, by: Resampling, *, pair: int | None = None, images: Ints | None = None) -> Counted | None:
        """Return what came of all trials, of those of a pair, or of those in some images; None where there are none."""
        firsts = self.firsts
        if pair is not None:
            chosen = np.flatnonzero(self.trials.pair[firsts] == pair)
        elif images is not None:
            chosen = np.flatnonzero(np.isin(self.trials.image[firsts], images))
        else:
            chosen = np.arange(len(firsts))
        if not len(chosen):
            return None
        rows = firsts[chosen]
        return count_outcomes(self.result[chosen], self.trials.image[rows], self.trials.key[rows], by)


def show_trials(
    subject: Subject,
    photos: Sequence[Any],
    trials: Trials,
    classes: Ints,
    logits: NDArray[np.float32],
    blend: Blend,
    name: str,
    work: Work,
) -> Shown:
    """Show a network all pasted pictures, and each cut-out alone on a plain ground.

    Parameters
    ----------
    photos
        All images of the data.
    classes
        ``(pairs, 2)``: source and target of each pair.
    logits
        ``(images, classes)`` of the photos without paste; rows of photos that nothing is pasted into are not read.
    name
        Beginning of the checkpoints' names.
    """
    source, target = classes[trials.pair].T
    alone = Fetched(len(trials.cutouts), partial(_alone, trials.cutouts, _ground_of(subject)))
    none = np.zeros(len(trials.cutouts), np.int64)
    own = two_logits_pass(subject, alone, none, none, f"{name}cut-outs", work)["predicted"][trials.cutout]
    pictures = pasted_pictures(photos, trials.cutouts, trials.image, trials.cutout, trials.box, blend)
    rows = two_logits_pass(subject, pictures, source, target, f"{name}pasted", work)
    images, place = np.unique(trials.image, return_inverse=True)
    shares = softmax(torch.from_numpy(logits[images]), 1).numpy()
    before = np.stack([logits[trials.image, source], logits[trials.image, target]], 1)
    result = outcomes_of(trials, source, target, rows, Told(before, own))
    return Shown(trials, rows, shares[place, source], own == target, result, blend)
