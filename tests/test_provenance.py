import ast
from pathlib import Path

import pytest

from stillmotion import provenance
from stillmotion.errors import InputError
from stillmotion.provenance import INFRASTRUCTURE, code_version, first_party_sources, module_digests, refuse_edited

SOURCE = Path(__file__).resolve().parents[1] / "src"


SCRIPT = "import numpy\nfrom stillmotion.io.tables import rows\nfrom stillmotion.config import section\n"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A small package called stillmotion beside a script."""
    files = {
        "stage_script.py": SCRIPT,
        "stillmotion/__init__.py": "",
        "stillmotion/config/section.py": "from stillmotion.errors import InputError\n",
        "stillmotion/errors.py": "class InputError(ValueError): ...\n",
        "stillmotion/io/__init__.py": "",
        "stillmotion/io/tables.py": "def rows():\n    from stillmotion.io import atomic\n    return atomic\n",
        "stillmotion/io/atomic.py": "import stillmotion.deep.er.still as still\n",
        "stillmotion/deep/er/still.py": "import stillmotion.io.tables\nimport stillmotionless\n",
        "stillmotion/unused.py": "x = 1\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(provenance, "SOURCE_ROOT", tmp_path)
    monkeypatch.setattr(first_party_sources, "__defaults__", (tmp_path,))
    return tmp_path


def test_imports_are_followed_through_modules_functions_and_circles(tree):
    found = [path.relative_to(tree).as_posix() for path in first_party_sources(tree / "stage_script.py", tree)]
    assert found == [
        "stage_script.py",
        "stillmotion/config/section.py",
        "stillmotion/deep/er/still.py",
        "stillmotion/errors.py",
        "stillmotion/io/atomic.py",
        "stillmotion/io/tables.py",
    ]


@pytest.mark.parametrize("name", ["stage_script.py", "stillmotion/deep/er/still.py"])
def test_the_version_changes_with_source_that_decides_bytes(tree, name):
    before = code_version(tree / "stage_script.py")
    assert code_version(tree / "stage_script.py") == before
    (tree / name).write_text((tree / name).read_text(encoding="utf-8") + "changed = 1\n", encoding="utf-8")
    assert code_version(tree / "stage_script.py") != before


@pytest.mark.parametrize(
    "name",
    ["stillmotion/config/section.py", "stillmotion/errors.py", "stillmotion/io/tables.py", "stillmotion/unused.py"],
)
def test_the_version_does_not_change_with_infrastructure_or_with_what_is_not_imported(tree, name):
    before = code_version(tree / "stage_script.py")
    (tree / name).write_text((tree / name).read_text(encoding="utf-8") + "changed = 1\n", encoding="utf-8")
    assert code_version(tree / "stage_script.py") == before


@pytest.mark.parametrize(
    "text",
    [
        "# a comment\n\n" + SCRIPT,
        '"""What it does."""\n' + SCRIPT,
        SCRIPT.replace("rows", "(\n rows\n)") + "'Told.'\n",
    ],
)
def test_comments_docstrings_and_layout_change_no_digest(tree, text):
    before = module_digests(tree / "stage_script.py")
    (tree / "stage_script.py").write_text(text, encoding="utf-8")
    assert module_digests(tree / "stage_script.py") == before


def test_a_string_that_is_used_is_code(tree):
    (tree / "stage_script.py").write_text("x = 'a'\n", encoding="utf-8")
    before = module_digests(tree / "stage_script.py")
    (tree / "stage_script.py").write_text("x = 'b'\n", encoding="utf-8")
    assert module_digests(tree / "stage_script.py") != before


def test_the_name_of_a_module_in_a_string_is_an_import_of_it(tree):
    (tree / "stage_script.py").write_text("module = 'stillmotion.unused'\n", encoding="utf-8")
    assert set(module_digests(tree / "stage_script.py")) == {"stage_script.py", "stillmotion/unused.py"}


def test_the_models_of_params_are_followed_but_left_out(tree):
    for name, text in {"loading": "import stillmotion.unused\n", "processor": "x = 1\n"}.items():
        path = tree / f"stillmotion/config/{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    source = "from stillmotion.config import loading, processor\n"
    (tree / "stage_script.py").write_text(source, encoding="utf-8")
    found = set(module_digests(tree / "stage_script.py"))
    assert found == {"stage_script.py", "stillmotion/unused.py", "stillmotion/config/processor.py"}


def test_a_module_named_as_infrastructure_but_deeper_decides_bytes(tree):
    (tree / "stillmotion/deep/stage.py").write_text("x = 1\n", encoding="utf-8")
    (tree / "stage_script.py").write_text("from stillmotion.deep import stage\n", encoding="utf-8")
    before = code_version(tree / "stage_script.py")
    (tree / "stillmotion/deep/stage.py").write_text("x = 2\n", encoding="utf-8")
    assert code_version(tree / "stage_script.py") != before


def test_what_a_stage_of_the_project_imports_is_found():
    found = {path.relative_to(SOURCE).as_posix() for path in first_party_sources(SOURCE / "embed.py")}
    # embed.py → backbones/embedding.py → backbones/open_clip_backbone.py → io/weights.py
    assert {"embed.py", "stillmotion/embedding/embedder.py", "stillmotion/io/weights.py"} <= found
    assert "stillmotion/cli.py" not in found
    assert not any(name.endswith("__init__.py") for name in found)


def test_every_module_of_the_infrastructure_exists():
    modules = {path.stem for path in (SOURCE / "stillmotion").iterdir()}
    assert modules >= INFRASTRUCTURE


def test_every_package_file_is_empty_so_that_no_source_escapes_the_version():
    packages = sorted((SOURCE / "stillmotion").rglob("__init__.py"))
    assert packages
    assert [path for path in packages if path.read_bytes()] == []
    folders = {path.parent for path in (SOURCE / "stillmotion").rglob("*.py")}
    assert folders == {path.parent for path in packages}


def test_the_package_has_no_relative_imports_which_the_syntax_tree_walk_leaves_out():
    for path in (SOURCE / "stillmotion").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree)), path


@pytest.fixture
def stated(tree):
    """What stage `code` has written of the script; all files are younger than 0."""
    path = tree / "stage_script.txt"
    lines = [f"{digest}  {place}\n" for place, digest in module_digests(tree / "stage_script.py").items()]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def test_a_stage_runs_what_was_digested(tree, stated):
    refuse_edited(tree / "stage_script.py", stated, 0.0)
    with (tree / "stillmotion/io/atomic.py").open("a", encoding="utf-8") as file:
        file.write("# a comment\n")
    refuse_edited(tree / "stage_script.py", stated, 0.0)


@pytest.mark.parametrize("edit", ["changed", "gone", "more"])
def test_a_module_that_was_edited_after_dvc_began_is_refused(tree, stated, edit):
    edited, named = tree / "stillmotion/io/atomic.py", "stillmotion/io/atomic.py"
    if edit == "gone":
        edited.unlink()
    elif edit == "changed":
        edited.write_text("x = 1\n", encoding="utf-8")
    else:
        named = "stage_script.py"
        (tree / named).write_text(SCRIPT + "import stillmotion.unused\n", encoding="utf-8")
    with pytest.raises(InputError, match=rf"/{named}: was edited after dvc began, .*; run dvc repro again$"):
        refuse_edited(tree / "stage_script.py", stated, 0.0)
    if edit == "changed":  # before it began: stage `code` has seen it, and what it wrote is not for this
        refuse_edited(tree / "stage_script.py", stated, edited.stat().st_ctime + 1)
