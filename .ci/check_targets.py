"""Check that what pages and workflows call with ``make`` exists, and that CONTRIBUTING.md tells of every target."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CALL = re.compile(r"(?:^|`|run: |&& |\$ )make ([a-z][a-z-]*)", re.M)


def told(path: Path) -> set[str]:
    """Return the targets that a file calls."""
    return set(CALL.findall(path.read_text(encoding="utf-8")))


def faults(root: Path = ROOT) -> list[str]:
    """Return what is wrong, in words."""
    targets = set(re.findall(r"^([a-z][a-z-]*):.*## ", (root / "Makefile").read_text(encoding="utf-8"), re.M))
    pages = [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").rglob("*.md"))]
    pages += sorted((root / ".github" / "workflows").glob("*.yml"))
    pages = [page for page in pages if "_build" not in page.parts]
    wrong = [
        f"{page.relative_to(root)}: make {name}: the Makefile has no such target"
        for page in pages
        for name in sorted(told(page) - targets)
    ]
    missing = sorted(targets - told(root / "CONTRIBUTING.md") - {"help"})  # `make` alone is help
    return wrong + [f"CONTRIBUTING.md: does not tell of make {name}" for name in missing]


if __name__ == "__main__":
    wrong = faults()
    print("\n".join(wrong) or "every target is told, every one told exists")
    sys.exit(len(wrong) > 0)
