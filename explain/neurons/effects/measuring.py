"""What the network says once units are replaced: in closed form where the head allows, else by running its tail again.

Where the head after the layer is affine in the map's mean (`explain.nets.probe`), ``logit_c = sum_k W_ck mean_xy A_k +
const_c``: a unit whose mean moves by d moves every logit by ``W_ck d``, whatever the unit's map looks like. Else the
calls after the layer are replayed on the edited map (`explain.nets.head`), many edits at a time; what cannot be
replayed is run from the start with the layer's output edited.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain.errors import ModelError
from explain.nets.inputs import stream
from explain.nets.modes import eval_mode, naming_errors
from explain.nets.outputs import logits_of
from explain.nets.passes import Arrays, Work, run_pass
from explain.nets.subject import Subject
from explain.nets.tap import count_calls, edited
from explain.nets.trace import trace
from explain.nets.traced import Spot, Trace
from explain.neurons._overtaking import winners
from explain.neurons._threads import share_out, threads
from explain.neurons.effects.heads import exact_head
from explain.neurons.effects.observing import observe
from explain.neurons.effects.replacing import Forced, Replace, mean_shifts, replaced
from explain.neurons.units import UnitLayer

__all__ = ["Asked", "Observed", "Outcome", "Stage", "find_stage", "measure_groups", "measure_units", "observe_images"]

Floats = NDArray[np.float64]
_AGREE = 1e-3
"""How far replayed logits may be from the network's own, relative to the largest: another order of sums."""
_IMAGES = 2048
"""Images whose logits are worked on at a time, in closed form."""


@dataclass(frozen=True, eq=False)
class Stage:
    """The layer whose units are replaced, and how the logits follow from its maps."""

    subject: Subject
    layer: UnitLayer
    """All units of the layer."""
    spot: Spot
    weights: Floats | None
    """``(classes, channels)`` where the head is affine in the map's mean; None: there is no closed form."""
    replays: bool
    """The calls after the layer can be replayed on an edited map."""
    reason: str
    """Why there is a closed form, or why not."""

    @property
    def how(self) -> str:
        """How ablated logits are found, in words."""
        if self.weights is not None:
            return f"in closed form: {self.reason}"
        done = "what follows the layer is run again" if self.replays else "the whole network is run again"
        return f"{done} for every edit: {self.reason}"


def find_stage(subject: Subject, layer: UnitLayer, images: Sequence[Any]) -> Stage:
    """Return how units of a layer can be replaced, found with the first image.

    Raises
    ------
    ModelError
        The layer is not reached, or its map holds NaN or infinity.
    """
    _, first = next(stream(images[:1], subject.transform, batch_size=1))
    placed = subject.placed(first)
    model = subject.model
    every = replace(layer, units=np.arange(layer.total))
    spot = Spot(layer.layer, count_calls(model, layer.layer, lambda: model(placed.clone())))
    if layer.layout is None:
        return Stage(subject, every, spot, None, False, "the layer gives vectors")
    exact = exact_head(subject, every, placed)
    if exact is not None:
        return Stage(subject, every, spot, exact.weights, True, "the head is affine in the map's mean")
    try:
        traced = trace(model, torch.cat([placed, placed]), spot)
    except ModelError as error:
        return Stage(subject, every, spot, None, False, str(error))
    return Stage(subject, every, spot, None, _replays(traced), "the head is not affine in the map's mean")


def _replays(traced: Trace) -> bool:
    """Tell whether the recorded calls give the logits that the network gave."""
    try:
        with torch.inference_mode(False), torch.no_grad():
            rows = torch.tensor([1, 0, 1])
            again = traced.head.of(rows)(traced.map[rows.to(traced.map.device)])
    except (RuntimeError, IndexError, TypeError, ValueError):
        return False
    size = traced.logits.abs().max()
    return again.shape[1:] == traced.logits.shape[1:] and bool((again - traced.logits[:1]).abs().max() <= _AGREE * size)


@dataclass(frozen=True, eq=False)
class Observed:
    """What the untouched network did to n images."""

    logits: NDArray[np.float32]
    """``(n, classes)``."""
    means: NDArray[np.float32]
    """``(n, channels)``: spatial means of the layer's maps."""
    peaks: NDArray[np.float32]
    """``(n, channels)``: their maxima."""
    labels: NDArray[np.int64]
    """``(n,)``: the class whose logit is followed: the image's own, or the predicted one where it has none."""

    @property
    def predicted(self) -> NDArray[np.int64]:
        """int64 ``(n,)``."""
        return np.asarray(self.logits.argmax(1), np.int64)


