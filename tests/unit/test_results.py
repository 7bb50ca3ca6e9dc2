"""Tables in the documentation are those of the results files."""

import csv
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


@pytest.fixture
def script(monkeypatch):
    """A function that imports a script of benchmarks/."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def read(name):
    with (RESULTS / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_pages_of_results_are_made_from_the_files(script):
    tables = script("tables")
    for path in tables.PAGES:
        page = path.read_text(encoding="utf-8")
        assert tables.filled(page) == page, path
    page = tables.PAGE.read_text(encoding="utf-8")
    for row in read("saliency"):
        assert f"{float(row['ratio']):.3f}" in page
        assert float(row["low"]) <= float(row["ratio"]) <= float(row["high"])


@pytest.mark.parametrize(
    ("name", "module", "page"),
    [
        ("alignment", "alignment", "alignment"),
        ("effects", "effects", "effects"),
        ("gap_gmp", "gap_gmp_tables", "networks"),
    ],
)
def test_tables_of_other_pages_are_made_from_their_files(script, name, module, page):
    filled = script(module).filled
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    rows = read(name)
    assert filled(text, rows) == text
    column = next(key for key in ("value", "tiled", "maxboxacc") if key in rows[0])
    assert filled(text, [{**row, column: "12345"} for row in rows]) != text  # the table follows the file


def test_every_file_of_results_is_on_a_page(script):
    tables = script("tables")
    index = (ROOT / "docs" / "results" / "index.md").read_text(encoding="utf-8")
    for path in RESULTS.glob("*.csv"):
        assert f"`{path.name}`" in index
        assert path.stem in tables.TOLD or f"<!-- {path.stem} -->" in tables.PAGE.read_text(encoding="utf-8"), path
