"""Where data lives: the user's data folder, and the recipes that the package brings along."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_dir

from explain.errors import DataError, near

__all__ = ["data_home", "is_shipped", "recipe_names", "recipe_path"]


def data_home() -> Path:
    """Return the folder of data made or fetched: ``$EXPLAIN_DATA``, else the platform's cache folder."""
    chosen = os.environ.get("EXPLAIN_DATA", "").strip()
    return Path(chosen).expanduser() if chosen else Path(user_cache_dir("explain"))


def _recipe_roots() -> list[Path]:
    package = Path(__file__).resolve().parent.parent
    # The wheel carries the recipes inside the package; an editable install has them beside it.
    return [root for root in (package / "_recipes", package.parent / "datasets") if root.is_dir()]


def is_shipped(path: Path) -> bool:
    """Tell whether a path lies in the samples that the package brings along: nothing is to be written there."""
    return any(path.resolve().is_relative_to(root) for root in _recipe_roots())


def recipe_names() -> list[str]:
    """Return the names of the data sets that there is a recipe for."""
    return sorted({card.parent.name for root in _recipe_roots() for card in root.glob("*/card.md")})


def recipe_path(name: str) -> Path:
    """Return the folder of a recipe (``card.md``, ``sample/``, …)."""
    for root in _recipe_roots():
        if (root / name / "card.md").is_file():
            return root / name
    known = recipe_names()
    raise DataError(f"no recipe {name!r}{near(name, known)} (known: {', '.join(known) or 'none'})")
