from __future__ import annotations

import json

import numpy as np
import pytest

from explain.errors import DataError, ExplainError, InputError, RunError
from explain.runs import SCHEMA, Checkpoint, make_manifest, read_arrays, read_json, run_folder, write_json

CONFIG = {"layer": "x", "seed": 0}


def finish(out, text="new", config=CONFIG, **options):
    with run_folder(out, config=config, **options) as folder:
        if not folder.done:
            (folder.path / "result.txt").write_text(text)
            write_json(folder.path / "manifest.json", {"schema": SCHEMA, "config": dict(config)})
        return folder


def interrupt(out, text="half", config=CONFIG, **options):
    with pytest.raises(KeyboardInterrupt), run_folder(out, config=config, **options) as folder:
        (folder.path / "half.txt").write_text(text)
        folder.checkpoint.save("state", {"done": np.array(3)})
        raise KeyboardInterrupt


def text_of(out):
    return (out / "result.txt").read_text()


def test_a_run_is_complete_or_not_there(tmp_path):
    out = tmp_path / "deep" / "run"
    with run_folder(out, config=CONFIG) as folder:
        assert not out.exists()
        assert folder.path == tmp_path / "deep" / "run.partial"
        assert not folder.done
        (folder.path / "manifest.json").write_text("{}")
        folder.checkpoint.save("state", {"done": np.array(3)})
    assert sorted(path.name for path in out.iterdir()) == ["manifest.json"]
    assert [path.name for path in out.parent.iterdir()] == ["run"]


def test_an_empty_folder_may_be_there(tmp_path):
    (tmp_path / "run").mkdir()
    finish(tmp_path / "run")
    assert text_of(tmp_path / "run") == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_occupied(tmp_path):
    out = tmp_path / "run"
    finish(out, "old")
    with pytest.raises(RunError, match="already holds a run, which is kept: .*--overwrite"):
        finish(out)
    assert text_of(out) == "old"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match="is a file: choose another"):
        finish(tmp_path / "file", overwrite=True)
    with pytest.raises(RunError, match="is a file, not a folder"):
        finish(tmp_path / "file" / "run", overwrite=True)


@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": True}])
def test_foreign_files_are_left_alone(tmp_path, options):
    out = tmp_path / "run"
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    with pytest.raises(RunError, match="not a run, and is left alone"):
        finish(out, **options)
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_overwriting_replaces_only_at_the_end(tmp_path):
    out = tmp_path / "run"
    finish(out, "old")
    with run_folder(out, config=CONFIG, overwrite=True) as folder:
        assert text_of(out) == "old"
        (folder.path / "result.txt").write_text("new")
        (folder.path / "manifest.json").write_text("{}")
    assert text_of(out) == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    with pytest.raises(ExplainError), run_folder(out, config=CONFIG, overwrite=True):
        raise ExplainError("bad input")
    assert text_of(out) == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_bad_input_leaves_nothing(tmp_path):
    with (
        pytest.raises(ExplainError, match="bad input"),
        run_folder(tmp_path / "a" / "b" / "run", config=CONFIG) as folder,
    ):
        (folder.path / "half.txt").write_text("half")
        raise ExplainError("bad input")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").mkdir()
    with pytest.raises(ExplainError), run_folder(tmp_path / "a" / "b" / "run", config=CONFIG):
        raise ExplainError("bad input")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]  # it was there before


@pytest.mark.parametrize(("error", "saved", "kept"), [(DataError, 1, 1), (DataError, 0, 0), (InputError, 1, 0)])
def test_only_a_broken_file_keeps_what_was_saved(tmp_path, error, saved, kept):
    with pytest.raises(error), run_folder(tmp_path / "run", config=CONFIG) as folder:
        if saved:
            folder.checkpoint.save("state", {"done": np.array(3)})
        raise error("bad")
    assert [path.name for path in tmp_path.iterdir()] == ["run.partial"] * kept
    with run_folder(tmp_path / "run", config=CONFIG, resume=True) as folder:
        assert (folder.checkpoint.load("state") is not None) == bool(kept)


def test_an_interrupted_run_can_be_resumed_or_thrown_away(tmp_path):
    out = tmp_path / "run"
    interrupt(out)
    assert not out.exists()
    assert (tmp_path / "run.partial" / "half.txt").exists()
    with pytest.raises(RunError, match=r"interrupted run lies in .*run\.partial: pass --resume"):
        finish(out)
    with run_folder(out, config=CONFIG, resume=True) as folder:
        assert (folder.path / "half.txt").read_text() == "half"
        assert folder.checkpoint.load("state")["done"] == 3
        assert not folder.done
        (folder.path / "manifest.json").write_text("{}")
    assert out.is_dir()
    interrupt(tmp_path / "other")
    with run_folder(tmp_path / "other", config=CONFIG, overwrite=True) as folder:
        assert not (folder.path / "half.txt").exists()
        assert folder.checkpoint.load("state") is None


def test_resuming_with_other_settings_is_refused(tmp_path):
    out = tmp_path / "run"
    interrupt(out)
    with pytest.raises(RunError, match=r"made with seed=0, now 1 \(1 setting"):
        finish(out, config={**CONFIG, "seed": 1}, resume=True)
    assert (tmp_path / "run.partial" / "half.txt").exists()
    finish(out, resume=True)
    with pytest.raises(RunError, match=r"made with layer='x', now None"):
        finish(out, config={"seed": 0}, resume=True)
    with pytest.raises(RunError, match="made with images=None, now .*a00001.*repeat the first command") as error:
        finish(out, config={**CONFIG, "images": [f"a{number:05}" for number in range(1000)]}, resume=True)
    assert len(str(error.value)) < 500


