"""All benchmarks, one after the other: ``make bench``, or ``python -m benchmarks``.

    python -m benchmarks [--only NAME …] [--full] [--keep] [--device cuda]

Small by default: a quarter of an hour on two cores. ``--full`` runs them as published: hours. Each writes a CSV into
``runs/bench`` (``runs/bench/full``), which is then compared with the kept one (`benchmarks.check`): small ones with
``benchmarks/results/small``, full ones with ``benchmarks/results``. ``--keep`` puts the rows into the kept file, in the
place of those of the same name, case, baseline and device. A benchmark that fails is named in the end, the others run
all the same, and the exit status is 1. What got slower is told and does not change it: other programs on the machine
may be the reason; run that one again alone, then ``python -m benchmarks.check``.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.check import compared, read_rows, summary
from benchmarks.parts import PARTS, Part
from benchmarks.timing import merge_rows

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Outcome:
    """What became of one benchmark; ``fault`` is empty when it ran."""

    part: Part
    seconds: float
    fault: str


def run_part(part: Part, out: Path, full: bool, device: str | None) -> Outcome:
    """Run a benchmark's calls into a new CSV; what it prints is shown as it comes."""
    begun = time.perf_counter()
    if part.needs and not any(shutil.which(name) for name in part.needs):
        return Outcome(part, 0.0, f"needs {part.needs[0]} on the path")
    out.unlink(missing_ok=True)
    for arguments in part.calls(full):
        extra = ["--device", device] if device and part.devices else []
        command = [sys.executable, str(HERE / f"{part.script}.py"), *arguments, *extra, "--out", str(out)]
        print(f"$ {' '.join(command[1:])}", flush=True)
        done = subprocess.run(command, cwd=HERE.parent, check=False)
        if done.returncode:
            return Outcome(part, time.perf_counter() - begun, f"exit status {done.returncode}")
    fault = "" if out.is_file() else f"ended without {out.name}"
    return Outcome(part, time.perf_counter() - begun, fault)


def told(outcome: Outcome, new: Path, kept: Path) -> list[str]:
    """Return the lines about one benchmark: its time, or its fault; and what differs from the kept file."""
    name = outcome.part.name
    if outcome.fault:
        return [f"{name:13} FAILED: {outcome.fault}"]
    line = f"{name:13} {outcome.seconds:6.0f} s  {new}"
    if not kept.is_file():
        return [line, f"{'':13} no kept file {kept}: --keep makes it"]
    return [line, *(f"{'':13} {text}" for text in summary(compared(read_rows(new), read_rows(kept))))]


def run_all(parts: Sequence[Part], folder: Path, kept: Path, given: argparse.Namespace) -> int:
    """Run benchmarks, compare, keep; return 1 when one failed."""
    folder.mkdir(parents=True, exist_ok=True)
    outcomes, lines = [], []
    for number, part in enumerate(parts):
        print(f"[{number + 1}/{len(parts)}] {part.name}: {part.about}", flush=True)
        new, old = folder / f"{part.script}.csv", kept / f"{part.script}.csv"
        outcome = run_part(part, new, given.full, given.device)
        outcomes.append(outcome)
        lines += told(outcome, new, old)
        if given.keep and not outcome.fault:
            merge_rows(old, new)
            lines.append(f"{'':13} kept in {old}")
        print(
            f"[{number + 1}/{len(parts)}] {part.name}: {outcome.fault or 'done'}, {outcome.seconds:.0f} s", flush=True
        )
    failed = [outcome.part.name for outcome in outcomes if outcome.fault]
    print("\n" + "\n".join(lines))
    total = sum(outcome.seconds for outcome in outcomes)
    print(f"{len(outcomes) - len(failed)} of {len(outcomes)} benchmarks ran, {total / 60:.1f} minutes", end="")
    print(f"; failed: {', '.join(failed)}" if failed else "")
    return len(failed) > 0


def main(arguments: Sequence[str] | None = None, parts: Sequence[Part] = PARTS, root: Path = HERE.parent) -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [part.name for part in parts]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", default=names, help=", ".join(names))
    parser.add_argument("--full", action="store_true", help="as published: hours")
    parser.add_argument("--keep", action="store_true", help="put the rows into the kept files")
    parser.add_argument("--device", help="for those that run a network, such as cuda")
    given = parser.parse_args(arguments)
    chosen = [part for part in parts if part.name in given.only]
    folder = root / "runs" / "bench" / ("full" if given.full else "small")
    kept = root / "benchmarks" / "results" / ("" if given.full else "small")
    return run_all(chosen, folder, kept, given)


if __name__ == "__main__":
    sys.exit(main())
