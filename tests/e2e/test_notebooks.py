"""The notebooks run, and show their results; the gallery has every example."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


def test_notebooks_are_small_and_kept_without_outputs():
    assert {path.stem for path in NOTEBOOKS} == {"image", "localization", "neurons"}
    page = (ROOT / "docs" / "gallery" / "notebooks.md").read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        assert len(cells) <= 12
        assert cells[0]["cell_type"] == "markdown"
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
        assert path.name in page


@pytest.fixture(scope="module")
def executed():
    """All notebooks, run one after the other in one kernel (torch is imported once), which forgets in between."""
    pytest.importorskip("efficientnet_lite_pytorch")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    nbformat = pytest.importorskip("nbformat")
    found, together = {}, nbformat.v4.new_notebook()
    for path in NOTEBOOKS:
        found[path.stem] = nbformat.read(path, as_version=4).cells
        together.cells += [*found[path.stem], nbformat.v4.new_code_cell("%reset -f")]
    nbclient.NotebookClient(together, timeout=300, kernel_name="python3").execute()
    return found


def shown(cells):
    """What each cell of code shows as its value: the kinds, with the content."""
    outputs = (cell.outputs for cell in cells if cell.cell_type == "code")
    return [next((one.data for one in each if one.output_type == "execute_result"), {}) for each in outputs]


@pytest.mark.filterwarnings("default")  # those of jupyter's own libraries
def test_notebooks_show_their_results(executed):
    image = shown(executed["image"])
    assert image[1]["text/html"].startswith("<img")  # maps over the photo
    assert "image/png" in image[-1]  # a sheet of pictures
    localization = shown(executed["localization"])
    assert "maxboxacc_v2" in localization[0]["text/html"]
    assert localization[-1]["text/html"].startswith("<img")
    run, unit, evidence, asked = shown(executed["neurons"])
    assert "best concept" in run["text/html"]
    assert "held-out IoU" in unit["text/html"]
    assert "OR" in asked["text/plain"]
    for cells in executed.values():
        for cell in cells:
            assert not [one for one in cell.get("outputs", ()) if one.get("name") == "stderr"], cell.source


@pytest.fixture(scope="module")
def gallery():
    spec = importlib.util.spec_from_file_location("make_gallery", ROOT / "docs" / "make_gallery.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_gallery_is_made_from_the_examples(gallery):
    page = gallery.PAGE.read_text(encoding="utf-8")
    outputs = gallery.shown(page)
    assert outputs.keys() == {path.stem for path in gallery.scripts()}
    assert gallery.text(outputs) == page, "python docs/make_gallery.py NAME makes what changed anew"
    for name, output in outputs.items():
        assert output.startswith(("![", "```text\n")), name
        assert "Traceback" not in output
    used = {f"{name}.webp" for name, output in outputs.items() if output.startswith("![")}
    files = {path.name: path.stat().st_size for path in gallery.PICTURES.iterdir()}
    assert files.keys() == used
    assert used
    assert max(files.values()) < gallery.LARGEST


def test_what_the_gallery_shows_of_a_script_is_what_it_does(gallery):
    """Two that need no pretrained network: one prints, one has a picture."""
    path = gallery.EXAMPLES / "worked_example.py"
    printed, picture = gallery.run(path)
    assert "sum over positions (the paper's score)   9.1000" in printed
    assert picture is not None
    _, more = gallery.title(gallery.EXAMPLES / "copy_paste.py")
    assert "Run it" not in more
