import json
import zipfile
from collections import Counter

import pytest

from stillmotion.datasets import msrvtt
from stillmotion.datasets.msrvtt import read_msrvtt
from stillmotion.errors import InputError
from stillmotion.io.records import Caption

TRAIN_VAL, TEST = "train_val_annotation.zip", "test_videodatainfo.json.zip"
PAIRS, TRAIN_9K = "MSRVTT_JSFUSION_test.csv", "MSRVTT_train.9k.csv"
CLIPS = {TRAIN_VAL: [("video0", "train"), ("video1", "train"), ("video2", "validate")], TEST: [("video3", "test")]}
"""By zip file."""
LISTS = {
    PAIRS: "key,vid_key,video_id,sentence\nret0,msr3,video3,a man  sings\n",
    TRAIN_9K: "video_id\nvideo0\nvideo2\n",
}


def content(clips: list[tuple[str, str]]) -> dict:
    return {
        "info": {},
        "videos": [
            {"video_id": name, "start time": 10.5, "end time": 24.0, "split": split, "category": 9}
            for name, split in clips
        ],
        "sentences": [
            {"video_id": name, "sen_id": number, "caption": f"{count} of {name}"}
            for number, count in enumerate(("one", "two ", "one"))
            for name, _ in clips
        ],
    }


@pytest.fixture
def folder(tmp_path, benchmark_params):
    """Make a folder with zip files, lists and empty videos, and read it."""

    def make(lists: dict[str, str] | None = None, videos: tuple[str, ...] = ("video0.mp4",), **params):
        for name, clips in CLIPS.items():
            member = "test_videodatainfo.json" if name == TEST else "train_val_videodatainfo.json"
            if not (tmp_path / name).exists():
                with zipfile.ZipFile(tmp_path / name, "w") as archive:
                    archive.writestr(member, json.dumps(content(clips)))
        for name, text in (LISTS if lists is None else lists).items():
            (tmp_path / name).write_text(text)
        (tmp_path / "videos").mkdir(exist_ok=True)
        for name in videos:
            (tmp_path / "videos" / name).touch()
        return read_msrvtt(tmp_path, benchmark_params(**params))

    return make


def test_1k_a_tests_the_pairs_of_its_list_and_trains_on_all_captions_of_the_9k(folder, annotate):
    source = folder(validation_fraction=0.0)
    videos, annotations = annotate(source, video0=13.5)
    assert {video.video_id: (video.split, video.status) for video in videos.values()} == {
        "video0": ("train", "ok"), "video2": ("train", "missing"), "video3": ("test", "missing")
    }  # fmt: skip
    assert annotations.captions == [
        *(
            Caption(f"{video_id}#{number:03d}", video_id, f"{count} of {video_id}", None, None)
            for video_id in ("video0", "video2")
            for number, count in enumerate(("one", "two", "one"))
        ),
        Caption("video3#000", "video3", "a man sings", None, None),
    ]
    assert (annotations.moments, annotations.actions) == ([], [])


def test_without_the_lists_the_splits_of_the_zip_files_hold_with_all_captions(folder, annotate):
    videos, annotations = annotate(folder(lists={}))
    assert [(video.video_id, video.split) for video in videos.values()] == [
        ("video0", "train"), ("video1", "train"), ("video2", "validation"), ("video3", "test")
    ]  # fmt: skip
    assert Counter(caption.video_id for caption in annotations.captions) == dict.fromkeys(videos, 3)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({PAIRS: LISTS[PAIRS]}, f"{TRAIN_9K}: no such file, and MSR-VTT needs it; it comes from github.com/layer6ai"),
        ({TRAIN_9K: LISTS[TRAIN_9K]}, "put it there, or remove the other list for full captions"),
        (
            {**LISTS, TRAIN_9K: "video_id\nvideo9\n"},
            "row 2: video 'video9' is in neither of train_val_annotation.zip, t",
        ),
        ({**LISTS, TRAIN_9K: "video_id\nvideo3\n"}, f"row 2: video 'video3' is in {PAIRS} too; remove it from one"),
        ({**LISTS, TRAIN_9K: "id\nvideo0\n"}, f"{TRAIN_9K} row 1: column 'video_id' is missing; get the file again"),
        ({**LISTS, PAIRS: "video_id,sentence\nvideo3\n"}, f"{PAIRS} row 2: no sentence; fill it in"),
    ],
)
def test_a_fault_of_the_lists_is_one_line_with_the_mend(folder, lists, message):
    with pytest.raises(InputError) as caught:
        folder(lists)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "member", "text"),
    [
        (TEST, None, "no zip at all"),
        (TEST, "other.json", "{}"),
        (TRAIN_VAL, "train_val_videodatainfo.json", "{"),
        (TRAIN_VAL, "train_val_videodatainfo.json", '{"videos": []}'),
        (TRAIN_VAL, "train_val_videodatainfo.json", '{"sentences": [], "videos": [{"video_id": "a", "split": "dev"}]}'),
    ],
)
def test_a_broken_zip_file_is_named(folder, tmp_path, name, member, text):
    if member is None:
        (tmp_path / name).write_text(text)
    else:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(member, text)
    with pytest.raises(InputError) as caught:
        folder()
    assert str(caught.value).startswith(f"{tmp_path / name}: no zip of ")
    assert str(caught.value).endswith("; get the file again")


