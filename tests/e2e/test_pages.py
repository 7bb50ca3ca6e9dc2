"""The tutorials and the first hour run and print what they say: numbers apart, and in a reduced form where slow."""

import sys
from pathlib import Path

import pytest
from pages import ROOT, blocks_of, check_page

HOWTO = ["docs/howto/add-a-method.md", "docs/howto/first-hour.md"]
PAGES = [*HOWTO, *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/tutorials/*.md"))]


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """An empty folder to work in, with data of its own; what a page imports from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPLAIN_DATA", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_prints_what_it_says(page, run, alone):
    pytest.importorskip("efficientnet_lite_pytorch")

    def call(words):
        return "".join(run(*words)[1:])

    check_page(ROOT / page, call, Path(alone))


def test_every_tutorial_runs_something():
    for page in PAGES:
        if not page.endswith("index.md"):
            assert any(block.kind in ("sh", "python") and block.runs for block in blocks_of((ROOT / page).read_text()))
