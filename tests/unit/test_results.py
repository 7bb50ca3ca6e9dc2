"""Tables in the documentation are those of the results files."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_of_results_is_made_from_the_files():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "benchmarks" / "tables.py")
    tables = importlib.util.module_from_spec(spec)
    sys.modules["tables"] = tables
    spec.loader.exec_module(tables)
    page = tables.PAGE.read_text()
    assert tables.filled(page) == page
    rows = tables.rows_of("saliency")
    assert rows
    for row in rows:
        assert f"{float(row['ratio']):.3f}" in page
        assert float(row["low"]) <= float(row["ratio"]) <= float(row["high"])
