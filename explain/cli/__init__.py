"""The command line: one file per command. Exits 2 with one line on bad input, never a traceback."""

from explain.cli.app import main

__all__ = ["main"]
