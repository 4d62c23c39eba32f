"""The documentation says what the code does: equations are the derived ones, code blocks run, links lead somewhere."""

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from replica.cli import cli

ROOT = Path(__file__).parent.parent
PAGES = [p for p in (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))) if p.exists()]
NAMES = [p.relative_to(ROOT).as_posix() for p in PAGES]
COMMANDS = re.compile(r"^```(?:console|sh)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def script(name):
    """A module of docs/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build_theory():
    return script("build_theory")


run_blocks = script("run_blocks")
#: Pages whose console blocks run, too.  The manual runs them when it is built, which tests/test_manual.py does where it can.
SHOWN = [p for p in PAGES if p.parent.name == "tutorials" or p.name == "gallery.md"]
MANUAL = importlib.util.find_spec("sphinx") is not None
RUN = [p for p in PAGES if run_blocks.has_blocks(p.read_text(encoding="utf-8")) and not (MANUAL and p in SHOWN)]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_equations_are_the_derived_ones(page):
    text = page.read_text(encoding="utf-8")
    assert build_theory().refreshed(text) == text, f"{page.name} is out of date; run: python docs/build_theory.py"


def test_every_model_has_a_theory_page():
    builder = build_theory()
    found = [name for page in builder.PAGES for _, name, _ in builder.BLOCK.findall(page.read_text(encoding="utf-8"))]
    assert sorted(found) == sorted(builder.MODELS)


@pytest.mark.parametrize("page", RUN, ids=lambda p: p.name)
def test_blocks_run(page, tmp_path):
    """In the order of the page, in one namespace, in an empty directory."""
    kinds = ("python", "console", "toml") if page in SHOWN else ("python",)
    for _ in run_blocks.run_blocks(page.read_text(encoding="utf-8"), str(page), tmp_path, kinds):
        pass


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_are_understood(page):
    """Every line that starts with `replica` names a command, and options that it has."""
    for block in COMMANDS.findall(page.read_text(encoding="utf-8")):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["replica"] and "--help" not in words:
                context = click.Context(cli, info_name="replica")
                name, command, rest = cli.resolve_command(context, words[1:])
                command.make_context(name, rest, parent=context).close()


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    for target in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        if not re.match(r"[a-z]+:|#", target):
            assert (page.parent / target.partition("#")[0]).exists(), f"{page.name} links to {target}"


def test_the_file_of_the_manual_is_a_command_line(tmp_path):
    """Its class and its last two lines; experiments run in processes that must find the class, too."""
    blocks = [code for kind, code in run_blocks.BLOCK.findall((ROOT / "docs" / "add_a_model.md").read_text()) if kind == "python"]
    file = tmp_path / "spiked_wigner.py"
    file.write_text("".join(code for code in blocks if "class SpikedWigner" in code or "__main__" in code))
    command = [sys.executable, file, "validate", "spiked_wigner", "snr=2", "--sizes", "50,100", "--repeats", "2", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode in (0, 4), done.stdout + done.stderr  # 4: so small, they need not agree
    assert json.loads(done.stdout)["model"] == "spiked_wigner"
