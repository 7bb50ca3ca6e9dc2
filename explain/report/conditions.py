"""Whether the numbers of localization runs can be compared: each condition with the values of all runs, and a verdict.

Three kinds of conditions: those that must agree (images, ground truth, every switch of a protocol), those that are the
object of a comparison (network, method), and those that are noted because they may explain a small difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from explain.report.formatting import spoken
from explain.report.headline import chosen_on
from explain.report.scores import methods_of, protocols_of, setting

__all__ = ["Condition", "Run", "Verdict", "conditions_of", "same_truth", "verdict_of"]

Run = Mapping[str, Any]
Role = Literal["must agree", "compared", "noted"]
_UNKNOWN = "not recorded"
_PER_IMAGE = ("class", "size", "truth")
_SILENT = ("name", "source")
"""Switches of a protocol that change no number."""


@dataclass(frozen=True)
class Condition:
    """One condition of several runs."""

    name: str
    role: Role
    values: tuple[str, ...]
    """One per run."""
    agree: bool


@dataclass(frozen=True)
class Verdict:
    """What may be concluded from the numbers of two runs."""

    comparable: bool
    """Under one protocol at least."""
    text: str
    reasons: tuple[str, ...]
    """Why not, or under which protocols not."""
    remarks: tuple[str, ...]
    """What is compared, and what may explain small differences."""
    protocols: tuple[str, ...]
    """Protocols of both runs under which numbers can be compared."""

    def __str__(self) -> str:
        return " ".join([self.text, *self.remarks])


def conditions_of(runs: Sequence[Run]) -> list[Condition]:
    """Return every condition with the values of all runs."""
    return [*_truth_rows(runs), *_protocol_rows(runs), *_subject_rows(runs), *_noted_rows(runs)]


def verdict_of(first: Run, second: Run) -> Verdict:
    """Say whether the numbers of two runs can be compared, and what makes them differ."""
    shared = _shared([first, second])
    unequal = {name: rows for name in shared if (rows := _differing(first, second, name))}
    fine = tuple(name for name in shared if name not in unequal)
    reasons = [reason] if (reason := _truth_reason(first, second)) else []
    if not shared:
        one, other = (", ".join(protocols_of(run)) for run in (first, second))
        reasons.append(f"no protocol is in both ({one}; {other})")
    reasons += [
        f"protocol {name} differs in " + ", ".join(f"{switch} ({one} and {other})" for switch, one, other in rows)
        for name, rows in unequal.items()
    ]
    comparable = same_truth(first, second) is True and bool(fine)
    if not comparable:
        return Verdict(False, f"Not comparable: {'; '.join(reasons)}.", tuple(reasons), (), ())
    text = "Same images, same truth, same protocol: numbers can be compared."
    if unequal:
        text = (
            f"Same images and same truth: numbers can be compared under {', '.join(fine)};"
            f" not under {', '.join(unequal)}: {'; '.join(reasons)}."
        )
    return Verdict(True, text, tuple(reasons), tuple(_remarks(first, second)), fine)


def same_truth(first: Run, second: Run) -> bool | None:
    """Return whether two runs were judged by the same images, classes and boxes; None where it is not known."""
    checksums = [_checksum(run) for run in (first, second)]
    if all(checksums):
        return checksums[0] == checksums[1]
    if not (first["images"] and second["images"]):
        return None
    return [_judged(image) for image in first["images"]] == [_judged(image) for image in second["images"]]


def _judged(image: Mapping[str, Any]) -> tuple[Any, ...]:
    return (image["name"], *(image[key] for key in _PER_IMAGE))


def _checksum(run: Run) -> str | None:
    found: str | None = (run.get("truth") or {}).get("checksum")
    return found


def _truth_reason(first: Run, second: Run) -> str | None:
    """Say why two runs were not judged by the same truth."""
    same = same_truth(first, second)
    if same:
        return None
    if same is None:
        return "it is not known whether both were judged by the same truth: a run has neither checksum nor images"
    rows = [{image["name"]: _judged(image) for image in run["images"]} for run in (first, second)]
    counts = [_count(run) for run in (first, second)]
    if not all(rows) and counts[0] != counts[1]:
        return f"other images: {counts[0]:,} and {counts[1]:,}"
    if not all(rows):
        return "the checksums of the ground truth differ: other images, classes, sizes or boxes"
    common = rows[0].keys() & rows[1].keys()
    if len(common) < max(map(len, rows)):
        return f"other images: {len(rows[0])} and {len(rows[1])}, of which {len(common)} are in both"
    changed = sum(rows[0][name] != rows[1][name] for name in common)
    if not changed:
        return "the images are in another order"
    return f"other ground truth: class, size or boxes of {changed} of {len(common)} images differ"


def _truth_rows(runs: Sequence[Run]) -> list[Condition]:
    same = all(same_truth(runs[0], run) is True for run in runs[1:])
    checksums = tuple(f"{found[:16]}…" if (found := _checksum(run)) else _UNKNOWN for run in runs)
    counts = [_count(run) for run in runs]
    limits = [setting(run, "limit") for run in runs]
    images = tuple(
        f"{count:,}{f' (limit {limit:,})' if limit is not None else ''}"
        for count, limit in zip(counts, limits, strict=True)
    )
    return [
        Condition("Ground truth (checksum)", "must agree", checksums, same),
        Condition("Images", "must agree", images, same or len({_names(run) for run in runs}) == 1),
        _row("Data", "noted", [_named(run["manifest"].get("data") or {}) for run in runs]),
    ]


def _count(run: Run) -> int:
    count: int = (run.get("truth") or {}).get("images") or len(run["images"])
    return count


def _names(run: Run) -> tuple[Any, ...]:
    """Return the names of a run's images, or how many there are where it has no list."""
    listed = tuple(image["name"] for image in run["images"])
    return listed or (_count(run),)


