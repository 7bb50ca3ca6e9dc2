"""Make Breaking NLI's lines a table of sentence pairs: ``python prepare.py dataset.jsonl OUT.tsv``.

The set is published as JSON, an object a line; the reader of sentence pairs takes tab-separated tables.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

COLUMNS = ("gold_label", "sentence1", "sentence2", "category")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make Breaking NLI's lines a table of sentence pairs.")
    parser.add_argument("lines", type=Path, help="dataset.jsonl")
    parser.add_argument("table", type=Path, help="the tab-separated file to write")
    chosen = parser.parse_args()
    rows = ["\t".join(COLUMNS)]
    for number, text in enumerate(chosen.lines.read_text(encoding="utf-8").splitlines(), 1):
        try:
            pair = json.loads(text)
            rows.append("\t".join(" ".join(str(pair[column]).split()) for column in COLUMNS))
        except (ValueError, KeyError, TypeError) as error:
            parser.error(f"{chosen.lines} line {number} is no pair with {', '.join(COLUMNS)} ({error!r})")
    chosen.table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    print(f"{len(rows) - 1} pairs in {chosen.table}")


if __name__ == "__main__":
    main()
