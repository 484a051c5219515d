import re
import urllib.parse
from pathlib import Path

import pytest

from stillmotion.datasets.source_list import placed, read_source_list
from stillmotion.errors import InputError
from stillmotion.io.addresses import FetchError
from stillmotion.io.memo import file_digest
from stillmotion.io.transport import Listed

SOURCES = Path(__file__).resolve().parents[2] / "data" / "sources"


class Listing:
    """A transport that lists."""

    def __init__(self, *found: Listed):
        self.found = list(found)

    def list_folder(self, url: str) -> list[Listed]:
        if not self.found:
            raise FetchError("the host can't be reached")
        return self.found


@pytest.fixture
def places(tmp_path):
    def read(text: str, *found: Listed):
        file = tmp_path / "source.yaml"
        file.write_text(text)
        listed = placed(read_source_list(file), Listing(*found), file=file)
        return [(place.wanted.url, place.path, place.unpack) for place in listed]

    return read


@pytest.fixture
def error(places, tmp_path):
    def read(text: str, *found: Listed) -> str:
        with pytest.raises(InputError) as caught:
            places(text, *found)
        message = str(caught.value)
        assert message.startswith(f"{tmp_path / 'source.yaml'}: ")
        assert "\n" not in message
        return message.removeprefix(f"{tmp_path / 'source.yaml'}: ")

    return read


def test_a_file_lies_at_its_path_or_under_the_last_part_of_its_address(places):
    assert places("""
files:
  - url: https://example.org/lists/train%20one.json?download=1
  - url: s3://bucket/a.mp4
    path: ./videos/b.mp4
  - url: https://example.org/all.zip
    unpack: true
  - url: hf://datasets/us/films@v1/a.tar
    unpack: true
    path: videos
""") == [
        ("https://example.org/lists/train%20one.json?download=1", "train one.json", False),
        ("s3://bucket/a.mp4", "videos/b.mp4", False),
        ("https://example.org/all.zip", "", True),
        ("hf://datasets/us/films@v1/a.tar", "videos", True),
    ]


def test_a_folder_is_all_the_files_below_it_but_hidden_ones(places):
    found = (Listed("a.mp4", "s3://b/c/a.mp4", 3, None), Listed("x/b.mp4", "s3://b/c/x/b.mp4", 3, None))
    hidden = (Listed(".gitattributes", "s3://b/c/.gitattributes", 3, None), Listed(".x/a", "s3://b/c/.x/a", 3, None))
    assert places("files: [{url: s3://b/c/, path: videos}]", *found, *hidden) == [
        ("s3://b/c/a.mp4", "videos/a.mp4", False),
        ("s3://b/c/x/b.mp4", "videos/x/b.mp4", False),
    ]
    assert places("files: [{url: hf://datasets/us/films@v1}]", found[0])[0][1] == "a.mp4"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("files: [", "not YAML"),
        ("", "the whole: Input should be"),
        ("files: []", "files: List should have at least 1 item"),
        ("file: []", "file: unknown; known are files, max_bytes"),
        ("files: [{url: s3://b/a, sha: x}]", "files entry 1, sha: unknown; known are url, path, sha256, bytes, unpack"),
        ("files: [{url: s3://b/a}, {path: x}]", "files entry 2, url: Field required"),
        ("files: [{url: a.mp4}]", "files entry 1, url: 'a.mp4' is no address"),
        ("files: [{url: s3://b/a, sha256: abc}]", "files entry 1, sha256: String should match pattern"),
        ("files: [{url: s3://b/a, bytes: -1}]", "files entry 1, bytes: Input should be greater than or equal to 0"),
        ("files: [{url: s3://b/a, path: ../x}]", "files entry 1, path: '../x' can't be the place of a file"),
        ("files: [{url: s3://b/a, path: /x}]", "files entry 1, path: '/x' can't be the place of a file"),
        ("files: [{url: s3://b/a, path: .x/y}]", "files entry 1, path: '.x/y' can't be the place of a file"),
        ("files: [{url: s3://b/a, path: source.yaml}]", "files entry 1, path: 'source.yaml' can't be the place"),
        ("files: [{url: 'https://example.org'}]", "https://example.org has no name of a file at its end"),
        ("files: [{url: 'https://example.org/..%2Fx'}]", "https://example.org/..%2Fx has no name of a file at its end"),
        (
            "files: [{url: 'https://u:p@example.org/a.mp4?k=1'}, {url: s3://b/a.mp4}]",
            "https://example.org/a.mp4?… and s3://b/a.mp4 have one place, 'a.mp4'; give one another path",
        ),
        ("files: [{url: s3://b/c/, unpack: true}]", "s3://b/c/ is a folder: sha256, bytes and unpack are for single"),
        ("files: [{url: s3://b/c/}]", "s3://b/c/ can't be listed: the host can't be reached"),
        ("files: [{url: 'https://u:p@example.org/a', sha256: 12}]", "files entry 1, sha256: Input should be a valid"),
    ],
)  # fmt: skip
def test_a_fault_is_told_in_one_line_with_its_place(error, text, message):
    told = error(text)
    assert told.startswith(message)
    assert "u:p" not in told


def test_a_name_on_a_server_that_leads_out_of_the_folder_is_refused(error):
    told = error("files: [{url: s3://b/c/}]", Listed("../x", "s3://b/c/../x", 3, None))
    assert told == "s3://b/c/ holds '../x', whose name leads out of the folder"


def test_a_digest_may_be_in_capitals(tmp_path):
    (tmp_path / "source.yaml").write_text(f"files: [{{url: s3://b/a, sha256: {'AB' * 32}}}]")
    assert read_source_list(tmp_path / "source.yaml").files[0].sha256 == "ab" * 32


def test_an_address_that_stands_twice_is_one_file(places):
    assert len(places("files: [{url: s3://b/a}, {url: s3://b/a}]")) == 1


LISTS = sorted((SOURCES / "lists").glob("*.yaml"))


@pytest.mark.parametrize("file", LISTS, ids=lambda file: file.stem)
def test_a_list_of_public_annotations_names_what_the_page_of_sources_states(file):
    page = (SOURCES / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| (.*) \| `([0-9a-f]{64})` \|$", page, re.MULTILINE)
    origin, stated = "", {}
    for name, told, digest in rows:
        origin = origin if told == "the same" else told
        stated[name] = (origin, digest)
    for entry in read_source_list(file).files:
        owner, repository, commit, *folders, name = urllib.parse.urlsplit(entry.url).path.strip("/").split("/")
        assert stated[name] == (f"github.com/{owner}/{repository}, {'/'.join(folders)}, {commit[:7]}", entry.sha256)
        assert entry.url.startswith("https://raw.githubusercontent.com/")


@pytest.mark.real
@pytest.mark.parametrize("file", LISTS, ids=lambda file: file.stem)
def test_a_list_of_public_annotations_fits_the_real_files(file, real_material):
    for entry in read_source_list(file).files:
        (real,) = real_material.glob(f"*/{Path(entry.url).name}")
        assert (file_digest(real), real.stat().st_size) == (entry.sha256, entry.bytes)
