"""Subjects: a model with its transform, class names and hash. Preprocessing travels with the model."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import operator
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from explain.errors import ExplainError, InputError, ModelError, near
from explain.nets.inputs import IMAGENET_MEAN, IMAGENET_STD, Preprocess, describe_transform, recognise
from explain.nets.weights import load_weights

__all__ = ["Subject", "as_subject", "import_attribute", "load", "torchvision_names"]


@dataclass(frozen=True, repr=False)
class Subject:
    """A model with what belongs to it."""

    model: nn.Module
    transform: Callable[[Image.Image], Tensor] | None = None
    """PIL image → tensor ``(c, h, w)``; None: only preprocessed tensors can be explained."""
    classes: tuple[str, ...] | None = None
    """Class names in index order."""
    name: str = "model"
    source: str = field(default="", compare=False)
    """Where the weights came from."""

    def __repr__(self) -> str:
        count = len(self.classes) if self.classes is not None else "unnamed"
        return f"Subject({self.name!r}, {type(self.model).__name__}, {count} classes, {self.transform!r})"

    @property
    def preprocess(self) -> Preprocess | None:
        """The transform, where its geometry is known."""
        return recognise(self.transform) if self.transform is not None else None

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the input; 224 where the transform does not say."""
        known = self.preprocess
        return known.size if known is not None else (224, 224)

    @property
    def device(self) -> torch.device:
        """The device of the first parameter or buffer."""
        values = chain(self.model.parameters(), self.model.buffers())
        return next((value.device for value in values), torch.device("cpu"))

    def placed(self, images: Tensor) -> Tensor:
        """Return images on the model's device, in its floating point type."""
        kinds = (value.dtype for value in self.model.parameters() if value.is_floating_point())
        placed = images.to(self.device, next(kinds, images.dtype))
        return placed.clone() if placed.is_inference() else placed  # for derivatives, where inference mode is off

    def to(self, device: str | torch.device) -> Subject:
        """Move the model to ``device`` (in place, as torch does) and return the subject."""
        self.model.to(device)
        return self

    def hash(self) -> str:
        """SHA-256 over the names, shapes and bytes of all weights and buffers."""
        digest = hashlib.sha256()
        for name, value in sorted(self.model.state_dict().items()):
            if isinstance(value, Tensor):
                digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
                digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def class_index(self, wanted: str | int, classes: int) -> int:
        """Return the index of a class given by index, name, or one of the comma-separated parts of a name.

        Raises
        ------
        InputError
            The class is unknown (near names are listed) or out of range.
        """
        found = self._named(wanted) if isinstance(wanted, str) else []
        if len(found) == 1:
            return found[0]
        if len(found) > 1:
            raise InputError(f"class {wanted!r} is the name of classes {found}: give the index")
        if isinstance(wanted, str) and not re.fullmatch(r"-?[0-9]+", wanted):
            if self.classes is None:
                raise InputError(f"class {wanted!r} given by name, but the model has no class names: give an index")
            raise InputError(f"unknown class {wanted!r}{near(wanted, self.classes)}")
        try:
            index = int(wanted) if isinstance(wanted, str) else operator.index(wanted)
        except TypeError:
            raise InputError(f"class {wanted!r} is no index and no name") from None
        if not 0 <= index < classes:
            raise InputError(f"class {index} does not exist: the model has classes 0 to {classes - 1}")
        return index

    def _named(self, wanted: str) -> list[int]:
        """Return the classes of this name; if there is none, those with this name among several."""
        folded = [name.lower() for name in self.classes or ()]
        whole = [index for index, name in enumerate(folded) if name == wanted.lower()]
        parts = ([part.strip() for part in name.split(",")] for name in folded)
        return whole or [index for index, names in enumerate(parts) if wanted.lower() in names]

    def describe(self) -> dict[str, Any]:
        """Return what a manifest records of the subject."""
        return {
            "name": self.name,
            "hash": self.hash(),
            "source": self.source,
            "transform": describe_transform(self.transform),
        }


def as_subject(model: nn.Module | Subject | str) -> Subject:
    """Return a subject: as it is, loaded by name, or a bare module without transform.

    Of a compiled module (``torch.compile``) the original is taken: it has the same parameters, and a compiled forward
    pass cannot be looked into.
    """
    if isinstance(model, Subject):
        original = _uncompiled(model.model)
        return model if original is model.model else replace(model, model=original)
    if isinstance(model, str):
        return load(model)
    if isinstance(model, nn.Module):
        original = _uncompiled(model)
        return Subject(original, name=type(original).__name__)
    raise InputError(f"cannot explain a {type(model).__name__}: give a torch.nn.Module, a subject or a model's name")


def _uncompiled(model: nn.Module) -> nn.Module:
    original = getattr(model, "_orig_mod", None)
    return original if isinstance(original, nn.Module) else model


