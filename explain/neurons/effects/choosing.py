"""The photos, cut-outs and controls of every pair of classes: all that chance decides, before anything is pasted."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from explain.errors import DataError
from explain.neurons.effects.cutouts import LEAST, Region, find_cutouts, random_crop
from explain.neurons.effects.opening import Explained
from explain.neurons.effects.pasting import Cutout
from explain.neurons.effects.probing import Survey, shown_in
from explain.neurons.effects.proposing import (
    Naming,
    Proposal,
    best_of_pair,
    class_scores,
    favouring,
    find_pairs,
    unnamed_concepts,
)
from explain.neurons.effects.trials import Slot
from explain.types import ProbeSet

__all__ = ["Chooser", "Expectations", "Photos"]


@dataclass(frozen=True, eq=False)
class Expectations:
    """What formulas and weights lead one to expect of each concept."""

    explained: Explained
    weights: NDArray[np.float64]
    """``(classes, units)``."""
    naming: Naming
    survey: Survey

    @property
    def scores(self) -> NDArray[np.float64]:
        """``S`` of `explain.neurons.effects.proposing`, ``(classes, concepts)``."""
        return class_scores(self.weights, self.naming, self.survey.gains, self.survey.shares.shape[1])

    def proposal(self, pair: tuple[int, int], concept: int, margin: float) -> Proposal:
        """Return a concept for a pair, with what speaks for it."""
        change = self.scores[:, concept]
        units = favouring(pair, concept, self.weights, self.naming, self.survey.gains, self.explained)
        return Proposal(*pair, concept, float(change[pair[1]] - change[pair[0]]), margin, units)


@dataclass(frozen=True, eq=False)
class Photos:
    """What the network says of the labelled photos."""

    numbers: NDArray[np.int64]
    """``(n,)``: which images of the data."""
    labels: NDArray[np.int64]
    """``(n,)``."""
    logits: NDArray[np.float32]
    """``(n, classes)``."""

    @property
    def right(self) -> NDArray[np.bool_]:
        """``(n,)``: the network says the label."""
        return np.asarray(self.logits.argmax(1) == self.labels, np.bool_)

    def by_image(self) -> NDArray[np.float32]:
        """Return ``(images up to the last, classes)``: the logits by the image's number; 0 where it was not asked."""
        found = np.zeros((int(self.numbers.max()) + 1, self.logits.shape[1]), np.float32)
        found[self.numbers] = self.logits
        return found

    def of_class(self, label: int) -> NDArray[np.int64]:
        """Return the rows of the photos of a class that the network is right on."""
        return np.flatnonzero(self.right & (self.labels == label))

    def margins(self) -> dict[int, NDArray[np.float64]]:
        """Return, for each class with such photos, the mean of its logit less the others', ``(classes,)``."""
        classes = sorted(set(self.labels[self.right].tolist()))
        means = {label: self.logits[self.of_class(label)].mean(0, dtype=np.float64) for label in classes}
        return {label: mean[label] - mean for label, mean in means.items()}


@dataclass(frozen=True, eq=False)
class Chooser:
    """Draws what is pasted; the same seed draws the same."""

    expected: Expectations
    probe: ProbeSet
    cutouts: int
    """Of each concept, at most."""
    region: Region
    seed: int
    allowed: NDArray[np.bool_]
    """``(concepts,)``: which may be proposed."""
    _found: dict[int, list[Cutout]] = field(default_factory=dict, repr=False)

    def of_concept(self, concept: int) -> list[Cutout]:
        """Return the cut-outs of a concept, from images in an order that the seed decides; none where none shows it."""
        if concept not in self._found:
            images = np.random.default_rng([self.seed, 0, concept]).permutation(
                np.array(shown_in(self.expected.survey, concept, LEAST), np.int64)
            )
            self._found[concept] = find_cutouts(
                self.probe, concept, images.tolist(), self.cutouts, region=self.region, least=LEAST
            )
        return self._found[concept]

    def usable(self) -> NDArray[np.bool_]:
        """Return ``(concepts,)``: may be proposed, and some image shows enough of it."""
        return self.allowed & (self.expected.survey.shares >= LEAST).any(0)

    def concept_of(self, pair: tuple[int, int], names: tuple[str, str]) -> int:
        """Return the concept that is expected to move the pair most, of those that can be cut out.

        Raises
        ------
        DataError
            There is none.
        """
        usable = self.usable()
        while True:
            best = best_of_pair(pair, self.expected.scores, usable)
            if best is None:
                raise DataError(
                    f"no concept that formulas name and {self.probe.name} shows on {LEAST:.0%} of an image is expected"
                    f" to move {names[0]!r} to {names[1]!r}: give another pair, other concepts, or a larger probe set"
                )
            if self.of_concept(best[0]):
                return best[0]
            usable[best[0]] = False  # it is there in small pieces only

    def pairs(self, photos: Photos, count: int, share: float) -> list[tuple[int, int]]:
        """Return pairs of classes; see `find_pairs`. Concepts in small pieces only are left out."""
        usable, scores = self.usable(), self.expected.scores
        while True:
            found = find_pairs(scores, photos.margins(), usable, count, share)
            best = {proposed[0] for pair in found if (proposed := best_of_pair(pair, scores, usable)) is not None}
            small = [concept for concept in sorted(best) if not self.of_concept(concept)]
            if not small:
                return found
            usable[small] = False

    def slots(self, pair: tuple[int, int], concept: int, number: int) -> tuple[list[Slot], tuple[str, ...]]:
        """Return the cut-outs of a pair's concept with their controls, and the names of the control concepts."""
        rng = np.random.default_rng([self.seed, 1, number])
        concepts = self.expected.explained.cells.numbers
        unnamed = unnamed_concepts(pair, self.expected.weights, self.expected.naming, concepts)
        unnamed[concept] = False
        controls = rng.permutation(np.flatnonzero(unnamed & self._shown())).tolist()
        others = self._others(controls, concept, len(self.of_concept(concept)), rng)
        without = np.flatnonzero(self.expected.survey.shares[:, concept] == 0)
        images = without if len(without) else np.arange(len(self.probe))
        slots = []
        for own, other in zip(self.of_concept(concept), others, strict=True):
            crop = random_crop(self.probe, int(rng.choice(images)), own, rng)
            slots.append(Slot((own, other, crop)))
        return slots, tuple(dict.fromkeys(one.concept for one in others if one is not None))

    def _shown(self) -> NDArray[np.bool_]:
        return np.asarray((self.expected.survey.shares >= LEAST).any(0), np.bool_)

    def _others(self, controls: list[int], concept: int, count: int, rng: np.random.Generator) -> list[Cutout | None]:
        """Return a cut-out of another concept for each slot, of as many concepts as there are; None where none is.

        From images without the concept itself, which might lie within the other one.
        """
        without = self.expected.survey.shares[:, concept] == 0
        kept: list[list[Cutout]] = []
        for other in controls:
            found = [one for one in self.of_concept(other) if without[one.image]]
            kept += [found] if found else []
            if len(kept) == count:
                break
        if not kept:
            return [None] * count
        return [kept[slot % len(kept)][int(rng.integers(len(kept[slot % len(kept)])))] for slot in range(count)]
