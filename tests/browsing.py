"""What the tests in a real browser share: where Chromium is, what a page may not do, and axe-core's findings."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

LOCAL = {"file", "data", "blob", "about"}
"""Schemes of addresses that need no network."""
PHONE = (360, 740)
DESKTOP = (1280, 860)
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str:
    """Return the path of an installed Chromium; the test is skipped where there is none."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser is installed (looked for {', '.join(_NAMES)})")
    return found


@dataclass
class Faults:
    """What a page did that it may not do, in words."""

    found: list[str] = field(default_factory=list)

    def watch(self, page: Any) -> None:
        """Note the page's errors, and whatever it asks the network for."""
        page.on("console", lambda said: self._note(said.type == "error", f"console error: {said.text}"))
        page.on("dialog", self._said)
        page.on("pageerror", lambda error: self.found.append(f"page error: {error}"))
        page.on("request", lambda asked: self._asked(asked.url))
        page.on("websocket", lambda asked: self._asked(asked.url))

    def _said(self, dialog: Any) -> None:
        self.found.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _asked(self, address: str) -> None:
        self._note(urlsplit(address).scheme not in LOCAL, f"network request: {address[:200]}")

    def _note(self, wrong: bool, told: str) -> None:
        if wrong:
            self.found.append(told)


def serious(page: Any, *, within: str | None = None, rules: Sequence[str] = ()) -> list[str]:
    """Return axe-core's serious and critical findings, one line each: rule, what it wants, the first elements.

    ``within`` is a CSS selector; by default the whole page is looked at, in the colours it is shown in. ``rules``:
    these alone, such as ``color-contrast``; all where there are none. Time goes by the number of elements: small pages.
    """
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = list(rules)
    found = axe.Axe().run(page, context=within, options=options).response["violations"]
    return [
        f"{rule['id']}: {rule['help']}: " + "; ".join(_element(node) for node in rule["nodes"][:4])
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]


def _element(node: dict[str, Any]) -> str:
    why = [check["message"] for check in [*node["any"], *node["all"], *node["none"]]]
    return f"{node['html'][:120]} ({why[0] if why else 'no reason given'})"


def too_wide(page: Any) -> int:
    """Return by how many pixels the page is wider than its window: 0 where nothing scrolls sideways."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
