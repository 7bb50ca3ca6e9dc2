"""Fine-grained recognition (Zhou et al. 2016, section 4.1): the full image, the part its class map points at, its box.

The map of the predicted class gives a box (pixels above 20 % of the maximum, largest component); the network looks
again at what is inside it, and a linear SVM learns from those features. The label of an image takes no part in its box:
the class is the predicted one, for the images that are fitted on as for those that are tested, so both are cut alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from explain.data.labelled import label_names, labels_of, open_labelled
from explain.errors import InputError, ModelError
from explain.findings.result import Difference, Example, Findings, Table, paired_difference, source_of
from explain.localization.discovery.cutting import Cut, cut_images, true_boxes
from explain.localization.discovery.heads import among, need_map, with_head
from explain.localization.discovery.passes import Arrays, Work, collect, gap_pass
from explain.localization.discovery.places import Place, find_place, gap
from explain.localization.discovery.splits import Fold, Split, split_images
from explain.localization.discovery.svm import fit_svm, need_solver
from explain.localization.discovery.views import View
from explain.localization.metrics import Score, best_ious, centre_boxes, proportion
from explain.nets.probe import require_exact
from explain.nets.squash import squashing
from explain.nets.subject import Subject, as_subject
from explain.nets.traced import Trace
from explain.runs import Checkpoint
from explain.types import LocalizationSet

__all__ = ["CropFindings", "CropRow", "Head", "compare_crops"]

Head = Literal["auto", "model", "fit"]
_IOU = 0.5
_SHOWN = 4
"""Pictures of each outcome: helped, spoiled, right both times, wrong both times."""
_TITLES = {"full": "full image", "crop": "crop by the class map", "truth": "crop by the true box"}


@dataclass(frozen=True)
class CropRow:
    """What the network is shown, and the accuracy of a linear SVM on its features."""

    image: str
    """``"full"``, ``"crop"`` or ``"truth"``."""
    accuracy: Score
    difference: Difference | None
    """Against the full image, on the same images."""


@dataclass(frozen=True)
class CropFindings:
    """Accuracies by what the network is shown, and how good the boxes are."""

    rows: tuple[CropRow, ...]
    head: str
    """Whose class maps gave the boxes: ``"model"`` or ``"fit"``."""
    own_accuracy: Score | None
    """The network's own accuracy among the data's classes; None where it has no such classes."""
    localized: Score | None
    """Boxes of tested images with IoU of at least 0.5 with a true box; None without true boxes."""
    centre: Score | None
    """The same of a box in the middle that covers half of the image."""
    area: float
    """Mean share of the image that the boxes cover, in percent."""
    without_box: int
    """Tested images whose map is nowhere positive: they were shown in full."""
    split: str


@dataclass(frozen=True)
class _Job:
    subject: Subject
    data: LocalizationSet
    place: Place
    labels: NDArray[np.int64]
    split: Split
    threshold: float
    c: float
    work: Work


def compare_crops(
    model: nn.Module | Subject | str,
    dataset: Any,
    *,
    head: Head = "auto",
    threshold: float = 0.2,
    layer: str | None = None,
    subset: str | None = None,
    test: str | None = None,
    folds: int = 5,
    c: float = 1.0,
    seed: int = 0,
    batch_size: int = 32,
    workers: int = 0,
    limit: int | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Findings[CropFindings]:
    """Compare recognition from full images, from crops that class maps point at, and from true boxes.

    Parameters
    ----------
    dataset
        Labelled images; boxes are used where every image has one (of several, the largest).
    head
        Whose class maps give the boxes. ``"model"``: the network's own classes are the data's, and it has exact class
        activation maps. ``"fit"``: a linear SVM on the full images' features, fitted in each fold on the images that
        are fitted on. ``"auto"``: the network's own if it is right about more than half of the images.
    threshold
        Share of the map's maximum.
    model, layer, subset, test, folds, c, seed, limit, batch_size, workers, checkpoint, progress
        See `classify_features`.

    Raises
    ------
    ExplainError
        See `classify_features`; no exact class activation map for ``"model"``; a threshold out of range.
    """
    if head not in ("auto", "model", "fit"):
        raise InputError(f"unknown head {head!r}: use 'auto', 'model' or 'fit'")
    if not 0 <= threshold < 1:
        raise InputError(f"threshold {threshold} is out of range: give a share of the maximum, 0 <= threshold < 1")
    need_solver()
    data = open_labelled(dataset, subset=subset, limit=limit)
    subject = squashing(as_subject(model), data.images, data.name)
    labels = labels_of(data)
    split = split_images(labels, data.subsets, folds=folds, test=test, seed=seed)
    work = Work(batch_size, workers, checkpoint or Checkpoint(), progress=progress)
    place = find_place(subject, data.images, layer)
    if head == "fit":
        need_map(place)
    job = _Job(subject, data, place, labels, split, threshold, c, work)
    seen = collect(subject, data.images, place, _looking(job), "features", work)
    own = proportion((seen["own"] == labels)[split.tested]) if _has_classes(job) else None
    uses_own = _uses_own(job, head, own, layer)
    predicted, cut = _recognised(job, seen["gap"], uses_own)
    findings = _findings(job, predicted, cut, own, uses_own, seed)
    return Findings(
        "discovery",
        kind="crops",
        findings=findings,
        tables=_tables(findings, subject, data),
        notes=_notes(findings, place, threshold),
        arrays={
            "labels": labels,
            "boxes": cut.boxes,
            "maps": cut.maps,
            **{f"predicted_{kind}": found for kind, found in predicted.items()},
        },
        examples=_examples(job, predicted, cut, label_names(data, subject.classes if uses_own else None)),
        subject=subject,
        source=source_of(data),
        layer=place.layer,
        settings={"head": head, "threshold": threshold, "c": c, "folds": len(split.folds), "test": test, "seed": seed},
    )


def _has_classes(job: _Job) -> bool:
    return int(job.labels.max()) < job.place.outputs


def _looking(job: _Job) -> Callable[[Trace, Tensor, range], Arrays]:
    """Return what is kept of the full images: their features, and the class that the network itself prefers."""
    choose = among(np.unique(job.labels)) if _has_classes(job) else None

    def measure(traced: Trace, tensor: Tensor, indices: range) -> Arrays:
        own = np.full(len(tensor), -1) if choose is None else choose(traced.logits.float())[:, 0].cpu().numpy()
        return {"gap": gap(traced).numpy(), "own": own}

    return measure


def _uses_own(job: _Job, head: Head, own: Score | None, layer: str | None) -> bool:
    if head == "fit":
        return False
    if head == "model":
        if layer is not None:
            raise InputError("the network's own class maps are those of its last map: leave layer out, or fit a head")
        if own is None:
            raise ModelError(
                f"{job.data.name} has class {job.labels.max()}, but the model has classes 0 to {job.place.outputs - 1}:"
                " fit a head"
            )
        require_exact(job.place.probe, job.place.layer)
        return True
    return layer is None and own is not None and own.value > 50 and job.place.probe.exact


def _recognised(job: _Job, values: NDArray[np.float32], uses_own: bool) -> tuple[dict[str, NDArray[np.int64]], Cut]:
    """Return the predicted label of each tested image by what was shown, and how tested images were cut."""
    everything, truth = np.arange(len(job.labels)), true_boxes(job.data)
    shown = {"full": values}
    if truth is not None:
        view = View(job.data.images, everything, truth)
        shown["truth"] = gap_pass(job.subject, view, job.place, "true-boxes", job.work)
    tested = _cut(job, job.subject, among(np.unique(job.labels)), everything, "") if uses_own else None
    predicted = {kind: np.full(len(job.labels), -1, np.int64) for kind in (*shown, "crop")}
    for number, fold in enumerate(job.split.folds):
        inside = tested if uses_own and tested is not None else _cut_by_svm(job, values, fold, number)
        tested = inside if tested is None else tested.with_rows(inside, fold.test)
        for kind, found in {**shown, "crop": inside.features}.items():
            svm = fit_svm(found[fold.train], job.labels[fold.train], c=job.c)
            predicted[kind][fold.test] = svm.predict(found[fold.test])
    assert tested is not None
    return predicted, tested


def _cut_by_svm(job: _Job, values: NDArray[np.float32], fold: Fold, number: int) -> Cut:
    """Cut the images of a fold by the maps of an SVM that was fitted on its images to fit on."""
    svm = fit_svm(values[fold.train], job.labels[fold.train], c=job.c)
    names = [str(label) for label in svm.classes]
    headed = with_head(job.subject, job.place, svm.weight, svm.bias, names)
    return _cut(job, headed, among(), np.concatenate([fold.train, fold.test]), f"-{number}")


def _cut(
    job: _Job, pointing: Subject, choose: Callable[[Tensor], Tensor], numbers: NDArray[np.int64], name: str
) -> Cut:
    return cut_images(
        job.subject,
        pointing,
        job.data,
        job.place,
        choose,
        numbers=numbers,
        threshold=job.threshold,
        name=name,
        work=job.work,
    )


def _findings(
    job: _Job,
    predicted: dict[str, NDArray[np.int64]],
    cut: Cut,
    own: Score | None,
    uses_own: bool,
    seed: int,
) -> CropFindings:
    tested, data = job.split.tested, job.data
    right = {kind: (found == job.labels)[tested] for kind, found in predicted.items()}
    sizes = np.array(data.sizes)[tested]
    sides = (cut.boxes[:, 2:] - cut.boxes[:, :2])[tested]
    localized = centre = None
    if "truth" in right:
        chosen = tested.tolist()
        ious = np.array([best_ious(cut.boxes[n][None], data.boxes[n])[0] for n in chosen])
        middle = [best_ious(centre_boxes(data.sizes[n], np.array([0.2])), data.boxes[n])[0] for n in chosen]
        localized, centre = proportion(ious >= _IOU), proportion(np.array(middle) >= _IOU)
    rows = [
        CropRow(
            kind,
            proportion(right[kind]),
            paired_difference(right["full"], right[kind], seed=seed) if kind != "full" else None,
        )
        for kind in _TITLES
        if kind in right
    ]
    return CropFindings(
        rows=tuple(rows),
        head="model" if uses_own else "fit",
        own_accuracy=own,
        localized=localized,
        centre=centre,
        area=100 * float((sides.prod(1) / sizes.prod(1)).mean()),
        without_box=int(cut.missing[tested].sum()),
        split=job.split.text,
    )


def _tables(findings: CropFindings, subject: Subject, data: LocalizationSet) -> tuple[Table, ...]:
    title = f"linear SVM on GAP features of {subject.name}: accuracy (%) on {len(set(data.classes))} classes"
    rows = [
        (
            _TITLES[row.image],
            str(row.accuracy),
            str(row.difference) if row.difference else "",
            f"{row.difference.better} / {row.difference.worse}" if row.difference else "",
            str(row.accuracy.n),
        )
        for row in findings.rows
    ]
    columns = ("shown", "accuracy [95 %]", "against the full image [95 %]", "only this / only full right", "images")
    tables = [Table(title, columns, tuple(rows))]
    boxes = [("mean area (% of the image)", f"{findings.area:.1f}", "")]
    if findings.localized is not None and findings.centre is not None:
        boxes.insert(0, ("IoU of at least 0.5 (%)", str(findings.localized), str(findings.centre)))
    tables.append(Table("boxes of tested images", ("", "by the class map [95 %]", "centre box [95 %]"), tuple(boxes)))
    return tuple(tables)


def _notes(findings: CropFindings, place: Place, threshold: float) -> tuple[str, ...]:
    whose = (
        "the network's own classes"
        if findings.head == "model"
        else f"a linear SVM on the mean of {place.layer}, fitted on the images that are fitted on"
    )
    found = [
        f"Boxes at {100 * threshold:g} % of the maximum of the map of the predicted class, by {whose}; no label takes"
        " part in an image's own box.",
        findings.split[0].upper() + findings.split[1:] + ".",
    ]
    if findings.own_accuracy is not None:
        own = f"is right about {findings.own_accuracy} % of the tested images, among the data's classes."
        indices = "" if findings.head == "model" else ", taken to have the data's class indices,"
        found.append(f"The network itself{indices} {own}")
    if findings.without_box:
        found.append(f"{findings.without_box} tested image(s) have a map that is nowhere positive, and are not cut.")
    return tuple(found)


def _examples(
    job: _Job, predicted: dict[str, NDArray[np.int64]], cut: Cut, names: dict[int, str]
) -> tuple[Example, ...]:
    """Return images of each outcome; an outcome that is rare leaves room for none of the others."""
    tested = job.split.tested
    full, part = (predicted[kind][tested] == job.labels[tested] for kind in ("full", "crop"))
    outcomes = {
        "only the crop is right": ~full & part,
        "only the full image is right": full & ~part,
        "both right": full & part,
        "both wrong": ~full & ~part,
    }
    examples = []
    for text, which in outcomes.items():
        for number in tested[which][:_SHOWN].tolist():
            told = names[int(predicted["crop"][number])]
            caption = f"{names[int(job.labels[number])]}: {text}" + (f" (crop: {told})" if "right" not in text else "")
            box = tuple(cut.boxes[number].tolist())
            truth = tuple(tuple(row) for row in job.data.boxes[number].tolist())
            examples.append(Example(number, caption, cut.maps[number], (box,), truth))
    return tuple(examples)
