"""Rules of the house: what `import explain` may cost, and what names may mean."""

from __future__ import annotations

import ast
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import explain

ROOT = Path(explain.__file__).parent
HEAVY = (
    "torch",
    "torchvision",
    "cv2",
    "numba",
    "captum",
    "skimage",
    "typer",
    "rich",
    "jinja2",
    "PIL",
    "numpy",
    "safetensors",
)
PACKAGES = [
    ROOT,
    *(Path(info.module_finder.path) / info.name for info in pkgutil.iter_modules([str(ROOT)]) if info.ispkg),
]


def loaded_by(code):
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return set(json.loads(done.stdout))


def test_importing_explain_loads_nothing_heavy():
    modules = loaded_by("import explain; dir(explain); explain.__version__")
    assert not modules & set(HEAVY)
    assert {name for name in modules if name.startswith("explain")} == {"explain"}


def test_a_report_is_made_without_torch():
    assert not loaded_by("import explain.report") & {"torch", "torchvision", "numba", "cv2", "captum"}


def test_maps_need_no_opencv_numba_captum_or_torchvision():
    assert not loaded_by("import explain; explain.cam, explain.watch") & {"cv2", "numba", "captum", "skimage"}


@pytest.mark.parametrize("name", explain.__all__)
def test_every_public_name_resolves(name):
    assert getattr(explain, name) is getattr(explain, name)
    assert name in dir(explain)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'camera'"):
        _ = explain.camera


@pytest.mark.parametrize("package", PACKAGES[1:], ids=lambda path: path.name)
def test_no_package_gives_a_function_the_name_of_its_module(package):
    modules = {info.name for info in pkgutil.iter_modules([str(package)])}
    tree = ast.parse((package / "__init__.py").read_text(encoding="utf-8"))
    given = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert not given & modules


def test_public_names_hide_no_module():
    modules = {info.name for info in pkgutil.iter_modules([str(ROOT)])}
    assert not set(explain.__all__) & modules


@pytest.mark.parametrize("package", PACKAGES[1:], ids=lambda path: path.name)
def test_all_names_what_is_there(package):
    for path in package.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named = [
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and any(getattr(target, "id", "") == "__all__" for target in node.targets)
        ]
        if not named:
            continue
        there = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                there |= {alias.asname or alias.name for alias in node.names}
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                there.add(node.id)
        assert set(named[0]) <= there, path
        assert len(named[0]) == len(set(named[0])), path


def test_recipes_are_never_imported():
    assert not list((ROOT.parent / "datasets").rglob("__init__.py"))
    assert not list((ROOT.parent / "tests").rglob("__init__.py"))
