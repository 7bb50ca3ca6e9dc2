"""Check that the version stands in one place, has its section at the top of the changelog, and is the installed one."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FORM = r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?(?:\.dev\d+)?"


def faults() -> list[str]:
    """Return what is wrong, in words."""
    found = re.findall(rf'^__version__ = "({FORM})"$', (ROOT / "explain/__init__.py").read_text(encoding="utf-8"), re.M)
    if len(found) != 1:
        return ['explain/__init__.py: want one line __version__ = "MAJOR.MINOR.PATCH"']
    (version,) = found
    wrong = []
    top = re.search(r"^## \[?([^\]\s]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    if top is None or top[1] != version:
        wrong.append(f"CHANGELOG.md: the first section is of {top and top[1]}, explain/__init__.py says {version}")
    for name, form in (("pyproject.toml", r"^version\s*="), ("CITATION.cff", r"^version:"), ("docs/conf.py", FORM)):
        path = ROOT / name
        if path.exists() and re.search(form, path.read_text(encoding="utf-8"), re.M):
            wrong.append(f"{name}: says a version of its own; it comes from explain/__init__.py")
    code = "import explain, importlib.metadata as m; print(explain.__version__, m.version('explain-nets'))"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    if set(told.split()) != {version}:
        wrong.append(f"installed are {told.strip()} (package, metadata), not {version}: make distclean, make test")
    return wrong


if __name__ == "__main__":
    wrong = faults()
    print("\n".join(wrong) or "one version, in the changelog and installed")
    sys.exit(len(wrong) > 0)
