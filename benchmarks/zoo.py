"""Take torchvision's classifiers apart, with random weights: explain/nets/zoo.csv and the table of docs/models.md.

python benchmarks/zoo.py                      # all, one after the other: an hour on a busy core, 6 GB
python benchmarks/zoo.py resnet18 vit_b_16    # these; the other rows stay
python benchmarks/zoo.py --missing            # those not in the file yet: goes on after an interruption
python benchmarks/zoo.py --table              # the table of the page from the file alone

The file travels with the package; `explain models` prints it.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from explain.nets.subject import torchvision_names
from explain.nets.zoo import ZOO, ZooRow, read_zoo, write_zoo
from explain.saliency.support import examine_random

PAGE = Path(__file__).parent.parent / "docs" / "models.md"
BEGIN, END = "<!-- zoo: begin -->", "<!-- zoo: end -->"
GIANTS = ("regnet_y_128gf", "vit_l_16", "vit_l_32", "convnext_large", "vit_h_14")
"""Measured last."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--missing", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--out", type=Path, default=ZOO)
    given = parser.parse_args(arguments)
    failed = [] if given.table else measure(given.names or torchvision_names(), given.out, missing=given.missing)
    if given.out == ZOO:
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), read_zoo()), encoding="utf-8")
    return len(failed) > 0


def measure(names: Sequence[str], out: Path, *, missing: bool) -> list[str]:
    """Measure one network after the other, writing each row at once; return the names of those that failed."""
    rows = {row.name: row for row in read_zoo(out)}
    failed = []
    for name in sorted(names, key=lambda name: (GIANTS.index(name) if name in GIANTS else -1, name)):
        if missing and name in rows:
            continue
        start = time.perf_counter()
        try:
            row = examine_random(name)
        except Exception:
            traceback.print_exc()
            failed.append(name)
            continue
        rows[name] = row
        write_zoo(rows.values(), out)
        print(
            f"{name:20} {row.layer:28} {row.channels:5} {row.grid:8} {row.answer:12} residual {row.residual:.1e}"
            f" gradcam {row.gradcam} placed {row.placed} {row.instead} ({time.perf_counter() - start:.0f} s)",
            flush=True,
        )
    if failed:
        print("failed:", ", ".join(failed), file=sys.stderr)
    return failed


def with_table(page: str, rows: Sequence[ZooRow]) -> str:
    """Return the page with the table between the marks replaced."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(rows)}\n{END}{after}"


def table(rows: Sequence[ZooRow]) -> str:
    """Return the table in Markdown."""
    titles = ("model", "parameters (M)", "layer", "channels", "grid", "exact CAM", "residual, or what to use instead")
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for row in rows:
        last = f"{row.residual:.1e}" if row.exact else row.instead
        lines.append(
            f"| {row.name} | {row.parameters / 1e6:.1f} | `{row.layer}` | {row.channels} | {row.grid} | {row.answer} |"
            f" {last} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
