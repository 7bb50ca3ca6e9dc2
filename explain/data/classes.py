"""``classes.json`` of a probe folder: which concept each id of each mask layer stands for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explain.data.masks import IdTable, id_table
from explain.data.tables import Report, refuse
from explain.errors import DataError
from explain.types import Concept

__all__ = ["WHOLE_COLUMNS", "Layer", "concept_list", "is_mask_column", "layer_tables", "read_classes"]

WHOLE_COLUMNS = ("scene", "texture")
"""Columns of ``index.csv`` whose cell names a concept of the whole image; the category is the column."""

_FORM = '{"layers": {"mask": {"category": "object", "classes": [{"id": 1, "name": "sky"}]}}}'


@dataclass(frozen=True)
class Layer:
    """One mask column: the concept of each id, and the ids that are dropped."""

    column: str
    concepts: Mapping[int, Concept]
    ignored: tuple[int, ...]


def is_mask_column(column: str) -> bool:
    """Say whether a column of ``index.csv`` names masks: ``mask`` or an ending ``_mask``."""
    return column == "mask" or column.endswith("_mask")


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _load(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing: it names the ids of the masks, as {_FORM}") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path} line {error.lineno} is not valid JSON: {error.msg}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text: save it as UTF-8") from None
    if not isinstance(data, dict) or not isinstance(data.get("layers"), dict):
        raise DataError(f'{path} has no object "layers": write {{"layers": {{"mask": …}}, "ignored": {{}}}}')
    return data


def _class(entry: Any, column: str, category: str, path: Path) -> tuple[int, Concept] | str:
    if not isinstance(entry, dict) or not _is_id(entry.get("id")):
        return f"{path}: layer {column!r} has a class without a whole-number id: {json.dumps(entry)[:80]}"
    name = entry.get("name")
    if not isinstance(name, str) or not name.strip():
        return f"{path}: layer {column!r} does not name id {entry['id']}: give it a name"
    own = entry.get("category")
    return entry["id"], Concept(name.strip(), own if isinstance(own, str) and own else category)


def _layer(column: str, data: Any, ignored: Any, path: Path, report: Report) -> Layer:
    entries = data.get("classes") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise DataError(f"{path}: layer {column!r} has no list 'classes': write {_FORM}")
    own = data.get("category")
    category = own if isinstance(own, str) and own else "object"
    concepts: dict[int, Concept] = {}
    for entry in entries:
        found = _class(entry, column, category, path)
        if isinstance(found, str):
            report(found)
        elif found[0] in concepts:
            report(f"{path}: layer {column!r} names id {found[0]} twice: keep one of them")
        elif found[0] != 0:  # id 0 is never a concept, also where a published list names it "unlabeled"
            concepts[found[0]] = found[1]
    if not isinstance(ignored, list) or not all(map(_is_id, ignored)):
        raise DataError(f"{path}: 'ignored' of layer {column!r} is not a list of ids")
    return Layer(column, dict(sorted(concepts.items())), tuple(ignored))


def read_classes(path: Path, columns: Sequence[str], report: Report = refuse) -> tuple[Layer, ...]:
    """Read the layers of ``classes.json`` in its order, held against the columns of ``index.csv``."""
    if not path.is_file() and not any(map(is_mask_column, columns)):
        return ()  # whole-image concepts only: there are no ids to name
    data = _load(path)
    ignored = data.get("ignored") or {}
    if not isinstance(ignored, dict):
        raise DataError(f"{path}: 'ignored' is not an object of id lists by mask column")
    for column in columns:
        if is_mask_column(column) and column not in data["layers"]:
            report(f"{path} has no layer for column {column!r} of index.csv: add it under 'layers'")
    for column in [*data["layers"], *ignored]:
        if column not in columns:
            there = ", ".join(columns)
            report(f"{path} has layer {column!r}, but index.csv has no such column (it has: {there})")
    return tuple(
        _layer(column, entry, ignored.get(column, []), path, report)
        for column, entry in data["layers"].items()
        if column in columns
    )


def concept_list(layers: Sequence[Layer], whole: Mapping[str, str]) -> tuple[Concept, ...]:
    """Unite concepts by name: layers in order (by id inside), then whole-image names sorted.

    ``whole`` maps each whole-image name to its category. The first appearance of a name sets its category.
    """
    united: dict[str, Concept] = {}
    for layer in layers:
        for concept in layer.concepts.values():
            united.setdefault(concept.name, concept)
    for name in sorted(whole):
        united.setdefault(name, Concept(name, whole[name]))
    return tuple(united.values())


def layer_tables(layers: Sequence[Layer], concepts: Sequence[Concept]) -> tuple[IdTable, ...]:
    """Return one lookup table per layer, from ids to positions in ``concepts``."""
    numbers = {concept.name: number for number, concept in enumerate(concepts)}
    return tuple(
        id_table({key: numbers[concept.name] for key, concept in layer.concepts.items()}, layer.ignored)
        for layer in layers
    )
