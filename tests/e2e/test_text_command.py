"""``explain text neurons``, ``text train``, ``ask`` and ``merge`` on a text run, end to end."""

import csv
import json

import pytest
from text_grammar import drawn, grammar_vectors

OWN = """
from text_grammar import planted_model
from torch import nn
from explain.text import SentencePairModel

def bare(): return nn.Linear(2, 3)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("text")
    lines = ["gold\tpremise\thypothesis", *("\t".join((label, one, other)) for one, other, label in drawn(150))]
    (place / "pairs.tsv").write_text("\n".join([*lines, "-\tA man runs\tHe runs"]) + "\n")
    (place / "own.py").write_text(OWN)
    grammar_vectors(place / "v.txt")
    return place


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def options(folder, *more):
    return ("--data", folder / "pairs.tsv", "--length", "3", "--beam", "5", "--min-active", ".02", "--shuffles", "3",
            "--draws", "10", *more)  # fmt: skip


def test_units_are_explained_asked_and_merged(run, folder, tmp_path):
    model, vectors = f"{folder}/own.py:planted_model", ("--vectors", folder / "v.txt")
    code, out, err = run("text", "neurons", model, *options(folder, *vectors), "--out", tmp_path / "all")
    assert code == 0, err
    assert "of 150 pairs of pairs.tsv (1 without gold label left out)" in out
    assert "premise neighbors" in out
    assert "w_contra" in out
    assert "mean IoU" in out
    assert (tmp_path / "all" / "report.html").is_file()
    manifest = json.loads((tmp_path / "all" / "manifest.json").read_text())
    assert manifest["config"]["vectors"] == str(folder / "v.txt")
    code, out, err = run("ask", tmp_path / "all", "NEIGHBORS(pre:dog) AND NOT overlap:50")
    assert code == 0, err
    assert "pairs (" in out
    for units in ("0:3", "3:7"):
        part = ("--units", units, "--out", tmp_path / units[0])
        assert run("text", "neurons", model, *options(folder, *vectors), *part)[0] == 0
    code, out, err = run("merge", tmp_path / "0", tmp_path / "3", "--out", tmp_path / "merged")
    assert code == 0, err
    tables = [(tmp_path / name / "units.csv").read_text() for name in ("all", "merged")]
    assert tables[0] == tables[1]
    code, out, err = run("text", "neurons", model, *options(folder, *vectors), "--out", tmp_path / "all", "--resume")
    assert (code, "is complete already" in out) == (0, True)


def test_a_network_is_trained_and_explained(run, folder, tmp_path):
    data = ("--data", folder / "pairs.tsv", "--test", folder / "pairs.tsv")
    small = ("--hidden", "4", "--mlp", "9", "--epochs", "2", "--lr", ".01", "--out", tmp_path / "net")
    code, out, err = run("text", "train", *data, "--vectors", folder / "v.txt", *small)
    assert code == 0, err
    assert "pairs.tsv: " in out
    assert "training pairs" not in out
    code, out, err = run(
        "text",
        "neurons",
        tmp_path / "net",
        *options(folder),
        "--random-weights",
        "--length",
        "2",
        "--draws",
        "0",
        "--out",
        tmp_path / "r",
    )
    assert code == 0, err
    assert "this run is a baseline: random-weights" in out
    rows = table(tmp_path / "r" / "units.csv")
    assert len(rows) == 9
    code, out, err = run("text", "train", *data, "--vectors", folder / "v.txt", *small)
    assert (code, "already holds a run" in err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--min-active", "500"), "min_active=500 of 150 pairs"),
        (("--vectors", "none.txt"), "no file none.txt: give word vectors"),
        (("--layer", "acts"), "no layer 'acts'; near: act"),
        (("--tagger", "pos"), "unknown tagger 'pos'"),
        (("--sort", "ioo"), "no column 'ioo' to sort by"),
        (("--quantile", "1.5"), "the quantile must lie between 0 and 1"),
        (("--data", "none.tsv"), "no file none.tsv"),
    ],
)
def test_bad_input_is_one_line(run, folder, tmp_path, arguments, told):
    model = f"{folder}/own.py:planted_model"
    code, out, err = run("text", "neurons", model, *options(folder), *arguments, "--out", tmp_path / "run")
    assert (code, told in err, err.count("\n")) == (2, True, 1), err
    assert not (tmp_path / "run").exists()


def test_what_is_no_adapter_is_told(run, folder, tmp_path):
    code, out, err = run("text", "neurons", f"{folder}/own.py:bare", *options(folder), "--out", tmp_path / "run")
    assert code == 2
    assert "it must return explain.text.SentencePairModel" in err
