"""The gallery: each script of examples/ run, with one picture or the first lines that it prints.

``python docs/make_gallery.py`` writes docs/gallery/index.md and docs/images/gallery (a minute or two; needs the extras
"demo" and "discovery"); ``python docs/make_gallery.py NAME …`` runs these scripts only, and keeps what the page has of
the others.
"""

import contextlib
import importlib.util
import io
import os
import re
import sys
import tempfile
from pathlib import Path

from PIL import Image

from explain.findings.result import Findings
from explain.types import Saliency

DOCS = Path(__file__).resolve().parent
EXAMPLES = DOCS.parent / "examples"
PAGE, PICTURES = DOCS / "gallery" / "index.md", DOCS / "images" / "gallery"
LINES, WIDTH, LONGEST = 12, 112, 1400
LARGEST = 40_000
"""Bytes of a picture."""
HEAD = """# Gallery

The scripts of `examples/`, each with a picture that it makes or the first lines that it prints. All run offline in
seconds: `python examples/NAME.py`. Three [notebooks](notebooks.md) show the three jobs step by step.
"""


def scripts() -> list[Path]:
    """Return the scripts in the order of their names."""
    return sorted(EXAMPLES.glob("*.py"))


def title(path: Path) -> tuple[str, str]:
    """Return the first line of a script's docstring, and what else stands there before how to run it."""
    text = path.read_text(encoding="utf-8").partition('"""')[2].partition('"""')[0]
    first, *rest = text.strip().split("\n\n")
    more = [part for part in rest if not part.startswith("Run it:")]
    return " ".join(first.split()), "\n\n".join(more)


def run(path: Path) -> tuple[str, Image.Image | None]:
    """Run a script's main without arguments; returns what it printed and the first picture there is of its result."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    printed, before = io.StringIO(), Path.cwd()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(printed):
        os.chdir(folder)
        try:
            spec.loader.exec_module(module)
            result = module.main()
            files = sorted(Path(folder).glob("*.png"))
            picture = Image.open(files[0]).convert("RGB") if files else picture_of(result)
        finally:
            os.chdir(before)
    return printed.getvalue(), picture


def picture_of(result: object) -> Image.Image | None:
    """Return a picture of a result that has one: maps, or an example that findings show."""
    if isinstance(result, Saliency):
        return result.picture()
    pictures = [one.picture for one in result.examples] if isinstance(result, Findings) else []
    return next((picture for picture in pictures if picture is not None), None)


def keep(picture: Image.Image, target: Path) -> None:
    """Write a picture as WebP, small enough."""
    picture = picture.convert("RGB")
    picture.thumbnail((LONGEST, LONGEST))
    for quality in (80, 65, 50, 35):
        picture.save(target, quality=quality, method=6)
        if target.stat().st_size < LARGEST:
            return
    raise SystemExit(f"{target} has {target.stat().st_size} bytes: make LONGEST smaller")


def output_of(path: Path) -> str:
    """Run a script; returns what the page shows of it."""
    printed, picture = run(path)
    if picture is not None:
        target = PICTURES / f"{path.stem}.webp"
        target.parent.mkdir(parents=True, exist_ok=True)
        keep(picture, target)
        return f"![{title(path)[0]}](../images/gallery/{target.name})"
    lines = [line.rstrip() for line in printed.replace("`", "'").splitlines()]
    shown = [line if len(line) <= WIDTH else f"{line[: WIDTH - 2]} …" for line in lines[:LINES]]
    return "\n".join(["```text", *shown, *(["…"] if len(lines) > LINES else []), "```"])


def shown(page: str) -> dict[str, str]:
    """Return what a page shows of each script, by name."""
    return dict(re.findall(r"<!-- output: (\w+) -->\n(.*?)\n<!-- end -->", page, flags=re.S))


def text(outputs: dict[str, str]) -> str:
    """Return the page, from what is shown of each script."""
    parts = [HEAD]
    for path in scripts():
        first, more = title(path)
        told = f"\n{more}\n" if more else ""
        parts.append(
            f"## {path.stem.replace('_', ' ').capitalize()}\n\n{first}\n{told}\n<!-- output: {path.stem} -->\n"
            f"{outputs[path.stem]}\n<!-- end -->\n\n[examples/{path.name}](../../examples/{path.name})\n"
        )
    return "\n".join(parts)


def main(names: list[str]) -> None:
    """Run scripts, and write the page after each."""
    known = shown(PAGE.read_text(encoding="utf-8")) if PAGE.exists() else {}
    for path in scripts():
        if path.stem in names or path.stem not in known:
            print(path.stem, flush=True)
            known[path.stem] = output_of(path)
            PAGE.write_text(text({one.stem: "" for one in scripts()} | known), encoding="utf-8")
    PAGE.write_text(text(known), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:] or [path.stem for path in scripts()])
