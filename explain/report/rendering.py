"""Choose what a run folder holds, build its page and write `report.html` in one step."""

from __future__ import annotations

import csv
import json
import os
import shutil
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
from explain.report.effects import effects_part, effects_parts
from explain.report.image import image_part
from explain.report.lineup import Lineup, line_up, lineup_json, lineup_part, lineup_text
from explain.report.localization import localization_part
from explain.report.neurons import ASSETS, SPLIT_BYTES, expected_bytes, neurons_folder, neurons_part
from explain.report.parts import Part
from explain.runs import read_json, write_json

__all__ = ["render", "render_all"]

Builder = Callable[[Path, dict[str, Any], str], Part]

_DAMAGE = (KeyError, IndexError, TypeError, ValueError, AttributeError, jinja2.UndefinedError)
"""What reading a result raises that lacks something."""

WARN_BYTES = 30 * 2**20
"""A page beyond this size opens slowly; it is written all the same, and says so."""


def render(*runs: str | Path, assets: bool | None = None) -> Path:
    """Write ``report.html`` into each run folder and return the path of the last one written.

    The page is one file: styles, pictures and outlines are inside, nothing is loaded from a network. Each
    folder gets its own page; where several hold localization, their pages open with a comparison of them. Several
    neuron runs get one more page that lines them up: ``comparison.html`` in the first folder that is named,
    ``report.html`` where that is a folder of runs (several layers or networks) and the only one; beside it
    ``comparison.json``. Beside the page of a neuron run lies ``report.json``, what it says.

    Parameters
    ----------
    *runs
        Run folders of any jobs.
    assets
        Write neuron runs in the folder form: an index, and beside it ``report-assets`` with pages of units and the
        table for formulas; pictures stay in the run folder. Where None, only for runs whose page would be larger than
        16 MiB without that table.

    Raises
    ------
    RunError
        A folder is missing, is not a run folder, or its JSON cannot be read or lacks something; neuron runs of whole
        units stand beside those of ranges of activation.
    """
    return render_all(*runs, assets=assets)[0][-1]


def render_all(*runs: str | Path, assets: bool | None = None) -> tuple[list[Path], list[str]]:
    """Do what `render` does; return the pages, and as text whether the runs can be compared."""
    if not runs:
        raise RunError("there is nothing to report: name at least one run folder")
    read = [(folder, *_read_run(folder)) for given in runs for folder in _inside(Path(given))]
    different = {folder.resolve(): (folder, run) for folder, kind, run in read if kind == "localization"}
    compared, text = _compared(list(different.values())) if len(different) > 1 else ([], [])
    neurons = {folder.resolve(): (folder, run) for folder, kind, run in read if kind == "neurons"}
    lineup = _lined_up(list(neurons.values())) if len(neurons) > 1 else None
    pages = [
        _render_one(folder, kind, run, compared if kind == "localization" else [], assets) for folder, kind, run in read
    ]
    if lineup is not None:
        pages.append(_render_lineup(lineup, Path(runs[0]), alone=len(runs) == 1))
        text += lineup_text(lineup)
    return pages, text + _not_compared([(folder, kind) for folder, kind, _ in read])


def _not_compared(read: Sequence[tuple[Path, str]]) -> list[str]:
    """Say of which runs there is no comparison, where one could be expected."""
    kinds = dict.fromkeys(kind for _, kind in read)
    if len(kinds) > 1:
        found = ", ".join(f"{folder} ({kind})" for folder, kind in read)
        return [f"runs of different kinds are not compared: {found}"]
    kind = next(iter(kinds))
    if len(read) > 1 and kind not in ("neurons", "localization"):
        return [f"runs of kind {kind!r} are not compared; localization and neuron runs are"]
    return []


def _lined_up(runs: Sequence[tuple[Path, dict[str, Any]]]) -> Lineup:
    try:
        return line_up(runs)
    except _DAMAGE as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        names = ", ".join(str(folder) for folder, _ in runs)
        raise RunError(f"{names} do not all hold what a neuron run has ({what}): run the jobs again") from error


