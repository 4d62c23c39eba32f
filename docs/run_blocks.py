"""Run the code blocks of a page, in order, in one namespace and one directory.

``python`` blocks are executed.  A ``toml`` block whose first line is ``# NAME.toml`` is written to that file.  Lines of a
``console`` block that start with ``replica`` go through the command line, in this process.  Anything else is only shown.
The manual (conf.py) puts what a block prints and draws below it; tests/test_docs.py only wants no exception.
"""

import base64
import contextlib
import io
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# The info string must be the whole word: ```py or ```sh are shown, not run.
BLOCK = re.compile(r"^```(python|console|toml)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class BlockError(RuntimeError):
    """A command of a page failed."""


@dataclass(frozen=True)
class Output:
    """What one block left behind: `end` is where it ends in the text of the page."""

    end: int
    printed: str
    images: list[Path]


def has_blocks(text: str, kinds: Iterable[str] = ("python",)) -> bool:
    """Whether a page has blocks of some kinds."""
    return any(block[1] in kinds for block in BLOCK.finditer(text))


def run_blocks(text: str, page: str, folder: Path, kinds: Iterable[str] = ("python", "console", "toml")) -> Iterator[Output]:
    """Run the blocks of some kinds.

    Parameters
    ----------
    text, page : str
        The page and its name, which tracebacks show with the right line.
    folder : Path
        An empty directory; blocks run in it.
    kinds : iterable of str

    Yields
    ------
    Output
        One per block.

    Raises
    ------
    BlockError
        If a command ends with another status than 0.
    """
    namespace = {"__name__": Path(page).stem}
    for block in BLOCK.finditer(text):
        if block[1] not in kinds:
            continue
        line, out, before = text.count("\n", 0, block.start(2)), io.StringIO(), _images(folder)
        with contextlib.chdir(folder), contextlib.redirect_stdout(out):
            if block[1] == "python":
                exec(compile("\n" * line + block[2], page, "exec"), namespace)
            elif block[1] == "console":
                for command in block[2].splitlines():
                    _command(command, f"{page}, line {line + 1}")
            elif name := re.match(r"# (\w+\.toml)\n", block[2]):
                Path(name[1]).write_text(block[2], encoding="utf-8")
        after = _images(folder)
        yield Output(block.end(), out.getvalue(), [path for path in after if after[path] != before.get(path)])


def with_outputs(text: str, page: str, folder: Path) -> str:
    """The page with what its blocks print and draw put below them."""
    pieces, done = [], 0
    for output in run_blocks(text, page, folder):
        pieces.append(text[done : output.end])
        done = output.end
        if output.printed.strip():
            pieces.append(f"\n\n```text\n{output.printed.strip()}\n```")
        for image in output.images:
            data = base64.b64encode(image.read_bytes()).decode()
            pieces.append(f"\n\n![{image.stem.replace('_', ' ')}](data:image/png;base64,{data})")
    return "".join([*pieces, text[done:]])


def _images(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(folder.glob("*.png"))}


def _command(text: str, where: str) -> None:
    """One line of a console block, if it is ours."""
    from click.testing import CliRunner

    from replica.cli import cli

    words = shlex.split(text, comments=True)
    if words[:1] != ["replica"]:
        return
    result = CliRunner().invoke(cli, words[1:], prog_name="replica")
    if result.exit_code:
        raise BlockError(f"{where}: {text}: exit status {result.exit_code}: {result.output}") from result.exception
    print(result.stdout, end="")
