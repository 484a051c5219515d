"""The pages of docs/ are built strictly, ask no network, and say what is there; so do the other pages at the root."""

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from stillmotion import cli

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + DOCS
FENCED = re.compile(r"^```.*?^```$", re.M | re.S)


def named(page):
    return page.relative_to(ROOT).as_posix()


def anchors(page):
    """As GitHub and mkdocs make them of headings: lower case, no punctuation, dashes for spaces."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_to_files_and_headings_that_are_there(page):
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", page.read_text(encoding="utf-8"))):
        path, _, anchor = target.partition("#")
        place = page.parent / path if path else page
        if "://" not in target and (
            not place.exists() or (anchor and place.suffix == ".md" and anchor not in anchors(place))
        ):
            dead.append(target)
    assert dead == []


@pytest.mark.parametrize("page", PAGES[:1] + DOCS, ids=named)
def test_commands_have_the_names_and_options_that_are_typed(page):
    command = typer.main.get_command(cli.app)
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    wrong = []
    for line in "\n".join(FENCED.findall(page.read_text(encoding="utf-8"))).splitlines():
        program, *words = re.sub(r"\s#.*", "", re.sub(r'"[^"]*"', "TEXT", line)).split() or [""]
        if program == "make":
            wrong += [line for word in words if "=" not in word and word not in targets]
        elif program == "stillmotion":
            found = command
            while words and hasattr(found, "commands"):
                found = found.commands.get(words.pop(0))
            options = {option for param in found.params for option in param.opts} if found else set()
            wrong += [line for word in words if word.startswith("--") and word not in options]
            wrong += [] if found else [line]
    assert wrong == []


@pytest.mark.parametrize("page", DOCS, ids=named)
def test_files_that_are_named_are_in_the_repository(page):
    names = re.findall(r"`([\w./-]+\.(?:md|py|yaml|yml|txt|json))`", page.read_text(encoding="utf-8"))
    made = ("data/raw", "data/frames", "captions.csv")  # by the stages, or by whom the page is for
    assert [name for name in names if not name.startswith(made) and not (ROOT / name).exists()] == []


def test_the_pages_are_built_strictly_and_ask_no_network(tmp_path):
    pytest.importorskip("material", reason="no mkdocs-material: pip install 'stillmotion[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    pages = list((tmp_path / "site").glob("*.html"))
    assert {page.stem for page in pages} >= {page.stem for page in DOCS}
    for page in pages:
        loaded = re.findall(
            r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"([^\"]+)\"", page.read_text(encoding="utf-8")
        )
        assert [html.unescape(address) for address in loaded if "//" in address] == []
