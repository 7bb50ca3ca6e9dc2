import json
import os
import subprocess
import sys

ONE = """
from explain.compiling import compiled
from {package}._two import twice

@compiled
def whole(x):
    return twice(x) + 1
"""
TWO = """
from explain.compiling import inner

@inner
def twice(x):
    return {factor} * x
"""
RUN = """
import json
from {package}._one import whole
print(json.dumps([whole(3), sum(whole.stats.cache_hits.values())]))
"""


def test_code_is_compiled_anew_where_a_file_that_it_calls_has_changed(tmp_path):
    folder = tmp_path / "pack"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "_one.py").write_text(ONE.format(package="pack"))
    found = []
    for factor in (2, 2, 5):
        (folder / "_two.py").write_text(TWO.format(factor=factor))
        done = subprocess.run(
            [sys.executable, "-c", RUN.format(package="pack")],
            cwd=tmp_path,
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        found.append(json.loads(done.stdout))
    assert found == [[7, 0], [7, 1], [16, 0]]
