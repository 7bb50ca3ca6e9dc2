"""Squashing: the whole image in the network's input, so that maps, boxes and masks lie over each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from explain.errors import DataError, InputError
from explain.nets.inputs import GIVE_TRANSFORM
from explain.nets.subject import Subject

__all__ = ["squashing"]


def squashing(subject: Subject, images: Sequence[Any], what: str) -> Subject:
    """Return the subject with a transform that shows the whole image, as boxes and masks do.

    Raises
    ------
    InputError
        Pictures for a model without a transform, or with one whose geometry is not known; ``what`` names the data.
    DataError
        There are no images.
    """
    if len(images) == 0:
        raise DataError(f"{what} holds no images")
    if isinstance(images[0], Tensor):
        return subject
    if subject.transform is None:
        raise InputError(f"{what} holds pictures and the model has no transform: {GIVE_TRANSFORM}")
    known = subject.preprocess
    if known is None:
        raise InputError(
            "the geometry of the subject's transform is unknown, so boxes and masks cannot be laid over its maps:"
            " use explain.nets.Preprocess, or torchvision's Resize, ToTensor, Normalize"
        )
    return replace(subject, transform=replace(known, crop_from=None))
