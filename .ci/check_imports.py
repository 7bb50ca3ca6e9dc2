"""Check that every module of the package is imported without a warning or a word, and each room on its own.

Warnings are errors (``-W error``). What a module asks for that is not installed fails too: optional requirements are
imported where they are used.
"""

import pkgutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "explain"


def modules() -> list[str]:
    """Return the names of all modules, without importing any."""
    found = ["explain"]
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return sorted({name for name in found if not name.endswith("__main__")})


def trouble(names: list[str]) -> str:
    """Import modules, in this order, in a fresh process; return what it printed, or its error."""
    code = f"import importlib\nfor name in {names!r}: importlib.import_module(name)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    told = (done.stdout + done.stderr).strip()
    return told or (f"exit status {done.returncode}" if done.returncode else "")


def main() -> int:
    """Print what is wrong, or how many modules there are."""
    names = modules()
    rooms = [f"explain.{info.name}" for info in pkgutil.iter_modules([str(PACKAGE)]) if info.name != "__main__"]
    groups = [names, *([room] for room in rooms)]
    wrong = [
        f"import {group[0]}{' and all others' * (len(group) > 1)}: {told}"
        for group in groups
        if (told := trouble(group))
    ]
    print("\n".join(wrong) or f"{len(names)} modules in one process, {len(rooms)} rooms each in its own")
    return len(wrong) > 0


if __name__ == "__main__":
    sys.exit(main())
