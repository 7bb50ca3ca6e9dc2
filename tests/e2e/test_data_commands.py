"""``explain data``: what is listed, prepared from a server on loopback and checked, and what is said to bad input."""

import hashlib
import io
import sys
import zipfile
from pathlib import Path

import pytest
from loopback import Loopback

from explain.data import downloading, recipe_path


@pytest.fixture(scope="module")
def web():
    with Loopback() as server:
        yield server


@pytest.fixture
def own(web, tmp_path, monkeypatch):
    """A recipe of one's own: the pets' sample as a zip of its own in two parts, on loopback."""
    monkeypatch.setenv("EXPLAIN_DATA", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(downloading, "_PAUSES", (0.0,))
    sample, text = recipe_path("pets") / "sample", ""
    for part in ("images", "annotations"):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for path in sorted((sample / part).rglob("*")):
                archive.write(path, path.relative_to(sample))
        digest = hashlib.sha256(packed.getvalue()).hexdigest()
        address = web.give(f"{part}.zip", packed.getvalue())
        text += f"""
[[archives]]
part = "{part}"
file = "{part}.zip"
addresses = ["{address}"]
sha256 = "{digest}"
"""
    folder = tmp_path / "cats"
    folder.mkdir()
    head = (
        'title = "cats"\nsize = "small"\nlicence = "of cats"\nformats = ["pets"]\ndefault = ["images", "annotations"]\n'
    )
    (folder / "recipe.toml").write_text(head + text)
    return folder


def test_list_says_what_is_here(run, own):
    code, text, err = run("data", "list")
    assert (code, err) == (0, "")
    lines = text.splitlines()
    assert lines[0].split() == ["name", "here", "readers", "size", "licence"]
    rows = {line.split()[0]: line for line in lines[1:] if line and not line.startswith(" ")}
    assert "no: prepare it" in rows["pets"]
    assert "CC BY-SA 4.0" in rows["pets"]
    assert "by hand" in rows["dtd"]
    assert "drawn on first use" in rows["scenes"]
    assert "data folder" in lines[-1]
    home = Path(lines[-1].split(": ")[1].split(" (")[0])
    (home / "voc").mkdir(parents=True)
    (home / "voc/prepared.json").write_text('{"schema": 1, "parts": {"2012": {}}}')
    assert "2012" in run("data", "list")[1].split("\nvoc")[1].split()[0]


def test_prepare_and_check(run, own, web, tmp_path):
    code, text, err = run("data", "prepare", own, "--dry-run")
    assert (code, err) == (0, "")
    assert "licence  of cats" in text
    assert "part     images: images.zip, 0.0 MB, sha256:" in text
    assert not (tmp_path / "home").exists()
    code, text, err = run("data", "prepare", own)
    assert code == 2
    assert "the licence of cats is not accepted (of cats)" in err
    assert web["images.zip"].asked == []
    code, text, err = run("data", "prepare", own, "--part", "images", "--accept-licence", "--keep-archives")
    assert (code, err) == (0, "")
    assert f"ready: {tmp_path / 'home/cats'}" in text
    assert (tmp_path / "home/archives/cats/images.zip").is_file()
    code, text, _ = run("data", "prepare", own, "--accept-licence")
    assert code == 0
    assert f"there    images, in {tmp_path / 'home/cats'}" in text
    assert len(web["images.zip"].asked) == 1
    code, text, _ = run("data", "check", tmp_path / "home/cats")
    assert code == 0
    assert "nothing wrong" in text


def test_an_interruption_says_how_to_go_on(run, own, monkeypatch):
    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(downloading.need_pooch(), "retrieve", stop)
    code, _, err = run("data", "prepare", own, "--accept-licence")
    assert code == 130
    assert "the same command goes on" in err


def test_the_licence_is_asked_for_at_a_terminal(run, own, web, monkeypatch):
    monkeypatch.setattr(sys, "stdin", type("Terminal", (io.StringIO,), {"isatty": lambda self: True})("n\n"))
    code, text, err = run("data", "prepare", own)
    assert code == 2
    assert "accept the licence, and go on?" in text
    assert "is not accepted" in err
    monkeypatch.setattr(sys, "stdin", type("Terminal", (io.StringIO,), {"isatty": lambda self: True})("y\n"))
    code, text, err = run("data", "prepare", own)
    assert (code, err) == (0, "")
    assert "ready:" in text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("prepare", "pet"), "no recipe 'pet'; near: pets"),
        (("prepare", "voc", "--part", "2013"), "voc has no part '2013'; near: 2012"),
        (("prepare", "dtd"), "dtd has no archives to fetch"),
        (("prepare", "ilsvrc"), "is given to people with an account at image-net.org"),
        (("prepare", "voc", "--archives", "nowhere"), "no folder nowhere: give the folder of the archives"),
        (("check", "pets"), "pets is not on this machine: explain data prepare pets"),
    ],
)
def test_bad_input_is_one_line(run, own, words, told):
    code, _, err = run("data", *words)
    assert code == 2
    assert told in err
    assert err.count("\n") == 1
