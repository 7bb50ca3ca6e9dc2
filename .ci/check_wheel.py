"""Check that the wheel (FILE, or that in dist/) holds the package and the recipes, and nothing else."""

import pathlib
import sys
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
files = sys.argv[1:] or sorted(map(str, (ROOT / "dist").glob("*.whl")))
if len(files) != 1:
    sys.exit(f"want one wheel in dist/, got {len(files)}: make build")
with zipfile.ZipFile(files[0]) as wheel:
    names = wheel.namelist()
tops = {name.split("/")[0] for name in names}
stray = sorted(top for top in tops if top != "explain" and not top.endswith(".dist-info"))
stray += [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
own = ("explain/__init__.py", "explain/py.typed", "explain/nets/zoo.csv", "explain/report/schema/neurons.json")
missing = [want for want in own if want not in names]
recipes = [card.parent.name for card in ROOT.glob("datasets/*/card.md")]
wanted = [f"explain/_recipes/{recipe}/{file}" for recipe in recipes for file in ("card.md", "recipe.toml")]
missing += [want for want in wanted if want not in names] if recipes else ["explain/_recipes/"]
if stray or missing:
    sys.exit(f"{files[0]}: stray {stray}, missing {missing}")
print(f"{files[0]}: {len(names)} files, as expected")
