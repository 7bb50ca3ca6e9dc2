"""Do the pixels that a map points at matter to the network? Measured by taking them away and putting them back.

Five measures, each on the softmax probability of the class, each beside the same measure of *control* maps: the
map's own values in other places (see `explain.saliency.controls`). A score without a control means little: deletion
falls for any map that destroys the picture.

- **deletion**, **insertion** (Petsiuk et al. 2018, "RISE", section 4.2): pixels in falling order of the map are
  replaced by a baseline, or put back into a blurred image; area under the curve of the probability.
- **average drop**, **increase in confidence** (Chattopadhyay et al. 2018, "Grad-CAM++", section IV-A).
- **ROAD** (Rong et al. 2022, "A Consistent and Efficient Evaluation Strategy for Attribution Methods"): removed
  pixels are imputed, most relevant first and least relevant first.

All forward passes, over images x classes x steps, run in chunks of ``batch_size`` on the model's device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from explain.errors import InputError, near
from explain.nets.inputs import as_batch
from explain.nets.modes import eval_mode
from explain.nets.outputs import OutputSpec
from explain.nets.subject import Subject, as_subject
from explain.saliency.controls import CONTROLS, Control, control_maps
from explain.saliency.faithfulness_result import METRICS, Faithfulness
from explain.saliency.imputation import BLUR, Baseline
from explain.saliency.measures import Job, measure, probabilities
from explain.types import Saliency

__all__ = ["faithfulness"]

FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.9)
NOISE = 0.01


def faithfulness(
    model: nn.Module | Subject | str,
    images: Any,
    maps: Saliency,
    metrics: Sequence[str] | str = tuple(METRICS),
    *,
    steps: int = 32,
    fractions: Sequence[float] = FRACTIONS,
    baseline: Baseline = "zero",
    insertion_baseline: Baseline = "blur",
    blur: float = BLUR,
    noise: float = NOISE,
    controls: Sequence[Control] | Control = CONTROLS,
    draws: int = 1,
    batch_size: int = 32,
    seed: int = 0,
    output: OutputSpec = None,
) -> Faithfulness:
    """Measure how far the network's probability follows what the maps point at.

    Parameters
    ----------
    model
        A subject, a module, or a model's name (see `explain.load`). It comes back as it was.
    images
        The images of ``maps``, as they were given to `explain.cam`.
    maps
        ``k`` maps for each of the ``b`` images, of any method and size; they are laid over the input as
        ``maps.upsampled`` does (bilinear).
    metrics
        Any of ``"insertion"``, ``"deletion"``, ``"average_drop"``, ``"increase"``, ``"road"``.

        - insertion (higher is better), deletion (lower): area under the probability against the share of pixels, by
          trapezoids, 0…1.
        - average_drop (lower): ``max(0, Y - O) / Y`` in percent, where Y is the probability for the whole image and O
          for the image times ``ReLU(map) / max``, the map upsampled first. Where the mask is below 1, ``baseline``
          shines through. A map without positive values hides everything.
        - increase (higher): 100 where ``Y < O``, else 0.
        - road (higher): mean over ``fractions`` of ``(LeRF - MoRF) / 2``: the probability after the least relevant
          pixels were removed and imputed, less that after the most relevant ones were. The paper scores the
          accuracy over a data set; this is its combined score for single images.
    steps
        Steps of insertion and deletion: ``steps + 1`` forward passes each. RISE's code makes 224.
    fractions
        Shares of pixels that ROAD removes, between 0 and 1.
    baseline
        What deleted and masked pixels become: ``"zero"``, ``"mean"``, ``"blur"`` or a tensor. ``"zero"`` is zero *in
        the tensor*, as in RISE's code: after ``(x - mean) / std`` the mean colour of the training data, not black;
        ``"mean"`` is the mean colour of each image.
    insertion_baseline
        What insertion starts from; the paper blurs the image.
    blur
        Standard deviation of ``"blur"`` as a share of the shorter side: RISE's 5 of 224 pixels.
    noise
        Standard deviation of ROAD's noise, in the units of the tensor.
    controls
        ``"random"`` (the map's values shuffled) and ``"centre"`` (its largest values in the middle). Each costs as
        many forward passes as the maps themselves.
    draws
        How many random controls are averaged.
    batch_size
        Images per forward pass.
    seed
        Of the random controls, of the noise, and of the order of equal pixels. The user's random state is not touched.
    output
        Which part of the model's output holds the logits, see `explain.nets.outputs.pick`.

    Raises
    ------
    InputError
        Maps that hold NaN, belong to other images, or explain no class; unusable options.
    ModelError
        The network fails, gives no logits, or gives NaN.
    """
    wanted = _metrics(metrics)
    beside = _controls(controls)
    _check_options(steps, fractions, noise, draws, batch_size)
    subject = as_subject(model)
    placed = subject.placed(as_batch(images, subject.transform).tensor)
    _check_maps(maps, placed)
    size = placed.shape[2] * placed.shape[3]
    grained = "road" in wanted and noise > 0
    grain = noise * torch.randn(placed.shape, generator=_generator(seed)).to(placed.device) if grained else None
    job = Job(
        subject=subject,
        output=output,
        images=placed,
        maps=maps,
        ties=torch.randperm(size, generator=_generator(seed)).to(placed.device),
        steps=min(steps, size),
        fractions=tuple(fractions),
        baseline=baseline,
        insertion_baseline=insertion_baseline,
        blur=blur,
        noise=grain,
        batch_size=batch_size,
    )
    values = maps.values.detach().to(placed.device, torch.float32)
    with torch.inference_mode(False), torch.no_grad(), eval_mode(subject.model):
        whole = probabilities(job, 1, lambda items, _: placed[job.image_of(items)])[..., 0]
        scores, curves = measure(job, values, wanted, whole)
        found: dict[str, dict[str, Tensor]] = {
            control: _control_scores(job, values, wanted, whole, control, draws, seed) for control in beside
        }
    settings = {
        "steps": job.steps,
        "fractions": list(job.fractions),
        "baseline": baseline if isinstance(baseline, str) else "tensor",
        "insertion_baseline": insertion_baseline if isinstance(insertion_baseline, str) else "tensor",
        **{"blur": blur, "noise": noise, "draws": draws, "seed": seed, "align": maps.align},
    }
    flat = values.amax((2, 3)) == values.amin((2, 3))
    classes = maps.classes.to(placed.device)
    return Faithfulness(scores, found, curves, classes, whole, flat, maps.method, maps.layer, settings, maps.names)


# --- checks ---------------------------------------------------------------------------------------------------


def _metrics(metrics: Sequence[str] | str) -> tuple[str, ...]:
    wanted = (metrics,) if isinstance(metrics, str) else tuple(dict.fromkeys(metrics))
    if not wanted:
        raise InputError(f"no metrics were asked for: give some of {', '.join(METRICS)}")
    for name in wanted:
        if name not in METRICS:
            raise InputError(f"unknown metric {name!r}{near(str(name), METRICS)}; there are {', '.join(METRICS)}")
    return wanted


def _controls(controls: Sequence[Control] | Control) -> Sequence[Control]:
    wanted: Sequence[Control] = (controls,) if isinstance(controls, str) else controls
    for name in wanted:
        if name not in CONTROLS:
            raise InputError(f"unknown control {name!r}; there are {', '.join(CONTROLS)}")
    return wanted


def _check_options(steps: int, fractions: Sequence[float], noise: float, draws: int, batch_size: int) -> None:
    for name, value in (("steps", steps), ("draws", draws), ("batch_size", batch_size)):
        if value < 1:
            raise InputError(f"{name}={value}: give at least 1")
    if not fractions or not all(0 < fraction < 1 for fraction in fractions):
        raise InputError(f"fractions={tuple(fractions)}: give shares of pixels between 0 and 1")
    if not noise >= 0:
        raise InputError(f"noise={noise}: give a standard deviation of at least 0")


def _check_maps(maps: Saliency, images: Tensor) -> None:
    if len(images) == 0:
        raise InputError("the batch holds no images")
    if len(maps) != len(images):
        raise InputError(f"maps of {len(maps)} image(s) for {len(images)} image(s): give the images of the maps")
    if tuple(images.shape[2:]) != tuple(maps.input_size):
        raise InputError(
            f"the maps belong to inputs of {tuple(maps.input_size)}, the images are {tuple(images.shape[2:])}:"
            " give the images of the maps"
        )
    if not bool(images.isfinite().all()):
        raise InputError("the images hold NaN or infinity")
    broken = (~maps.values.isfinite().all(3).all(2)).nonzero()
    if len(broken):
        image, place = broken[0].tolist()
        raise InputError(
            f"{len(broken)} map(s) hold NaN or infinity, the first for image {image}, class"
            f" {int(maps.classes[image, place])}: such a map ranks no pixels"
        )
    if bool((maps.classes < 0).any()):
        raise InputError(
            "these maps explain a function of the output, not a class: faithfulness follows the probability of a class"
        )


def _control_scores(
    job: Job, values: Tensor, metrics: Sequence[str], whole: Tensor, control: Control, draws: int, seed: int
) -> dict[str, Tensor]:
    generator = _generator(seed)
    several = draws if control == "random" else 1
    drawn = [measure(job, control_maps(values, control, generator), metrics, whole)[0] for _ in range(several)]
    return {name: torch.stack([scores[name] for scores in drawn]).mean(0) for name in metrics}


def _generator(seed: int) -> torch.Generator:
    """Return a generator of its own for each purpose: no draw depends on which others were asked for."""
    return torch.Generator().manual_seed(seed)
