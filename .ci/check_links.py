"""Check the links of all Markdown pages: files and headings of the project; of other addresses only their form."""

import html
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
REFERENCE = re.compile(r"^\[[^\]]+\]:\s+<?(\S+?)>?\s*$", re.M)
INLINE = re.compile(r"<(?:a|img)\b[^>]*\b(?:href|src)=\"([^\"]+)\"")
BARE = re.compile(r"<(https?:[^>\s]+)>")
CODE = re.compile(r"^(`{3,}|~{3,}).*?^\1", re.M | re.S)
HOST = re.compile(r"^(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}(?::\d+)?$", re.I)


def links(text: str) -> list[str]:
    """Return where a page's links lead; code is not read."""
    shown = re.sub(r"`[^`\n]*`", "`", CODE.sub("", text))
    return [html.unescape(found) for form in (LINK, REFERENCE, INLINE, BARE) for found in form.findall(shown)]


def anchors(text: str) -> set[str]:
    """Return the names of a page's headings, as GitHub and MyST make them, and of its explicit targets."""
    found: dict[str, int] = {}
    for title in re.findall(r"^#{1,6}\s+(.+?)\s*#*$", CODE.sub("", text), re.M):
        plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").replace("*", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    numbered = {f"{slug}-{again}" for slug, most in found.items() for again in range(1, most + 1)}
    explicit = re.findall(r"^\(([\w.-]+)\)=$|\bid=\"([^\"]+)\"", text, re.M)
    return {*found, *numbered, *(name for pair in explicit for name in pair if name)}


def fault(page: Path, target: str, files: set[Path]) -> str | None:
    """Return what is wrong with one link of a page, in words."""
    parts = urlsplit(target)
    if parts.scheme in ("http", "https"):
        return None if HOST.match(parts.netloc) else "no such form of an address"
    if parts.scheme == "mailto":
        return None if "@" in parts.path else "no address of a person"
    if parts.scheme:
        return f"scheme {parts.scheme!r}: want https, or a path within the project"
    name = unquote(parts.path)
    if name.startswith("/"):
        return "an absolute path: a page is read in other places too"
    other = (page.parent / name).resolve() if name else page
    if other not in files and not any(other in file.parents for file in files):
        return "no such file among those of the project"
    if parts.fragment and other.suffix == ".md" and parts.fragment not in anchors(other.read_text(encoding="utf-8")):
        return f"{other.relative_to(ROOT)} has no heading #{parts.fragment}"
    return None


def project_files() -> set[Path]:
    """Return what git knows or would add."""
    asked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True)
    return {path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()}


if __name__ == "__main__":
    files = project_files()
    pages = sorted(path for path in files if path.suffix == ".md")
    every = [(page, target) for page in pages for target in links(page.read_text(encoding="utf-8"))]
    wrong = [
        f"{page.relative_to(ROOT)}: {target}: {told}" for page, target in every if (told := fault(page, target, files))
    ]
    print("\n".join(wrong) or f"{len(every)} links on {len(pages)} pages; addresses of others by their form alone")
    sys.exit(len(wrong) > 0)
