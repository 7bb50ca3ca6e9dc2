"""Every example runs offline; the figures that the documentation quotes are the ones that it prints."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tested_here():
    names = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert names == {
        "ask_formulas",
        "check_faithfulness",
        "copy_paste",
        "discover_scene_objects",
        "dissect_layer",
        "effects",
        "explain_image",
        "explain_neurons",
        "explain_text",
        "export_cam",
        "own_formula",
        "own_model",
        "steer_network",
        "text_effects",
        "worked_example",
    }


def test_worked_example_is_what_the_page_on_exact_maps_says(capsys):
    maps = load("worked_example").main()
    page = (ROOT / "docs" / "concepts" / "exact-cam.md").read_text()
    printed = capsys.readouterr().out
    for figure in ("9.1", "16.8"):
        assert figure in page
        assert f"score)   {figure}" in printed
    assert "0.56875" in page
    assert maps.scores[0].tolist() == pytest.approx([0.56875, 1.05])
    assert maps.values[0].sum((1, 2)).tolist() == pytest.approx([9.1, 16.8])
    for row in (
        "0.6  2.2  1.3  0.1          0.8  2.8  1.6  0.8",
        "0.4  0    0    0            3.2  0    0    0",
    ):
        assert row in page
    assert maps.values[0, :, 1].flatten().tolist() == pytest.approx([0.6, 2.2, 1.3, 0.1, 0.8, 2.8, 1.6, 0.8])
    assert "[0, 0, 3, 3]" in page
    assert "[0, 0, 3, 3]" in printed


def test_own_model(capsys):
    result = load("own_model").main()
    assert result.accuracy["top1"] > 90
    assert result.scores["gt_known"].value > result.baselines["centre"]["gt_known"].value
    assert "gt_known" in capsys.readouterr().out


def test_explain_image(tmp_path, capsys):
    pytest.importorskip("efficientnet_lite_pytorch")
    maps = load("explain_image").main(out=str(tmp_path / "x.png"))
    assert maps.name(int(maps.classes[0, 0])) in {"tabby", "tiger cat", "Egyptian cat"}
    assert maps.residual < 1e-5
    assert (tmp_path / "x.png").exists()


def test_explain_neurons(tmp_path, capsys):
    pytest.importorskip("efficientnet_lite_pytorch")
    run = load("explain_neurons").main(str(tmp_path / "run"))
    assert len(run.units) == 64
    assert repr(run.units) == "Units(64 rows: 0 to 63)"
    unit = run.units[4]
    assert f"held-out IoU       {unit.evidence.iou_heldout:.4f}" in unit.table()
    assert unit._repr_html_().startswith("<pre>unit")
    assert (tmp_path / "run" / "report.html").exists()


def test_dissect_layer(tmp_path, capsys):
    pytest.importorskip("efficientnet_lite_pytorch")
    example = load("dissect_layer")
    run = example.main(str(tmp_path / "run"))
    assert {"object", "color"} <= set(run.summary()["by_category"]) <= set(example.CATEGORIES)
    columns = [example.best_by_category(run, category) for category in example.CATEGORIES]
    for unit, *best in zip(run.units, *columns, strict=True):
        assert max(score for _, score in best) == unit.score
        assert unit.score == 0 or (unit.label, unit.score) in best
    assert "best position" in capsys.readouterr().out
    assert (tmp_path / "run" / "report.html").exists()


def test_ask_formulas(tmp_path, capsys):
    pytest.importorskip("efficientnet_lite_pytorch")
    example = load("ask_formulas")
    run = example.make_run(tmp_path / "run")
    example.make_run = lambda folder: run
    one, either, neither = example.main().values()
    assert len(one) == len(either) == len(neither) == 64
    assert capsys.readouterr().out.count("its own formula") == 9
    (sky,) = example.main(run, ["sky"]).values()
    assert all(unit.found_iou >= unit.iou for unit in sky)


def test_own_formula(capsys):
    maps = load("own_formula").main()
    assert maps.method == "best_quarter_cam"
    assert float(maps.values.amax((2, 3)).min()) > 0
    page = (ROOT / "docs" / "saliency.md").read_text()
    code = (ROOT / "examples" / "own_formula.py").read_text()
    formula = code[code.index("def best_quarter_cam") : code.index("def main")].strip()
    assert formula in page


def test_check_faithfulness(capsys):
    load("check_faithfulness").main()
    assert "deletion" in capsys.readouterr().out


def test_export_cam(capsys, tmp_path):
    load("export_cam").main()
    assert capsys.readouterr().out


def test_discover_scene_objects(capsys):
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("sklearn")
    result = load("discover_scene_objects").main()
    rows = [row for scene in result.findings.scenes for row in scene.frequent]
    assert any(row.name == "sky" and row.frequency.value == 100 and row.lift < 1 for row in rows)
    assert "lift" in capsys.readouterr().out


def test_effects(tmp_path, capsys):
    pytest.importorskip("efficientnet_lite_pytorch")
    accuracy, given = load("effects").main(str(tmp_path / "run"))
    assert accuracy.findings.top1.value > 30
    assert given.findings.head == "exact"
    assert "by firing area" in capsys.readouterr().out
    assert "Contributions of units" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_steer_network(capsys):
    pytest.importorskip("efficientnet_lite_pytorch")
    lost, without = load("steer_network").main()
    assert lost.findings.closed
    assert set(lost.findings.replacements) == {"zero", "resample"}
    assert without.findings.units
    assert "largest change of a logit" in capsys.readouterr().out


def test_copy_paste(tmp_path, capsys):
    found = load("copy_paste").main(str(tmp_path / "run")).findings
    assert found.overall.arm("concept").success.value > found.overall.arm("random crop").success.value
    assert found.removal.change_difference.value > 0
    assert "All pairs together" in capsys.readouterr().out
    assert "Copy-paste examples" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_explain_text(tmp_path, capsys):
    run = load("explain_text").main(tmp_path / "run")
    assert run.accuracy > 0.9
    assert any("nobody" in (unit.formula or "") for unit in run.units)
    assert "report" in capsys.readouterr().out


def test_text_effects_finds_the_word_that_gives_contradiction_away(capsys):
    found = load("text_effects").main()
    printed = capsys.readouterr().out
    assert "hyp:nobody" in printed.partition("go with contradiction")[2].partition("\n\n")[0]
    assert "flips beyond those of control words" in printed
    assert found.findings.proposed > 0
