"""The `stillmotion plots` command: the page of `dvc plots`, with the scripts that draw it inside.

dvc's own page asks a CDN for them, and is blank without a network. The curves, their templates (.dvc/plots) and what
two revisions are compared by are dvc's, so this page, dvc's and the one of its VS Code extension show the same.
"""

import html
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from stillmotion.errors import InputError
from stillmotion.io.atomic import atomic_file, writable_place
from stillmotion.printed import one_line

SHOWN = "window.vegaEmbed = vegaEmbed"
"""What the page needs of the bundle."""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
body {{ font: 16px system-ui, sans-serif; margin: 1rem; color: #222; background: #fff; }}
.plots {{ display: flex; flex-wrap: wrap; gap: 2rem; }}
.plots > * {{ max-width: 100%; overflow-x: auto; }}
</style>
<script>{scripts}</script>
</head>
<body>
<h1>{title}</h1>
{without}<div class="plots"></div>
<script>
const actions = {{ export: true, source: true, compiled: false, editor: false }};
for (const spec of {specs}) {{
  const place = document.querySelector(".plots").appendChild(document.createElement("div"));
  vegaEmbed(place, spec, {{ actions, mode: "vega-lite", renderer: "svg" }});
}}
</script>
</body>
</html>
"""


def plots(
    revisions: Annotated[
        list[str] | None,
        typer.Option(
            "--diff",
            metavar="REV",
            help="Compare with a commit, branch, tag or experiment; given twice or more, these with each other.",
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("dvc_plots/index.html"),
) -> None:
    """Write the page of `dvc plots show`, or of `dvc plots diff`, so that it can be seen without a network.

    Training curves and probes are drawn with what their axes and colours mean; hover for values, scroll to zoom.

    For example:

    stillmotion plots

    stillmotion plots --diff HEAD~1 --output changes.html
    """
    try:
        import vl_convert
    except ImportError:
        raise InputError("plots needs vl-convert-python; pip install 'stillmotion[plots]'") from None
    from stillmotion.experiments.dvc_queue import _dvc

    writable_place(output)
    named = revisions or []
    drawn = json.loads(_dvc("plots", *(("diff", *named) if named else ("show",)), "--json"))
    if errors := [] if "data" in drawn else drawn.get("errors", []):
        raise InputError(f"dvc plots: {errors[0]['msg']}; mend that, and run this again")
    found = {
        # Without the schema of dvc's templates, whose version is older than vega's here: it would complain of that.
        name: [plot["content"] | {"$schema": None} for plot in plots_of_name if plot["type"] == "vega"]
        for name, plots_of_name in drawn.get("data", {}).items()
    }
    specs = [spec for specs_of_name in found.values() for spec in specs_of_name]
    if not specs:
        raise InputError("dvc knows no plot with data here; run make repro, or name a revision that has some (--diff)")
    title = f"Plots: {', '.join(named)}{', workspace' if len(named) == 1 else ''}" if named else "Plots"
    without = [name for name, of_name in found.items() if not of_name]
    with atomic_file(output) as partial:
        partial.write_text(_page(title, specs, without, vl_convert.javascript_bundle(SHOWN)), "utf-8")
    typer.echo(one_line(f"{output}: {len(specs)} plots{f', {len(without)} have no data' if without else ''}"))


def _page(title: str, specs: list[dict[str, Any]], without: list[str], scripts: str) -> str:
    note = f"<p>Without data: {html.escape(one_line(', '.join(without)))}</p>\n" if without else ""
    return _PAGE.format(
        title=html.escape(one_line(title)),
        without=note,
        scripts=scripts.replace("</script", "<\\/script"),
        specs=json.dumps(specs).replace("<", "\\u003c"),
    )
