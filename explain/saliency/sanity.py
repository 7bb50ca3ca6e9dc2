"""Sanity checks: whether maps depend on what the network has learned.

Adebayo et al. 2018, "Sanity Checks for Saliency Maps":

- **Model parameters** (section 3, fig. 2): layers lose what they learned, from the top down one after the other
  (*cascading*) or each on its own (*independent*). Maps that stay as they were say nothing of the network.
- **Labels** (section 4): a network trained on random labels is compared with one trained on the true ones.

Maps are compared by Spearman's rank correlation, with and without their signs, and by SSIM. The classes are those
of the untouched network throughout: the top class of a random network would be another one.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from explain.errors import InputError, ModelError, near
from explain.nets.inputs import as_batch
from explain.nets.modes import eval_mode, naming_errors
from explain.nets.subject import Subject, as_subject
from explain.saliency.similarity import spearman, ssim
from explain.types import Saliency

__all__ = [
    "ExplainFunction",
    "Randomization",
    "Similarity",
    "compare_maps",
    "compare_models",
    "randomised",
    "randomization_check",
]

ExplainFunction = Callable[..., Saliency]
"""``(model, images) -> Saliency``, such as `explain.cam`; ``classes=``, if it takes them, are the first maps'."""

Order = Literal["cascading", "independent"]
How = Literal["reinitialize", "permute"]

STEPS = 12


@dataclass(frozen=True)
class Similarity:
    """How alike two sets of maps are; each float32 ``(b, k)``, 1 for maps that are the same."""

    spearman: Tensor
    """Rank correlation of the signed maps; NaN where one of them is flat."""
    spearman_abs: Tensor
    """Rank correlation of their absolute values."""
    ssim: Tensor
    """Structural similarity at the input's size."""

    def as_dict(self) -> dict[str, float | None]:
        """Return the means over images and classes as JSON takes them; None where no pair could be compared."""
        return {name: _mean(getattr(self, name)) for name in ("spearman", "spearman_abs", "ssim")}


@dataclass(frozen=True, repr=False)
class Randomization:
    """The maps' similarity to the untouched network's, one entry per step."""

    steps: tuple[str, ...]
    """What was randomised: the layers of each step; in a cascade those of all steps before as well."""
    similarities: tuple[Similarity, ...]
    order: Order
    how: How
    method: str
    classes: Tensor
    """int64 ``(b, k)``."""

    def as_dict(self) -> dict[str, Any]:
        """Return the means per step as JSON takes them."""
        rows = zip(self.steps, self.similarities, strict=True)
        return {
            "method": self.method,
            "order": self.order,
            "how": self.how,
            "steps": [{"layers": step, **similarity.as_dict()} for step, similarity in rows],
        }

    def table(self) -> str:
        """Return the means as text, one row per step."""
        rows = [("randomised", "spearman", "|spearman|", "ssim")]
        for step, similarity in zip(self.steps, self.similarities, strict=True):
            means = similarity.as_dict().values()
            rows.append((step, *("flat" if mean is None else f"{mean:.3f}" for mean in means)))  # type: ignore[arg-type]
        widths = [max(len(row[place]) for row in rows) for place in range(4)]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)

    def __repr__(self) -> str:
        return f"Randomization of {self.method!r}, {self.order}, {self.how}\n{self.table()}"


