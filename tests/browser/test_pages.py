"""The pages of all jobs but neurons in a real browser: offline, accessible, on a phone, in dark colours, in print."""

from __future__ import annotations

import pytest
import report_runs
from browsing import PHONE, serious, too_wide

from explain.report import render
from explain.runs import read_json, write_json

PAGES = ("localization", "comparison", "image", "discovery", "demo", "lineup")


def scaled(folder):
    """An image run as it is written now: two methods, a scale each."""
    run = read_json(report_runs.image(folder) / "image.json")
    for image in run["images"]:
        cam = [{**one, "method": "cam", "scale": [-2.5, 7.25]} for one in image["maps"]]
        image["maps"] = cam + [{**one, "method": "gradcam", "scale": [0.0, 0.5]} for one in cam]
    facts = {key: run[key] for key in ("layer", "exact", "residual")}
    run["methods"] = [{**facts, "method": name} for name in ("cam", "gradcam")]
    write_json(folder / "image.json", run)
    return folder


def changed(folder):
    """A neuron run whose units have other formulas."""
    run = read_json(report_runs.neurons(folder) / "run.json")
    for unit, label in zip(run["units"], run["concepts"], strict=False):
        unit |= {"iou": unit["iou"] / 2, "label": label["name"]}
    run["units"][0] |= {"formula": "NOT sky", "label": "grass", "score": 0.3}
    write_json(folder / "run.json", run)
    return folder


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """The page of each job, by name."""
    root = tmp_path_factory.mktemp("pages")
    few = {"images": 6, "classes": 2}
    runs = [report_runs.localized(root / name, seed=seed, **few) for seed, name in enumerate(["one", "other"])]
    return {
        "localization": render(report_runs.localized(root / "alone", seed=2, **few)),
        "comparison": render(*runs),
        "image": render(scaled(root / "image")),
        "discovery": render(report_runs.discovery(root / "discovery")),
        "demo": render(report_runs.demo(root / "demo")),
        "lineup": render(report_runs.neurons(root / "before"), changed(root / "after")),
    }


def opened(page, path):
    """Open a page with all that is folded."""
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    return page


# The others are made of these; what is dark in one is dark in all.
@pytest.mark.parametrize(
    ("name", "dark"),
    [
        ("comparison", False),
        ("image", False),
        ("discovery", False),
        ("lineup", False),
        ("comparison", True),
        ("lineup", True),
    ],
)
def test_axe_finds_nothing_serious(open_page, pages, name, dark):
    page = opened(open_page(dark=dark), pages[name])
    # Further rows and pictures are like the first ones, and axe takes seconds for a thousand elements.
    page.evaluate(
        "document.querySelectorAll('tbody tr:nth-child(n+3), .shots > :nth-child(n+3), .facts > :nth-child(n+3),"
        " details details:nth-of-type(n+2), svg :nth-child(n+6)').forEach((one) => one.remove())"
    )
    assert serious(page, rules=["color-contrast"] if dark else []) == []


@pytest.mark.parametrize("name", PAGES)
def test_a_phone_does_not_scroll_sideways_and_nothing_moves(open_page, pages, name):
    page = open_page(PHONE)
    page.add_init_script(
        "window.moved = 0; new PerformanceObserver((list) => list.getEntries().forEach((one) => (moved += one.value)))"
        ".observe({type: 'layout-shift', buffered: true})"
    )
    page.goto(pages[name].as_uri())
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.evaluate("moved") == 0
    assert too_wide(opened(page, pages[name])) == 0


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_one_file(page, pages, name):
    page.goto(pages[name].as_uri())
    assert page.evaluate("performance.getEntriesByType('resource').length") == 0
    assert page.evaluate("document.images.length + document.querySelectorAll('link, iframe').length") == 0


@pytest.mark.parametrize("name", ["localization", "lineup"])
def test_what_is_folded_is_printed(page, pages, name):
    page.goto(pages[name].as_uri())
    tables = "[...document.querySelectorAll('details table')]"
    seen = f"{tables}.map((one) => one.checkVisibility())"  # folded: an ancestor's content-visibility is hidden
    folded = page.evaluate(seen)
    assert folded
    assert not all(folded)
    page.emulate_media(media="print")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert all(page.evaluate(seen))


@pytest.mark.parametrize("name", ["comparison", "lineup"])
def test_without_javascript_every_table_is_there(open_page, page, pages, name):
    plain = open_page(javascript=False)
    for one in (plain, page):
        one.goto(pages[name].as_uri())
    assert plain.locator("tr").count() == page.locator("tr").count()
    assert plain.locator("svg.shot").count() == page.locator("svg.shot").count()


def test_hostile_names_are_text(page, pages):
    opened(page, pages["comparison"])
    assert page.get_by_text('<script>alert("x")</script> 0.jpg').first.is_visible()
    opened(page, pages["discovery"])
    arabic = page.get_by_text("قطة على العشب").first
    assert arabic.evaluate("(one) => getComputedStyle(one).unicodeBidi") == "isolate"


def test_boxes_lie_on_their_pictures_and_differ_in_more_than_colour(page, pages):
    opened(page, pages["localization"])
    shot = page.locator("svg.shot:has(rect.u)").first
    whole, box = shot.bounding_box(), shot.locator("rect.u").bounding_box()
    edges = [float(shot.locator("rect.u").get_attribute(name)) for name in ("x", "y", "width", "height")]
    assert box["x"] - whole["x"] == pytest.approx(edges[0] / 120 * whole["width"], abs=2)
    assert box["height"] == pytest.approx(edges[3] / 80 * whole["height"], abs=3)
    dashes = [
        shot.locator(kind).first.evaluate("(one) => getComputedStyle(one).strokeDasharray")
        for kind in ("rect.u", "rect.f")
    ]
    assert dashes[0] != dashes[1]


def test_units_of_two_runs_are_sorted_filtered_and_linked(page, pages):
    page.goto(pages["lineup"].as_uri())
    table = page.locator("table.pairs")
    name = table.locator("tbody tr:first-child th b")
    first = name.inner_text()
    sort = table.get_by_role("button", name="change")
    sort.focus()
    page.keyboard.press("Enter")
    assert table.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    assert name.inner_text() != first
    rows = table.locator("tbody tr:visible")
    before = rows.count()
    page.get_by_label("Filter").first.fill("NOT sky")
    assert 0 < rows.count() < before
    link = rows.first.get_by_role("link").nth(1)
    target = link.get_attribute("href")
    link.click()
    assert page.url.endswith(target.removeprefix(".."))
    assert page.locator(f"[id='{target.partition('#')[2]}']").count() == 1