def _protocol_rows(runs: Sequence[Run]) -> list[Condition]:
    shared = _shared(runs)
    names = [protocols_of(run) for run in runs]
    rows = [
        Condition(
            "Protocols",
            "noted" if shared else "must agree",
            tuple(", ".join(own) for own in names),
            all(set(own) == set(names[0]) for own in names),
        ),
        _row("Frame, crop", "must agree", [_frames(run, shared) for run in runs]),
    ]
    unequal = []
    for name in shared:
        tables = [_switches(run, name) for run in runs]
        for switch in dict.fromkeys(key for table in tables for key in table):
            values = [spoken(table[switch]) if switch in table else _UNKNOWN for table in tables]
            if len(set(values)) > 1:
                unequal.append(_row(f"{name}: {switch}", "must agree", values))
    count = sum(len(_switches(runs[0], name)) for name in shared)
    equal = _row("Protocol switches", "must agree", [f"all {count} equal"] * len(runs)) if shared else None
    rows += unequal or ([equal] if equal is not None else [])
    rows.append(_row("Thresholds chosen by", "noted", [_chosen(run) for run in runs]))
    return rows


def _subject_rows(runs: Sequence[Run]) -> list[Condition]:
    models = [run["manifest"].get("model") or {} for run in runs]
    rows = [
        _row("Network", "compared", [str(model.get("name") or _UNKNOWN) for model in models]),
        _row("Network (hash)", "compared", [_short(model.get("hash")) for model in models]),
        _row("Layer", "compared", [spoken(model.get("layer")) for model in models]),
        _row("Transform", "compared", [spoken(model.get("transform")) for model in models]),
        _row("Method", "compared", [", ".join(methods_of(run)) for run in runs]),
        _row("Where cells lie (align)", "compared", [spoken(setting(run, "align")) for run in runs]),
    ]
    return rows


def _noted_rows(runs: Sequence[Run]) -> list[Condition]:
    versions = [run["manifest"].get("versions") or {} for run in runs]
    names = list(dict.fromkeys(name for table in versions for name in table))
    differing = [name for name in names if len({table.get(name) for table in versions}) > 1]
    shown = [
        ", ".join(f"{name} {table.get(name) or '–'}" for name in differing or names) or _UNKNOWN for table in versions
    ]
    return [
        _row("Seed", "noted", [spoken(setting(run, "seed")) for run in runs]),
        _row("Versions", "noted", shown),
    ]


def _row(name: str, role: Role, values: Sequence[str]) -> Condition:
    return Condition(name, role, tuple(values), len(set(values)) == 1)


def _shared(runs: Sequence[Run]) -> list[str]:
    """Return the protocols that all runs have, by name."""
    return [name for name in protocols_of(runs[0]) if all(name in protocols_of(run) for run in runs)]


def _switches(run: Run, protocol: str) -> dict[str, Any]:
    """Return what decides a protocol's numbers; the list of images that it leaves out is one more switch."""
    switches = (run.get("protocols") or {}).get(protocol) or {}
    found = {name: value for name, value in switches.items() if name not in _SILENT}
    if found.get("blacklist"):
        found["images left out by"] = setting(run, "blacklist")
    return found


def _differing(first: Run, second: Run, protocol: str) -> list[tuple[str, str, str]]:
    """Return (switch, first's value, second's) where they differ."""
    one, other = _switches(first, protocol), _switches(second, protocol)
    return [
        (name, spoken(one[name]) if name in one else _UNKNOWN, spoken(other[name]) if name in other else _UNKNOWN)
        for name in dict.fromkeys([*one, *other])
        if name not in one or name not in other or one[name] != other[name]
    ]


def _frames(run: Run, shared: Sequence[str]) -> str:
    found = {}
    for name in shared or protocols_of(run):
        switches = _switches(run, name)
        crop = switches.get("crop")
        pixels = switches.get("frame") or _UNKNOWN
        shown = _UNKNOWN if crop is None else "centre crop" if crop else "whole picture"
        found[name] = f"{pixels} pixels, {shown}"
    if len(set(found.values())) == 1:
        return next(iter(found.values()))
    return "; ".join(f"{name}: {text}" for name, text in found.items())


def _chosen(run: Run) -> str:
    return f"fixed: protocol; best: scored images; other: {chosen_on(run)}"


def _named(data: Mapping[str, Any]) -> str:
    return f"{data.get('name') or _UNKNOWN} · {_short(data.get('hash'))}"


def _short(digest: Any) -> str:
    return f"{str(digest)[:16]}…" if digest else _UNKNOWN


def _remarks(first: Run, second: Run) -> list[str]:
    """Say what differs although numbers can be compared."""
    rows = [row for row in conditions_of([first, second]) if not row.agree]
    compared = [row.name.lower() for row in rows if row.role == "compared"]
    told = [
        f"What differs, and is compared: {', '.join(compared)}." if compared else "Network and method are the same."
    ]
    names = {row.name: row for row in rows}
    if "Thresholds chosen by" in names:
        told.append("Scores at thresholds chosen on other images were chosen on different ones: compare the others.")
    elif "Seed" in names:
        told.append("The seeds differ: halves that choose thresholds, and random weights, are others.")
    if "Versions" in names:
        one, other = names["Versions"].values
        told.append(f"Versions differ ({one}; {other}): small differences may come from them.")
    return told
