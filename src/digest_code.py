"""Stage code: what each script runs, and that the names in params.yaml can stand in paths.

    python src/digest_code.py --output code

Writes code/<script>.txt: the SHA-256 of each first-party module that the script imports, directly or not, from its
syntax tree without comments and docstrings. Every other stage depends on its own file. As every other stage comes after
this one, it is also where params.yaml is checked before dvc touches an out: a dataset called `..` would make it remove
data/. (The script is not src/code.py: that would stand before the standard library's module, which pdb imports.)
"""

import stillmotion.config.capped

from pathlib import Path
from typing import Annotated

import typer

from stillmotion.config.loading import load_params
from stillmotion.io.atomic import atomic_folder
from stillmotion.provenance import SOURCE_ROOT, module_digests
from stillmotion.stage import run_stage


def main(output: Annotated[Path, typer.Option(help="folder of the digests")]) -> None:
    """Write the digest of what each script runs, and check params.yaml."""
    with atomic_folder(output) as partial:
        for script in sorted(SOURCE_ROOT.glob("*.py")):
            lines = [f"{digest}  {place}\n" for place, digest in sorted(module_digests(script).items())]
            (partial / f"{script.stem}.txt").write_text("".join(lines), encoding="utf-8")
    # After the digests: dvc has removed them, and what is refused shall not take them away.
    load_params()


if __name__ == "__main__":
    run_stage(main)
