"""``explain text effects`` on a run of its own, end to end."""

import json

import pytest
from text_grammar import drawn

OWN = "from text_grammar import planted_model\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("text")
    rows = ["\t".join((label, one, other, other.split()[2])) for one, other, label in drawn(150)]
    (place / "pairs.tsv").write_text("\n".join(["gold\tpremise\thypothesis\tcategory", *rows]) + "\n")
    (place / "own.py").write_text(OWN)
    return place


def test_all_kinds_write_into_the_run(run, folder):
    out = folder / "run"
    options = ("--length", "2", "--min-active", ".02", "--shuffles", "0", "--draws", "0")
    model, data = f"{folder}/own.py:planted_model", ("--data", folder / "pairs.tsv")
    code, _, err = run("text", "neurons", model, *data, *options, "--units", "0:4", "--out", out)
    assert code == 0, err
    more = {"transfer": data, "flips": ("--units", "1", "--controls", "2"), "accuracy": ("--least", "2")}
    for kind in ("pmi", "confusion", "accuracy", "transfer", "flips"):
        code, text, err = run("text", "effects", out, kind, *more.get(kind, ()))
        assert code == 0, (kind, err)
        assert "report:" in text
        value = json.loads((out / "effects" / kind / "effects.json").read_text())
        assert (value["kind"], value["job"]) == ("effects", kind)
        assert value["tables"][0]["title"].split()[0] in text
    flips = json.loads((out / "effects" / "flips" / "effects.json").read_text())
    assert flips["manifest"]["config"]["controls"] == 2
    assert flips["findings"]["rows"][0]["words"] == ["nobody"]
    code, text, _ = run("text", "effects", out, "pmi", "--resume")
    assert (code, "is complete already" in text) == (0, True)
    for wrong, told in (
        (("pmi", "--controls", "2"), "--controls is an option of flips, not of pmi"),
        (("pmj",), "unknown kind 'pmj'; near: pmi"),
        (("transfer",), "give them as --data FILE"),
        (("flips", "--position", "middle", "--overwrite"), "unknown position 'middle'"),
        (("flips", "--units", "x", "--overwrite"), "--units 'x'"),
        (("pmi", "--top", "4"), "already holds a run"),
    ):
        code, _, err = run("text", "effects", out, *wrong)
        assert (code, told in err, err.count("\n")) == (2, True, 1), err
    code, _, err = run("effects", out, "accuracy", "--data", "scenes")
    assert (code, f"use `explain text effects {out} KIND`" in err, err.count("\n")) == (2, True, 1), err
