"""``explain report``: HTML from run folders, without the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["report"]


def report(runs: Annotated[list[Path], typer.Argument(metavar="RUN_DIR...", help="run folders")]) -> None:
    """Make report.html of each run folder again; several localization runs are compared."""
    from explain.report import render_all

    pages, verdicts = render_all(*runs)
    for line in [*map(str, pages), *verdicts]:
        print(line)
