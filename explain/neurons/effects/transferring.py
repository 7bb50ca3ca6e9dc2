"""Pictures through networks that nobody explained: whether what fools one fools another."""

from __future__ import annotations

from explain.errors import InputError
from explain.nets.squash import squashing
from explain.nets.subject import Subject, as_subject, load, torchvision_names
from explain.types import LocalizationSet

__all__ = ["open_other"]


def open_other(given: Subject | str, data: LocalizationSet, like: Subject, classes: int) -> Subject:
    """Return another network for the same classes.

    Parameters
    ----------
    given
        A subject, or ``NAME`` or ``NAME:WEIGHTS`` of torchvision (``mobilenet_v2:file.pth``), ``demo``, or
        ``module:callable``.
    like
        The network that was explained; the other one works on the same device.

    Raises
    ------
    ModelError, InputError
        It cannot be loaded, or names its classes otherwise.
    """
    subject = _loaded(given) if isinstance(given, str) else as_subject(given)
    subject = squashing(subject, data.images, data.name).to(like.device)
    if subject.classes is not None and len(subject.classes) != classes:
        raise InputError(
            f"{subject.name} has {len(subject.classes)} classes, {like.name} has {classes}: pictures are passed on to"
            " networks for the same classes"
        )
    return subject


def _loaded(text: str) -> Subject:
    name, colon, weights = text.partition(":")
    return load(name, weights=weights) if colon and name in torchvision_names() else load(text)
