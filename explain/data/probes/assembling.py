"""From what a reader found to a ``ProbeSet``: files that are missing, categories that are wanted, the data hash."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from explain.data.masks import IdTable, id_table
from explain.data.probes.sources import DROPPED, Source
from explain.data.tables import Report, files_hash, header_size
from explain.errors import DataError, near
from explain.types import Concept, Labels, ProbeSet

__all__ = ["Item", "SourceLabels", "Vocabulary", "assembled", "class_table", "pick_split"]


@dataclass
class Vocabulary:
    """Concepts in the order in which a reader meets their names; the first meeting sets the category."""

    concepts: dict[str, Concept] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)

    def number(self, name: str, category: str) -> int:
        """Return the number of a concept, a new one for a new name."""
        self.concepts.setdefault(name, Concept(name, category))
        return self._numbers.setdefault(name, len(self._numbers))

    def numbers(self, names: Iterable[str], category: str) -> list[int]:
        """Return the numbers of several concepts of a category."""
        return [self.number(name, category) for name in names]


def class_table(
    words: Vocabulary,
    classes: Mapping[int, str],
    category: str = "object",
    *,
    unnamed: Iterable[int] = (),
    ignored: Collection[int] = (),
) -> IdTable:
    """Return what the ids of a picture mean, by a list of classes; their names go into ``words``.

    Id 0 is no concept, unless the list names it.

    Parameters
    ----------
    words, classes, category
        The vocabulary, the name of each id, and the category of names that the vocabulary does not know yet.
    unnamed, ignored
        Ids that count without being concepts, and ids that are left out of every count.
    """
    numbers = dict(zip(classes, words.numbers(classes.values(), category), strict=True))
    table = id_table({**numbers, **dict.fromkeys(unnamed, -1)}, ignored)
    table.numbers[0] = numbers.get(0, -1)
    return table


@dataclass(frozen=True)
class Item:
    """One image of a probe set."""

    name: str
    image: Path
    where: str
    """The file and line that names it."""
    sources: tuple[Source, ...] = ()
    whole: tuple[int, ...] = ()
    annotated: tuple[str, ...] | None = None
    size: tuple[int, int] | None = None
    """(height, width) of its masks; None: the image's."""
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class SourceLabels:
    """Labels of a published probe set, read when asked for; plain data, so that workers can be sent a copy."""

    items: tuple[Item, ...]
    kept: NDArray[np.int32]
    """The final number of each concept that sources know, -1 where its category is not wanted; then -2 and -1, so
    that the marks of sources, which are negative, stay what they are."""

    def __call__(self, index: int, size: tuple[int, int]) -> Labels:
        """Return the labels of image ``index`` at ``size = (height, width)``."""
        item = self.items[index]
        own = self._own_size(item) if item.sources else size
        parts = [source(item.where, own, size) for source in item.sources]
        maps = self.kept[np.concatenate(parts)] if parts else np.full((0, *size), -1, np.int32)
        dropped = maps == DROPPED
        ignored = dropped.any(0) if dropped.any() else None
        maps[dropped] = -1
        whole = tuple(int(self.kept[number]) for number in item.whole if self.kept[number] >= 0)
        return Labels(maps=maps, whole=tuple(dict.fromkeys(whole)), ignored=ignored, annotated=item.annotated)

    @staticmethod
    def _own_size(item: Item) -> tuple[int, int]:
        found = item.size or header_size(item.image)
        if found is None:
            raise DataError(f"{item.where}: {item.image} cannot be opened as an image: replace the file")
        return found


def pick_split(split: str | None, known: Sequence[str], root: Path) -> list[str]:
    """Return the splits to read: the one asked for, else all that there are.

    Raises
    ------
    DataError
        None is there, or not the one asked for.
    """
    if not known:
        raise DataError(f"{root} has no split with images and labels: is this the right folder?")
    if split is not None and split not in known:
        raise DataError(f"{root} has no split {split!r} (it has: {', '.join(known)})")
    return list(known) if split is None else [split]


def _there(items: Iterable[Item], report: Report) -> list[Item]:
    found = []
    for item in items:
        missing = [source.path for source in item.sources if not source.path.is_file()]
        if not item.image.is_file():
            report(f"{item.where}: no image {item.image}: add the file")
        elif missing:
            report(f"{item.where}: no mask {missing[0]}: add the file")
        else:
            found.append(item)
    return found


def _kept(
    concepts: Sequence[Concept], categories: Sequence[str] | None, root: Path
) -> tuple[tuple[Concept, ...], NDArray[np.int32]]:
    known = list(dict.fromkeys(concept.category for concept in concepts))
    for category in categories or ():
        if category not in known:
            raise DataError(
                f"{root} has no category {category!r}{near(category, known)} (it has: {', '.join(known) or 'none'})"
            )
    wanted = [categories is None or concept.category in categories for concept in concepts]
    numbers = np.where(wanted, np.cumsum(wanted) - 1, -1).astype(np.int32)
    chosen = tuple(concept for concept, want in zip(concepts, wanted, strict=True) if want)
    return chosen, np.append(numbers, np.array([DROPPED, -1], np.int32))


def assembled(
    name: str,
    root: Path,
    items: Iterable[Item],
    concepts: Iterable[Concept],
    report: Report,
    *,
    categories: Sequence[str] | None = None,
    texts: Iterable[bytes] = (),
    files: Iterable[Path] = (),
) -> ProbeSet:
    """Put a probe set together; images without their files are told, and left out.

    Parameters
    ----------
    items, concepts
        The images; concepts in the order of the numbers that sources give.
    categories
        Keep only concepts of these; None: all.
    texts, files
        Tables, as they lie there, and files that go into the hash besides images and masks (with name and size).
    """
    found = _there(items, report)
    if not found:
        raise DataError(f"{root} holds no labelled image: is this the right folder, or split?")
    listed = tuple(concepts)
    chosen, kept = _kept(listed, categories, root)
    if not chosen:
        raise DataError(f"{root} names no concept: there is nothing to explain units with")
    if categories is not None:
        found = [_narrowed(item, categories) for item in found]
    keys = list(dict.fromkeys(key for item in found for key in item.columns))
    columns = {key: tuple(item.columns.get(key, "") for item in found) for key in keys}
    rows = repr((chosen, kept.tolist(), columns, [(each.name, each.whole, each.annotated) for each in found]))
    shared = tuple(files)
    paths = [path for item in found for path in (item.image, *(source.path for source in item.sources))]
    return ProbeSet(
        name=name,
        images=tuple(item.image for item in found),
        concepts=chosen,
        labels=SourceLabels(tuple(found), kept),
        names=tuple(item.name for item in found),
        hash=files_hash([rows.encode(), *texts], [(path.name, path) for path in [*paths, *shared]]),
        root=root,
        columns=columns,
        files=tuple((*(source.path for source in item.sources), *shared) for item in found),
    )


def _narrowed(item: Item, categories: Sequence[str]) -> Item:
    if item.annotated is None:
        return item
    return replace(item, annotated=tuple(each for each in item.annotated if each in categories))
