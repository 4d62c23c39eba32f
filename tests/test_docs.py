"""The documentation says what the code does: equations are the derived ones, code blocks run, links lead somewhere."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [p for p in (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))) if p.exists()]
NAMES = [p.relative_to(ROOT).as_posix() for p in PAGES]
# The info string must be the whole word: ```python-session or ```console are shown, not run.
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def build_theory():
    spec = importlib.util.spec_from_file_location("build_theory", ROOT / "docs" / "build_theory.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_equations_are_the_derived_ones(page):
    text = page.read_text(encoding="utf-8")
    assert build_theory().refreshed(text) == text, f"{page.name} is out of date; run: python docs/build_theory.py"


def test_every_model_has_a_theory_page():
    builder = build_theory()
    found = [name for page in builder.PAGES for _, name, _ in builder.BLOCK.findall(page.read_text(encoding="utf-8"))]
    assert sorted(found) == sorted(builder.MODELS)


@pytest.mark.parametrize(
    "page", [p for p in PAGES if PYTHON.search(p.read_text(encoding="utf-8"))], ids=lambda p: p.name
)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """In the order of the page, in one namespace, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    namespace = {"__name__": page.stem}
    for block in PYTHON.finditer(text):
        # Line numbers in a traceback are those of the page.
        code = "\n" * text.count("\n", 0, block.start(1)) + block[1]
        exec(compile(code, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    for target in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        if not re.match(r"[a-z]+:|#", target):
            assert (page.parent / target.partition("#")[0]).exists(), f"{page.name} links to {target}"
