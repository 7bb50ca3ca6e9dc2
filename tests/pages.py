"""Pages of the documentation whose snippets run: in tests, and to write what they print into the page again.

A page is run from top to bottom in an empty folder:

- a ``sh`` block: each line that calls ``explain`` or ``python FILE.py``;
- a ``python`` block, in one namespace; after a line that ends with "`NAME`:" a block of any kind is that file instead;
- a ``text`` block is what the block before it printed; ``<!-- first N -->`` before it: its first N lines.

``<!-- test: OPTIONS -->`` before a block: the test adds the options to its commands, so that it is fast, and compares
nothing; so it stands before what asks such a reduced run, too. ``<!-- not run -->``: nobody runs it.

Write the outputs again: python tests/pages.py docs/tutorials/image.md ...
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(r"(?:^(?P<before>[^\n]*)\n\n?)?^```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    kind: str
    body: str
    before: str
    """The line before it."""
    span: tuple[int, int]
    """Of its body in the page."""

    @property
    def file(self):
        found = re.search(r"`([^`]+)`:$", self.before)
        return found.group(1) if found else None

    @property
    def runs(self):
        return "<!-- not run -->" not in self.before

    @property
    def reduced(self):
        found = re.search(r"<!-- test: (.*?) -->", self.before)
        return shlex.split(found.group(1)) if found else []

    @property
    def first(self):
        found = re.search(r"<!-- first (\d+) -->", self.before)
        return int(found.group(1)) if found else None


def blocks_of(text):
    return [
        Block(found["kind"], found["body"], found["before"] or "", found.span("body"))
        for found in _FENCE.finditer(text)
    ]


def commands_of(body):
    """The lines that call something, as words; a comment behind a command is left out."""
    lines = body.replace("\\\n", " ").splitlines()
    found = [shlex.split(line, comments=True) for line in lines]
    return [words for words in found if words]


def masked(text):
    """Text without what differs between machines: numbers, frames of tables, blanks."""
    plain = re.sub(r"[\u2500-\u257f]+", " ", text)
    return [re.sub(r"\d[\d.,]*(e[-+]\d+)?", "#", " ".join(line.split())) for line in plain.splitlines() if line.strip()]


def run_page(page, call: Callable[[list[str]], str], folder: Path, *, reduce=True):
    """Run a page in ``folder``; yields each ``text`` block with what was printed for it, and whether it was reduced."""
    text = page.read_text(encoding="utf-8")
    names = {"__name__": "page"}
    printed, reduced = "", False
    for block in blocks_of(text):
        if block.file is not None:
            place = folder / block.file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(block.body, encoding="utf-8")
        elif block.kind == "text":
            yield block, printed, reduced
        elif block.runs and block.kind == "sh":
            reduced = reduce and bool(block.reduced)
            more = block.reduced if reduce else []
            printed = "".join(_called(words, more, call) for words in commands_of(block.body))
        elif block.runs and block.kind == "python":
            heard = io.StringIO()
            with contextlib.redirect_stdout(heard):
                exec(compile(block.body, f"{page.name}", "exec"), names)
            printed, reduced = heard.getvalue(), reduce and "<!-- test: " in block.before


def _called(words, more, call):
    if words[0] == "explain":
        return call([*words[1:], *more])
    if words[0] == "python":
        heard = io.StringIO()
        with contextlib.redirect_stdout(heard):
            runpy.run_path(words[1], run_name="__main__")
        return heard.getvalue()
    raise AssertionError(f"a page may call explain and python only, not {words[0]}: mark the block <!-- not run -->")


def check_page(page, call, folder):
    """Run a page, reduced; every line of its ``text`` blocks is printed, numbers apart."""
    for block, printed, reduced in run_page(page, call, folder):
        if not reduced:
            there = masked(printed)
            for line in masked(block.body.replace("…\n", "")):
                assert line in there, f"{page.name}: {line!r} is not among what was printed:\n{printed}"


def _command(words):
    """Call explain as a user does, and return all it prints."""
    env = {**os.environ, "COLUMNS": "110"}
    done = subprocess.run(
        [sys.executable, "-m", "explain", *words], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.stdout


def write_outputs(page):
    """Put what the snippets print into the page."""
    text, out, end = page.read_text(encoding="utf-8"), [], 0
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for block, printed, _ in run_page(page, _command, Path(folder), reduce=False):
            lines = [line.rstrip() for line in printed.splitlines() if line.strip()]
            kept = lines if block.first is None or len(lines) <= block.first else [*lines[: block.first], "…"]
            out += [text[end : block.span[0]], "\n".join(kept) + "\n"]
            end = block.span[1]
    page.write_text("".join([*out, text[end:]]), encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        write_outputs(Path(name).resolve())
