"""How numbers and formulas read on a page."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from markupsafe import Markup, escape

__all__ = ["filters", "formula", "integer", "number", "share"]

_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|\b(?:AND|OR|NOT)\b|[()]|(?:(?!\b(?:AND|OR|NOT)\b)[^()"])+|"')
_MISSING = "–"


def filters() -> dict[str, Callable[..., Any]]:
    """Return the filters that the templates use."""
    return {"formula": formula, "integer": integer, "number": number, "share": share}


def number(value: float | None, digits: int = 3) -> str:
    """``0.1234`` → ``0.123``; very small or large values as ``1.23e-05``; ``–`` for none."""
    if value is None or not math.isfinite(value):
        return _MISSING
    if value != 0 and not 10.0**-digits / 2 <= abs(value) < 1e6:
        return _signed(f"{value:.2e}")
    return _signed(f"{value:.{digits}f}")


def share(value: float | None, digits: int = 1) -> str:
    """``0.1234`` → ``12.3 %``."""
    return _MISSING if value is None else f"{number(100 * value, digits)}\u202f%"


def integer(value: float | None) -> str:
    """``1234567`` → ``1 234 567`` with narrow spaces that do not break."""
    return _MISSING if value is None else _signed(f"{round(value):,}".replace(",", "\u202f"))


def formula(text: str | None, instead: str = "never fires") -> Markup:
    """Return a formula with its operators set apart; each name is isolated, so that any script reads well.

    ``instead`` stands where there is no formula.
    """
    if text is None:
        return Markup('<span class="none">{}</span>').format(instead)
    return Markup("".join(_token(match.group()) for match in _TOKENS.finditer(text)))


def _token(token: str) -> str:
    """Return one token as HTML; everything that comes from the text is escaped."""
    if token in {"AND", "OR", "NOT"}:
        return f'<b class="op">{token}</b>'
    name = token.strip()
    if not name or name in "()":
        return str(escape(token))
    before, after = token[: len(token) - len(token.lstrip())], token[len(token.rstrip()) :]
    return f"{before}<bdi>{escape(name)}</bdi>{after}"


def _signed(text: str) -> str:
    return text.replace("-", "\u2212", 1) if text.startswith("-") else text
