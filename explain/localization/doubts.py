"""What is asked of the data before a localization job, and what is doubted in its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from explain.data import as_localization
from explain.errors import DataError, InputError
from explain.localization.mapping import Mapped
from explain.localization.metrics import Score, proportion
from explain.localization.protocols import Protocol
from explain.nets.inputs import GIVE_TRANSFORM
from explain.nets.subject import Subject
from explain.types import LocalizationSet

__all__ = ["accuracy_of", "check_frames", "doubts", "opened"]


def accuracy_of(mapped: Mapped, warnings: list[str]) -> dict[str, float | int]:
    """Return ``top1``, ``top5`` in percent, ``n`` and ``classes``; adds a warning where the network seems to guess."""
    top1, chance = proportion(mapped.rank == 0), 100 / mapped.outputs
    if _near_chance(top1, chance):
        warnings.append(
            f"accuracy {top1.value:.1f} % is near chance ({chance:.2g} %): check normalisation and class order"
        )
    top5 = proportion(mapped.rank < 5).value
    return {"top1": top1.value, "top5": top5, "n": len(mapped.rank), "classes": mapped.outputs}


def doubts(
    scores: Mapping[str, Mapping[str, Mapping[str, Score]]],
    baselines: Mapping[str, Mapping[str, Mapping[str, Score]]],
    data: LocalizationSet,
) -> list[str]:
    """Return warnings about results that are not above the centre baseline, and about coordinates."""
    found = []
    for method, rows in scores.items():
        for protocol, own in rows.items():
            name = next(key for key in ("pxap", "maxboxacc", "gt_known") if key in own)
            centre = baselines["centre"][protocol][name]
            if own[name].low <= centre.value:
                above = own[name].value > centre.value
                found.append(
                    f"{method} under {protocol} is not {'clearly ' if above else ''}above the centre baseline"
                    f" ({name} {own[name]} against {centre.value:.1f}): "
                    + ("the interval holds both, more images would tell" if above else "this is no localization")
                )
    for protocol, own in baselines["truth"].items():
        if "gt_known" in own and own["gt_known"].value < 99:
            found.append(
                f"boxes made of the published ones score {own['gt_known'].value:.1f} % under {protocol}: some are"
                " outside their image, or in other coordinates"
            )
    if (outside := _boxes_outside(data)) > 0:
        found.append(f"{outside} image(s) have a box that leaves the image: boxes are in pixels of the stored image")
    return found


def _boxes_outside(data: LocalizationSet) -> int:
    """How many images have a box more than a pixel beyond their edge (published boxes run over by one)."""
    return sum(
        len(boxes) > 0
        and bool((boxes.min() < -1) or (boxes[:, 2] > size[1] + 1).any() or (boxes[:, 3] > size[0] + 1).any())
        for boxes, size in zip(data.boxes, data.sizes, strict=True)
    )


def _near_chance(top1: Score, chance: float) -> bool:
    """True where the accuracy cannot be told from about chance, and is not good beside it either."""
    return top1.low <= chance + min(chance, (100 - chance) / 10) and top1.value < (100 + chance) / 2


def opened(dataset: Any, limit: int | None, rules: Sequence[Protocol]) -> LocalizationSet:
    """Return the data that a caller means, its first ``limit`` images; refused where the protocols cannot score it."""
    data = as_localization(dataset)
    if len(data) == 0:
        raise DataError(f"{data.name} holds no images")
    if limit is not None and limit < 1:
        raise InputError(f"limit {limit}: give at least 1 image")
    if limit is not None and limit < len(data):
        data = data.select(range(limit))
    without = [name for name, boxes in zip(data.names, data.boxes, strict=True) if len(boxes) == 0]
    if without and not all(one.masks for one in rules):
        raise DataError(
            f"{data.name}: {len(without)} of {len(data)} images have no box ({', '.join(without[:3])}…):"
            " protocols that score boxes need at least one per image"
        )
    pixels = [one.name for one in rules if one.masks]
    if pixels and data.masks is None:
        raise DataError(f"protocol {pixels[0]} scores pixels, and {data.name} has no masks: use one that scores boxes")
    return data


def check_frames(subject: Subject, data: LocalizationSet) -> None:
    """Refuse data whose boxes cannot be laid over what the network sees."""
    tensors = isinstance(data.images[0], Tensor)
    if tensors and data.frame == "original":
        raise InputError(
            "images are tensors but boxes are in pixels of the original image: give pictures, or boxes of the input"
        )
    if not tensors and subject.transform is None:
        raise InputError(f"{data.name} holds pictures and the model has no transform: {GIVE_TRANSFORM}")
    if not tensors and subject.preprocess is None:
        raise InputError(
            "the geometry of the subject's transform is unknown, so boxes cannot be mapped to the image:"
            " use explain.nets.Preprocess, or torchvision's Resize, CenterCrop, ToTensor, Normalize"
        )
