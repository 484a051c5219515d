"""A dataset whose files are named in source.yaml, through the stage `download`."""

import hashlib
import io
import json
import os
import re
import zipfile
from pathlib import Path

import av
import pytest
import ruamel.yaml

from stillmotion.io import fetch
from stillmotion.io.records import Caption, Moment, Video, load_records
from stillmotion.io.tables import read_rows

ROOT = Path(__file__).resolve().parents[2]
QUERY = {"qid": 1, "query": "x", "vid": "a_0.0_4.0", "duration": 4, "relevant_windows": [[0, 4]]}


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """The root of a repository whose videos may be lost up to a half."""
    yaml = ruamel.yaml.YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["sample_frames"]["max_skip_fraction"] = 0.5
    yaml.dump(params, tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fetch, "FIRST_WAIT_S", 0.01)
    (tmp_path / "data" / "sources" / "mine").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def download(run_script, workplace):
    """Run the stage on the dataset `mine`; the log."""

    def run(*, status: int = 0, **environment: str) -> str:
        settings = os.environ | {"STILLMOTION_WORKERS": "1", "STILLMOTION_MEMO": str(workplace / "memo")} | environment
        options = ("--source", "data/sources/mine", "--output", "data/raw/mine")
        done = run_script("download", *options, cwd=workplace, env=settings)
        assert done.returncode == status, done.stderr
        return done.stderr

    return run


@pytest.fixture
def source(workplace):
    """Write source.yaml of `mine`, an entry a row."""

    def write(*entries: dict, **settings: object) -> None:
        listed = {"files": list(entries)} | settings
        (workplace / "data" / "sources" / "mine" / "source.yaml").write_text(json.dumps(listed))

    return write


