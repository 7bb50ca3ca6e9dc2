"""``explain data``: look after data folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["check_folder"]


def check_folder(path: Annotated[Path, typer.Argument(help="a data folder of any known format")]) -> None:
    """Say what is wrong with a data folder, line by line; exit code 2 if anything is."""
    from explain.data import check

    problems = check(path)
    print("\n".join(problems) if problems else f"{path}: nothing wrong")
    if problems:
        raise typer.Exit(2)