def test_resuming_a_finished_run_says_so(tmp_path):
    out = tmp_path / "run"
    finish(out, "old", config={"size": (1, 2)})
    folder = finish(out, config={"size": (1, 2)}, resume=True)  # a tuple comes back from JSON as a list
    assert folder.done
    assert folder.path == out
    assert text_of(out) == "old"
    assert finish(tmp_path / "fresh", resume=True).done is False


def test_an_interrupted_overwrite_can_be_resumed(tmp_path):
    out = tmp_path / "run"
    finish(out, "old")
    interrupt(out, config={**CONFIG, "seed": 1}, overwrite=True)
    assert text_of(out) == "old"
    folder = finish(out, "new", config={**CONFIG, "seed": 1}, resume=True)
    assert not folder.done
    assert text_of(out) == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_any_other_error_keeps_what_was_done(tmp_path):
    with pytest.raises(ZeroDivisionError), run_folder(tmp_path / "run", config=CONFIG) as folder:
        folder.checkpoint.save("state", {"done": np.array(3)})
        _ = 1 / 0
    assert [path.name for path in tmp_path.iterdir()] == ["run.partial"]
    with pytest.raises(ZeroDivisionError), run_folder(tmp_path / "a" / "other", config=CONFIG):
        _ = 1 / 0  # nothing was done yet, so nothing is kept
    assert [path.name for path in tmp_path.iterdir()] == ["run.partial"]


def test_a_folder_that_cannot_be_made_is_refused():
    with pytest.raises(RunError, match="cannot be written"), run_folder("/proc/no/run", config=CONFIG):
        pass


def test_the_current_folder_is_no_run(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").write_text("mine")
    monkeypatch.chdir(tmp_path / "work")
    for out in (".", "../work"):
        with pytest.raises(RunError, match="left alone"):
            finish(out)
    with pytest.raises(RunError):
        finish("/")


def test_checkpoints_are_replaced_in_one_step(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "checkpoints", seconds=0.0)
    assert checkpoint.load("state") is None
    checkpoint.save("state", {"values": np.arange(3), "names": np.array(["a", "b"])})
    assert checkpoint.load("state")["values"].tolist() == [0, 1, 2]
    assert checkpoint.load("state")["names"].tolist() == ["a", "b"]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["state.npz"]

    def dies(path, **arrays):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", dies)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save("state", {"values": np.arange(9)})
    assert checkpoint.load("state")["values"].tolist() == [0, 1, 2]


def test_checkpoints_are_due_after_a_while(tmp_path):
    assert not Checkpoint(tmp_path, seconds=1000).due("x")
    assert Checkpoint(tmp_path, seconds=0.0).due("x")
    nowhere = Checkpoint()
    nowhere.save("x", {"a": np.zeros(1)})
    assert not nowhere.due("x")
    assert nowhere.load("x") is None


def test_json(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"name": "Müller", "value": 0.1})
    assert read_json(path) == {"name": "Müller", "value": 0.1}
    before = path.read_text()
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"value": float("nan")})
    assert path.read_text() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
    for text, message in [
        ("{", "cannot be read as JSON"),
        ("[1]", "holds no JSON object"),
        (json.dumps({"schema": SCHEMA + 1}), "install a newer explain"),
    ]:
        path.write_text(text)
        with pytest.raises(RunError, match=message):
            read_json(path)
    with pytest.raises(RunError, match=r"gone\.json is missing: .* not a complete run folder"):
        read_json(tmp_path / "gone.json")


def test_manifests_say_what_is_needed_to_repeat_a_run():
    manifest = make_manifest(
        "image", config={"a": 1}, model={"name": "m"}, data={"hash": "h"}, command=["explain", "image"]
    )
    assert manifest["schema"] == SCHEMA
    assert (manifest["kind"], manifest["command"], manifest["config"]) == (
        "image",
        ["explain", "image"],
        {"a": 1},
    )
    assert (manifest["model"], manifest["data"]) == ({"name": "m"}, {"hash": "h"})
    assert {"python", "explain", "torch", "numpy"} <= set(manifest["versions"])
    assert manifest["created"].endswith("+00:00")
    json.dumps(manifest)


def test_arrays_come_back_in_the_order_asked_for(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", one=np.arange(1000), two=np.ones(3, np.float32))
    two, one = read_arrays(tmp_path / "a.npz", ["two", "one"])
    assert (two.dtype, two.shape, one.tolist()) == (np.float32, (3,), list(range(1000)))
    with pytest.raises(RunError, match="a.npz cannot be read: .*three.npy"):
        read_arrays(tmp_path / "a.npz", ["three"])
    with pytest.raises(RunError, match="b.npz cannot be read: .*No such file"):
        read_arrays(tmp_path / "b.npz", ["one"])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_arrays_are_told(tmp_path, save):
    path = tmp_path / "a.npz"
    save(path, one=np.random.default_rng(0).random(50))
    whole = path.read_bytes()
    damaged = [whole[:keep] for keep in (0, 4, 100, len(whole) - 30)]
    inside = range(60, whole.index(b"PK\x01\x02") - 4, 4)  # dates and the like, before and behind, matter to nobody
    damaged += [whole[:at] + bytes(4) + whole[at + 4 :] for at in inside if any(whole[at : at + 4])]
    assert len(damaged) > 80
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(RunError, match="a.npz cannot be read"):
            read_arrays(path, ["one"])


def test_objects_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", one=np.array([{}], dtype=object))
    with pytest.raises(RunError, match="a.npz cannot be read: Object arrays"):
        read_arrays(tmp_path / "a.npz", ["one"])
