"""Check that the wheel holds the package and the recipes, and nothing else: ``check_wheel.py FILE``."""

import pathlib
import sys
import zipfile

with zipfile.ZipFile(sys.argv[1]) as wheel:
    names = wheel.namelist()
tops = {name.split("/")[0] for name in names}
stray = sorted(top for top in tops if top != "explain" and not top.endswith(".dist-info"))
stray += [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
own = ("explain/__init__.py", "explain/py.typed", "explain/nets/zoo.csv", "explain/report/schema/neurons.json")
missing = [want for want in own if want not in names]
recipes = [card.parent.name for card in pathlib.Path(__file__).resolve().parents[1].glob("datasets/*/card.md")]
wanted = [f"explain/_recipes/{recipe}/{file}" for recipe in recipes for file in ("card.md", "recipe.toml")]
missing += [want for want in wanted if want not in names] if recipes else ["explain/_recipes/"]
if stray or missing:
    sys.exit(f"{sys.argv[1]}: stray {stray}, missing {missing}")
print(f"{sys.argv[1]}: {len(names)} files, as expected")