def test_a_member_that_is_encrypted_or_damaged_is_named(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / TEST, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("test_videodatainfo.json", json.dumps(content(CLIPS[TEST])))
    whole = (tmp_path / TEST).read_bytes()
    start = 30 + len("test_videodatainfo.json")
    flags = whole.index(b"PK\x01\x02") + 8
    encrypted = whole[:6] + b"\x01" + whole[7:flags] + b"\x01" + whole[flags + 1 :]
    for broken in (encrypted, whole[:start] + b"\xff" * 9 + whole[start + 9 :]):
        (tmp_path / TEST).write_bytes(broken)
        with pytest.raises(InputError, match=r"no zip of test_videodatainfo\.json"):
            folder()


def test_a_member_that_unpacks_to_more_than_is_taken_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(msrvtt, "MAX_MEMBER_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / TEST, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("test_videodatainfo.json", json.dumps(content(CLIPS[TEST])) + " " * 1000)
    with pytest.raises(InputError) as caught:
        folder()
    assert str(caught.value).startswith(f"{tmp_path / TEST}: no zip of test_videodatainfo.json")
    assert "more than 1,000 bytes unpacked" in str(caught.value)


def test_a_missing_zip_file_is_named_with_where_it_comes_from(tmp_path, benchmark_params):
    (tmp_path / PAIRS).write_text(LISTS[PAIRS])
    with pytest.raises(InputError, match="train_val_annotation.zip: no such file, and MSR-VTT needs it; it comes from"):
        read_msrvtt(tmp_path, benchmark_params())


@pytest.fixture
def public(real_material, tmp_path, benchmark_params):
    def make(*names: str):
        (tmp_path / "videos").mkdir()
        (tmp_path / "videos" / "video9770.mp4").touch()
        for name in names:
            (tmp_path / name).symlink_to(real_material / "msrvtt" / name)
        return read_msrvtt(tmp_path, benchmark_params())

    return make


@pytest.mark.real
def test_the_public_1k_a_files_have_their_counts(public):
    source = public(TRAIN_VAL, TEST, PAIRS, TRAIN_9K)
    of_split = {
        split: {video_id: entry for video_id, entry in source.entries.items() if entry.split == split}
        for split in ("train", "validation", "test")
    }
    assert len(of_split["test"]) == 1000
    assert {len(entry.captions) for entry in of_split["test"].values()} == {1}
    assert len({entry.captions[0] for entry in of_split["test"].values()}) == 995
    assert source.entries["video9770"].captions == ["a person is connecting something to system"]
    assert len(of_split["train"]) + len(of_split["validation"]) == 9000
    assert len(of_split["validation"]) == pytest.approx(900, abs=86)
    assert {len(entry.captions) for split in ("train", "validation") for entry in of_split[split].values()} == {20}


@pytest.mark.slow
@pytest.mark.real
def test_the_public_zip_files_alone_have_the_official_splits(public, annotate):
    source = public(TRAIN_VAL, TEST)
    assert Counter(entry.split for entry in source.entries.values()) == {"train": 6513, "validation": 497, "test": 2990}
    _, annotations = annotate(source)
    assert len(annotations.captions) == 200_000
    repeated = len(annotations.captions) - len({(caption.video_id, caption.text) for caption in annotations.captions})
    assert repeated == 14_647
