"""What a job with findings prints: how it was done, the warnings and the tables."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["print_findings"]

TABLES = 8
"""Tables on the terminal; the report has all."""


def print_findings(console: Console, result: Any) -> None:
    """Print notes, warnings and the first tables of `explain.findings.result.Findings`."""
    for note in result.notes:
        console.print(Text(note))
    for warning in result.warnings:
        console.print(Text(f"warning: {warning}"), style="yellow")
    for table in result.tables[:TABLES]:
        shown = Table(title=Text(table.title))
        for number, name in enumerate(table.columns):
            shown.add_column(Text(name), justify="left" if number in table.words else "right")
        for row in table.rows:
            shown.add_row(*map(Text, row))
        console.print(shown)
    if len(result.tables) > TABLES:
        console.print(f"{len(result.tables) - TABLES} more table(s) in the report")
