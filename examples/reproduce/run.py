"""Published figures, made again by the project's own commands: one TOML file here for each set of them.

Run it: python examples/reproduce/run.py --list                        (published beside ours, for all)
        python examples/reproduce/run.py NAME                          (what it needs and which commands it calls)
        python examples/reproduce/run.py NAME INPUT=VALUE … --go       (carries them out; again: goes on)
"""

import argparse
import json
import re
import shlex
import sys
import tomllib
from pathlib import Path

from explain.cli.app import command_line
from explain.data.preparing import prepared_path
from explain.data.recipes import recipe_names

HERE = Path(__file__).resolve().parent
KNOWN = {
    "second-hand": "quoted by others, not read in the paper",
    "recalled": "from memory: check it in the paper",
    "table image": "read off an image of the table",
    "computed": "computed from files that were published",
}
"""How a published figure is known."""
OPEN = "open: not run"


def names():
    return sorted(path.stem for path in HERE.glob("*.toml"))


def read(name):
    """Return a config; exits with one line where there is none of this name."""
    if name not in names():
        sys.exit(f"no figures {name!r}: one of {', '.join(names())}")
    with (HERE / f"{name}.toml").open("rb") as file:
        return tomllib.load(file)


def values_of(config, given, out):
    """Return the value of each input that has one: given, the default, or where the prepared data set lies."""
    fixed = {"here": str(HERE), "out": str(out)}
    found = {}
    for name, entry in config["inputs"].items():
        if name in given:
            found[name] = given[name]
        elif "default" in entry:
            found[name] = entry["default"].format(**fixed)
        elif entry.get("prepared", True) and entry.get("set") in recipe_names() and prepared_path(entry["set"]):
            found[name] = str(prepared_path(entry["set"]))
    return fixed | found


def words_of(run, values, options):
    """Return a run's command as words, and the inputs that are missing for it."""
    asked = set(re.findall(r"{(\w+)}", run["command"])) - {"options"}
    missing = sorted(asked - values.keys())
    words = []
    for word in shlex.split(run["command"]):  # a value is one word, whatever is in it
        words += options if word == "{options}" else [word if missing else word.format(**values)]
    return [*words, "--resume"], missing


def found_at(out, figure):
    """Return what a run folder says of a figure: a number, or texts; None where it does not."""
    path = Path(out) / figure["file"]
    if not path.is_file():
        return None
    values = [json.loads(path.read_text(encoding="utf-8"))]
    for step in figure["at"].split("."):
        if step == "*":
            values = [each for value in values for each in value]
        elif "=" in step:  # the first entry of a list whose field has this value
            key, wanted = step.split("=")
            values = [next((each for each in value if str(each[key]) == wanted), None) for value in values]
        else:
            values = [value.get(step) if value is not None else None for value in values]
    if "*" in figure["at"].split("."):
        return values
    return figure.get("absent") if values[0] is None else values[0]


def told(value, like):
    """Return a value as text, with as many digits as the published one and one more; texts with commas between."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.{len(like.partition('.')[2]) + 1}f}"
    return str(value)


def rows(config, out=None):
    """Return (figure, published, how it is known, ours, made with) for each figure; of a run folder where given."""
    found = []
    for figure in config["figures"]:
        value = found_at(out, figure) if out else figure.get("ours")
        made = str(out) if out else figure.get("made_with", "")
        known = f"{figure['source']} ({figure['known']})"
        ours = OPEN if value is None else told(value, figure["published"])
        found.append((figure["name"], figure["published"], known, ours, "" if value is None else made))
    return found


def show(title, lines):
    print(f"\n{title}")
    heads = ("figure", "published", "where", "ours", "made with")
    widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
    for line in (heads, *lines):
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def plan(name, config, given, out, options):
    """Print what the inputs are and the commands, with what is missing."""
    print(f"{config['title']}\n{config['paper']}\n{config['about']}")
    values = values_of(config, given, out)
    for key, entry in config["inputs"].items():
        print(f"  {key + '=':<20}{values.get(key, '(give it)')}\n{'':<22}{entry['about']}")
    for run in config["runs"]:
        words, missing = words_of(run, values, options)
        print(f"\n{shlex.join(words)}" + (f"\n  lacks {', '.join(missing)}" if missing else ""))
    print(f"\npython examples/reproduce/run.py {name} INPUT=VALUE … --go carries out the commands that lack nothing")


def carry_out(config, given, out, options, only):
    """Call the commands that lack nothing, one after the other; returns how many there were."""
    values, count = values_of(config, given, out), 0
    for run in config["runs"]:
        if (only and run["name"] not in only) or run.get("unless") in given:
            continue
        words, missing = words_of(run, values, options)
        if "after" in run and not (out / run["after"]).is_dir():
            missing = [*missing, f"the run {run['after']}"]
        if missing:
            print(f"{run['name']}: left out, lacks {', '.join(missing)}")
            continue
        print(f"\n$ {shlex.join(words)}", flush=True)
        command_line()(words[1:], standalone_mode=False)  # in this process; what is wrong is told in one line
        count += 1
    return count


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", help=", ".join(names()))
    parser.add_argument("inputs", nargs="*", metavar="INPUT=VALUE")
    parser.add_argument("--list", action="store_true", help="published beside ours, for all")
    parser.add_argument("--go", action="store_true", help="carry the commands out")
    parser.add_argument("--out", help="folder of the runs; runs/reproduce/NAME")
    parser.add_argument("--only", nargs="+", metavar="RUN", help="these runs only")
    parser.add_argument("--options", default="", help='more options of the commands: "--device cuda --workers 8"')
    asked = parser.parse_args(arguments)
    if asked.list or asked.name is None:
        for name in names():
            show(f"{name}: {read(name)['title']}", rows(read(name)))
        return 0
    config, out = read(asked.name), Path(asked.out or f"runs/reproduce/{asked.name}")
    given = dict(each.partition("=")[::2] for each in asked.inputs)
    for what, wrong in (
        ("inputs", given.keys() - config["inputs"].keys()),
        ("runs", set(asked.only or ()) - {run["name"] for run in config["runs"]}),
    ):
        if wrong:
            known = config["inputs"] if what == "inputs" else [run["name"] for run in config["runs"]]
            sys.exit(f"{asked.name} has no {what} {', '.join(sorted(wrong))}: {', '.join(known)}")
    options = shlex.split(asked.options)
    if not asked.go:
        plan(asked.name, config, given, out, options)
        return 0
    done = carry_out(config, given, out, options, asked.only)
    show(config["title"], rows(config, out))
    return 0 if done else 2


if __name__ == "__main__":
    sys.exit(main())
