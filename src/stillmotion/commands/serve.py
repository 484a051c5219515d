"""The `stillmotion serve` command: a page that searches one's own videos, in a browser."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillmotion.errors import InputError
from stillmotion.printed import one_line

if TYPE_CHECKING:
    from stillmotion.serving.library import Library

NEEDED = ("fastapi", "uvicorn")


def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8642,
    host: Annotated[
        str, typer.Option(help="An address of this machine; 0.0.0.0 lets others in, who then see the videos.")
    ] = "127.0.0.1",
    root: Annotated[Path, typer.Option(help="The project, which holds params.yaml, data and models.")] = Path(),
) -> None:
    """Serve a page that finds moments in the videos, by a text, an image or what is like a moment.

    Searches what dvc repro has made, and every other dataset that stillmotion search has embedded. The models are
    loaded once; stillmotion search asks this server while it runs. /api lists what programs may ask. Ctrl-C ends it.
    """
    if any(importlib.util.find_spec(name) is None for name in NEEDED):
        raise InputError("serve needs FastAPI and uvicorn: pip install 'stillmotion[serve]'")

    from rich.console import Console

    from stillmotion.config.loading import load_params
    from stillmotion.stage import importing

    load_params(root / "params.yaml")  # a wrong folder is told at once
    with Console(stderr=True).status("loading"), importing():
        from stillmotion.serving.server import serve as serve_project

    serve_project(root, host, port, lambda url, library: _tell(url, library, host))


def _tell(url: str, library: "Library", host: str) -> None:
    counts = ", ".join(f"{sum(library.splits(name).values())} videos of {name}" for name in library.names())
    typer.echo(one_line(f"{url}  {counts}; Ctrl-C ends"))
    if host not in ("127.0.0.1", "localhost", "::1"):
        typer.echo(one_line(f"--host {host}: whoever reaches this machine there can see these videos"), err=True)
