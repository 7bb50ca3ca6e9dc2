"""Give a trunk a new head: a linear classifier on its GAP features, so that any labelled images get an exact CAM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explain.errors import InputError
from explain.nets.inputs import as_batch, stream
from explain.nets.modes import eval_mode
from explain.nets.subject import Subject, as_subject
from explain.nets.tap import stop_at
from explain.nets.trace import trace

__all__ = ["LinearHead", "gap_features", "linear_head"]


class LinearHead(nn.Module):
    """A trunk cut at its map, global average pooling, one linear layer: ``logits = W mean_xy A + b``."""

    def __init__(self, trunk: nn.Module, layer: str, weight: Tensor, bias: Tensor, *, call: int = 1) -> None:
        super().__init__()
        self.trunk = trunk
        self.layer = layer
        self.call = call
        # Not initialised: that would draw random numbers, which are the user's.
        self.linear = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], device=weight.device)
        with torch.no_grad():
            self.linear.weight.copy_(weight)
            self.linear.bias.copy_(bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(b, classes)`` for images ``(b, c, h, w)``; the trunk runs only as far as its map."""
        features = stop_at(self.trunk, self.layer, images, call=self.call)
        logits: Tensor = self.linear(features.mean((2, 3)).to(self.linear.weight.dtype))
        return logits


def gap_features(
    subject: Subject, images: Any, layer: str, *, call: int = 1, batch_size: int = 32, workers: int = 0
) -> Tensor:
    """Return the generic features of the CAM paper (section 3.3): the spatial mean of the map, float32 ``(n, c)``."""
    rows = []
    with eval_mode(subject.model), torch.no_grad():
        if isinstance(images, Tensor):
            batches = list(images.split(batch_size))
        else:
            several = isinstance(images, Sequence) and not isinstance(images, str)
            sources = list(images) if several else [images]
            batches = (
                tensor for _, tensor in stream(sources, subject.transform, batch_size=batch_size, workers=workers)
            )  # type: ignore[assignment]
        for batch in batches:
            rows.append(stop_at(subject.model, layer, subject.placed(batch), call=call).float().mean((2, 3)).cpu())
    return torch.cat(rows)


def linear_head(
    subject: Subject | nn.Module,
    images: Any,
    labels: Sequence[int] | Tensor,
    *,
    classes: Sequence[str] | None = None,
    l2: float = 1e-2,
    batch_size: int = 32,
    workers: int = 0,
) -> Subject:
    """Fit a linear head on the frozen trunk's GAP features; the result has an exact CAM.

    Multinomial logistic regression on standardised features by L-BFGS (deterministic), folded back to the raw
    features (generic features of Zhou et al. 2016, section 3.3). The trunk is shared with ``subject``, not copied.

    Parameters
    ----------
    subject
        Whose trunk it is.
    images
        A tensor ``(n, c, h, w)``, or paths, PIL images or arrays.
    labels
        ``n`` class indices from 0.
    classes
        Class names; at least two classes.
    l2
        Weight of the squared norm of the head, per class.
    batch_size, workers
        Images per forward pass; processes that decode images.

    Raises
    ------
    InputError
        Lengths that differ, fewer than two classes, labels out of range.
    """
    subject = as_subject(subject)
    targets = torch.as_tensor(labels, dtype=torch.int64)
    count = len(images) if isinstance(images, (Sequence, Tensor)) and not isinstance(images, str) else 1
    if targets.ndim != 1 or len(targets) != count or count == 0:
        raise InputError(f"{count} images but labels of shape {tuple(targets.shape)}: give one class index per image")
    number = len(classes) if classes is not None else int(targets.max()) + 1
    if len(targets.unique()) < 2 or int(targets.min()) < 0 or int(targets.max()) >= number:
        found = sorted(set(targets.tolist()))
        raise InputError(f"labels {found[:5]}… do not fit {number} classes: at least two classes, indices from 0")
    first = subject.placed(as_batch(images[:1], subject.transform).tensor)
    traced = trace(subject.model, first)
    features = gap_features(subject, images, traced.layer, call=traced.call, batch_size=batch_size, workers=workers)
    weight, bias = _fit_logistic(features.double(), targets, number, l2)
    place = subject.device
    head = (weight.float().to(place), bias.float().to(place))
    model = LinearHead(subject.model, traced.layer, *head, call=traced.call)
    names = tuple(classes) if classes is not None else None
    model.training = False  # not model.eval(): the trunk is the user's and keeps its own mode
    model.linear.eval()
    return replace(subject, model=model, classes=names, name=f"{subject.name}+linear")


def _fit_logistic(features: Tensor, targets: Tensor, classes: int, l2: float) -> tuple[Tensor, Tensor]:
    centre, spread = features.mean(0), features.std(0)
    spread = torch.where(spread > 0, spread, torch.ones_like(spread))
    standard = (features - centre) / spread
    with torch.inference_mode(False), torch.enable_grad():
        weight = torch.zeros(classes, features.shape[1], dtype=torch.float64, requires_grad=True)
        bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(standard @ weight.T + bias, targets) + l2 * weight.square().sum() / classes
            loss.backward()
            return loss

        optimizer.step(closure)
    folded = (weight / spread).detach()
    return folded, (bias - folded @ centre).detach()
