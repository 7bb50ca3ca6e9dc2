"""The page of large neuron runs in a real browser: size, time until it can be used, search, sort, ask.

Runs are synthetic and saved by the library itself: invented formulas and counts on crops of scikit-image's photos,
eight images to a unit, 100,000 cells. 512 units fit one file; 2048 are written as a folder of pages. Chromium opens
each page anew several times, in windows of their own. The baseline of every time is fixed work of the same window,
before and after it: sorting 100,000 numbers. The first window (a browser that has just started) is told, and counts as
the others do; the first formula asked is cold (the table is read), the second one steady.

Times on a machine that does other things mean little: look at the main thread's time of loading there.

    python benchmarks/report.py [--units 512 2048] [--times 5] [--out benchmarks/results/report.csv]
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timing import HERE, Row, commit, device_name, plain_row, ratio, today, write_rows

from explain.data.sample import sample_photos
from explain.nets.subject import as_subject
from explain.neurons.cells import CellIndex, Cells
from explain.neurons.counts import UnitCounts
from explain.neurons.evidence.gathering import Evidence
from explain.neurons.examples import OTHERS, Examples, Picked
from explain.neurons.explanations import UnitExplanation, Units
from explain.neurons.formula import parse
from explain.neurons.histograms import BINS
from explain.neurons.kinds import kind_of
from explain.neurons.results import NeuronRun
from explain.report import render
from explain.types import Concept, Labels, ProbeSet

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIDE, GRID = 112, 7
IMAGES, CELLS, CONCEPTS = 1000, 100_000, 200
CELLS_OF_UNIT = 4000
TOP, OTHER = 4, 1
"""Images of a unit: of those that fire it most, and of each other kind."""
BASELINE = "sorting 100,000 numbers"
NAMES = {
    "load": "load",
    "load_cpu": "load, main thread",
    "search": "search",
    "sort": "sort",
    "first_ask": "ask, cold",
    "ask": "ask, steady",
}
"""What is measured, by its key in MEASURE."""

MEASURE = """async () => {
  const drawn = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const timed = async (act) => {
    const start = performance.now();
    await act();
    await drawn();
    return performance.now() - start;
  };
  const work = () => {
    const start = performance.now();
    let state = 1;
    const numbers = Float64Array.from({length: 100000}, () => (state = (state * 48271) % 2147483647));
    Array.from(numbers).sort((one, other) => one - other);
    return performance.now() - start;
  };
  work(); // compiled
  const before = work();
  const input = document.querySelector("[name=q]");
  const search = await timed(() => { input.value = "thing 7"; input.dispatchEvent(new Event("input")); });
  input.value = ""; input.dispatchEvent(new Event("input")); await drawn();
  const sort = await timed(() => document.querySelector("th[data-sort=precision] button").click());
  const ask = async (text) => {
    const form = document.querySelector(".ask form");
    const output = document.querySelector(".ask .answer");
    output.replaceChildren();
    form.elements.formula.value = text;
    form.requestSubmit();
    while (!output.querySelector("table")) await new Promise((done) => setTimeout(done, 1));
  };
  const first = await timed(() => ask('"thing 1" AND NOT "thing 2"'));
  const second = await timed(() => ask('("thing 3" OR "thing 4") AND NOT "thing 5"'));
  const load = performance.getEntriesByType("navigation")[0].loadEventEnd;
  return {load, search, sort, first_ask: first, ask: second, work: (before + work()) / 2};
}"""


def made_run(units: int, seed: int = 0) -> NeuronRun:
    """Return a run of invented units; all that its folder holds is consistent but for the IoUs."""
    random = np.random.default_rng(seed)
    concepts = tuple(Concept(f"thing {n}", f"kind {n % 5}") for n in range(CONCEPTS))
    index = made_index(random, concepts)
    formulas = [made_formula(random) for _ in range(units)]
    counts = made_counts(random, index.cells, units)
    histograms = np.zeros((units, BINS), np.int64)
    middle = BINS // 2
    histograms[:, middle] = 40_000
    histograms[:, middle + 200 : middle + 320] = random.integers(0, 400, (units, 120))
    return NeuronRun(
        units=Units(tuple(made_unit(random, n, f, counts, index) for n, f in enumerate(formulas))),
        subject=as_subject(torch.nn.Conv2d(3, 4, 1)),
        probe=made_probe(random, concepts),
        layer="layer4",
        grid=(GRID, GRID),
        resolution=(SIDE, SIDE),
        index=index,
        counts=counts,
        examples=made_examples(random, units),
        histograms=histograms,
    )


def made_index(random: np.random.Generator, concepts: tuple[Concept, ...]) -> CellIndex:
    """Return images of twelve bands each, whose cells are drawn among all."""
    sizes = random.integers(1, 8, CELLS)
    indptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    names = np.concatenate([np.sort(random.choice(CONCEPTS, size, replace=False)) for size in sizes]).astype(np.int32)
    cells = Cells(concepts, random.integers(1, 2000, CELLS), indptr, names)
    rows = np.arange(SIDE)[:, None] + 6 * np.sin(np.arange(SIDE) / 9)[None]
    bands = (np.clip(rows, 0, SIDE - 1) * 12 // SIDE).astype(np.uint8)
    local = np.stack([np.rot90(bands, n % 4) for n in range(IMAGES)])
    return CellIndex(cells, local, np.arange(IMAGES + 1) * 12, random.integers(0, CELLS, IMAGES * 12))


def made_formula(random: np.random.Generator) -> str:
    a, b, c = random.choice(CONCEPTS, 3, replace=False)
    return f'("thing {a}" OR "thing {b}") AND NOT "thing {c}"'


def made_counts(random: np.random.Generator, cells: Cells, units: int) -> UnitCounts:
    chosen = np.stack([np.sort(random.choice(CELLS, CELLS_OF_UNIT, replace=False)) for _ in range(units)]).ravel()
    active = np.minimum(random.geometric(0.08, len(chosen)), cells.counts[chosen])
    return UnitCounts(np.arange(units + 1) * CELLS_OF_UNIT, chosen, active)


def made_unit(random: np.random.Generator, number: int, text: str, counts: UnitCounts, index: CellIndex) -> Any:
    formula, iou = parse(text), float(random.beta(1.3, 9))
    a, b = text.split('"')[1], text.split('"')[3]
    categories = {one.name: one.category for one in index.cells.concepts}
    evidence = Evidence(iou / 2, (iou / 4, iou / 3, iou / 2), 3, 0.5, 0.2, 0.2, float(random.random()), 0.5, 0.03, 0.05,
                        iou / 2, iou * 1.3, 0.8)  # fmt: skip
    return UnitExplanation(
        unit=number,
        formula=text,
        iou=iou,
        length=3,
        category="mixed",
        threshold=1.0,
        active=int(counts.active[number]),
        precision=0.3,
        recall=float(random.random()),
        ceiling=0.9,
        search="optimal",
        bound=iou,
        kind=kind_of(formula, categories),
        label=a,
        score=iou * 0.7,
        label_category=categories[a],
        best_by_length=((1, f'"{a}"', iou * 0.7), (2, f'"{a}" OR "{b}"', iou * 0.9), (3, text, iou)),
        runners_up=tuple((f'"{a}" AND "thing {n}"', iou * 0.8, 2) for n in range(4)),
        evidence=evidence,
    )


def made_probe(random: np.random.Generator, concepts: tuple[Concept, ...]) -> ProbeSet:
    """Return crops of photos: what WebP makes of them is what it makes of photos."""
    photos = [Image.open(photo.path).convert("RGB") for photo in sample_photos()]
    images = []
    for number in range(IMAGES):
        photo = photos[number % len(photos)]
        side = int(random.integers(120, min(photo.size) + 1))
        x, y = (int(random.integers(0, edge - side + 1)) for edge in photo.size)
        images.append(photo.crop((x, y, x + side, y + side)).resize((224, 224)))
    names = tuple(f"{number:05d}.jpg" for number in range(IMAGES))
    return ProbeSet("invented", images, concepts, no_labels, names, "0" * 64)


def no_labels(index: int, size: tuple[int, int]) -> Labels:
    raise NotImplementedError("the cells of an invented run are drawn, not built")


def made_examples(random: np.random.Generator, units: int) -> Examples:
    """Return blobs of activation; missed images are silent."""

    def maps(shape: tuple[int, ...]) -> Any:
        y, x = np.mgrid[:GRID, :GRID]
        at, wide = random.uniform(1, 5, (2, *shape, 1, 1)), random.uniform(0.8, 2.5, (*shape, 1, 1))
        return (3 * np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / wide**2)).astype(np.float32)

    def picked(kind: str) -> Picked:
        silent = kind == "misses"
        found = np.ones((OTHER, GRID, GRID), np.float32) if silent else maps((OTHER,))
        peaks = np.full(OTHER, -np.inf, np.float32) if silent else found.max((1, 2))
        return Picked(kind, random.integers(0, IMAGES, OTHER), peaks, found)

    top = maps((units, TOP))
    return Examples(
        torch.from_numpy(top.max((2, 3))),
        torch.from_numpy(random.integers(0, IMAGES, (units, TOP))),
        torch.from_numpy(top),
        tuple(tuple(picked(kind) for kind in OTHERS) for _ in range(units)),
    )


def measured(browser: Any, page: Path, times: int) -> list[dict[str, float]]:
    """Return milliseconds of NAMES and of the fixed ``work``, one row for each fresh window."""
    found = []
    for _ in range(times):
        context = browser.new_context(viewport={"width": 1280, "height": 860}, offline=True)
        opened = context.new_page()
        session = context.new_cdp_session(opened)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        opened.goto(page.as_uri())
        told = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
        # The main thread's own time: what a busy machine does meanwhile does not count.
        found.append({"load_cpu": 1000 * told["TaskDuration"], **opened.evaluate(MEASURE)})
        context.close()
    return found


def size_of(page: Path) -> tuple[float, int]:
    """Return megabytes and number of the files that a reader needs."""
    assets = page.parent / "report-assets"
    files = [page]
    if assets.is_dir():
        files += [*assets.iterdir(), *(page.parent / "images").iterdir()]
    return sum(file.stat().st_size for file in files) / 1e6, len(files)


def table_size(page: Path) -> float:
    """Return megabytes of the table for formulas."""
    beside = page.parent / "report-assets" / "cells.js"
    if beside.is_file():
        return beside.stat().st_size / 1e6
    text = page.read_text(encoding="utf-8").partition('class="table">')[2]
    return len(text.partition("</script>")[0]) / 1e6


def rows_of(browser: Any, units: int, times: int, folder: Path) -> Iterator[Row]:
    """Yield the rows of one run: making its page, then what a reader waits for."""
    run = folder / str(units)
    made_run(units).save(run)
    start = time.perf_counter()
    page = render(run)
    taken = time.perf_counter() - start
    megabytes, files = size_of(page)
    case = f"{units} units, {IMAGES} images, {CELLS} cells"
    cores, versions = os.cpu_count() or 1, f"Chromium {browser.version}"
    form = f"{megabytes:.1f} MB in {files} {'file' if files == 1 else 'files'}, table {table_size(page):.1f} MB"
    print(f"{case}: page made in {taken:.1f} s, {form}", flush=True)
    yield plain_row(f"{units} units: page made", case, taken, cores, versions)
    sizes = {f"size, {'one file' if files == 1 else 'a folder'}": megabytes, "table for Ask": table_size(page)}
    for what, size in sizes.items():
        yield replace(plain_row(f"{units} units: {what}", case, float("nan"), cores, versions), peak_mb=size)
    windows = measured(browser, page, times)
    for key, what in NAMES.items():
        seconds = np.array([(window[key], window["work"]) for window in windows]) / 1000
        middle, low, high = ratio(seconds)
        own, other = (float(value) for value in np.median(seconds, axis=0))
        print(
            f"{units} units: {what:17} {1000 * own:7.0f} ms (first window {1000 * seconds[0, 0]:.0f}),"
            f" {BASELINE} {1000 * other:.0f} ms: ratio {middle:.2f} [{low:.2f}, {high:.2f}]",
            flush=True,
        )
        name, device = f"{units} units: {what}", device_name(torch.device("cpu"))
        yield Row(name, case, BASELINE, own, other, middle, low, high, float("nan"), times, device, cores, versions,
                  commit(), today())  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--chromium", help="its path (default: the first on the path of those looked for)")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "report.csv")
    given = parser.parse_args()
    from playwright.sync_api import sync_playwright

    chromium = given.chromium or next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        raise SystemExit(f"no browser is installed (looked for {', '.join(BROWSERS)}): --chromium PATH")
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for units in given.units:
            rows = list(rows_of(browser, units, given.times, Path(folder)))
            write_rows(given.out, rows, [row.name for row in rows], device_name(torch.device("cpu")))
        browser.close()
    print(f"written: {given.out}")


if __name__ == "__main__":
    main()
