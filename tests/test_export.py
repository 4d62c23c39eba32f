"""The page of a scan: all data in it, nothing loaded, texts of strangers escaped."""

import re
from html.parser import HTMLParser

import h5py
import pytest

from replica.models import MODELS
from solvers import Grid, Scan

pytest.importorskip("bokeh", reason="needs bokeh: pip install 'replica-solvers[explore]'")

from replica.export import ExportError, export_page

HOSTILE = "<script>window.stolen = 1</script><img src='http://elsewhere.example/x' onerror='window.stolen = 1'>$$x$$"


class Sources(HTMLParser):
    """What a page would load, and its elements."""

    def __init__(self):
        super().__init__()
        self.loaded, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loaded += [value for name, value in attrs if name in ("src", "href")]


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "scan.h5"
    Scan(MODELS["ridge"](), Grid(alpha=[0.5, 1.0, 2.0], reg=[0.1, 1.0]), fixed={"noise": 0.1}).run(path)
    return path


def test_a_page_is_complete_and_loads_nothing(scan, tmp_path):
    text = export_page(scan, tmp_path / "page.html").read_text()
    page = Sources()
    page.feed(text)
    assert page.loaded == []
    assert "default-src 'none'" in text
    for words in ("Teacher-student ridge regression", "option target", "6 points", "arXiv:1903.08560", "kernel"):
        assert words in text


def test_texts_of_the_file_are_escaped(scan, tmp_path):
    with h5py.File(scan, "r+") as file:
        for name in ("title", "references", "equations"):
            file.attrs[name] = HOSTILE
        file["test_error"].attrs["long_name"] = HOSTILE
        file["alpha"].attrs["long_name"] = HOSTILE
    text = export_page(scan, tmp_path / "page.html").read_text()
    assert "<script>window.stolen" not in text
    assert not re.search(r"<img[^>]*elsewhere", text)
    page = Sources()
    page.feed(text)
    assert page.loaded == []


def test_pages_are_not_overwritten_and_bad_names_refused(scan, tmp_path):
    output = tmp_path / "page.html"
    output.write_text("mine")
    with pytest.raises(ExportError, match=r"exists.*--force"):
        export_page(scan, output)
    assert output.read_text() == "mine"
    assert export_page(scan, output, force=True).read_text() != "mine"
    with pytest.raises(ExportError, match=r"'beta' is not an axis.*alpha, reg"):
        export_page(scan, tmp_path / "other.html", x="beta")
    with pytest.raises(ExportError, match="suffix"):
        export_page(scan, tmp_path / "other.pdf")
    with pytest.raises(RuntimeError, match="absent"):
        export_page(tmp_path / "absent.h5", tmp_path / "other.html")
