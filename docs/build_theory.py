"""Put what the code knows into the pages: equations of each model, the list of figures, the table of conventions.

    python docs/build_theory.py

replaces whatever stands between ``<!-- derived: begin NAME -->`` and ``<!-- derived: end -->`` in docs/theory/*.md, and between
``<!-- listed: begin NAME -->`` and ``<!-- listed: end -->`` in docs/*.md.
Run it after a change of a model; tests/test_docs.py fails until it has been run.
"""

import re
from pathlib import Path

from replica.conventions import ANY, CONVENTIONS, Convention
from replica.figures import FIGURES
from replica.models import MODELS
from replica.show import as_markdown

HERE = Path(__file__).parent
PAGES = [*sorted((HERE / "theory").glob("*.md")), HERE / "conventions.md", HERE / "gallery.md"]
LIST = re.compile(r"(<!-- listed: begin ([\w-]+) -->\n).*?(<!-- listed: end -->)", re.DOTALL)
BLOCK = re.compile(r"(<!-- derived: begin ([\w-]+) -->\n).*?(<!-- derived: end -->)", re.DOTALL)


def refreshed(text: str) -> str:
    """The page with its derived blocks and lists as the code gives them now."""
    text = BLOCK.sub(lambda m: m[1] + as_markdown(MODELS[m[2]]()) + m[3], text)
    return LIST.sub(lambda m: m[1] + LISTS[m[2]]() + m[3], text)


def figures() -> str:
    lines = [f"| `replica figure {name}` | {(function.__doc__ or '').splitlines()[0]} |" for name, function in FIGURES.items()]
    return "\n".join(["| command | what it shows |", "|---|---|", *lines, ""])


def conventions() -> str:
    lines = ["| name | objective | losses | `reg` |", "|---|---|---|---|"]
    for name, known in CONVENTIONS.items():
        losses = "any" if known.losses == ANY else ", ".join(f"`{loss}`" for loss in known.losses)
        objective = known.objective.replace("|w|", r"\lVert w \rVert")
        lines.append(f"| `{name}` | ${objective}$ | {losses} | ${_reg(known)}$ |")
    return "\n".join([*lines, ""])


def _reg(known: Convention) -> str:
    """Formula of our penalty, for inputs of variance 1/d."""
    symbol = known.strength.partition(" ")[0]
    if known.inverse:
        return f"1/{symbol}"
    number = {0.5: r"\frac12 ", 1.0: "", 2.0: "2"}[known.factor]
    return number + ("n " if known.mean else "") + symbol


LISTS = {"figures": figures, "conventions": conventions}


if __name__ == "__main__":
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        new = refreshed(old)
        if new != old:
            page.write_text(new, encoding="utf-8")
        print(f"{page.name}: {'refreshed' if new != old else 'up to date'}")
