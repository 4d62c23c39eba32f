"""The commands `replica explore` and `replica export`."""

from __future__ import annotations

import click

NEEDS = "needs the library bokeh: pip install 'replica-solvers[explore]'"


def _needed(command: str) -> None:
    from importlib.util import find_spec

    if find_spec("bokeh") is None:
        raise click.UsageError(f"replica {command} {NEEDS}")


@click.command()
@click.argument("model")
@click.argument("parameters", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="A choice, such as activation=relu.")
@click.option("--points", type=click.IntRange(2, 5000), help="Points of a curve; 200, fewer for models that are integrals.")
@click.option("--port", default=5006, show_default=True, type=click.IntRange(0, 65535), help="0 for one that is free.")
@click.option("--no-browser", is_flag=True, help="Print the address, open nothing.")
def explore(
    model: str, parameters: tuple[str, ...], options: tuple[str, ...], points: int | None, port: int, no_browser: bool
) -> None:
    """A local web page with a control per parameter and option; curves are redrawn while you move them.

    Only this computer can open it.  Stop it with Ctrl-C.

    \b
    Examples
      replica explore ridge
      replica explore srf alpha0=20 eta=3 reg=0.1 --option activation=relu
      replica explore glm reg=0.01 --option loss=logistic --option labels=sign --port 8000 --no-browser
    """
    from .cli import _model, _pairs

    _needed("explore")
    from .explorer import address, start
    from .sweep import first_sweep

    chosen = _pairs(options, "option")
    _model(model, chosen)
    server = start(first_sweep(model, chosen, _pairs(parameters, "parameter"), points), port)
    click.echo(f"{address(server)} shows {model}; stop it with Ctrl-C")
    if not no_browser:
        server.io_loop.add_callback(server.show, "/")
    try:
        server.run_until_shutdown()
    except KeyboardInterrupt:
        click.echo("stopped")


@click.command()
@click.argument("file", type=click.Path())
@click.argument("page", type=click.Path())
@click.option("--x", help="Axis along x; the longest one if left out.")
@click.option("--title", help="Title of the page.")
@click.option("--overwrite", is_flag=True, help="Replace a page that exists.")
def export(file: str, page: str, x: str | None, title: str | None, overwrite: bool) -> None:
    """Write a scan file as one HTML page for sharing, which holds all data and loads nothing.

    \b
    Examples
      replica export curve.h5 curve.html
      replica export curve.h5 curve.html --x alpha --title "Double descent" --overwrite
    """
    _needed("export")
    from .export import export_page

    click.echo(export_page(file, page, x=x, title=title, overwrite=overwrite))
