"""How the documentation is built: ``sphinx-build -W docs build/docs`` (CONTRIBUTING.md)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

import walstream

project = "walstream"
author = copyright = "The walstream developers"
version = release = walstream.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
# Every heading can be linked to, as on the web sites that show Markdown.
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
html_theme = "furo"
html_title = f"walstream {release}"
html_copy_source = False
html_show_sphinx = False

# What a browser would load from elsewhere; a link that a reader may follow is none of it.
LOADED = re.compile(
    r"""<(?:script|img|iframe)[^>]*\ssrc=["'](?:https?:)?//[^"']*"""
    r"""|<link(?![^>]*rel="(?:canonical|author)")[^>]*\shref=["'](?:https?:)?//[^"']*"""
    r"""|url\(["']?(?:https?:)?//[^)]*"""
)


def refuse_foreign_files(app: Sphinx, error: Exception | None) -> None:
    """Fails the build where a page would load something from the network."""
    if error is not None or app.builder.format != "html":
        return
    for path in sorted(Path(app.outdir).rglob("*")):
        if path.suffix in (".html", ".css") and (found := LOADED.search(path.read_text())):
            raise ExtensionError(f"{path} loads {found[0]}")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("build-finished", refuse_foreign_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
