import os
import shutil
import time
from io import BytesIO

import httpx
import numpy as np
import pytest
from PIL import Image
from search_project import TEXT

from stillmotion.errors import InputError
from stillmotion.io.tables import read_json, write_json
from stillmotion.search.finder import Question
from stillmotion.serving import library as libraries

web = httpx.Client(verify=False, trust_env=False)
"""One that reads no certificates, which takes longer than a request."""


@pytest.fixture
def get(running):
    def ask(path: str, status: int = 200, **params: object) -> dict:
        answer = web.get(running.url + path, params=params)
        assert answer.status_code == status, answer.text
        return answer.json()

    return ask


def test_a_text_finds_the_moments_of_the_command(get):
    # As in test_cli_search: street's two clips above 0.6 are one window, of mean 0.8.
    found = get("/api/search", q=TEXT, selection="vc1_none")
    rows = [(row["video_id"], row["start"], row["end"]) for row in found["moments"]]
    assert rows == [("street", 2.0, 5.5), ("yard", 0.0, 2.0), ("kitchen", 2.0, 4.0)]
    assert [row["score"] for row in found["moments"]] == pytest.approx([0.8, 0.5, 0.2], abs=2e-6)
    assert (found["dataset"], found["model"], found["num_videos"]) == ("toy", "small_clip", 3)


def test_a_moment_comes_with_what_is_said_of_it(get):
    street, yard, kitchen = get("/api/search", q=TEXT, selection="vc1_none")["moments"]
    assert street["captions"] == ["<img src=x onerror=window.harmed=1>"]
    assert yard["captions"] == ["a yard"]
    assert kitchen["captions"] == []


def test_split_dataset_and_video_say_where_to_look(get):
    found = get("/api/search", q=TEXT, dataset="mine", split="train")
    assert found["moments"][0]["picture"] is None  # no frames of it are stored
    assert ({row["video_id"] for row in found["moments"]}, found["num_videos"]) == ({"b"}, 1)
    assert get("/api/search", q=TEXT, split="train")["moments"] == []
    assert {row["video_id"] for row in get("/api/search", q=TEXT, video="yard")["moments"]} == {"yard"}


def test_what_is_like_a_span_is_in_other_videos(get):
    found = get("/api/search", like="street", start=2, end=4, selection="vc1_none", top=1)
    assert [(row["video_id"], row["start"]) for row in found["moments"]] == [("yard", 0.0)]


def test_an_image_is_looked_for(running):
    file = BytesIO()
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(file, format="PNG")
    url, headers = f"{running.url}/api/search/image", {"Content-Type": "image/png"}
    answer = web.post(url, params={"top": 2}, content=file.getvalue(), headers=headers)
    assert len(answer.json()["moments"]) == 2


@pytest.mark.parametrize(
    ("params", "detail"),
    [
        ({}, "give one of q"),
        ({"q": " "}, "give one of q"),
        ({"q": "x", "like": "street"}, "give one of q"),
        ({"like": "stret"}, "toy has no such video; did you mean street?"),
        ({"like": "street", "start": 4, "end": 2}, "no span of street"),
        ({"q": "x", "dataset": "toi"}, "no such dataset; did you mean toy?"),
    ],
)
def test_a_mistake_is_told_with_its_mend(get, params, detail):
    assert detail in get("/api/search", 422, **params)["detail"]


def test_the_datasets_are_listed_with_their_splits(get):
    told = get("/api/datasets")
    assert told["default"] == "toy"
    splits = {each["name"]: each["splits"] for each in told["datasets"]}
    assert splits == {"mine": {"train": 1, "test": 1}, "toy": {"test": 3}}


