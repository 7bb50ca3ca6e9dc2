"""The commands together, and what happens to errors."""

from __future__ import annotations

import sys
import warnings

import typer

from explain.cli.data import data_app
from explain.cli.demo import demo
from explain.cli.doctor import doctor
from explain.cli.image import image
from explain.cli.localize import localize
from explain.cli.models import models
from explain.cli.neurons import neurons
from explain.cli.report import report
from explain.errors import ExplainError

__all__ = ["app", "main"]


def _app() -> typer.Typer:
    found = typer.Typer(
        name="explain",
        help="Show why a vision network decides as it does, and check the answer.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for command in (demo, image, localize, neurons, report, models, doctor):
        found.command()(command)
    found.add_typer(data_app, name="data")
    return found


app = _app()


def main() -> None:
    """Run the command line; the entry point of ``explain`` and ``python -m explain``."""
    warnings.showwarning = _plain_warning
    try:
        app()
    except ExplainError as error:
        print(f"explain: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("explain: interrupted; what was done is kept, --resume continues", file=sys.stderr)
        sys.exit(130)


def _plain_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: object = None, line: object = None
) -> None:
    print(f"explain: warning: {message}", file=sys.stderr)