@pytest.fixture(scope="session")
def film():
    """An H.264 file of 4 s."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(40):
            container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode())
    return target.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def zipped(**members: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.mp4", content)
    return target.getvalue()


@pytest.fixture
def benchmark(site, source, film):
    """QVHighlights with its lists and two of three videos on a server."""
    lists = {"train": [QUERY, QUERY | {"qid": 2, "vid": "b_0.0_4.0"}], "val": [QUERY | {"qid": 3, "vid": "c_0.0_4.0"}]}
    names = {split: f"/highlight_{split}_release.jsonl" for split in lists}
    for split, rows in lists.items():
        site.files[names[split]] = "\n".join(map(json.dumps, rows)).encode()
    site.files |= {"/a_0.0_4.0.mp4": film, "/b_0.0_4.0.mp4": film[:-1] + b"x"}
    address = site.url.replace("http://", "http://me:pass@")
    videos = [
        {"url": f"{address}/{name}_0.0_4.0.mp4?sig=geheim", "path": f"videos/{name}_0.0_4.0.mp4"} for name in "abc"
    ]
    source(*videos, *({"url": site.url + name} for name in names.values()))
    return site


def test_fetched_files_are_seen_as_if_they_lay_there(benchmark, download, workplace, film):
    log = download()
    raw = workplace / "data" / "raw" / "mine"
    videos = {video.video_id: video for video in load_records(raw / "tables", Video)}
    assert {name: (video.path, video.status) for name, video in videos.items()} == {
        "a_0.0_4.0": ("data/raw/mine/fetched/videos/a_0.0_4.0.mp4", "ok"),
        "b_0.0_4.0": ("data/raw/mine/fetched/videos/b_0.0_4.0.mp4", "ok"),
        "c_0.0_4.0": ("", "missing: the server answers 404 (Not Found)"),
    }
    assert Path(videos["a_0.0_4.0"].path).read_bytes() == film
    assert "  c_0.0_4.0: missing: the server answers 404 (Not Found)" in log
    assert [moment.qid for moment in load_records(raw / "tables", Moment)] == [1, 2, 3]
    rows = read_rows(raw / "fetched.jsonl")
    assert [row["path"] for row in rows] == [
        "highlight_train_release.jsonl",
        "highlight_val_release.jsonl",
        "videos/a_0.0_4.0.mp4",
        "videos/b_0.0_4.0.mp4",
        "videos/c_0.0_4.0.mp4",
    ]
    assert rows[2] == {
        "path": "videos/a_0.0_4.0.mp4",
        "url": f"{benchmark.url}/a_0.0_4.0.mp4?…",
        "unpack": False,
        "sha256": hashlib.sha256(film).hexdigest(),
        "bytes": len(film),
        "status": "ok",
    }
    assert rows[4]["status"] == "missing: the server answers 404 (Not Found)"
    # The lists are read, and stay out of the outs.
    assert sorted(path.name for path in (raw / "fetched" / "videos").iterdir()) == ["a_0.0_4.0.mp4", "b_0.0_4.0.mp4"]
    assert sorted(path.name for path in raw.iterdir()) == ["digests.jsonl", "fetched", "fetched.jsonl", "tables"]


@pytest.mark.slow
def test_nothing_is_fetched_twice_and_the_outs_are_the_same_bytes_with_the_memo_and_without(
    benchmark, download, workplace
):
    download(STILLMOTION_FETCHES="1")
    raw = workplace / "data" / "raw" / "mine"
    first, asked = contents(raw), dict(benchmark.requests)
    download(STILLMOTION_FETCHES="7")
    assert contents(raw) == first
    # What the server does not have is asked for again.
    assert benchmark.requests == asked | {"/c_0.0_4.0.mp4": 2}
    download(STILLMOTION_MEMO="off")
    assert contents(raw) == first
    assert set(dict(benchmark.requests).values()) == {2, 3}
    (workplace / "file").touch()
    log = download(STILLMOTION_MEMO=str(workplace / "file"))
    assert f"{workplace / 'file'}: can't be written (Not a directory); what is fetched is not kept" in log
    assert contents(raw) == first


def test_no_secret_of_an_address_is_in_an_artefact_or_a_message(benchmark, download, workplace):
    log = download()
    benchmark.always["/a_0.0_4.0.mp4"] = benchmark.always["/b_0.0_4.0.mp4"] = "403"
    error = download(status=2, STILLMOTION_MEMO="off")
    for text in (log, error, *(content.decode("latin-1") for content in contents(workplace / "data" / "raw").values())):
        assert "pass@" not in text
        assert "geheim" not in text


def test_a_change_of_content_behind_an_address_is_a_change_of_the_outs(benchmark, download, workplace, film):
    download()
    before = read_rows(workplace / "data" / "raw" / "mine" / "fetched.jsonl")
    benchmark.files["/a_0.0_4.0.mp4"] = film + b"\0" * 8
    download()
    assert read_rows(workplace / "data" / "raw" / "mine" / "fetched.jsonl") == before
    download(STILLMOTION_MEMO="off")
    after = read_rows(workplace / "data" / "raw" / "mine" / "fetched.jsonl")
    assert [row["path"] for row, other in zip(before, after, strict=True) if row != other] == ["videos/a_0.0_4.0.mp4"]


def test_more_lost_videos_than_allowed_stop_the_stage_and_leave_nothing(benchmark, download, workplace):
    benchmark.always["/a_0.0_4.0.mp4"] = "410"
    error = download(status=2)
    assert error.splitlines()[-1] == (
        "download: error: 2 of 3 videos can't be had (a_0.0_4.0: missing: the server answers 410 (Gone); "
        "c_0.0_4.0: missing: the server answers 404 (Not Found)): more than sample_frames.max_skip_fraction 0.5 "
        "allows; run it again, which goes on from here, mend source.yaml, or raise the fraction"
    )
    assert not (workplace / "data" / "raw" / "mine").exists()
    assert not list((workplace / "data" / "raw").iterdir())


def test_a_list_that_cannot_be_had_stops_the_stage(benchmark, download):
    benchmark.always["/highlight_val_release.jsonl"] = "404"
    error = download(status=2).splitlines()[-1]
    assert error == (
        "download: error: source.yaml: without these nobody knows what the dataset holds: "
        f"{benchmark.url}/highlight_val_release.jsonl: the server answers 404 (Not Found); "
        "run it again, which goes on from here, or get them by hand"
    )


def test_an_archive_or_a_list_that_nobody_reads_is_needed_too(benchmark, source, download, workplace):
    listed = json.loads((workplace / "data" / "sources" / "mine" / "source.yaml").read_text())["files"]
    for more in ({"url": f"{benchmark.url}/none.zip", "unpack": True}, {"url": f"{benchmark.url}/none.json"}):
        source(*listed, more)
        error = download(status=2).splitlines()[-1]
        assert f"nobody knows what the dataset holds: {more['url']}: the server answers 404 (Not Found);" in error


def test_a_lost_video_without_an_extension_is_a_lost_video(site, source, download, workplace, film):
    site.files["/a.mp4"] = film
    source({"url": f"{site.url}/a.mp4"}, {"url": f"{site.url}/b_0.0_4.0"})
    (workplace / "data" / "sources" / "mine" / "captions.csv").write_text("video,caption\na.mp4,x\nb_0.0_4.0,y\n")
    download()
    videos = load_records(workplace / "data" / "raw" / "mine" / "tables", Video)
    assert [video.status for video in videos] == ["ok", "missing: the server answers 404 (Not Found)"]


def test_an_error_in_a_fetched_list_names_it_as_if_it_lay_there(benchmark, download):
    benchmark.files["/highlight_val_release.jsonl"] = b"{"
    error = download(status=2).splitlines()[-1]
    assert error.startswith("download: error: data/sources/mine/highlight_val_release.jsonl row 1: not JSON")


def test_ones_own_files_stay_where_they_lie_beside_fetched_ones(site, source, download, workplace, film):
    own = workplace / "data" / "sources" / "mine"
    (own / "own.mp4").write_bytes(film)
    (own / "captions.csv").write_text("video,caption\nown.mp4,mine\nclips/one.mp4,from a zip\ngone.mp4,lost\n")
    site.files |= {"/clips.zip": zipped(one=film, two=film), "/c.mp4": film}
    source({"url": f"{site.url}/clips.zip", "unpack": True, "path": "clips"}, {"url": f"{site.url}/gone.mp4"})
    download()
    raw = workplace / "data" / "raw" / "mine"
    assert {video.video_id: (video.path, video.status) for video in load_records(raw / "tables", Video)} == {
        "own": ("data/sources/mine/own.mp4", "ok"),
        "clips/one": ("data/raw/mine/fetched/clips/one.mp4", "ok"),
        "clips/two": ("data/raw/mine/fetched/clips/two.mp4", "ok"),
        "gone": ("", "missing: the server answers 404 (Not Found)"),
    }
    assert {caption.video_id for caption in load_records(raw / "tables", Caption)} == {"own", "clips/one", "gone"}
    download()
    assert site.requests["/clips.zip"] == 1


@pytest.mark.slow
def test_files_of_an_archive_that_are_spoilt_or_gone_in_the_memo_are_unpacked_again(
    site, source, download, workplace, film
):
    site.files |= {"/clips.zip": zipped(one=film, two=film)}
    source({"url": f"{site.url}/clips.zip", "unpack": True})
    download()
    first = contents(workplace / "data" / "raw" / "mine")
    for spoil in ("flip", "remove", "cut"):
        (unpacked,) = (workplace / "memo" / "fetched" / "unpacked").rglob("one.mp4")
        unpacked.unlink()  # and not written through, as it is linked
        if spoil != "remove":
            unpacked.write_bytes(film[:-9] + b"X" + film[-8:] if spoil == "flip" else film[:-9])
        log = download()
        assert log.count("not the files that were unpacked there; unpacked again") == 1
        assert contents(workplace / "data" / "raw" / "mine") == first
    assert "unpacked again" not in download()
    assert site.requests["/clips.zip"] == 1


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"url": "/own.mp4"}], "'own.mp4' lies in data/sources/mine too; remove it, or its entry"),
        ([{"url": "/z.zip", "unpack": True}], "'own.mp4' lies in data/sources/mine too; remove it, or its entry"),
        (
            [{"url": "/z.zip", "unpack": True, "path": "x"}, {"url": "/own.mp4", "path": "x/own.mp4"}],
            "'x/own.mp4' comes from two addresses; give one another path",
        ),
    ],
)
def test_two_files_of_one_name_are_refused(site, source, download, workplace, film, entries, message):
    (workplace / "data" / "sources" / "mine" / "own.mp4").write_bytes(film)
    site.files |= {"/own.mp4": film, "/z.zip": zipped(own=film)}
    source(*(entry | {"url": site.url + entry["url"]} for entry in entries))
    assert download(status=2).splitlines()[-1] == f"download: error: data/sources/mine/source.yaml: {message}"


def test_an_unsafe_archive_is_refused_by_its_address(site, source, download, workplace):
    site.files["/z.zip"] = zipped(**{"../../evil": b"x"})
    source({"url": f"{site.url}/z.zip?key=1", "unpack": True})
    error = download(status=2).splitlines()[-1]
    assert error == (
        f"download: error: {site.url}/z.zip?…: the member '../../evil.mp4' leads out of the folder; unpack it by hand"
    )
    assert not list(workplace.rglob("evil*"))


def test_a_folder_with_a_source_list_is_named_among_the_datasets(run_script, workplace, source, site):
    source({"url": f"{site.url}/a.mp4"})
    error = run_script("download", "--source", "data/sources/mime", "--output", "data/raw/mime", cwd=workplace).stderr
    assert "did you mean 'mine'?" in error


@pytest.mark.slow
@pytest.mark.real
def test_the_public_lists_are_fetched_by_the_digests_of_the_page_of_sources(
    site, source, download, workplace, real_material, film
):
    page = (ROOT / "data" / "sources" / "README.md").read_text(encoding="utf-8")
    digests = dict(re.findall(r"^\| `([^`]+)` \| .* \| `([0-9a-f]{64})` \|$", page, re.MULTILINE))
    names = ("highlight_train_release.jsonl", "highlight_val_release.jsonl")
    for name in names:
        site.files[f"/{name}"] = (real_material / "qvhighlights" / name).read_bytes()
        site.faults[f"/{name}"] = ["break 20000", "503"]
    video = "NUsG9BgSes0_210.0_360.0"
    site.files["/some.mp4"] = film
    lists = [{"url": f"{site.url}/{name}", "sha256": digests[name]} for name in names]
    source(*lists, {"url": f"{site.url}/some.mp4", "path": f"videos/{video}.mp4"})
    download()
    videos = load_records(workplace / "data" / "raw" / "mine" / "tables", Video)
    assert [video.video_id for video in videos if video.ok] == [video]
    assert sum(video.status == "missing" for video in videos) == len(videos) - 1
    assert all(site.sent[f"/{name}"] == len(site.files[f"/{name}"]) for name in names)
