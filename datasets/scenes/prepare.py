"""Write drawn scenes: ``python prepare.py FOLDER [--count 320] [--seed 0]``."""

from __future__ import annotations

import argparse
from pathlib import Path

from explain.data.scenes import write_scenes
from explain.errors import ExplainError


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the data set 'scenes' into a folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=320)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    try:
        folder = write_scenes(chosen.folder, chosen.count, chosen.seed)
    except ExplainError as error:
        parser.error(str(error))
    print(f"{chosen.count} scenes in {folder}")


if __name__ == "__main__":
    main()
