"""The job: a model's maps on labelled images → boxes → scores with intervals, beside a centre baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explain.data import as_localization
from explain.errors import DataError, InputError, ModelError
from explain.localization import metrics
from explain.localization.boxes import image_maps
from explain.localization.metrics import Score
from explain.localization.protocols import Protocol, find_protocol
from explain.localization.sweep import threshold_sweep
from explain.nets.inputs import Batch, stream, suspicion
from explain.nets.probe import HeadProbe, probe_head, require_exact
from explain.nets.subject import Subject, as_subject
from explain.nets.trace import trace
from explain.nets.traced import Trace
from explain.runs import Checkpoint
from explain.saliency.cam import cam_of_trace
from explain.saliency.query import Query
from explain.types import Geometry, LocalizationSet

__all__ = ["LocalizationResult", "Progress", "evaluate_localization"]

Progress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)``."""


@dataclass(frozen=True, repr=False)
class LocalizationResult:
    """Scores of one method under one protocol, with what was measured on each image."""

    metrics: Mapping[str, Mapping[str, Mapping[str, Score]]]
    """``metrics[method][protocol][name]``."""
    baselines: Mapping[str, Mapping[str, Score]]
    accuracy: Mapping[str, float | int]
    """``top1``, ``top5`` in percent, ``n``, ``classes``."""
    warnings: tuple[str, ...]
    method: str
    protocol: Protocol
    best_threshold: float
    records: Mapping[str, NDArray[Any]] = field(repr=False)
    """Per image: ``predicted (n, 5)``, ``rank``, ``ious (n, t)``, ``boxes (n, 4)`` at the protocol's threshold,
    ``maps (n, h, w)``."""
    data: LocalizationSet = field(repr=False)
    subject: Subject = field(repr=False)
    layer: str = ""
    residual: float = 0.0

    def __repr__(self) -> str:
        known = self.scores["gt_known"]
        return f"LocalizationResult({self.method} on {len(self.data)} images of {self.data.name!r}, GT-known {known})"

    @property
    def scores(self) -> Mapping[str, Score]:
        """The scores of the method under the protocol."""
        return self.metrics[self.method][self.protocol.name]

    def table(self) -> str:
        """Return the scores as text: value, interval and the centre baseline beside it."""
        rows = [f"{'score (%)':<18}{self.method:>8}   95 % interval    {'centre':>8}   n"]
        for name, score in self.scores.items():
            base = self.baselines["centre"][name]
            rows.append(
                f"{name:<18}{score.value:>8.1f}   [{score.low:5.1f}, {score.high:5.1f}]  {base.value:>8.1f}   {score.n}"
            )
        return "\n".join(rows)

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write a run folder with pictures (`explain.render` makes its report); see `explain.runs`."""
        from explain.localization.saving import save_result

        return save_result(self, path, overwrite=overwrite)

    def show(self) -> None:
        """Print the accuracy, the warnings and the table."""
        print("\n".join([accuracy_line(self.accuracy), *self.warnings, self.table()]))

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(accuracy_line(self.accuracy))}\n{escape(self.table())}</pre>"


def accuracy_line(accuracy: Mapping[str, float | int]) -> str:
    """Return the line that runs on labelled data print first."""
    return (
        f"accuracy: top-1 {accuracy['top1']:.1f} %, top-5 {accuracy['top5']:.1f} %"
        f" on {accuracy['n']} images, {accuracy['classes']} classes"
    )


def evaluate_localization(
    model: nn.Module | Subject | str,
    dataset: Any,
    protocol: str | Protocol = "cam2016",
    method: str = "cam",
    *,
    batch_size: int = 32,
    workers: int = 0,
    limit: int | None = None,
    seed: int = 0,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> LocalizationResult:
    """Score how well the maps of ``model`` localize the labelled class of each image.

    Parameters
    ----------
    dataset
        A folder in the plain format, a known name, a `LocalizationSet`, or a sequence of (image, class index, boxes):
        pictures with boxes in their own pixels, or preprocessed tensors with boxes in pixels of the tensor.
    method
        ``"cam"``: exact class activation maps.
    limit
        Use the first ``limit`` images only.
    seed
        Of the bootstrap.
    checkpoint, progress
        Where to save what is done; whom to tell.

    Raises
    ------
    ModelError, DataError, InputError
        A model without exact CAM, data without boxes or with classes that the model does not have, mixed frames.
    """
    if method != "cam":
        raise InputError(f"unknown method {method!r}: known: cam")
    subject, rules = as_subject(model), find_protocol(protocol)
    data = _opened(dataset, limit)
    _check_frames(subject, data)
    thresholds = np.arange(rules.threshold_steps) / rules.threshold_steps
    records, warnings = _measure(subject, data, thresholds, batch_size, workers, checkpoint or Checkpoint(), progress)
    fixed = int(np.argmin(np.abs(thresholds - rules.threshold)))
    scores, best = _scores(records["ious"], records["rank"], fixed, rules, seed)
    centre = np.stack(
        [
            metrics.best_ious(metrics.centre_boxes(size, thresholds), truth)
            for size, truth in zip(data.sizes, data.boxes, strict=True)
        ]
    )
    baseline, _ = _scores(centre, records["rank"], fixed, rules, seed)
    number = int(records["outputs"][0])
    top1 = metrics.proportion(records["rank"] == 0)
    accuracy = {
        "top1": top1.value,
        "top5": metrics.proportion(records["rank"] < 5).value,
        "n": len(data),
        "classes": number,
    }
    if _near_chance(top1, 100 / number):
        warnings.append(
            f"accuracy {top1.value:.1f} % is near chance ({100 / number:.2g} %): check normalisation and class order"
        )
    if (outside := _boxes_outside(data)) > 0:
        warnings.append(f"{outside} image(s) have a box that leaves the image: boxes are in pixels of the stored image")
    records["boxes"] = records.pop("all_boxes")[:, fixed]
    return LocalizationResult(
        metrics={method: {rules.name: scores}},
        baselines={"centre": baseline},
        accuracy=accuracy,
        warnings=tuple(warnings),
        method=method,
        protocol=rules,
        best_threshold=float(thresholds[best]),
        records=records,
        data=data,
        subject=subject,
        layer=str(records["layer"][0]),
        residual=float(records["residual"].max()),
    )


def _boxes_outside(data: LocalizationSet) -> int:
    """How many images have a box more than a pixel beyond their edge (published boxes run over by one)."""
    return sum(
        bool((boxes.min() < -1) or (boxes[:, 2] > size[1] + 1).any() or (boxes[:, 3] > size[0] + 1).any())
        for boxes, size in zip(data.boxes, data.sizes, strict=True)
    )


def _near_chance(top1: metrics.Score, chance: float) -> bool:
    """True where the accuracy cannot be told from about chance, and is not good beside it either."""
    return top1.low <= chance + min(chance, (100 - chance) / 10) and top1.value < (100 + chance) / 2


def _opened(dataset: Any, limit: int | None) -> LocalizationSet:
    data = as_localization(dataset)
    if len(data) == 0:
        raise DataError(f"{data.name} holds no images")
    if limit is not None and limit < 1:
        raise InputError(f"limit {limit}: give at least 1 image")
    if limit is not None and limit < len(data):
        data = data.select(range(limit))
    without = [name for name, boxes in zip(data.names, data.boxes, strict=True) if len(boxes) == 0]
    if without:
        raise DataError(
            f"{data.name}: {len(without)} of {len(data)} images have no box ({', '.join(without[:3])}…):"
            " localization needs boxes.csv with at least one row per image"
        )
    return data


def _check_frames(subject: Subject, data: LocalizationSet) -> None:
    tensors = isinstance(data.images[0], Tensor)
    if tensors and data.frame == "original":
        raise InputError(
            "images are tensors but boxes are in pixels of the original image: give pictures, or boxes of the input"
        )
    if not tensors and subject.transform is None:
        raise InputError(
            f"{data.name} holds pictures and the model has no transform: use explain.load(model, transform=...)"
        )
    if not tensors and subject.preprocess is None:
        raise InputError(
            "the geometry of the subject's transform is unknown, so boxes cannot be mapped to the image:"
            " use explain.nets.Preprocess, or torchvision's Resize, CenterCrop, ToTensor, Normalize"
        )


def _scores(
    ious: NDArray[np.float64], ranks: NDArray[np.int64], fixed: int, rules: Protocol, seed: int
) -> tuple[dict[str, Score], int]:
    at_fixed = ious[:, fixed]
    oracle, best = metrics.max_box_acc(ious, rules.iou, seed=seed)
    return {
        "gt_known": metrics.gt_known(at_fixed, rules.iou),
        "top1_loc_error": metrics.top_loc_error(at_fixed, ranks, 1, rules.iou),
        "top5_loc_error": metrics.top_loc_error(at_fixed, ranks, 5, rules.iou),
        "top1_cls_error": metrics.classification_error(ranks, 1),
        "top5_cls_error": metrics.classification_error(ranks, 5),
        "maxboxacc": oracle,
    }, best


def _measure(
    subject: Subject,
    data: LocalizationSet,
    thresholds: NDArray[np.float64],
    batch_size: int,
    workers: int,
    checkpoint: Checkpoint,
    progress: Progress | None,
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Run the network over the data; return the records of all images, and warnings."""
    stored = checkpoint.load("records")
    chunks = [stored] if stored is not None else []
    done = len(stored["rank"]) if stored is not None else 0
    warnings: list[str] = []
    probe: HeadProbe | None = None
    for indices, tensor in _batches(subject, data, batch_size, workers, done):
        traced = trace(subject.model, subject.placed(tensor), blocks=True)
        if probe is None:
            probe = probe_head(traced.head, traced.map)
            require_exact(probe, traced.layer)
            _check_classes(data, traced.logits.shape[1])
            found = suspicion(tensor)
            warnings += [found] if found else []
        chunks.append(_measure_batch(subject, data, indices, tensor, traced, probe, thresholds))
        done += len(indices)
        if progress is not None:
            progress("images", done, len(data))
        if checkpoint.due("records"):
            chunks = [_stacked(chunks)]
            checkpoint.save("records", chunks[0])
    return _stacked(chunks), warnings


