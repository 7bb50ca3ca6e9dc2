"""The fixtures themselves: what a page may not do is seen."""

from __future__ import annotations

from browsing import PHONE, Faults, serious, too_wide

WELL = "<!doctype html><html lang=en><title>t</title><main><h1>A page</h1><p>Text</p></main>"


def test_a_plain_page_has_no_faults(page, tmp_path):
    (tmp_path / "page.html").write_text(WELL)
    page.goto((tmp_path / "page.html").as_uri())
    assert page.title() == "t"
    assert serious(page) == []


def test_errors_and_requests_are_noted(browser):
    context, faults = browser.new_context(offline=True), Faults()
    page = context.new_page()
    faults.watch(page)
    page.set_content('<img src="http://example.invalid/a.png"><script>undefined_name()</script>')
    page.evaluate("console.error('said aloud')")
    page.evaluate("alert('hello')")
    context.close()
    told = " ".join(faults.found)
    assert "network request: http://example.invalid/a.png" in told
    assert "page error: undefined_name is not defined" in told
    assert "console error: said aloud" in told
    assert "dialog: hello" in told


def test_axe_sees_faint_text_also_in_dark_colours(open_page):
    css = "p{color:#777;background:#fff}@media(prefers-color-scheme:dark){p{color:#333;background:#000}}"
    for dark, contrast in ((False, "4.47"), (True, "1.66")):
        page = open_page(dark=dark)
        page.set_content(WELL.replace("<main>", f"<style>{css}</style><main>"))
        assert [line for line in serious(page) if "color-contrast" in line and contrast in line]


def test_a_wide_page_on_a_phone(open_page):
    page = open_page(PHONE)
    page.set_content(WELL.replace("<p>", '<meta name=viewport content="width=device-width"><p style="width:500px">'))
    assert too_wide(page) > 100
    page.set_content(WELL)
    assert too_wide(page) == 0
