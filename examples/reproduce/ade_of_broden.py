"""The part of Broden that Mu and Andreas (2020) search: the photos of ADE20K, as a probe set of its own.

Run it: python examples/reproduce/ade_of_broden.py BRODEN OUT      (OUT gets an index of its own; the rest are links)
"""

import csv
import sys
from pathlib import Path

SOURCE = "ade20k/"


def write_part(broden, out):
    """Write OUT/index.csv with the rows of photos below images/ade20k, and link what else BRODEN holds."""
    broden, out = Path(broden).resolve(), Path(out)
    out.mkdir(parents=True)
    for path in broden.iterdir():
        if path.name == "images" or (path.suffix == ".csv" and path.name != "index.csv"):
            (out / path.name).symlink_to(path)
    with (broden / "index.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if row["image"].startswith(SOURCE)]
    with (out / "index.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, reader.fieldnames)
        writer.writeheader()
        writer.writerows(rows)
    return len(rows)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    print(f"{write_part(*sys.argv[1:])} photos in {sys.argv[2]}")