def _render_lineup(lineup: Lineup, home: Path, *, alone: bool) -> Path:
    """Write the page that lines neuron runs up, and what it shows as JSON."""
    part = lineup_part(lineup, home, "a")
    try:
        write_json(home / "comparison.json", lineup_json(lineup))
    except OSError as error:
        raise RunError(f"{home / 'comparison.json'} cannot be written: {error.strerror or error}") from error
    return _write(home / ("report.html" if alone else "comparison.html"), _page_of([part], part.title))


def _compared(runs: Sequence[tuple[Path, dict[str, Any]]]) -> tuple[list[Part], list[str]]:
    """Return the part of a page that compares localization runs, and its verdict as text."""
    try:
        found = compare(runs)
        return [comparison_part(runs, found, "z")], comparison_text(found)
    except _DAMAGE as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        names = ", ".join(str(folder) for folder, _ in runs)
        raise RunError(f"{names} do not all hold what a localization run has ({what}): run the jobs again") from error


def _render_one(folder: Path, kind: str, run: Mapping[str, Any], before: Sequence[Part], assets: bool | None) -> Path:
    try:
        files = _page_files(folder, kind, run, before, assets)
    except _DAMAGE as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        source = folder / _files()[kind]
        raise RunError(f"{source} does not hold what a {kind} run has ({what}): run the job again") from error
    shutil.rmtree(folder / ASSETS, ignore_errors=True)  # of an earlier page, which this one replaces
    for name, content in files.items():
        _write(folder / name, content)
    return folder / "report.html"


def _page_files(
    folder: Path, kind: str, run: Mapping[str, Any], before: Sequence[Part], assets: bool | None
) -> dict[str, bytes]:
    """Return the files of a run's report by their path from its folder; the page itself comes last."""
    if kind != "neurons":
        return {"report.html": _page(folder, kind, run, before)}
    large = assets if assets is not None else expected_bytes(folder, run) > SPLIT_BYTES
    if large:
        index, parts, scripts = neurons_folder(folder, dict(run), "a")
        pages = {name: _page_of([part], part.title) for name, part in parts.items()}
        pages |= {name: script.encode("utf-8") for name, script in scripts.items()}
    else:
        index, pages = neurons_part(folder, dict(run), "a"), {}
    data = json.dumps(index.data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return {
        **pages,
        "report.json": _encoded(data + "\n"),
        "report.html": _page_of([*before, index, *effects_parts(folder)], index.title),
    }


def _write(target: Path, content: bytes) -> Path:
    temporary = target.with_name(f"{target.name}.tmp")
    try:
        target.parent.mkdir(exist_ok=True)
        temporary.write_bytes(content)
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
        "effects": "effects.json",
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
    return _page_of(parts, "explain demo" if kind == "demo" else parts[0].title, run if kind == "demo" else None)


def _page_of(parts: Sequence[Part], title: str, demo: Mapping[str, Any] | None = None) -> bytes:
    environment = _environment()
    template = environment.get_template("page.html.j2")
    context = {
        "title": title,
        "demo": demo,
        "parts": parts,
        "style": _inline(environment, "style.css"),
        "pictures": _pictures(parts),
        "scripts": [_inline(environment, name) for name in dict.fromkeys(n for part in parts for n in part.scripts)],
    }
    html = template.render(context, size_note=None)
    if len(html) > WARN_BYTES:
        note = f"This page is large ({len(html) / 2**20:.0f} MiB) and may open slowly."
        html = template.render(context, size_note=note)
    return _encoded(html)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", errors="replace")  # a lone surrogate in a file name must not cost the page


def _json(value: Any) -> Markup:
    """Return JSON that may stand inside a script element."""
    return Markup(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"))


def _builders() -> dict[str, Builder]:
    return {
        "neurons": neurons_part,
        "localization": localization_part,
        "image": image_part,
        "discovery": discovery_part,
        "effects": effects_part,
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
    environment.filters |= {**formatting.filters(), "json": _json}
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
