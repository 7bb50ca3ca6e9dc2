"""The directive ``{command-line}``: every command of `explain` with its arguments and options, from the commands."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from explain.cli.app import command_line


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each command with the words that call it, in the order of ``explain --help``."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def every_command() -> list[tuple[tuple[str, ...], Any]]:
    """Return the commands of `explain`, such as ``(("data", "check"), command)``."""
    return list(commands(typer.main.get_command(command_line())))


def rows_of(command: Any, path: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return what the command takes, as its ``--help`` prints it: name and type, meaning."""
    context = command.make_context(" ".join(("explain", *path)), [], resilient_parsing=True)
    records = (parameter.get_help_record(context) for parameter in command.get_params(context))
    return [record for record in records if record is not None and record[0] != "--help"]


class CommandLine(SphinxDirective):
    """Sections, one for each command."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        return [self.section(path, command) for path, command in every_command()]

    def section(self, path: tuple[str, ...], command: Any) -> nodes.section:
        """Return a command's section: title, what it does, usage, arguments and options."""
        words = " ".join(("explain", *path))
        part = nodes.section(ids=[nodes.make_id(words)])
        part += nodes.title("", "", nodes.literal(words, words))
        for text in inspect.cleandoc(command.help or "").split("\n\n"):
            part += nodes.paragraph("", " ".join(text.split()))
        context = command.make_context(words, [], resilient_parsing=True)
        usage = " ".join(command.get_usage(context).removeprefix("Usage:").split())
        part += nodes.literal_block(usage, usage, language="text")
        part += table(rows_of(command, path))
        return part


def table(rows: list[tuple[str, str]]) -> nodes.table:
    """Return a table of two columns: what is typed, what it means."""
    group = nodes.tgroup("", nodes.colspec(colwidth=35), nodes.colspec(colwidth=65), cols=2)
    body = nodes.tbody()
    for name, meaning in rows:
        cells = (nodes.literal(name, name), nodes.inline(meaning, meaning))
        body += nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))
    group += body
    return nodes.table("", group)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
