"""Check what is committed, or the files named: small, text without conflict marks or trailing blanks, no lock files."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST = 1_000_000
"""Bytes of a file."""
LOCKS = {"uv.lock", "poetry.lock", "pdm.lock", "pixi.lock", "Pipfile.lock", "package-lock.json"}
MARKS = re.compile(rb"^(?:<{7}|>{7}|\|{7})(?: |$)", re.M)
BLANKS = re.compile(rb"[ \t]+$", re.M)
AS_PUBLISHED = ("sample",)
"""Folders whose files follow others' layouts to the byte."""


def fault(path: Path) -> str | None:
    """Return what is wrong with a file, in words."""
    if path.name in LOCKS:
        return "a lock file: the lowest versions stand in pyproject.toml"
    if path.is_symlink():
        return "a link: other systems lack them"
    size = path.stat().st_size
    if size > MOST:
        return f"{size} bytes, more than {MOST}"
    content = path.read_bytes()
    if b"\0" in content[:8000] or any(part in AS_PUBLISHED for part in path.parts):
        return None
    if MARKS.search(content):
        return "marks of a merge conflict"
    if b"\r\n" in content:
        return "lines end with CR LF"
    if path.suffix == ".html":
        return None  # as it was made
    if blank := BLANKS.search(content):
        return f"line {content[: blank.start()].count(bytes([10])) + 1} ends with blanks"
    return "no line end at the end" if content and not content.endswith(b"\n") else None


def committed() -> list[Path]:
    """Return the files that git knows."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in done.stdout.split("\0") if name]


if __name__ == "__main__":
    paths = [Path(name) for name in sys.argv[1:]] or committed()
    wrong = [f"{path}: {told}" for path in paths if path.is_file() and (told := fault(path))]
    print("\n".join(wrong) or f"{len(paths)} files")
    sys.exit(len(wrong) > 0)
