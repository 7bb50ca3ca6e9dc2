"""Generic features: how well a linear SVM on the mean of the map recognises classes (Zhou et al. 2016, section 4).

The paper compares the mean of GoogLeNet-GAP's map with AlexNet's fc7, and shows where its SVMs look: their weights are
CAM weights. Here the network's own fully connected features stand beside the mean of its map, where it has any.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from explain.data.labelled import label_names, labels_of, open_labelled
from explain.findings.result import Difference, Example, Findings, Table, paired_difference, source_of
from explain.localization.discovery.heads import among, class_maps, with_head
from explain.localization.discovery.passes import Arrays, Work, collect
from explain.localization.discovery.places import Place, find_place, gap, vectors
from explain.localization.discovery.splits import Fold, Split, split_images
from explain.localization.discovery.svm import LinearSvm, fit_svm, need_solver
from explain.localization.discovery.views import View
from explain.localization.metrics import Score, proportion
from explain.nets.squash import squashing
from explain.nets.subject import Subject, as_subject
from explain.nets.traced import Trace
from explain.runs import Checkpoint
from explain.types import LocalizationSet

__all__ = ["FeatureFindings", "FeatureRow", "classify_features"]

_SHOWN = 6
"""Pictures of right answers, and as many of wrong ones."""
_TITLES = {"gap": "mean of the map (GAP)", "fc": "input of the last linear layer"}


@dataclass(frozen=True)
class FeatureRow:
    """One kind of features and the accuracy of a linear SVM on them."""

    features: str
    """``"gap"`` or ``"fc"``."""
    width: int
    accuracy: Score


@dataclass(frozen=True)
class FeatureFindings:
    """What a linear SVM makes of each kind of features."""

    rows: tuple[FeatureRow, ...]
    difference: Difference | None
    """GAP less fully connected, on the same images; None where the network has no fully connected features."""
    classes: int
    chance: float
    """Percent: the largest class."""
    split: str


def classify_features(
    model: nn.Module | Subject | str,
    dataset: Any,
    *,
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
) -> Findings[FeatureFindings]:
    """Fit linear SVMs on a network's generic features of labelled images, and count what they recognise.

    Parameters
    ----------
    model
        A subject, a module, or a model's name (see `explain.load`).
    dataset
        A folder with ``images.csv``, a known name, a `LocalizationSet`, or items (image, class index, boxes).
    layer
        The layer whose map is averaged; the last map where None.
    subset
        Use the images of this subset only.
    test, folds, seed
        What is tested; see `explain.localization.discovery.splits.split_images`.
    c
        Of the SVM; see `fit_svm`.
    limit
        Use the first ``limit`` images only.
    batch_size, workers
        Images per forward pass; processes that decode images.
    checkpoint, progress
        Where to save what is done; called as ``progress(what, done, total)``.

    Raises
    ------
    ExplainError
        Data of one class, an unknown subset or layer, a model without a map, scikit-learn missing.
    """
    need_solver()
    data = open_labelled(dataset, subset=subset, limit=limit)
    subject = as_subject(model)
    if subject.transform is None or subject.preprocess is not None:
        subject = squashing(subject, data.images, data.name)
    labels = labels_of(data)
    split = split_images(labels, data.subsets, folds=folds, test=test, seed=seed)
    place = find_place(subject, data.images, layer)
    work = Work(batch_size, workers, checkpoint or Checkpoint(), progress=progress)
    seen = collect(subject, data.images, place, _measure(place), "features", work)
    svms = {kind: [fit_svm(seen[kind][f.train], labels[f.train], c=c) for f in split.folds] for kind in seen}
    predicted = {kind: _predicted(seen[kind], split, svms[kind]) for kind in seen}
    findings = _findings(seen, predicted, labels, split, seed)
    final = fit_svm(seen["gap"], labels, c=c)
    names = label_names(data)
    rows = [names[int(label)] for label in final.classes]
    return Findings(
        "discovery",
        kind="features",
        findings=findings,
        tables=(_table(findings, subject, data),),
        notes=_notes(findings, place),
        arrays={
            **seen,
            **{f"predicted_{kind}": found for kind, found in predicted.items()},
            "labels": labels,
            "weight": final.weight,
            "bias": final.bias,
            "classes": final.classes,
        },
        examples=_examples(subject, data, place, split.folds[0], svms["gap"][0], predicted["gap"], names),
        subject=subject,
        source=source_of(data),
        layer=place.layer,
        settings={"c": c, "folds": len(split.folds), "test": test, "subset": subset, "seed": seed},
        subjects={"svm": with_head(subject, place, final.weight, final.bias, rows)} if place.plain else {},
    )


def _measure(place: Place) -> Callable[[Trace, Tensor, range], Arrays]:
    def measure(traced: Trace, tensor: Tensor, indices: range) -> Arrays:
        found = {"gap": gap(traced).numpy()}
        if place.own:
            other = vectors(traced)
            assert other is not None
            found["fc"] = other.numpy()
        return found

    return measure


def _predicted(values: NDArray[np.float32], split: Split, svms: list[LinearSvm]) -> NDArray[np.int64]:
    """Return the predicted label of each tested image; -1 for those that no fold tests."""
    found = np.full(len(values), -1, np.int64)
    for fold, svm in zip(split.folds, svms, strict=True):
        found[fold.test] = svm.predict(values[fold.test])
    return found


def _findings(
    seen: Arrays, predicted: dict[str, NDArray[np.int64]], labels: NDArray[np.int64], split: Split, seed: int
) -> FeatureFindings:
    tested = split.tested
    right = {kind: (found == labels)[tested] for kind, found in predicted.items()}
    counts = np.unique(labels[tested], return_counts=True)[1]
    return FeatureFindings(
        rows=tuple(FeatureRow(kind, seen[kind].shape[1], proportion(right[kind])) for kind in seen),
        difference=paired_difference(right["fc"], right["gap"], seed=seed) if "fc" in right else None,
        classes=len(np.unique(labels)),
        chance=100 * float(counts.max()) / len(tested),
        split=split.text,
    )


def _table(findings: FeatureFindings, subject: Subject, data: LocalizationSet) -> Table:
    title = f"linear SVM on features of {subject.name}: accuracy (%) on {findings.classes} classes of {data.name}"
    rows = [(_TITLES[row.features], str(row.width), str(row.accuracy), str(row.accuracy.n)) for row in findings.rows]
    if findings.difference is not None:
        rows.append(("GAP less the latter, paired", "", str(findings.difference), str(findings.difference.n)))
    rows.append(("always the largest class", "", f"{findings.chance:.1f}", str(findings.rows[0].accuracy.n)))
    return Table(title, ("features", "length", "accuracy [95 %]", "images"), tuple(rows))


def _notes(findings: FeatureFindings, place: Place) -> tuple[str, ...]:
    found = [f"Generic features at {place.layer}: {place.channels} channels, averaged over positions.", findings.split]
    if findings.difference is None:
        reads = "its last linear layer reads this mean" if place.width is not None else "no linear layer ends it"
        found.append(f"No fully connected features of the network stand beside it: {reads}.")
    return (found[0], found[1][0].upper() + found[1][1:] + ".", *found[2:])


def _examples(
    subject: Subject,
    data: LocalizationSet,
    place: Place,
    fold: Fold,
    svm: LinearSvm,
    predicted: NDArray[np.int64],
    names: dict[int, str],
) -> tuple[Example, ...]:
    """Return images that were not fitted on, with the map of the class that the SVM gives them."""
    if not place.plain:
        return ()
    right = predicted[fold.test] == np.array(data.classes)[fold.test]
    chosen = np.concatenate([_spread(fold.test[~right]), _spread(fold.test[right])])
    headed = with_head(subject, place, svm.weight, svm.bias, [names[int(label)] for label in svm.classes])
    maps = class_maps(headed, View(data.images, chosen), among(), "shown", Work())
    examples = []
    for row, number in enumerate(chosen.tolist()):
        told, true = names[int(svm.classes[maps["classes"][row, 0]])], names[data.classes[number]]
        caption = told if told == true else f"{told} (wrong: {true})"
        examples.append(Example(number, caption, maps["values"][row, 0]))
    return tuple(examples)


def _spread(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return at most so many of the numbers as are shown, evenly spread."""
    places = np.linspace(0, len(numbers) - 1, min(_SHOWN, len(numbers))).round().astype(np.int64)
    return numbers[places]
