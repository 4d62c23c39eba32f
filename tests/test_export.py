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
    with pytest.raises(ExportError, match=r"exists.*--overwrite"):
        export_page(scan, output)
    assert output.read_text() == "mine"
    assert export_page(scan, output, overwrite=True).read_text() != "mine"
    with pytest.raises(ExportError, match=r"'beta' is not an axis.*alpha, reg"):
        export_page(scan, tmp_path / "other.html", x="beta")
    with pytest.raises(ExportError, match="suffix"):
        export_page(scan, tmp_path / "other.pdf")
    with pytest.raises(RuntimeError, match="absent"):
        export_page(tmp_path / "absent.h5", tmp_path / "other.html")


def test_a_browser_draws_the_page_from_the_file_alone(scan, tmp_path, browser):
    export_page(scan, tmp_path / "page.html")
    view = browser.new_page()
    asked, wrong = [], []
    view.on("request", lambda r: asked.append(r.url))
    view.on("pageerror", lambda error: wrong.append(str(error)))
    view.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
    address = (tmp_path / "page.html").as_uri()
    view.goto(address)
    view.wait_for_function("window.Bokeh?.documents[0]?.is_idle", timeout=60_000)
    view.get_by_text("Teacher-student ridge regression").first.wait_for()
    assert view.locator("canvas").count() > 0
    assert [url for url in asked if url != address and not url.startswith(("blob:", "data:"))] == []
    assert wrong == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"file": "absent.h5"}, ["absent.h5"]),
        ({"page": "page.pdf"}, ["suffix"]),
        ({"more": ["--x", "beta"]}, ["'beta'", "alpha, reg"]),
    ],
)
def test_bad_commands_are_one_line_and_leave_nothing(replica, scan, tmp_path, change, words):
    page = tmp_path / change.get("page", "page.html")
    code, out, err = replica("export", tmp_path / change.get("file", scan.name), page, *change.get("more", []))
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1, err
    assert not page.exists()
    for word in words:
        assert word in err


def test_the_command_writes_the_page_and_asks_before_it_replaces_one(replica, scan, tmp_path):
    page = tmp_path / "page.html"
    assert replica("export", scan, page)[0] == 0
    before = page.read_bytes()
    code, _, err = replica("export", scan, page)
    assert code == 2 and "--overwrite" in err and page.read_bytes() == before
    assert replica("export", scan, page, "--overwrite", "--title", "Mine")[0] == 0
    assert b"Mine" in page.read_bytes()