def test_a_video_is_sent_whole_or_in_part(running):
    url = f"{running.url}/videos/toy/street"
    file = (running.root / "data/raw/toy/videos/street.mp4").read_bytes()
    assert web.get(url).content == file
    part = web.get(url, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, file[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(file)}"
    assert web.get(url, headers={"Range": "bytes=-5"}).content == file[-5:]
    whole = web.head(url)
    assert (whole.status_code, whole.content, whole.headers["content-length"]) == (200, b"", str(len(file)))
    beyond = web.get(url, headers={"Range": f"bytes={len(file)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(file)}")


def test_the_stored_frame_of_a_clip_is_its_picture(running):
    url = f"{running.url}/pictures/toy/yard"
    picture = np.asarray(Image.open(BytesIO(web.get(url, params={"clip": 2}).content)))
    assert picture.shape == (32, 32, 3)
    assert abs(picture.astype(int) - 100).max() <= 3  # as test_cli_search packed it
    for wrong in ({"clip": 3}, {}):
        assert web.get(url, params=wrong).status_code in (404, 422)
    assert web.get(f"{running.url}/pictures/mine/b", params={"clip": 0}).status_code == 404


def test_the_pages_and_the_description_of_the_api_need_no_network(running):
    for path in ("/", "/api", "/static/app.js", "/static/player.js", "/static/style.css"):
        text = web.get(running.url + path).text
        assert "://" not in text.replace("http://www.w3.org/2000/svg", ""), path
    described = web.get(f"{running.url}/openapi.json").json()
    assert {"/api/search", "/api/search/image", "/api/datasets"} <= described["paths"].keys()
    assert "GET /api/search" in web.get(f"{running.url}/api").text


def test_what_is_built_anew_is_searched_anew(served_project, tmp_path, monkeypatch):
    monkeypatch.setattr(libraries, "LOOK_EVERY_S", 0.0)
    root = shutil.copytree(served_project, tmp_path / "project")
    library = libraries.Library(root)
    before = library.finder("", "", "")
    library.refresh()
    assert library.finder("", "", "") is before
    index = root / "data/embeddings/toy-small_clip/index.jsonl"
    os.utime(index, ns=(time.time_ns(), time.time_ns()))
    library.refresh()
    assert library.finder("", "", "") is not before


def test_what_was_read_while_another_thread_opened_all_anew_is_not_kept(served_project, tmp_path, monkeypatch):
    monkeypatch.setattr(libraries, "LOOK_EVERY_S", 0.0)
    root = shutil.copytree(served_project, tmp_path / "project")
    library, read = libraries.Library(root), libraries.Finder
    index = root / "data/embeddings/mine-small_clip/index.jsonl"

    def slow(*arguments, **options):
        found = read(*arguments, **options)
        monkeypatch.setattr(libraries, "Finder", read)
        index.write_text(index.read_text().replace('"train"', '"test"'))  # embedded anew, of other splits
        library.refresh()  # as /api/datasets and /api/identity do
        return found

    monkeypatch.setattr(libraries, "Finder", slow)
    library.finder("mine", "", "")
    assert {video.split for video in library.finder("mine", "", "").embedded.videos} == {"test"}


def test_a_dataset_that_another_model_alone_has_embedded_is_searched_by_it(served_project, tmp_path):
    # As stillmotion search --dataset mine --experiment clip leaves it; and toy is not built here.
    root = shutil.copytree(served_project, tmp_path / "project")
    embeddings = root / "data" / "embeddings"
    shutil.rmtree(embeddings / "toy-small_clip")
    (embeddings / "mine-small_clip").rename(embeddings / "mine-clip")
    described = read_json(embeddings / "mine-clip" / "model.json") | {"system": {"model": "clip"}}
    write_json(embeddings / "mine-clip" / "model.json", described)
    shutil.copytree(root / "models/backbones/small_clip", root / "models/backbones/clip")
    library = libraries.Library(root)
    assert (library.default, library.names()) == ("mine", ["mine"])
    finder = library.finder("", "", "")
    assert finder.chosen.model == "clip"
    assert finder.find(Question(text=TEXT)).notes == finder.untuned


def test_params_that_are_half_written_leave_open_what_was_and_are_read_again(served_project, tmp_path, monkeypatch):
    monkeypatch.setattr(libraries, "LOOK_EVERY_S", 0.0)
    root = shutil.copytree(served_project, tmp_path / "project")
    library = libraries.Library(root)
    before, params = library.identity, (root / "params.yaml").read_text()
    (root / "params.yaml").write_text("dataset: [")
    with pytest.raises(InputError, match=r"params\.yaml"):
        library.refresh()
    assert library.identity == before
    (root / "params.yaml").write_text(params)
    library.refresh()
    assert library.identity != before  # written anew
    assert library.finder("", "", "").find(Question(text=TEXT)).num_videos == 3


def test_the_default_dataset_is_that_of_params_that_have_changed(served_project, tmp_path, monkeypatch):
    monkeypatch.setattr(libraries, "LOOK_EVERY_S", 0.0)
    root = shutil.copytree(served_project, tmp_path / "project")
    library, params = libraries.Library(root), root / "params.yaml"
    assert (library.default, library.finder("", "", "").chosen.dataset) == ("toy", "toy")
    params.write_text(params.read_text().replace("dataset: toy\n", "dataset: mine\n"))
    library.refresh()
    assert (library.default, library.finder("", "", "").chosen.dataset) == ("mine", "mine")
    shutil.rmtree(root / "data/embeddings/mine-small_clip")  # as a run does that writes it anew
    library.refresh()
    assert library.default == "mine"


def test_a_video_that_the_tables_lose_before_it_is_embedded_anew_is_told(served_project, serve, tmp_path):
    root = shutil.copytree(served_project, tmp_path / "project")
    table = root / "data/raw/toy/tables/videos.jsonl"
    table.write_text("".join(line for line in table.open() if '"street"' not in line))
    with serve(root) as found:
        answer = web.get(f"{found.url}/api/search", params={"q": TEXT})
    assert answer.status_code == 422
    told = "data/raw/toy/tables/videos.jsonl: lacks video 'street', which is embedded; run `dvc repro`"
    assert answer.json()["detail"] == told
