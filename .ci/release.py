"""What has to hold before a release, one line per check: ``make release-check [ARGS="--only links spelling"]``.

    .venv/bin/python .ci/release.py [--list] [--only NAME …] [--skip NAME …]

Each check is a command; it passes with exit status 0. What a failed one printed follows its line, after what to do. The
checks ``clean``, ``newest`` and ``lowest`` install the project into environments of their own under build/release, one
at a time (about 6 GB each with the usual build of torch; TORCH_INDEX=… as for .ci/setup), and delete them afterwards.
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

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / "build" / "release"
TOOLS = HOME / "tools" / "bin"
PYTHON = sys.executable
TAIL = 30
"""Lines of a failed check's output that are shown."""


@dataclass(frozen=True)
class Check:
    """A command that must succeed, and what to do when it does not."""

    name: str
    command: tuple[str, ...]
    remedy: str


def script(name: str, *arguments: str) -> tuple[str, ...]:
    """Return the command of a script beside this one."""
    return PYTHON, str(ROOT / ".ci" / f"{name}.py"), *arguments


def tool(name: str, *arguments: str) -> tuple[str, ...]:
    """Return the command of one of the tools in ``release-tools.txt``."""
    return str(TOOLS / name), *arguments


CHECKS = (
    Check("citation", tool("cffconvert", "--validate", "-i", "CITATION.cff"), "mend CITATION.cff"),
    Check("version", script("check_version"), "explain/__init__.py says the version, CHANGELOG.md has its section"),
    Check("targets", script("check_targets"), "name the same make targets in Makefile, CONTRIBUTING.md and workflows"),
    Check("workflow", tool("zizmor", "--offline", "--quiet", ".github"), "mend .github/workflows/ci.yml"),
    Check("pre-commit", tool("pre-commit", "validate-config"), "mend .pre-commit-config.yaml"),
    Check("files", script("check_files"), "mend the files named, or say in .ci/check_files.py why they may stay"),
    Check("links", script("check_links"), "mend the link, or what it points to"),
    Check("spelling", tool("codespell"), "mend the word; a right one goes into .ci/words.txt"),
    Check("repo-review", tool("repo-review", "."), "follow it, or decline it in pyproject.toml with a reason"),
    Check("imports", script("check_imports"), "a module warns, prints or fails when it is imported: mend it"),
    Check("pip check", tool("uv", "pip", "check", "--python", PYTHON), "requirements contradict each other"),
    Check("wheel", script("check_wheel"), "see [tool.hatch.build] in pyproject.toml"),
    Check("clean", script("check_install", "clean"), "the wheel lacks a file or a requirement"),
    Check("newest", script("check_install", "newest"), "mend the code for the new version"),
    Check("lowest", script("check_install", "lowest"), "mend the code, or raise the lower bound in pyproject.toml"),
)  # fmt: skip


def install_tools() -> None:
    """Make ``build/release/tools`` where it is missing or its list has changed."""
    wanted = ROOT / ".ci" / "release-tools.txt"
    stamp = HOME / "tools" / ".stamp"
    if stamp.is_file() and stamp.read_text() == wanted.read_text():
        return
    print("release: installing the tools of .ci/release-tools.txt into build/release/tools", flush=True)
    shutil.rmtree(HOME / "tools", ignore_errors=True)
    uv = shutil.which("uv")
    python = str(TOOLS / "python")
    if uv:
        subprocess.run([uv, "venv", "--quiet", "--python", PYTHON, str(HOME / "tools")], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "-r", str(wanted)], check=True)
    else:
        subprocess.run([PYTHON, "-m", "venv", str(HOME / "tools")], check=True)
        subprocess.run([python, "-m", "pip", "install", "-qq", "-r", str(wanted)], check=True)
    stamp.write_text(wanted.read_text())


def carried_out(check: Check) -> bool:
    """Run a check in the project's root, print its line, and return whether it passed."""
    if sys.stdout.isatty():
        print(f"…       {check.name}", end="\r", flush=True)
    begun = time.perf_counter()
    try:
        done = subprocess.run(
            check.command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace", check=False
        )
        status, told = done.returncode, done.stdout.strip().splitlines()
    except OSError as error:
        status, told = 1, [str(error)]
    taken = f"{time.perf_counter() - begun:.1f} s"
    if status == 0:
        said = told[-1] if told and check.command[0] == PYTHON else ""  # other tools' last lines say little
        print(f"ok      {check.name:12} {taken:>9}  {said}".rstrip(), flush=True)
        return True
    print(f"FAILED  {check.name:12} {taken:>9}  {check.remedy}", flush=True)
    for line in told[-TAIL:]:
        print(f"        {line}", flush=True)
    return False


def main(arguments: Sequence[str] | None = None, checks: Sequence[Check] = CHECKS) -> int:
    """Run the checks that are asked for; return 1 when one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [check.name for check in checks]
    parser.add_argument("--list", action="store_true", help="the names of the checks")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", default=names)
    parser.add_argument("--skip", nargs="+", choices=names, metavar="NAME", default=[])
    given = parser.parse_args(arguments)
    if given.list:
        print("\n".join(names))
        return 0
    chosen = [check for check in checks if check.name in given.only and check.name not in given.skip]
    if any(Path(check.command[0]).parent == TOOLS or "check_install" in check.command[1] for check in chosen):
        install_tools()
    failed = [check.name for check in chosen if not carried_out(check)]
    told = f"{len(chosen) - len(failed)} of {len(chosen)} checks passed"
    print(f"release: {told}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return len(failed) > 0


if __name__ == "__main__":
    sys.exit(main())
