"""The scene of each image, and the map of the class that is predicted for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from explain.errors import DataError, InputError
from explain.localization.discovery.heads import among, class_maps, need_map, with_head
from explain.localization.discovery.passes import Arrays, Work, gap_pass, scattered
from explain.localization.discovery.places import Place
from explain.localization.discovery.splits import split_images
from explain.localization.discovery.svm import fit_svm, need_solver
from explain.localization.discovery.views import View
from explain.nets.subject import Subject
from explain.types import ProbeSet, resize_maps

__all__ = ["Head", "SceneMaps", "Scenes", "map_scenes", "regions_of"]

Head = Literal["auto", "model", "fit"]
Scenes = Literal["auto", "scene", "predicted"] | Sequence[str]


@dataclass(frozen=True, eq=False)
class SceneMaps:
    """Maps of the predicted classes, and what is known of the images."""

    values: NDArray[np.float32]
    """``(n, h, w)``."""
    labels: NDArray[np.int64]
    """``(n,)``: the class of each image."""
    names: tuple[str, ...]
    right: NDArray[np.bool_]
    """``(n,)``: the predicted class is that of the image."""
    own: bool
    """The maps are those of the network's own classes."""
    predicted: bool
    """The labels are the predicted classes themselves."""


def map_scenes(
    subject: Subject,
    probe: ProbeSet,
    place: Place,
    scenes: Scenes,
    head: Head,
    *,
    folds: int,
    c: float,
    seed: int,
    fixed: bool,
    work: Work,
) -> SceneMaps:
    """Return the map of each image's predicted class; see `explain.localization.discovery.scene_objects`.

    ``fixed``: the place was asked for, so that heads are fitted there.
    """
    names, labels = _scene_labels(probe, scenes)
    if labels is None:
        if head == "fit":
            raise InputError("predicted classes are the network's own, and cannot be fitted: leave head out")
        maps = class_maps(subject, probe.images, among(), "maps", work)
        told = maps["classes"][:, 0]
        every = subject.classes or tuple(f"class {k}" for k in range(place.outputs))
        return SceneMaps(maps["values"][:, 0], told, every, np.ones(len(told), bool), own=True, predicted=True)
    known = None if head == "fit" or (head == "auto" and fixed) else _own_classes(subject, place, names, head)
    if known is not None:
        maps = class_maps(subject, probe.images, among(known), "maps", work)
        right = maps["classes"][:, 0] == known[labels]
    else:
        maps, told = _fitted(subject, probe, place, names, labels, folds=folds, c=c, seed=seed, work=work)
        right = told == labels
    return SceneMaps(maps["values"][:, 0], labels, names, right, own=known is not None, predicted=False)


def _scene_labels(probe: ProbeSet, scenes: Scenes) -> tuple[tuple[str, ...], NDArray[np.int64] | None]:
    """Return the names of the scenes and the scene of each image ``(n,)``; None where they are to be predicted."""
    if scenes == "predicted":
        return (), None
    if isinstance(scenes, str) and scenes not in ("auto", "scene"):
        raise InputError(f"unknown scenes {scenes!r}: use 'auto', 'scene', 'predicted', or give a name per image")
    given = _whole_scenes(probe) if isinstance(scenes, str) else [str(scene) for scene in scenes]
    if len(given) != len(probe):
        raise DataError(f"{len(given)} scenes for {len(probe)} images: give one per image")
    without = [name for name, scene in zip(probe.names, given, strict=True) if scene is None]
    if without and scenes == "auto":
        return (), None
    if without:
        raise DataError(
            f"{probe.name}: {len(without)} image(s) have no scene ({without[0]}…): fill the column 'scene' of"
            " index.csv, or take the predicted classes"
        )
    names = tuple(sorted({scene for scene in given if scene is not None}))
    if len(names) < 2:
        raise DataError(f"{probe.name} has {len(names)} scene(s) only: give images of at least two")
    return names, np.array([names.index(scene) for scene in given if scene is not None], np.int64)


def _whole_scenes(probe: ProbeSet) -> list[str | None]:
    if not any(concept.category == "scene" for concept in probe.concepts):
        return [None] * len(probe)
    found: list[str | None] = []
    for number in range(len(probe)):
        own = [probe.concepts[k] for k in probe.labels(number, (1, 1)).whole]
        found.append(next((concept.name for concept in own if concept.category == "scene"), None))
    return found


def _own_classes(subject: Subject, place: Place, names: Sequence[str], head: Head) -> NDArray[np.int64] | None:
    """Return the network's class of each scene's name; None where a head is to be fitted."""
    try:
        return np.array([subject.class_index(name, place.outputs) for name in names], np.int64)
    except InputError:
        if head == "model":
            raise
        return None


def _fitted(
    subject: Subject,
    probe: ProbeSet,
    place: Place,
    names: Sequence[str],
    labels: NDArray[np.int64],
    *,
    folds: int,
    c: float,
    seed: int,
    work: Work,
) -> tuple[Arrays, NDArray[np.int64]]:
    """Return the maps of the scene that SVMs predict that have not seen the image, and that scene ``(n,)``."""
    need_solver()
    need_map(place)
    features = gap_pass(subject, probe.images, place, "features", work)
    whole: Arrays = {}
    told = np.zeros(len(labels), np.int64)
    for number, fold in enumerate(split_images(labels, None, folds=folds, seed=seed).folds):
        svm = fit_svm(features[fold.train], labels[fold.train], c=c)
        headed = with_head(subject, place, svm.weight, svm.bias, [names[int(k)] for k in svm.classes])
        part = class_maps(headed, View(probe.images, fold.test), among(), f"maps-{number}", work)
        told[fold.test] = svm.classes[part["classes"][:, 0]]
        for key in ("values", "scores"):
            rows = scattered(part[key], fold.test, len(labels))
            whole[key] = whole[key] + rows if key in whole else rows  # each image is tested once
    return whole, told


def regions_of(values: NDArray[np.float32], threshold: float, size: tuple[int, int]) -> Iterator[NDArray[np.bool_]]:
    """Yield the region of each map ``(n, h, w)`` at ``size``: above a share of the maximum, or empty."""
    for one in values:
        plane = resize_maps(torch.from_numpy(one)[None, None], size)[0, 0].numpy()
        top = plane.max()
        yield plane > plane.dtype.type(threshold) * top if top > 0 else np.zeros(size, bool)