def observe_images(
    stage: Stage, images: Sequence[Any], labels: NDArray[np.int64] | None, name: str, work: Work
) -> Observed:
    """Run the network over images once; ``labels`` None: the predicted classes take their place."""

    def measure(tensor: Tensor, indices: range) -> Arrays:
        (maps,), logits = observe(stage.subject, [stage.layer], tensor)
        return {
            "logits": logits.cpu().numpy(),
            "means": maps.mean((2, 3)).cpu().numpy(),
            "peaks": maps.amax((2, 3)).cpu().numpy(),
        }

    found = run_pass(stage.subject, images, measure, name, work)
    own = np.asarray(found["logits"].argmax(1), np.int64) if labels is None else labels
    return Observed(found["logits"], found["means"], found["peaks"], own)


@dataclass(frozen=True, eq=False)
class Asked:
    """One way to replace units, over the images that were observed."""

    how: Replace
    donors: NDArray[np.int64] | None = None
    """``(n,)``, for ``"resample"``."""
    forced: Forced | None = None
    factor: float = 0.0


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the network says of n images after each of g edits, each against its own untouched logits."""

    predicted: NDArray[np.int32]
    """``(n, g)``."""
    label: NDArray[np.float32]
    """``(n, g)``: by how much the logit of the image's label changes."""
    own: NDArray[np.float32]
    """``(n, g)``: by how much the logit of the class that was predicted before changes."""

    def select(self, edits: Any) -> Outcome:
        """Return some of the edits."""
        return Outcome(self.predicted[:, edits], self.label[:, edits], self.own[:, edits])


def measure_units(
    stage: Stage,
    observed: Observed,
    images: Sequence[Any],
    units: NDArray[np.int64],
    asked: Asked,
    work: Work,
    name: str,
) -> Outcome:
    """Replace each of ``units`` alone."""
    if stage.weights is None:
        groups = np.zeros((len(units), stage.layer.total), np.bool_)
        groups[np.arange(len(units)), units] = True
        return _by_tail(stage, observed, images, groups, asked, work, name)
    shifts = _shifts(stage, observed, images, asked, work, name)[:, units]
    weights = np.ascontiguousarray(stage.weights.T[units])
    logits = observed.logits.astype(np.float64)
    order = np.argsort(-logits, axis=1, kind="stable")
    found = np.empty(shifts.shape, np.int32)
    ends = weights.max(1), weights.min(1)

    def some(part: range) -> None:
        winners(logits, order, weights, *ends, shifts, found, part.start, part.stop)

    with ThreadPoolExecutor(threads()) as pool:
        list(pool.map(some, share_out(len(logits))))
    label, own = ((weights.T[classes] * shifts).astype(np.float32) for classes in (observed.labels, observed.predicted))
    return Outcome(found, label, own)


def measure_groups(
    stage: Stage,
    observed: Observed,
    images: Sequence[Any],
    groups: NDArray[np.bool_],
    asked: Asked,
    work: Work,
    name: str,
) -> Outcome:
    """Replace all units of each group together; ``groups``: bool ``(g, channels)``."""
    if stage.weights is None:
        return _by_tail(stage, observed, images, groups, asked, work, name)
    shifts = _shifts(stage, observed, images, asked, work, name)
    count, edits = len(shifts), len(groups)
    outcome = _empty(count, edits)
    for start in range(0, count, _IMAGES):
        rows = slice(start, start + _IMAGES)
        logits, part = observed.logits[rows].astype(np.float64), shifts[rows]
        chosen = [(at, classes[rows]) for at, classes in enumerate((observed.labels, observed.predicted))]
        whole = part @ stage.weights.T
        for edit, group in enumerate(groups):
            few = group if 2 * group.sum() <= len(group) else ~group  # the fewer units, the shorter the sum
            change = part[:, few] @ stage.weights[:, few].T
            if few is not group:
                change = whole - change
            outcome.predicted[rows, edit] = (logits + change).argmax(1)
            for at, classes in chosen:
                (outcome.label, outcome.own)[at][rows, edit] = change[np.arange(len(change)), classes]
    return outcome


def _empty(count: int, edits: int) -> Outcome:
    shape = (count, edits)
    return Outcome(np.empty(shape, np.int32), np.empty(shape, np.float32), np.empty(shape, np.float32))


def _shifts(stage: Stage, observed: Observed, images: Sequence[Any], asked: Asked, work: Work, name: str) -> Floats:
    """Return by how much the mean of every unit moves in every image, float64 ``(n, channels)``."""
    means = observed.means.astype(np.float64)
    if asked.how == "mean":
        given = means.mean(0)
    elif asked.how == "resample":
        assert asked.donors is not None
        given = means[asked.donors]
    elif asked.how == "insert":
        given = _forced_means(stage, images, asked.forced, work, f"forced-{name}").astype(np.float64)
    else:
        given = np.array([asked.factor])
    return mean_shifts(asked.how, means, given)


