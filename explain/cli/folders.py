"""A run folder that several processes work on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from explain.distributed import World
    from explain.runs import RunFolder

__all__ = ["shared_folder"]


@contextmanager
def shared_folder(
    out: Path, config: Mapping[str, Any], processes: World, *, overwrite: bool, resume: bool
) -> Iterator[RunFolder]:
    """Claim a run folder in the first process; the others work beside it."""
    from explain.runs import Checkpoint, RunFolder, run_folder

    if processes.first:
        with run_folder(out, config=config, overwrite=overwrite, resume=resume) as folder:
            processes.gather(folder.done)
            yield folder
        return
    partial = out.with_name(out.name + ".partial")
    done = processes.gather(False)[0]
    yield RunFolder(partial, Checkpoint(partial / "checkpoints"), done=done)
