"""All published probe formats: how a folder of each is told, and which options its reader takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

from explain.data.formats.catalog import need_options
from explain.data.probes.ade_full import is_ade_full, open_ade_full
from explain.data.probes.ade_scenes import is_sceneparsing, open_sceneparsing
from explain.data.probes.attributes import is_attributes, open_attributes
from explain.data.probes.birds import is_cub_attributes, open_cub_attributes
from explain.data.probes.broden import is_broden, open_broden
from explain.data.probes.camvid import is_camvid, is_camvid_colours, open_camvid, open_camvid_colours
from explain.data.probes.cityscapes import is_cityscapes, open_cityscapes
from explain.data.probes.coco import has_annotations, json_parts, open_coco_panoptic, open_coco_regions
from explain.data.probes.coco_maps import is_coco_maps, open_coco_maps
from explain.data.probes.dtd import is_dtd, open_dtd
from explain.data.probes.faces import is_celeba, open_celeba
from explain.data.probes.pascal_context import is_pascal_context, open_pascal_context
from explain.data.probes.pascal_part import is_pascal_part, open_pascal_part
from explain.data.probes.voc import is_voc_segmentation, open_voc_segmentation
from explain.data.tables import Report
from explain.errors import DataError, near
from explain.types import ProbeSet

__all__ = ["PROBE_FORMATS", "ProbeFormat", "ProbeOptions", "detect_probe", "open_published", "probe_format_named"]


@dataclass(frozen=True)
class ProbeOptions:
    """What a caller may say of a probe set; None: not said. Each reader's docstring says what it means there."""

    split: str | None = None
    categories: Sequence[str] | None = None
    images: str | Path | None = None
    masks: str | Path | None = None
    classes: str | Path | None = None
    index: str | None = None
    joint: bool | None = None
    certainty: int | None = None

    def given(self) -> dict[str, object]:
        """Return the options that were said."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def _whole(_: Path) -> list[str | None]:
    return [None]


@dataclass(frozen=True)
class ProbeFormat:
    """One published probe format."""

    name: str
    marks: str
    """What tells its folder, for messages."""
    recognises: Callable[[Path], bool]
    opens: Callable[..., ProbeSet]
    """Takes the path, ``report`` and the options, each by its name."""
    options: tuple[str, ...]
    parts: Callable[[Path], list[str | None]] = _whole
    """What a folder holds, as splits to open; for checks of all of it."""


_BASIC = ("split", "categories")

PROBE_FORMATS = (
    ProbeFormat("broden", "index.csv, label.csv, images", is_broden, open_broden, (*_BASIC, "index")),
    ProbeFormat("sceneparsing", "objectInfo150.txt, annotations", is_sceneparsing, open_sceneparsing, _BASIC),
    ProbeFormat("ade20k", "images/…/training/…_seg.png", is_ade_full, open_ade_full, _BASIC),
    ProbeFormat("cityscapes", "leftImg8bit, gtFine", is_cityscapes, open_cityscapes, _BASIC),
    ProbeFormat("camvid", "train, trainannot", is_camvid, open_camvid, _BASIC),
    ProbeFormat(
        "camvid-32", "class_dict.csv or label_colors.txt", is_camvid_colours, open_camvid_colours, _BASIC
    ),
    ProbeFormat("pascal-part", "Annotations_Part", is_pascal_part, open_pascal_part, (*_BASIC, "images")),
    ProbeFormat(
        "pascal-context",
        "labels.txt, trainval or 59_labels.txt, 59_context_labels",
        is_pascal_context,
        open_pascal_context,
        (*_BASIC, "images", "masks", "classes"),
    ),
    ProbeFormat(
        "voc",
        "JPEGImages, SegmentationClass, ImageSets/Segmentation",
        is_voc_segmentation,
        open_voc_segmentation,
        (*_BASIC, "classes"),
    ),
    ProbeFormat(
        "coco-panoptic",
        "annotations/panoptic_….json",
        partial(has_annotations, kind="panoptic"),
        open_coco_panoptic,
        (*_BASIC, "images", "masks"),
        partial(json_parts, kind="panoptic"),
    ),
    ProbeFormat(
        "coco",
        "annotations/instances_….json",
        partial(has_annotations, kind="instances"),
        partial(open_coco_regions, kind="instances"),
        (*_BASIC, "images"),
        partial(json_parts, kind="instances"),
    ),
    ProbeFormat(
        "coco-stuff",
        "annotations/stuff_….json",
        partial(has_annotations, kind="stuff"),
        partial(open_coco_regions, kind="stuff"),
        (*_BASIC, "images"),
        partial(json_parts, kind="stuff"),
    ),
    ProbeFormat(
        "coco-stuff-maps", "annotations/val2017/….png or stuffthingmaps/val2017/….png", is_coco_maps, open_coco_maps,
        (*_BASIC, "images", "masks"),
    ),
    ProbeFormat("dtd", "images, labels/train1.txt", is_dtd, open_dtd, (*_BASIC, "joint")),
    ProbeFormat("celeba", "list_attr_celeba.txt", is_celeba, open_celeba, (*_BASIC, "images")),
    ProbeFormat(
        "cub-attributes", "attributes/image_attribute_labels.txt", is_cub_attributes, open_cub_attributes,
        (*_BASIC, "certainty"),
    ),
    ProbeFormat("attributes", "attributes.csv", is_attributes, open_attributes, (*_BASIC, "images")),
)  # fmt: skip
"""In the order in which a folder is held against them."""

_FILES = ("coco-panoptic", "coco", "coco-stuff")


def detect_probe(path: Path) -> ProbeFormat | None:
    """Return the published probe format of a folder (or of one of COCO's files); None if it is none."""
    if path.is_file():
        return next((each for each in PROBE_FORMATS if each.name in _FILES and each.recognises(path)), None)
    return next((each for each in PROBE_FORMATS if each.recognises(path)), None) if path.is_dir() else None


def probe_format_named(name: str) -> ProbeFormat:
    """Return a probe format by its name."""
    for each in PROBE_FORMATS:
        if each.name == name:
            return each
    names = ["plain", *(each.name for each in PROBE_FORMATS)]
    raise DataError(f"unknown probe format {name!r}{near(name, names)} (known: {', '.join(names)})")


def open_published(found: ProbeFormat, path: Path, chosen: ProbeOptions, report: Report) -> ProbeSet:
    """Open a folder of a published format; an option that the format does not take is refused."""
    given = chosen.given()
    need_options(found.name, found.options, given)
    return found.opens(path, report=report, **given)
