"""The command line as the tests of the commands call it: in this process, with what it says and its exit code."""

import sys

import pytest

from explain.cli import main


@pytest.fixture
def run(monkeypatch, capsys):
    """Call a command: its exit code, standard output and standard error."""

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["explain", *map(str, args)])
        monkeypatch.setenv("COLUMNS", "200")
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
