"""What is asked of a network: how it is called, and which numbers of its output are explained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explain.errors import InputError
from explain.nets.outputs import OutputSpec, logits_of, pick
from explain.nets.subject import Subject
from explain.saliency.classes import ClassSpec, choose_classes

__all__ = ["Query", "Selection", "cut_classes", "query_of"]


@dataclass(frozen=True)
class Selection:
    """The numbers that are explained: ``k`` per image."""

    classes: Tensor
    """int64 ``(b, k)``; -1 where the number is no class's score but a function of the output."""
    function: Callable[[Any], Tensor] | None = None
    """Of the picked output, where classes are not what is explained."""
    against: Tensor | None = None
    """int64 ``(b, k, d)``: classes whose mean score, times ``share``, is taken off (Finer-CAM)."""
    share: float = 0.0

    def scores(self, picked: Any) -> Tensor:
        """Return the numbers ``(b, k)`` from the picked output, with its graph."""
        if self.function is not None:
            return _columns(self.function(picked))
        picked = picked[:, None] if picked.ndim == 1 else picked  # one number per image
        own: Tensor = picked.gather(1, self.classes)
        if self.against is None:
            return own
        rivals: Tensor = picked.gather(1, self.against.flatten(1)).unflatten(1, self.against.shape[1:])
        return own - self.share * rivals.mean(2)

    def weights(self, own: Tensor, of_classes: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the same combination of class weights ``(b, k, c)``.

        ``own`` are those of `classes`; ``of_classes`` maps indices to weights.
        """
        return own if self.against is None else own - self.share * of_classes(self.against).mean(2)

    def rows(self, rows: Tensor) -> Selection:
        """Return the selection for images ``rows`` (int64 ``(n,)``) of the batch."""
        against = self.against[rows] if self.against is not None else None
        return replace(self, classes=self.classes[rows], against=against, function=_of_images(self.function, rows))


@dataclass(frozen=True)
class Query:
    """A network, how it is called, and the classes or the function of its output that is explained."""

    subject: Subject
    classes: ClassSpec = "top1"
    output: OutputSpec = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Further inputs, held fixed."""
    image_name: str | None = None
    """The keyword under which the network takes images; None: its first argument."""

    def part(self, start: int, count: int, total: int) -> Query:
        """Return the query for images ``start … start + count`` of ``total``: lists and inputs per image are cut."""
        part = self.of(torch.arange(start, start + count), total)
        classes = _of_images(self.classes, torch.arange(start, start + count))
        return replace(part, classes=cut_classes(classes, start, count, total))

    def of(self, rows: Tensor, total: int) -> Query:
        """Return the query with the other inputs of images ``rows`` of ``total``."""
        own = self.per_image(total)
        cut = {name: value[rows.to(value.device)] if name in own else value for name, value in self.inputs.items()}
        return replace(self, inputs=cut)

    def per_image(self, total: int) -> list[str]:
        """Return the names of the other inputs that have one row for each of ``total`` images."""
        return [
            name
            for name, value in self.inputs.items()
            if isinstance(value, Tensor) and value.ndim > 0 and len(value) == total
        ]

    def run(self, images: Tensor) -> Any:
        """Call the network on images, with the other inputs; on a copy, since a network may work in place on them."""
        images = images.clone()
        if self.image_name is None:
            return self.subject.model(images, **self.inputs)
        return self.subject.model(**{self.image_name: images}, **self.inputs)

    def first(self, total: int) -> Callable[[Tensor], Any]:
        """Return how the network is called on the first of ``total`` images alone."""
        return self.of(torch.zeros(1, dtype=torch.int64), total).run

    def pick(self, output: Any) -> Any:
        """Return the part of the network's output that scores are read from."""
        return pick(output, self.output)

    def select(self, picked: Any) -> Selection:
        """Return what is explained, given the picked output of the forward pass.

        Raises
        ------
        InputError
            Unknown classes, or a function that gives something else than one number (or class) per image.
        """
        spec = self.classes
        if callable(spec) and not isinstance(spec, (str, Tensor)):
            with torch.no_grad():
                found = spec(picked)
            if isinstance(found, Tensor) and found.is_floating_point():
                scores = _columns(found)
                none = torch.full(scores.shape, -1, dtype=torch.int64, device=scores.device)
                return Selection(none, function=spec)
            spec = found
        logits = logits_of(picked) if not isinstance(picked, Tensor) or picked.ndim != 1 else picked[:, None]
        check_names(self.subject, logits)
        return Selection(choose_classes(spec, logits, self.subject))


def query_of(
    subject: Subject,
    classes: ClassSpec,
    output: OutputSpec = None,
    inputs: Mapping[str, Any] | None = None,
    image_name: str | None = None,
) -> Query:
    """Return a query; further inputs that were made in inference mode are copied, so that they can take part."""
    normal = {
        name: value.clone() if isinstance(value, Tensor) and value.is_inference() else value
        for name, value in (inputs or {}).items()
    }
    return Query(subject, classes, output, normal, image_name)


def check_names(subject: Subject, logits: Tensor) -> None:
    """Refuse class names that are not as many as the network has classes."""
    if subject.classes is not None and len(subject.classes) != logits.shape[1]:
        raise InputError(
            f"{len(subject.classes)} class names for a network of {logits.shape[1]} classes: give one each"
        )


def _columns(scores: Any) -> Tensor:
    if isinstance(scores, Tensor) and scores.is_floating_point() and scores.ndim in (1, 2) and len(scores):
        return scores[:, None] if scores.ndim == 1 else scores
    shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
    raise InputError(f"classes as a function of the output returned {shape}: it must return (b,) or (b, k) numbers")


def _of_images(spec: Any, rows: Tensor) -> Any:
    """Return a function of the output that holds something per image (`targets.region`'s masks) for some images."""
    return spec.of_images(rows) if hasattr(spec, "of_images") else spec


def cut_classes(classes: ClassSpec, start: int, count: int, total: int) -> ClassSpec:
    """Return the classes of images ``start … start + count`` of ``total``: one list per image is cut, all else is kept.

    Raises
    ------
    InputError
        Lists for another number of images.
    """
    rows: Any = classes.tolist() if isinstance(classes, (Tensor, np.ndarray)) else classes
    if not (isinstance(rows, (list, tuple)) and rows and all(isinstance(row, (list, tuple)) for row in rows)):
        return classes
    if len(rows) != total:
        raise InputError(f"classes has {len(rows)} lists for {total} images: give one list per image")
    return classes[start : start + count]  # type: ignore[index]
