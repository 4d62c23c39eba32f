"""Put the equations of each model, printed from the model itself, into its theory page.

    python docs/build_theory.py

replaces whatever stands between ``<!-- derived: begin NAME -->`` and ``<!-- derived: end -->`` in docs/theory/*.md.
Run it after a change of a model; tests/test_docs.py fails until it has been run.
"""

import re
from pathlib import Path

from replica.models import MODELS
from replica.show import as_markdown

PAGES = sorted((Path(__file__).parent / "theory").glob("*.md"))
BLOCK = re.compile(r"(<!-- derived: begin ([\w-]+) -->\n).*?(<!-- derived: end -->)", re.DOTALL)


def refreshed(text: str) -> str:
    """The page with its derived blocks as the models give them now."""
    return BLOCK.sub(lambda m: m[1] + as_markdown(MODELS[m[2]]()) + m[3], text)


if __name__ == "__main__":
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        new = refreshed(old)
        if new != old:
            page.write_text(new, encoding="utf-8")
        print(f"{page.name}: {'refreshed' if new != old else 'up to date'}")
