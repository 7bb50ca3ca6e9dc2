"""The pages that are kept under docs/live as examples."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsing import PHONE, too_wide

LIVE = Path(__file__).parents[2] / "docs" / "live"
PAGES = sorted(LIVE.glob("*.html"))


def test_there_are_pages():
    assert {path.stem for path in PAGES} == {"localization", "neurons"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_kept_page_is_small_opens_offline_and_names_no_machine(open_page, path):
    page = open_page(PHONE)
    page.goto(path.as_uri())
    assert path.stat().st_size < 2**20
    assert page.evaluate("performance.getEntriesByType('resource').length") == 0
    assert page.locator("svg.shot").first.is_visible()
    assert too_wide(page) == 0
    words = page.locator("body").text_content()
    assert f"docs/make_live.py {path.stem}" in words
    assert not any(f"/{root}/" in words for root in ("home", "tmp", "root", "work", "Users"))