def _batches(
    subject: Subject, data: LocalizationSet, batch_size: int, workers: int, done: int
) -> Iterator[tuple[range, Tensor]]:
    if done == len(data):
        return iter(())
    return stream(data.images, subject.transform, batch_size=batch_size, workers=workers, start=done)


def _stacked(chunks: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    return {key: np.concatenate([chunk[key] for chunk in chunks]) for key in chunks[0]}


def _check_classes(data: LocalizationSet, number: int) -> None:
    wrong = [(name, index) for name, index in zip(data.names, data.classes, strict=True) if not 0 <= index < number]
    if wrong:
        raise ModelError(
            f"{data.name}: {wrong[0][0]} has class {wrong[0][1]}, but the model has classes 0 to {number - 1}"
            f" ({len(wrong)} such images): use a model for these classes, or fit one with explain.nets.linear_head"
        )


def _measure_batch(
    subject: Subject,
    data: LocalizationSet,
    indices: range,
    tensor: Tensor,
    traced: Trace,
    probe: HeadProbe,
    thresholds: NDArray[np.float64],
) -> dict[str, NDArray[Any]]:
    truth = torch.tensor([[data.classes[index]] for index in indices], device=traced.logits.device)
    maps = cam_of_trace(Query(subject, truth), traced, probe, Batch(tensor, None, None))
    logits = traced.logits.float()
    # Ties in the logits count against the model, so that a constant output has no correct answer by luck.
    own = logits.gather(1, truth)
    rank = ((logits > own).sum(1) + ((logits == own).sum(1) - 1)).cpu().numpy()
    top = logits.topk(min(5, logits.shape[1]), dim=1).indices.cpu().numpy()
    predicted = np.full((len(top), 5), -1, dtype=np.int64)
    predicted[:, : top.shape[1]] = top
    shares = torch.from_numpy(thresholds)
    all_boxes, ious = [], []
    for row, index in enumerate(indices):
        geometry = None
        if subject.preprocess is not None and data.frame == "original":
            geometry = subject.preprocess.geometry(data.sizes[index])
        boxes = _swept(maps.values[row], geometry, maps.input_size, shares)
        all_boxes.append(boxes)
        ious.append(metrics.best_ious(boxes, data.boxes[index]))
    return {
        "rank": rank,
        "predicted": predicted,
        "all_boxes": np.stack(all_boxes),
        "ious": np.stack(ious),
        "maps": maps.values[:, 0].cpu().numpy(),
        "outputs": np.full(len(rank), logits.shape[1], dtype=np.int64),
        "residual": np.full(len(rank), maps.residual),
        "layer": np.array([traced.layer] * len(rank)),
    }


def _swept(
    values: Tensor, geometry: Geometry | None, input_size: tuple[int, int], shares: Tensor
) -> NDArray[np.float64]:
    """Return the largest component's box at every threshold, in pixels of the image."""
    boxes = threshold_sweep(image_maps(values, geometry, input_size), shares)[0].double()
    if geometry is not None:
        present = (boxes[:, 2] > boxes[:, 0])[:, None]
        boxes = torch.where(present, geometry.from_region(boxes), boxes)
    found: NDArray[np.float64] = boxes.numpy()
    return found
