"""How numbers and formulas read on a page."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup, escape

__all__ = ["change", "filters", "fixed", "formula", "integer", "linked", "number", "share", "spoken", "tight"]

_WHOLE = r'\b(?:AND|OR|NOT)\b|\bNEIGHBORS\([^\s()"\\]+\)(?=[\s()]|$)'
_TOKENS = re.compile(rf'"(?:[^"\\]|\\.)*"|{_WHOLE}|[()]|(?:(?!{_WHOLE})[^()"])+|"')
_BREAKS = re.compile(r">\s*\n\s*<")
_MISSING = "–"


def filters() -> dict[str, Callable[..., Any]]:
    """Return the filters that the templates use."""
    return {
        "change": change,
        "fixed": fixed,
        "formula": formula,
        "integer": integer,
        "linked": linked,
        "number": number,
        "share": share,
        "tight": tight,
    }


def number(value: float | None, digits: int = 3) -> str:
    """``0.1234`` → ``0.123``; very small or large values as ``1.23e-05``; ``–`` for none."""
    if value is None or not math.isfinite(value):
        return _MISSING
    if value != 0 and not 10.0**-digits / 2 <= abs(value) < 1e6:
        return _signed(f"{value:.2e}")
    return _signed(f"{value:.{digits}f}")


def fixed(value: float | None, digits: int = 2) -> str:
    """``0.1234`` → ``0.12``, and ``0.0001`` → ``0.00``: for captions, where there is no room for more."""
    return _MISSING if value is None or not math.isfinite(value) else _signed(f"{value:.{digits}f}")


def share(value: float | None, digits: int = 1) -> str:
    """``0.1234`` → ``12.3 %``."""
    return _MISSING if value is None else f"{number(100 * value, digits)}\u202f%"


def change(value: float, digits: int = 3) -> str:
    """``0.1234`` → ``+0.123``, always with its sign and as many digits; no change is ``0.000``."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "\u2212")


def integer(value: float | None) -> str:
    """``1234567`` → ``1 234 567`` with narrow spaces that do not break."""
    return _MISSING if value is None else _signed(f"{round(value):,}".replace(",", "\u202f"))


def formula(text: str | None, instead: str = "never fires") -> Markup:
    """Return a formula with its operators set apart; names that are not ASCII are isolated: any script reads well.

    ``instead`` stands where there is no formula.
    """
    if text is None:
        return Markup('<span class="none">{}</span>').format(instead)
    return Markup("".join(_token(match.group()) for match in _TOKENS.finditer(text)))


def linked(text: str | None, href: Callable[[str], str | None], instead: str = "never fires") -> Markup:
    """Return a formula as `formula` does, each concept a link to what ``href`` gives for its name."""
    if text is None:
        return formula(None, instead)
    return Markup("".join(_token(match.group(), href) for match in _TOKENS.finditer(text)))


def tight(html: str) -> Markup:
    """Return HTML of the page's own without line breaks between tags: each would be a node for the browser to keep."""
    return Markup(_BREAKS.sub("><", html))


def spoken(value: Any) -> str:
    """Return the value of a switch or setting as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return "; ".join(f"{name} {spoken(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(f"({spoken(item)})" if isinstance(item, list) else spoken(item) for item in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return "–" if value is None else str(value)


def _token(token: str, href: Callable[[str], str | None] | None = None) -> str:
    """Return one token as HTML; everything that comes from the text is escaped."""
    if token in {"AND", "OR", "NOT"}:
        return f"<b>{token}</b>"
    name = token.strip()
    if not name or name in "()":
        return str(escape(token))
    before, after = token[: len(token) - len(token.lstrip())], token[len(token.rstrip()) :]
    shown = _text(name)
    if not name.isascii():  # ASCII runs one way only
        shown = f"<bdi>{shown}</bdi>"
    address = href(_unquoted(name)) if href is not None else None
    if address is not None:
        shown = f'<a href="{escape(address)}">{shown}</a>'
    return f"{before}{shown}{after}"


def _text(name: str) -> str:
    """Escape what stands between tags: quotes, which nearly all names have, need it in attributes alone."""
    return str(escape(name)).replace("&#34;", '"')


def _unquoted(name: str) -> str:
    return re.sub(r"\\(.)", r"\1", name[1:-1]) if name[0] == '"' == name[-1] and len(name) > 1 else name


def _signed(text: str) -> str:
    return text.replace("-", "\u2212", 1) if text.startswith("-") else text
