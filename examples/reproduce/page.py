"""The tables of docs/reproduce.md, from the configs beside this file: python examples/reproduce/page.py writes them."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from run import HERE, KNOWN, names, read, rows

PAGE = HERE.parents[1] / "docs" / "reproduce.md"


def linked(text):
    """Return text of a config as it stands on a page of docs/."""
    return re.sub(r"docs/(\w+)\.md", r"[\1](\1.md)", text.strip())


def section(name):
    """Return what the page says of one config."""
    config = read(name)
    lines = [f"## {config['title']}", "", f"{config['paper']}.", "", linked(config["about"]), ""]
    lines += ["| figure | published | where | ours | made with |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in rows(config)]
    lines += ["", "| input | |", "|---|---|"]
    for key, entry in config["inputs"].items():
        default = f"; where it is not given: `{entry['default']}`" if "default" in entry else ""
        lines.append(f"| `{key}` | {linked(entry['about'])}{default} |")
    commands = [run["command"] for run in config["runs"]]
    lines += ["", "```sh", f"python examples/reproduce/run.py {name} INPUT=VALUE --go", "", *commands, "```"]
    return "\n".join(lines)


def text():
    """Return all that is made from the configs."""
    known = "\n".join(f"- *{name}*: {meaning};" for name, meaning in KNOWN.items())
    return "\n\n".join([known.removesuffix(";") + ".", *map(section, names())])


def filled(page):
    """Return a page with its part between the two marks made anew."""
    return re.sub(
        r"(<!-- figures -->\n).*?(\n<!-- end -->)", lambda match: match[1] + text() + match[2], page, flags=re.S
    )


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"written: {PAGE}")
