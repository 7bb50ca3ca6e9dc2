"""Choose what a run folder holds, build its page and write `report.html` in one step."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from explain.errors import RunError
from explain.report import formatting
from explain.report.image import image_part
from explain.report.localization import localization_part
from explain.report.neurons import neurons_part
from explain.report.parts import Part
from explain.runs import read_json

__all__ = ["render"]

Builder = Callable[[Path, dict[str, Any], str], Part]

WARN_BYTES = 30 * 2**20
"""A page beyond this size opens slowly; it is written all the same, and says so."""


def render(*runs: str | Path) -> Path:
    """Write ``report.html`` into each run folder and return the path of the last one written.

    The page is one file: styles, pictures and outlines are inside, nothing is loaded from a network. Each
    folder gets its own page.

    Raises
    ------
    RunError
        A folder is missing, is not a run folder, or its JSON cannot be read or lacks something.
    """
    if not runs:
        raise RunError("there is nothing to report: name at least one run folder")
    return [_render_one(Path(run)) for run in runs][-1]


def _render_one(folder: Path) -> Path:
    kind, run = _read_run(folder)
    try:
        html = _page(folder, kind, run)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, jinja2.UndefinedError) as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        source = folder / _files()[kind]
        raise RunError(f"{source} does not hold what a {kind} run has ({what}): run the job again") from error
    target = folder / "report.html"
    temporary = folder / "report.html.tmp"
    try:
        temporary.write_bytes(html)
        temporary.replace(target)
    except OSError as error:
        raise RunError(f"{target} cannot be written: {error.strerror or error}") from error
    return target


def _files() -> dict[str, str]:
    return {"neurons": "run.json", "localization": "result.json", "image": "image.json", "demo": "demo.json"}


def _read_run(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the kind of a run folder and its result."""
    files = _files()
    if not folder.exists():
        raise RunError(f"{folder} does not exist: give a run folder (the --out of a job)")
    if not folder.is_dir():
        raise RunError(f"{folder} is a file: give the run folder it lies in")
    if (folder / "manifest.json").is_file():
        kind = read_json(folder / "manifest.json").get("kind")
    else:
        kind = next((kind for kind, name in files.items() if (folder / name).is_file()), None)
        if kind is None:
            names = ", ".join(files.values())
            raise RunError(f"{folder} is not a run folder: it has no manifest.json, nor any of {names}")
    if kind not in files:
        raise RunError(f"{folder} holds a run of kind {kind!r}; this version reports {', '.join(files)}")
    return str(kind), read_json(folder / files[kind])


def _page(folder: Path, kind: str, run: Mapping[str, Any]) -> bytes:
    parts = _demo_parts(folder, run) if kind == "demo" else [_builders()[kind](folder, dict(run), "a")]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("explain.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= formatting.filters()
    template = environment.get_template("page.html.j2")
    context = {
        "title": "explain demo" if kind == "demo" else parts[0].title,
        "demo": run if kind == "demo" else None,
        "parts": parts,
        "style": _inline(environment, "style.css"),
        "script": _inline(environment, "report.js"),
    }
    html = template.render(context, size_note=None)
    if len(html) > WARN_BYTES:
        note = f"This page is large ({len(html) / 2**20:.0f} MiB) and may open slowly."
        html = template.render(context, size_note=note)
    return html.encode("utf-8", errors="replace")  # a lone surrogate in a file name must not cost the page


def _builders() -> dict[str, Builder]:
    return {"neurons": neurons_part, "localization": localization_part, "image": image_part}


def _demo_parts(folder: Path, run: Mapping[str, Any]) -> list[Part]:
    parts = []
    for number, name in enumerate(run["parts"]):
        inner = folder / os.fspath(name)
        if folder.resolve() not in inner.resolve().parents:
            raise RunError(f"{folder / 'demo.json'} names the part {name!r}, which is outside the run folder")
        kind, result = _read_run(inner)
        if kind == "demo":
            raise RunError(f"{inner} is a demo inside a demo: run the demo again")
        parts.append(_builders()[kind](inner, result, "abcdefghij"[number]))
    return parts


def _inline(environment: jinja2.Environment, name: str) -> Markup:
    """Return a file of the package's own as it is; it is not a template and needs no escaping."""
    if environment.loader is None:  # pragma: no cover - the environment above has one
        raise RunError("the templates of the report are missing: reinstall explain")
    return Markup(environment.loader.get_source(environment, name)[0])