def _forced_means(
    stage: Stage, images: Sequence[Any], forced: Forced | None, work: Work, name: str
) -> NDArray[np.float32]:
    def measure(tensor: Tensor, indices: range) -> Arrays:
        (maps,), _ = observe(stage.subject, [stage.layer], tensor)
        values = replaced("insert", maps, mean=None, donors=None, forced=forced, factor=0.0)
        return {"means": values.mean((2, 3)).cpu().numpy()}

    found: NDArray[np.float32] = run_pass(stage.subject, images, measure, name, work)["means"]
    return found


# --- by running the tail again ---------------------------------------------------------------------------------


def _by_tail(
    stage: Stage,
    observed: Observed,
    images: Sequence[Any],
    groups: NDArray[np.bool_],
    asked: Asked,
    work: Work,
    name: str,
) -> Outcome:
    """Run what follows the layer for every image and group whose map changes."""
    subject = stage.subject
    means = torch.from_numpy(observed.means.astype(np.float64).mean(0))
    masks = torch.from_numpy(groups)

    def measure(tensor: Tensor, indices: range) -> Arrays:
        maps, base, run = _opened_tail(stage, tensor)
        donors = (
            _donor_maps(stage, images, asked.donors[indices.start : indices.stop])
            if asked.how == "resample" and asked.donors is not None
            else None
        )
        values = replaced(asked.how, maps, mean=means, donors=donors, forced=asked.forced, factor=asked.factor)
        edits = masks.to(maps.device)
        live = (values != maps).flatten(2).any(2).float() @ edits.float().T > 0
        logits_before = base.float()
        classes = [
            torch.from_numpy(one[indices.start : indices.stop]).to(maps.device)
            for one in (observed.labels, observed.predicted)
        ]
        predicted = logits_before.argmax(1)[:, None].repeat(1, len(edits))
        changes = [torch.zeros(predicted.shape, device=maps.device) for _ in classes]
        for pairs in live.nonzero().split(work.batch_size):
            if len(pairs) == 0:
                continue
            rows, which = pairs.unbind(1)
            given = values.expand_as(maps)[rows]
            logits = run(rows, torch.where(edits[which][:, :, None, None], given, maps[rows])).float()
            predicted[rows, which] = logits.argmax(1)
            for change, own in zip(changes, classes, strict=True):
                at = own[rows][:, None]
                change[rows, which] = (logits.gather(1, at) - logits_before[rows].gather(1, at))[:, 0]
        followed = [change.cpu().numpy() for change in changes]
        return {"predicted": predicted.int().cpu().numpy(), "label": followed[0], "own": followed[1]}

    found = run_pass(subject, images, measure, name, work)
    return Outcome(found["predicted"], found["label"], found["own"])


Tail = Callable[[Tensor, Tensor], Tensor]
"""Image of the batch ``(p,)`` and edited maps ``(p, c, h, w)`` in, logits ``(p, classes)`` out."""


def _opened_tail(stage: Stage, tensor: Tensor) -> tuple[Tensor, Tensor, Tail]:
    """Return the maps of a batch, its logits, and what gives the logits of edited maps."""
    if stage.replays:
        traced = trace(stage.subject.model, tensor, stage.spot)
        return traced.map, traced.logits, lambda rows, maps: traced.head.of(rows)(maps)
    (maps,), logits = observe(stage.subject, [stage.layer], tensor)
    layout, model = stage.layer.layout, stage.subject.model

    def run(rows: Tensor, edited_maps: Tensor) -> Tensor:
        def put(output: Tensor) -> Tensor:
            if layout is None:
                return edited_maps[:, :, 0, 0].to(output)
            return layout.from_map(edited_maps, output).to(output)

        call = stage.spot.call
        with eval_mode(model), naming_errors(tensor), edited(model, stage.spot.layer, put, call=call):
            return logits_of(model(tensor[rows]))

    return maps, logits, run


def _donor_maps(stage: Stage, images: Sequence[Any], numbers: NDArray[np.int64]) -> Tensor:
    """Return the maps of other images, in this order."""
    subject = stage.subject
    chosen = [images[number] for number in numbers.tolist()]
    _, tensor = next(stream(chosen, subject.transform, batch_size=len(chosen)))
    (maps,), _ = observe(subject, [stage.layer], subject.placed(tensor))
    return maps