def randomization_check(
    model: nn.Module | Subject | str,
    images: Any,
    explain_fn: ExplainFunction,
    *,
    order: Order = "cascading",
    how: How = "reinitialize",
    layers: Sequence[str] | None = None,
    seed: int = 0,
) -> Randomization:
    """Compare maps of a network with those of copies of it whose layers have lost what they learned.

    Parameters
    ----------
    model
        A subject, a module, or a model's name. It is not touched: a deep copy is randomised.
    images
        What ``explain_fn`` takes.
    explain_fn
        ``(model, images) -> Saliency``, called with a subject where ``model`` is one (or a name), else with a
        module. If it has a parameter ``classes``, copies are explained for the classes of the first maps; else it
        has to hold them fixed by itself.
    order
        ``"cascading"``: the top layer, then the top two, … down to the whole network. ``"independent"``: one step
        at a time, all others as trained.
    how
        ``"reinitialize"``: the module's own ``reset_parameters`` (PyTorch's initialisation; a BatchNorm also forgets
        its statistics), and for parameters that no such method covers, normal values of the same mean and spread.
        ``"permute"``: the values of each parameter shuffled, so that its histogram stays; statistics are kept.
    layers
        Names of modules from the top down, one step each, with everything inside them. By default all modules that
        own parameters, in reverse order of execution; where there are more than 12, the top one and then 11 groups.
    seed
        Of the new weights. The user's random state is not touched.

    Raises
    ------
    InputError
        Unknown layers or options, maps of other classes, maps that hold NaN.
    ModelError
        The model cannot be copied, or owns no parameters.
    """
    if order not in ("cascading", "independent"):
        raise InputError(f"unknown order {order!r}: use 'cascading' or 'independent'")
    if how not in ("reinitialize", "permute"):
        raise InputError(f"unknown way {how!r}: use 'reinitialize' or 'permute'")
    subject = as_subject(model)
    bare = isinstance(model, nn.Module)
    steps = _steps(subject, images, layers)
    before = explain_fn(subject.model if bare else subject, images)
    generator = torch.Generator().manual_seed(seed)
    twin = _copied(subject.model)
    found = []
    for names in steps:
        if order == "independent":
            twin = _copied(subject.model)
        _randomise(twin, names, how, generator)
        after = _explained(explain_fn, twin if bare else replace(subject, model=twin), images, before)
        found.append(compare_maps(before, after))
    told = tuple(names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}" for names in steps)
    return Randomization(told, tuple(found), order, how, before.method, before.classes)


def randomised(subject: Subject, *, seed: int = 0) -> Subject:
    """Return a subject whose network is a copy that has lost all it learned; see `randomization_check`.

    Raises
    ------
    ModelError
        The model cannot be copied.
    """
    twin = _copied(subject.model)
    _randomise(twin, [""], "reinitialize", torch.Generator().manual_seed(seed))
    return replace(subject, model=twin)


def compare_models(
    one: nn.Module | Subject | str, other: nn.Module | Subject | str, images: Any, explain_fn: ExplainFunction
) -> Similarity:
    """Compare the maps of two networks for the classes that the first one's maps are of.

    The label randomisation test: train one network on the true labels and another on shuffled ones, until both fit;
    maps that look the same explain the pictures, not what was learned.

    Parameters
    ----------
    one, other
        Two networks of the same classes. They come back as they were, as far as ``explain_fn`` leaves them so.
    images, explain_fn
        See `randomization_check`.

    Raises
    ------
    InputError
        Maps of other classes or images, maps that hold NaN.
    """
    first, second = (model if isinstance(model, nn.Module) else as_subject(model) for model in (one, other))
    before = explain_fn(first, images)
    return compare_maps(before, _explained(explain_fn, second, images, before))


def compare_maps(one: Saliency, other: Saliency) -> Similarity:
    """Compare maps of the same images and classes.

    Rank correlations are taken at the maps' own size where it is the same, else at the input's; SSIM at the input's.

    Raises
    ------
    InputError
        Other images or classes, maps that hold NaN.
    """
    if one.classes.shape != other.classes.shape or one.input_size != other.input_size:
        raise InputError(
            f"maps of {tuple(one.classes.shape)} images and classes at {one.input_size} and of"
            f" {tuple(other.classes.shape)} at {other.input_size}: compare maps of the same images"
        )
    if not torch.equal(one.classes.cpu(), other.classes.cpu()):
        raise InputError(
            "the maps are of other classes: hold them fixed, as explain_fn ="
            " lambda model, images: explain.cam(model, images, classes=maps.classes) does"
        )
    a, b = one.values.detach().float(), other.values.detach().float().to(one.values.device)
    large = [maps.upsampled(values, one.input_size) for maps, values in ((one, a), (other, b))]
    a, b = (a, b) if a.shape == b.shape else (large[0], large[1])
    return Similarity(spearman(a, b), spearman(a.abs(), b.abs()), ssim(large[0], large[1]))


