"""Who does what in a pass, and what an interrupted one left: pieces named by the images they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from explain.distributed import World
from explain.runs import Checkpoint

__all__ = ["Plan", "make_plan", "piece_name", "piece_spans", "remove_pieces"]


@dataclass(frozen=True)
class Plan:
    """One process's part of a pass."""

    pieces: list[str]
    """Saved pieces to go on from."""
    restored: list[range]
    """The images that they hold."""
    left: list[range]
    """The images to run through the network: each range begins where a batch does."""


def make_plan(checkpoint: Checkpoint, name: str, images: range, batch_size: int, world: World) -> Plan:
    """Share out the pieces that were saved, and the batches of ``images`` that no piece holds, among the processes.

    Batches are cut at the same places whatever the number of processes, so that all give the same numbers.
    """
    keys = _disjoint(world.gather(checkpoint.names(f"{name}@"))[0])  # as one process sees them, before any writes
    done = {image for key in keys for span in piece_spans(key) for image in span}
    left = [start for start in range(images.start, images.stop, batch_size) if start not in done]
    share = world.share(len(left), 1)
    batches = [range(start, min(start + batch_size, images.stop)) for start in left[share.start : share.stop]]
    own = keys[world.rank :: world.size]
    return Plan(own, [span for key in own for span in piece_spans(key)], _joined(batches))


def piece_spans(key: str) -> list[range]:
    """Return the images that a piece holds, by its name."""
    texts = key.partition("@")[2].split("+")
    return [range(*(int(edge) for edge in text.split("-"))) for text in texts]


def piece_name(name: str, spans: Sequence[range]) -> str:
    """Return the name of a piece: ``thresholds@0000000-0000064+0000128-0000192``."""
    return f"{name}@" + "+".join(f"{span.start:07d}-{span.stop:07d}" for span in _joined(spans))


def remove_pieces(checkpoint: Checkpoint, keys: Sequence[str]) -> None:
    """Delete pieces that a later one holds."""
    if checkpoint.folder is not None:
        for key in keys:
            (checkpoint.folder / f"{key}.npz").unlink(missing_ok=True)


def _disjoint(keys: Sequence[str]) -> list[str]:
    """Return pieces that share no image, the largest first: one that was to be deleted is held by a larger one."""
    chosen: list[str] = []
    done: set[int] = set()
    for key in sorted(keys, key=lambda key: (-sum(map(len, piece_spans(key))), key)):
        images = {image for span in piece_spans(key) for image in span}
        if not images & done:
            chosen.append(key)
            done |= images
    return chosen


def _joined(spans: Sequence[range]) -> list[range]:
    """Return the same images in as few ranges as can be, ascending."""
    found: list[range] = []
    for span in sorted(spans, key=lambda span: span.start):
        if found and found[-1].stop == span.start:
            found[-1] = range(found[-1].start, span.stop)
        else:
            found.append(span)
    return found
