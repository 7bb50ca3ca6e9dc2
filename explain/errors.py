"""The errors a user can cause. Each says in one line what was wrong, what was got and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "DataError",
    "DependencyError",
    "ExplainError",
    "InputError",
    "ModelError",
    "RunError",
    "near",
]


class ExplainError(Exception):
    """Base of all errors that explain raises on purpose; the command line prints it as one line, exit code 2."""


class InputError(ExplainError, ValueError):
    """An image, class, option or shape that cannot be used."""


class ModelError(ExplainError):
    """A model that cannot be found, loaded or explained."""


class DataError(ExplainError):
    """A data folder that does not match its format; names the file and line."""


class RunError(ExplainError):
    """A run folder that is missing, occupied or does not match."""


class DependencyError(ExplainError, ImportError):
    """An optional or system dependency that is missing; names the remedy."""


def near(name: str, names: Iterable[str], *, count: int = 5) -> str:
    """Return ``"; near: a, b"`` with the known names closest to ``name``, or ``""`` if none is close."""
    known = list(names)
    by_lower = {known_name.lower(): known_name for known_name in known}
    close = [by_lower[match] for match in get_close_matches(name.lower(), by_lower, n=count, cutoff=0.5)]
    inside = [known_name for known_name in known if name.lower() in known_name.lower()]
    found = list(dict.fromkeys([*close, *inside]))[:count]
    return f"; near: {', '.join(found)}" if found else ""