def _mean(values: Tensor) -> float | None:
    mean = float(values.nanmean())
    return None if mean != mean else mean


def _explained(explain_fn: ExplainFunction, model: Any, images: Any, before: Saliency) -> Saliency:
    try:
        fixed = "classes" in inspect.signature(explain_fn).parameters
    except (TypeError, ValueError):  # something callable that does not say what it takes
        fixed = False
    return explain_fn(model, images, classes=before.classes) if fixed else explain_fn(model, images)


# --- which layers, and from the top down ----------------------------------------------------------------------


def _steps(subject: Subject, images: Any, layers: Sequence[str] | None) -> list[list[str]]:
    """Return the modules to randomise at each step, the topmost first."""
    owners = _executed(subject, images)
    if layers is None:
        if len(owners) <= STEPS:
            return [[name] for name in owners]
        rest = owners[1:]
        cuts = [round(len(rest) * part / (STEPS - 1)) for part in range(STEPS)]
        return [owners[:1], *(rest[start:stop] for start, stop in pairwise(cuts))]
    names = [layers] if isinstance(layers, str) else list(layers)
    if not names:
        raise InputError("no layers were given: name some, or leave layers=None for all")
    modules = dict(subject.model.named_modules())
    for name in names:
        if name not in modules or not name:
            raise InputError(f"unknown layer {name!r}{near(str(name), modules)}")
        if next(modules[name].parameters(), None) is None:
            raise InputError(f"layer {name!r} has no parameters to randomise")
    return [[name] for name in names]


def _executed(subject: Subject, images: Any) -> list[str]:
    """Return the names of modules that own parameters and are run, the last one first."""
    batch = subject.placed(as_batch(images, subject.transform).tensor[:1])
    called: dict[str, None] = {}
    handles = [
        module.register_forward_hook(lambda _m, _i, _o, name=name: called.setdefault(name))
        for name, module in subject.model.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    ]
    try:
        with torch.no_grad(), eval_mode(subject.model), naming_errors(batch):
            subject.model(batch)
    finally:
        for handle in handles:
            handle.remove()
    if not called:
        raise ModelError("the network has no parameters in the modules that it runs: there is nothing to randomise")
    return list(called)[::-1]


# --- new weights ----------------------------------------------------------------------------------------------


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        raise ModelError(f"the model cannot be copied to be randomised ({type(error).__name__}: {lines[0]})") from error


def _randomise(model: nn.Module, names: Sequence[str], how: How, generator: torch.Generator) -> None:
    """Give the parameters inside the named modules new values, in place."""
    modules = dict(model.named_modules())
    with torch.no_grad():
        for name in names:
            for module in modules[name].modules():
                if how == "reinitialize" and callable(getattr(module, "reset_parameters", None)):
                    _reset(module, generator)
                    continue
                for parameter in module.parameters(recurse=False):
                    parameter.copy_(_redrawn(parameter, how, generator).view_as(parameter))


def _reset(module: nn.Module, generator: torch.Generator) -> None:
    """Call the module's own initialisation, which draws from torch's global state, and put that state back."""
    devices = sorted({p.device.index or 0 for p in module.parameters() if p.device.type == "cuda"})
    seed = int(torch.randint(2**62, (1,), generator=generator))
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach devices that are not put back
        for device in devices:
            torch.cuda.default_generators[device].manual_seed(seed)
        module.reset_parameters()  # type: ignore[operator]


def _redrawn(parameter: Tensor, how: How, generator: torch.Generator) -> Tensor:
    flat = parameter.detach().flatten()
    if how == "permute":
        return flat[torch.randperm(len(flat), generator=generator).to(flat.device)]
    mean, spread = flat.float().mean(), flat.float().std(correction=0)
    return mean + spread * torch.randn(len(flat), generator=generator).to(flat.device)
