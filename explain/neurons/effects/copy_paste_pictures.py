"""Pictures of pastes: the photo, the concept and its controls pasted, and what the network said of each."""

from __future__ import annotations

import numpy as np
from PIL import Image

from explain.drawing import grid as sheet
from explain.findings.result import Example
from explain.nets.inputs import read_image
from explain.neurons.effects.copy_paste_result import CopyPaste, PairResult
from explain.neurons.effects.pasting import pasted_pictures
from explain.neurons.effects.removing import CONTROLS, Removals
from explain.neurons.effects.showing import Shown
from explain.neurons.effects.trials import ARMS
from explain.types import LocalizationSet, ProbeSet

__all__ = ["examples_of", "removal_examples"]

_SIDE = 240
_PAIRS = 40
"""Pairs with a picture in the report."""


def examples_of(data: LocalizationSet, shown: Shown, found: CopyPaste, names: tuple[str, ...]) -> tuple[Example, ...]:
    """Return a sheet for each of the first pairs: of the paste of the concept that its target is most probable on."""
    return tuple(_example(data, shown, found.pairs[pair], pair, names) for pair in range(min(len(found.pairs), _PAIRS)))


def _example(data: LocalizationSet, shown: Shown, one: PairResult, pair: int, names: tuple[str, ...]) -> Example:
    trials = shown.trials
    own = np.flatnonzero((trials.pair == pair) & (trials.arm == 0))
    best = int(own[shown.rows["probabilities"][own, 1].argmax()])
    rows = np.flatnonzero(trials.trial == trials.trial[best])
    number = int(trials.image[best])
    pictures = pasted_pictures(
        data.images, trials.cutouts, trials.image[rows], trials.cutout[rows], trials.box[rows], shown.blend
    )
    parts = [(f"{one.source_name} {_percent(shown.before[best])}", read_image(data.images[number]))]
    for row, picture in zip(rows.tolist(), pictures, strict=True):
        said = int(shown.rows["predicted"][row])
        pasted = trials.cutouts[trials.cutout[row]].concept or ARMS[2]
        parts.append((f"{pasted}: {names[said]} {_percent(shown.rows['probability'][row])}", picture))
    target = shown.rows["probabilities"][best, 1]
    caption = (
        f"{one.source_name}, with {one.concept} pasted: {one.target_name} {_percent(target)} (the best of"
        f" {len(own)} pastes, beside its controls); success in {one.counted.arms[0].success.text()} %"
    )
    labels = [label for label, _ in parts]
    return Example(number, caption, picture=sheet([_small(part) for _, part in parts], 4, labels), longest=1024)


def removal_examples(probe: ProbeSet, removals: Removals | None, names: tuple[str, ...]) -> tuple[Example, ...]:
    """Return a sheet for each of the first photos that a concept was taken out of, with the first control."""
    if removals is None:
        return ()
    found = []
    for place, one in enumerate(removals.found.rows[:_PAIRS]):
        number, first = int(removals.numbers[place]), place * (1 + CONTROLS)
        parts = [(f"{one.source_name} (as it is)", read_image(probe.images[number]))]
        for row, what in ((first, f"without {one.concept}"), (first + 1, "without another region")):
            said = names[int(removals.rows["predicted"][row])]
            told = f"{what}: {said} {_percent(removals.rows['probability'][row])}"
            parts.append((told, removals.pictures[row]))
        caption = f"{one.source_name} > {one.target_name}, without {one.concept}: {one.predicted}"
        picture = sheet([_small(part) for _, part in parts], 3, [label for label, _ in parts])
        found.append(Example(0, caption, picture=picture, name=one.image, longest=1024))
    return tuple(found)


def _small(picture: Image.Image) -> Image.Image:
    height = round(picture.height * _SIDE / picture.width)
    return picture.resize((_SIDE, height), Image.Resampling.BILINEAR)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
