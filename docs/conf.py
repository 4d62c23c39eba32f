"""The manual: sphinx-build -W docs site.  Pages are Markdown; tutorials and the gallery are run while it is built."""

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from run_blocks import with_outputs  # noqa: E402

from replica import __version__  # noqa: E402

project = "replica-solvers"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["examples"]
html_theme = "furo"
html_title = "replica-solvers"
html_copy_source = False

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say the types
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # attributes of different classes share names


def is_run(page: str) -> bool:
    """Whether the blocks of a page are run while the manual is built; those of the others are run by tests/test_docs.py."""
    return page == "gallery" or page.startswith("tutorials/")


def run_page(app, docname, source):
    if is_run(docname):
        with tempfile.TemporaryDirectory() as folder:
            source[0] = with_outputs(source[0], f"docs/{docname}.md", Path(folder))


def as_text(app, what, name, obj, options, lines):
    """Docstrings are text: |w| is a norm, and [1] the first reference of each."""
    for k, line in enumerate(lines):
        parts = line.replace(".. [", "[").split("``")  # every second one is literal
        lines[k] = "``".join(part if odd % 2 else part.replace("|", r"\|") for odd, part in enumerate(parts))


def setup(app):
    app.connect("source-read", run_page)
    app.connect("autodoc-process-docstring", as_text, priority=400)
    return {"parallel_read_safe": False}
