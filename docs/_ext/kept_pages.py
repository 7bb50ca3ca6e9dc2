"""Pages that the project made and keeps (docs/live) are copied beside Sphinx's own, and links to them open them.

MyST takes a link to a file that is not a page for a download: fine for a script, not for a page.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

FOLDER = "live"


class OpenKeptPages(SphinxPostTransform):
    """Turn downloads of docs/live/*.html into links."""

    default_priority = 5

    def run(self, **kwargs: Any) -> None:
        """Replace the nodes of one page."""
        for node in list(self.document.findall(addnodes.download_reference)):
            target = str(node.get("reftarget", ""))
            name = Path(target).name
            if Path(target).parent.name == FOLDER and name.endswith(".html"):
                up = "../" * self.env.docname.count("/")
                node.replace_self(nodes.reference("", "", *node.children, refuri=f"{up}{FOLDER}/{name}"))


def copy_pages(app: Sphinx, error: Exception | None) -> None:
    """Copy docs/live into the built pages."""
    if error is None and app.builder.format == "html":
        shutil.copytree(Path(app.srcdir) / FOLDER, Path(app.outdir) / FOLDER, dirs_exist_ok=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_post_transform(OpenKeptPages)
    app.connect("build-finished", copy_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
