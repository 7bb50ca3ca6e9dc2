"""What a newcomer meets first: each refusal says what to do next, and what is doubtful is said."""

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import explain
from explain.data import open_data
from explain.errors import DataError, InputError, ModelError
from explain.localization.photo_run import random_note
from explain.neurons.formula import check_names, parse
from explain.neurons.results import reach_warning


def tiny(classes=4):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)
    ).eval()


def test_a_file_without_callable_is_named_as_such():
    with pytest.raises(ModelError, match=r"net\.py is a file: name the function .* as net\.py:callable"):
        explain.load("net.py")


def test_weights_of_other_classes_lead_to_a_function(tmp_path):
    torch.save(tiny(3).state_dict(), tmp_path / "three.pth")
    with pytest.raises(ModelError, match="last layer may have other classes .* give FILE.py:callable"):
        explain.load(tiny(), weights=tmp_path / "three.pth")
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    with pytest.raises(ModelError, match="make the network as it was trained, in a function"):
        explain.load(tiny(), weights=tmp_path / "other.pth")
    torch.save(tiny(), tmp_path / "whole.pth")
    with pytest.raises(ModelError, match=r"save model\.state_dict\(\)"):
        explain.load(tiny(), weights=tmp_path / "whole.pth")


def test_a_file_may_import_its_neighbour(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "first_steps_parts.py").write_text("from torch import nn\nmake = nn.Identity\n")
    (tmp_path / "net.py").write_text("from first_steps_parts import make\n")
    try:
        subject = explain.load(f"{tmp_path / 'net.py'}:make")
    finally:
        sys.modules.pop("first_steps_parts", None)
    assert isinstance(subject.model, nn.Identity)


def test_too_many_top_classes_name_how_many_there_are():
    with pytest.raises(InputError, match="top5 asked for, but the model has 4 classes: ask for top1 to top4"):
        explain.cam(tiny(), torch.rand(1, 3, 16, 16), classes="top5")


def test_random_weights_are_said_and_others_are_not():
    assert "weights are random" in random_note("random")[0]
    assert random_note("") == random_note("three.pth") == []


def test_folders_without_tables_say_how_a_table_looks(tmp_path):
    (tmp_path / "images.csv").write_text("image,class_index\n")
    with pytest.raises(DataError, match=r"has no index\.csv.*a table image,mask with a line per image"):
        open_data(tmp_path, "probe")


def test_an_unknown_concept_with_no_near_name_lists_some():
    with pytest.raises(InputError, match="unknown concept 'zebra' in formula zebra; known: blue, dark, warm"):
        check_names(parse("zebra"), ["warm", "dark", "blue"])
    with pytest.raises(InputError, match="known: a1, b2, c3, d4, e5 and 2 more"):
        check_names(parse("zebra"), ["a1", "b2", "c3", "d4", "e5", "f6", "g7"])


@pytest.mark.parametrize(
    ("active", "pixels", "told"),
    [
        (10, [1000, 2000, 10], "2 of 3 concepts cover 10 % of the pixels or more: a unit, active on 0.1 %"),
        (10, [1000, 20, 10], None),  # most can be reached
        (40, [1000, 1000], None),  # IoU 0.04 can be reached, just
        (39, [1000, 1000], "2 of 2 concepts"),
        (0, [1000], None),  # other warnings tell of units that do not fire
        (5, [0, 0], "no pixel of the probe set carries a concept"),
    ],
)
def test_concepts_out_of_reach(active, pixels, told):
    units = [SimpleNamespace(active=active, range=None)]
    found = reach_warning(units, pixels, 10_000)
    assert found == () if told is None else told in found[0]