def load(
    model: str | nn.Module | Subject,
    *,
    weights: str | Path = "DEFAULT",
    transform: Callable[[Image.Image], Tensor] | None = None,
    classes: Sequence[str] | None = None,
    device: str | torch.device = "cpu",
    input_size: int | tuple[int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Subject:
    """Make a subject.

    Parameters
    ----------
    model
        ``"demo"`` (EfficientNet-Lite0, the extra ``demo``); a torchvision classifier by name (``"resnet50"``);
        ``"module:callable"`` or ``"file.py:callable"``, which returns a model or a subject; or a module.
    weights
        A file; for torchvision names also ``"DEFAULT"`` (downloaded by torchvision) or ``"none"`` (random).
    transform, classes, input_size, mean, std
        Replace what the model brings. ``input_size`` is one number or (height, width).
    device
        Where the model goes.

    Raises
    ------
    ModelError
        Unknown model, weights that do not fit or cannot be had; InputError for unusable options.
    """
    if transform is not None and not callable(transform):
        raise InputError(f"transform {transform!r} cannot be called: give a function from a PIL image to a tensor")
    subject = _find(model, weights)
    if transform is not None:
        subject = replace(subject, transform=transform)
    if classes is not None:
        subject = replace(subject, classes=tuple(classes))
    if input_size is not None or mean is not None or std is not None:
        subject = replace(subject, transform=_adjusted(subject.transform, input_size, mean, std))
    return subject.to(device)


def _find(model: str | nn.Module | Subject, weights: str | Path) -> Subject:
    if isinstance(model, str) and model != "demo" and ":" not in model:
        return _from_torchvision(model, weights)
    if not isinstance(model, str):
        subject = as_subject(model)
    elif model == "demo":
        from explain.nets.demo_net import demo_subject

        subject = demo_subject()
    else:
        subject = _from_callable(model)
    if str(weights) not in ("DEFAULT", "none"):
        load_weights(subject.model, Path(weights), subject.name)
        subject = replace(subject, source=str(weights))
    return subject


def _adjusted(
    transform: Callable[[Image.Image], Tensor] | None,
    input_size: int | tuple[int, int] | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> Preprocess:
    known = recognise(transform) if transform is not None else Preprocess(mean=IMAGENET_MEAN, std=IMAGENET_STD)
    if known is None:
        raise InputError(
            "input size, mean and std cannot be set on a transform of one's own: give explain.nets.Preprocess instead"
        )
    size = (input_size, input_size) if isinstance(input_size, int) else input_size
    if size is not None and min(size) < 1:
        raise InputError(f"input size {input_size} is not positive")
    return replace(
        known,
        size=size or known.size,
        mean=tuple(mean) if mean is not None else known.mean,
        std=tuple(std) if std is not None else known.std,
    )


def torchvision_names() -> list[str]:
    """Return the names of torchvision's classification models."""
    from torchvision import models

    names: list[str] = models.list_models(module=models)
    return names


def _from_torchvision(name: str, weights: str | Path) -> Subject:
    from torchvision import models

    names = torchvision_names()
    if name not in names:
        if Path(name).suffix == ".py":
            raise ModelError(f"{name} is a file: name the function in it that makes the network, as {name}:callable")
        raise ModelError(
            f"unknown model {name!r}{near(name, [*names, 'demo'])}; `explain models` lists all, or give"
            " FILE.py:callable or module:callable"
        )
    default = models.get_model_weights(name).DEFAULT
    categories = tuple(default.meta["categories"])
    # GoogLeNet and Inception come with auxiliary classifiers that only training uses, and warn of slow initialisation.
    # Their published weights want the transform that the network applies to its input.
    extra = {}
    if name in ("googlenet", "inception_v3"):
        extra = {"init_weights": weights == "none", "transform_input": weights != "none"}
    if weights == "DEFAULT":
        try:
            net = models.get_model(name, weights=default)
        except OSError as error:
            raise ModelError(
                f"the weights of {name} cannot be downloaded ({error}): give --weights PATH, or --weights none"
            ) from None
        source = str(default)
    else:
        net = models.get_model(name, weights=None, **extra)
        source = "random" if weights == "none" else str(weights)
        if weights != "none":
            load_weights(net, Path(weights), name)
    return Subject(net.eval(), recognise(default.transforms()), categories, name, source)


def import_attribute(spec: str) -> Any:
    """Return what ``"module:attribute"`` or ``"file.py:attribute"`` names.

    Raises
    ------
    ModelError
        There is no such module, file or attribute.
    """
    place, colon, attribute = spec.rpartition(":")
    if not colon:
        raise ModelError(f"{spec!r} names nothing to import: give module:attribute or FILE.py:attribute")
    module = _import(place)
    if not hasattr(module, attribute):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise ModelError(f"{place} has no {attribute!r}{near(attribute, public)}")
    return getattr(module, attribute)


def _from_callable(spec: str) -> Subject:
    made = import_attribute(spec)
    if not isinstance(made, (nn.Module, Subject)):
        made = _call(made, spec)
    if isinstance(made, nn.Module):
        return Subject(made.eval(), name=spec)
    if isinstance(made, Subject):
        return made
    raise ModelError(f"{spec} returned {type(made).__name__}: it must return a torch.nn.Module or an explain.Subject")


def _call(made: Any, spec: str) -> Any:
    if not callable(made):
        raise ModelError(
            f"{spec} is a {type(made).__name__}: it must be a module, a subject or a function without arguments"
        )
    try:
        return made()
    except ExplainError:
        raise
    except Exception as error:  # the user's own code
        raise ModelError(f"{spec}() failed: {type(error).__name__}: {error}") from error


def _import(place: str) -> Any:
    if not place.endswith(".py"):
        try:
            if str(Path.cwd()) not in sys.path:
                sys.path.insert(0, str(Path.cwd()))
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            raise ModelError(f"no module {place!r} to take the model from ({error})") from None
        except Exception as error:  # the user's own code
            raise ModelError(f"{place} failed: {type(error).__name__}: {error}") from error
    path = Path(place)
    if not path.is_file():
        raise ModelError(f"no file {place} to take the model from")
    name = f"explain_user_{path.stem}"  # the plain name would hide a package of the same name
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise ModelError(f"{place} cannot be imported")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses look modules up there
    beside = str(path.parent.resolve())
    if beside not in sys.path:  # the file may import its neighbours, as `python FILE.py` lets it
        sys.path.insert(0, beside)
    try:
        specification.loader.exec_module(module)
    except Exception as error:  # the user's own code
        del sys.modules[name]
        raise ModelError(f"{place} failed: {type(error).__name__}: {error}") from error
    return module
