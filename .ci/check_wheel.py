"""Check that the wheel holds the package and the recipes, and nothing else: ``check_wheel.py FILE``."""

import sys
import zipfile

with zipfile.ZipFile(sys.argv[1]) as wheel:
    names = wheel.namelist()
tops = {name.split("/")[0] for name in names}
stray = sorted(top for top in tops if top != "explain" and not top.endswith(".dist-info"))
stray += [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
missing = [want for want in ("explain/__init__.py", "explain/py.typed", "explain/nets/zoo.csv") if want not in names]
missing += [] if any(name.startswith("explain/_recipes/") for name in names) else ["explain/_recipes/"]
if stray or missing:
    sys.exit(f"{sys.argv[1]}: stray {stray}, missing {missing}")
print(f"{sys.argv[1]}: {len(names)} files, as expected")
