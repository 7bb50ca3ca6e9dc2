"""Choose what a run folder holds, build its page and write `report.html` in one step."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from explain.errors import RunError
from explain.report import formatting
from explain.report.comparing import compare, comparison_part, comparison_text
from explain.report.discovery import discovery_part
from explain.report.image import image_part
from explain.report.localization import localization_part
from explain.report.neurons import neurons_part
from explain.report.parts import Part
from explain.runs import read_json

__all__ = ["render", "render_all"]

Builder = Callable[[Path, dict[str, Any], str], Part]

_DAMAGE = (KeyError, IndexError, TypeError, ValueError, AttributeError, jinja2.UndefinedError)
"""What reading a result raises that lacks something."""

WARN_BYTES = 30 * 2**20
"""A page beyond this size opens slowly; it is written all the same, and says so."""


def render(*runs: str | Path) -> Path:
    """Write ``report.html`` into each run folder and return the path of the last one written.

    The page is one file: styles, pictures and outlines are inside, nothing is loaded from a network. Each
    folder gets its own page; where several hold localization, their pages open with a comparison of them.

    Raises
    ------
    RunError
        A folder is missing, is not a run folder, or its JSON cannot be read or lacks something.
    """
    return render_all(*runs)[0][-1]


def render_all(*runs: str | Path) -> tuple[list[Path], list[str]]:
    """Do what `render` does; return the pages, and as text whether localization runs can be compared."""
    if not runs:
        raise RunError("there is nothing to report: name at least one run folder")
    read = [(folder, *_read_run(folder)) for given in runs for folder in _inside(Path(given))]
    different = {folder.resolve(): (folder, run) for folder, kind, run in read if kind == "localization"}
    compared, text = _compared(list(different.values())) if len(different) > 1 else ([], [])
    pages = [_render_one(folder, kind, run, compared if kind == "localization" else []) for folder, kind, run in read]
    return pages, text


def _compared(runs: Sequence[tuple[Path, dict[str, Any]]]) -> tuple[list[Part], list[str]]:
    """Return the part of a page that compares localization runs, and its verdict as text."""
    try:
        found = compare(runs)
        return [comparison_part(runs, found, "z")], comparison_text(found)
    except _DAMAGE as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        names = ", ".join(str(folder) for folder, _ in runs)
        raise RunError(f"{names} do not all hold what a localization run has ({what}): run the jobs again") from error


def _render_one(folder: Path, kind: str, run: Mapping[str, Any], before: Sequence[Part]) -> Path:
    try:
        html = _page(folder, kind, run, before)
    except _DAMAGE as error:
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
    return {
        "neurons": "run.json",
        "localization": "result.json",
        "image": "image.json",
        "demo": "demo.json",
        "discovery": "result.json",
    }


def _inside(folder: Path) -> list[Path]:
    """Return the run folders that a folder of neuron runs holds, in their order; else the folder itself."""
    if not (folder / "layers.csv").is_file() or not (folder / "manifest.json").is_file():
        return [folder]
    with (folder / "layers.csv").open(newline="", encoding="utf-8") as handle:
        return [folder / Path(row["folder"]).name for row in csv.DictReader(handle)]


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
            names = ", ".join(dict.fromkeys(files.values()))
            raise RunError(f"{folder} is not a run folder: it has no manifest.json, nor any of {names}")
    if kind not in files:
        raise RunError(f"{folder} holds a run of kind {kind!r}; this version reports {', '.join(files)}")
    return str(kind), read_json(folder / files[kind])


def _page(folder: Path, kind: str, run: Mapping[str, Any], before: Sequence[Part]) -> bytes:
    own = _demo_parts(folder, run) if kind == "demo" else [_builders()[kind](folder, dict(run), "a")]
    parts = [*before, *own]
    environment = _environment()
    template = environment.get_template("page.html.j2")
    context = {
        "title": "explain demo" if kind == "demo" else parts[0].title,
        "demo": run if kind == "demo" else None,
        "parts": parts,
        "style": _inline(environment, "style.css"),
        "pictures": _pictures(parts),
        "script": _inline(environment, "report.js"),
    }
    html = template.render(context, size_note=None)
    if len(html) > WARN_BYTES:
        note = f"This page is large ({len(html) / 2**20:.0f} MiB) and may open slowly."
        html = template.render(context, size_note=note)
    return html.encode("utf-8", errors="replace")  # a lone surrogate in a file name must not cost the page


def _builders() -> dict[str, Builder]:
    return {
        "neurons": neurons_part,
        "localization": localization_part,
        "image": image_part,
        "discovery": discovery_part,
    }


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


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("explain.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= formatting.filters()
    return environment


def _pictures(parts: Sequence[Part]) -> Markup:
    """Return the rules of all albums; a picture that several parts show is embedded once."""
    names: dict[str, list[str]] = {}
    for part in parts:
        for rule in part.album.css.splitlines():
            name, _, body = rule.partition("{")
            names.setdefault(body, []).append(name)
    return Markup("\n".join(f"{','.join(several)}{{{body}" for body, several in names.items()))


def _inline(environment: jinja2.Environment, name: str) -> Markup:
    """Return a file of the package's own as it is; it is not a template and needs no escaping."""
    if environment.loader is None:  # pragma: no cover - the environment above has one
        raise RunError("the templates of the report are missing: reinstall explain")
    return Markup(environment.loader.get_source(environment, name)[0])
