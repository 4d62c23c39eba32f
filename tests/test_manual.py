"""The manual builds without a warning; its tutorials and gallery run while it does (see tests/test_docs.py for other pages)."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytest.importorskip("sphinx", reason="the manual needs the extra docs")
pytest.importorskip("myst_parser", reason="the manual needs the extra docs")
pytest.importorskip("furo", reason="the manual needs the extra docs")


@pytest.fixture(scope="module")
def manual(tmp_path_factory):
    """The manual as HTML."""
    folder = tmp_path_factory.mktemp("manual")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", folder / "doctrees"]
    done = subprocess.run([*command, ROOT / "docs", folder / "site"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


def test_every_page_is_there(manual):
    pages = {p.relative_to(ROOT / "docs").with_suffix(".html") for p in (ROOT / "docs").rglob("*.md")}
    assert pages <= {p.relative_to(manual) for p in manual.rglob("*.html")}


@pytest.mark.parametrize("page", ["quick_start", "curve", "phase_diagram", "your_model", "your_loss", "hyper_parameters"])
def test_tutorials_show_what_they_print_and_draw(manual, page):
    html = (manual / "tutorials" / f"{page}.html").read_text(encoding="utf-8")
    assert 'src="data:image/png;base64,' in html and ("CONVERGED" in html or "interior" in html)


def test_reference_has_every_public_name(manual):
    import replica.models
    import solvers

    html = (manual / "api.html").read_text(encoding="utf-8")
    known = {name.rpartition(".")[2] for name in re.findall(r'<dt class="sig[^>]* id="([\w.]+)"', html)}
    assert {*solvers.__all__, *replica.models.__all__} <= known
