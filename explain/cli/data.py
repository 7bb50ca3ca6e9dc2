"""``explain data``: look after data folders and data sets."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from explain.cli.progress import progress_bars, wide_console

if TYPE_CHECKING:
    from explain.data.preparing import Plan
    from explain.data.recipes import Recipe

__all__ = ["check_folder", "list_sets", "prepare_set"]


def check_folder(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="NAME_OR_PATH",
            help="data folder, table of sentence pairs, or a prepared set's name",
        ),
    ],
) -> None:
    """Say what is wrong with a data folder or a table of sentence pairs, line by line; exit code 2 if anything is."""
    from explain.data import check
    from explain.data.preparing import need_prepared

    place = path if path.exists() else need_prepared(str(path)) or path
    if place.is_file() and place.name.removesuffix(".gz").endswith((".tsv", ".txt")):
        print(f"{place}: nothing wrong ({_told_pairs(place)})")
        return
    problems = check(place)
    print("\n".join(problems) if problems else f"{place}: nothing wrong ({_told_of(place)})")
    if problems:
        raise typer.Exit(2)


def _told_pairs(file: Path) -> str:
    """Return what a table of sentence pairs holds; the first thing that is wrong in it is an error."""
    from explain.data import open_text

    pairs = open_text(file)
    return f"{len(pairs)} sentence pairs, {pairs.skipped} more without a label"


def _told_of(folder: Path) -> str:
    """Return what a folder holds, and what it lacks for localization."""
    from explain.data import open_data
    from explain.errors import ExplainError
    from explain.types import ProbeSet

    try:
        found = open_data(folder)
    except ExplainError as error:  # a published set in parts asks which one
        return f"to open it: {error}"
    if isinstance(found, ProbeSet):
        return f"probe set: {len(found)} images, {len(found.concepts)} concepts"
    classes = len(set(found.classes))
    without = sum(len(boxes) == 0 for boxes in found.boxes)
    lacks = f"; {without} have no box, which localization needs" if without and found.masks is None else ""
    return f"labelled images: {len(found)}, of {classes} classes{lacks}"


def list_sets() -> None:
    """List the data sets that there is a recipe for: what is on this machine, how to read it, licence and size."""
    from rich.table import Table

    from explain.data.recipes import data_home, read_recipe, recipe_names

    table = Table("name", "here", "readers", "size", "licence", box=None, pad_edge=False)
    for name in recipe_names():
        recipe = read_recipe(name)
        table.add_row(name, here(recipe), ", ".join(readers(recipe)), recipe.size, recipe.licence)
    wide_console().print(table)
    print(f"data folder: {data_home()} (EXPLAIN_DATA)")


def here(recipe: Recipe) -> str:
    """Return what is on this machine of a set, in a word or two."""
    from explain.data.preparing import data_folder, prepared_parts

    if recipe.made is not None:
        return recipe.made.replace("`", "")
    if not recipe.archives:
        return "by hand"
    there = prepared_parts(data_folder(recipe))
    return ", ".join(there) if there else "no: prepare it"


def readers(recipe: Recipe) -> list[str]:
    """Return what opens a set, for people."""
    kinds = {"sentences": ["sentence pairs"], "vectors": ["word vectors"]}
    own = [*recipe.formats, *(f"{name} (probe)" for name in recipe.probe_formats)]
    return own or kinds.get(recipe.kind, ["none"])


def prepare_set(
    name_or_path: Annotated[
        str, typer.Argument(metavar="NAME_OR_PATH", help="a set of `explain data list`, or a folder with recipe.toml")
    ],
    part: Annotated[list[str] | None, typer.Option(help="a part of it; repeatable; default: what most need")] = None,
    archives: Annotated[Path | None, typer.Option(help="folder of archives that need not be fetched")] = None,
    accept_licence: Annotated[bool, typer.Option("--accept-licence", help="the licence is read and accepted")] = False,
    keep_archives: Annotated[bool, typer.Option("--keep-archives", help="keep what was downloaded")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be done, and do nothing")] = False,
) -> None:
    """Bring a data set into the data folder: download, check, unpack; the same command goes on where it stopped."""
    from explain.data.preparing import plan
    from explain.data.recipes import read_recipe

    recipe = read_recipe(name_or_path)
    for each in (recipe, *(read_recipe(name) for name in recipe.also)):
        work = plan(each, tuple(part or ()) if each is recipe else (), archives)
        for line in _told(work):
            print(line)
        if not dry_run:
            _carry_out(work, accept_licence, keep_archives)


def _carry_out(work: Plan, accept_licence: bool, keep: bool) -> None:
    from explain.data.preparing import prepare

    if work.archives and not accept_licence and sys.stdin.isatty():
        with suppress(typer.Abort):  # an interruption accepts nothing
            accept_licence = typer.confirm("accept the licence, and go on?")
    try:
        with progress_bars() as progress:
            place = prepare(work, accept_licence=accept_licence, keep=keep, progress=progress)
    except KeyboardInterrupt:
        print("explain: interrupted; the same command goes on where it stopped", file=sys.stderr)
        raise typer.Exit(130) from None
    print(f"ready: {place}")


def _told(work: Plan) -> list[str]:
    """Return what will be done, for people."""
    recipe = work.recipe
    card = recipe.folder / "card.md"
    lines = [f"{recipe.name}: {recipe.title}", f"  licence  {recipe.licence}"]
    if card.is_file():
        lines.append(f"  card     {card}")
    if work.done:
        lines.append(f"  there    {', '.join(work.done)}, in {work.folder}")
    for archive, size in zip(work.archives, work.sizes, strict=True):
        told = f"{size / 1e6:,.1f} MB" if size is not None else "size not known"
        lines.append(
            f"  part     {archive.part}: {archive.file}, {told}, {archive.checksum or 'no checksum is published'}"
        )
    if work.archives:
        least = "at least " if None in work.sizes else ""
        fetch, needed, free = (f"{size / 1e9:.2f} GB" for size in (work.fetch, work.needed, work.free))
        lines.append(f"  disk     {least}{fetch} to fetch, {least}{needed} in all; {free} free in {work.folder.parent}")
    return lines
