import numpy as np
import pytest
import torch

from stillmotion.backbones.stan_expansion import expand_stan
from stillmotion.backbones.stan_settings import StanSettings
from stillmotion.config.models import BuiltinBackboneParams
from stillmotion.embedding import embedder as embedding
from stillmotion.embedding.embedder import Embedder
from stillmotion.embedding.reader import Embeddings
from stillmotion.embedding.writer import write_caption_tokens, write_clip_frames, write_videos
from stillmotion.errors import InputError
from stillmotion.io.arrays import save_array
from stillmotion.io.memo import Memo
from stillmotion.io.records import Action, Video
from stillmotion.io.tables import write_json
from stillmotion.training.builtin import new_builtin
from stillmotion.video.packed import PackedFrames, PackedVideo, write_tables
from stillmotion.video.shards import join_parts, part_file

IDS = ["a", "b", "c"]
CAPTIONS = ["a red ball", "two", "a red ball", "it moves up and then it moves down", ""]
PROBED = {"duration": 8.0, "fps": 1.0, "num_frames": 8, "width": 32, "height": 32, "codec": "h264"}


@pytest.fixture(scope="module")
def backbone():
    sizes = {"image_size_px": 32, "patch_size_px": 8, "width": 32, "layers": 1, "text_layers": 2, "heads": 2}
    training = {"steps": 1, "batch_size": 1, "learning_rate": 1e-3, "weight_decay": 0.0, "warmup_fraction": 0.0}
    return new_builtin(
        BuiltinBackboneParams(family="builtin", embed_dim=16, max_sentences=1, seed=0, **sizes, **training)
    ).eval()


@pytest.fixture
def store(tmp_path):
    folder, packed = tmp_path / "frames", {}
    for row, name in enumerate(IDS):
        frames = np.random.default_rng(row).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
        save_array(folder / part_file(name), frames)
        packed[name] = PackedVideo(PROBED, np.arange(8.0), np.arange(8), np.array([1, 3, 5, 7]), from_memo=False)
    videos = [Video(name, f"{name}.mp4", "test", None, None, None, None, None, None, "ok") for name in IDS]
    join_parts(folder, packed)
    write_tables(folder, videos, packed, {})
    return PackedFrames(folder)


def embedder(backbone, root=None, **key):
    return Embedder(backbone, Memo(root), {"model": "abc", **key}, "fp32")


def token_vectors(backbone, text):
    """Of start, words and end, by the whole context of open_clip's text tower."""
    model, ids = backbone.model, backbone.tokenizer([text])
    with torch.no_grad():
        states = model.transformer(model.token_embedding(ids) + model.positional_embedding, attn_mask=model.attn_mask)
        projected = (model.ln_final(states) @ model.text_projection)[0, : int(ids.argmax()) + 1]
    return (projected / projected.norm(dim=-1, keepdim=True)).numpy()


def test_frames_are_those_of_the_one_clip_that_spans_the_video(tmp_path, store, backbone):
    write_clip_frames(tmp_path, embedder(backbone), store, store.videos, clip_frames=4)
    found = np.load(tmp_path / "clip_frames.npy")
    assert found.shape == (3, 4, 16)
    assert found.dtype == np.float32
    middles_of_quarters = store.all("b")[[1, 3, 5, 7]]
    with torch.no_grad():
        expected = backbone.model.encode_image(backbone.pixels(middles_of_quarters), normalize=True).numpy()
    np.testing.assert_allclose(found[1], expected, atol=1e-6)


def test_the_frames_of_a_stan_see_one_another_as_in_its_clips(tmp_path, store, backbone):
    settings = StanSettings(
        1, 0, 1, "branch", "self_attention", "linear", "clip", "after_attention", 8, 2, drop_path=0.0, seed=0
    )
    stan = expand_stan(backbone, settings).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in stan.branch.parameters():  # what it adds starts as zeros
            value.add_(0.05 * torch.randn(value.shape, generator=generator))
    own = embedder(stan)
    write_clip_frames(tmp_path, own, store, store.videos, clip_frames=4)
    found = np.load(tmp_path / "clip_frames.npy")[1]
    frames, clips, _ = own.video(store.all("b"), "b", np.array([[1, 3, 5, 7]]))
    mean = found.mean(axis=0)
    np.testing.assert_allclose(mean / np.linalg.norm(mean), clips[0], atol=1e-5)
    # stored frames are embedded beside others
    assert np.abs(found - frames[1::2]).max() > 1e-3


@pytest.mark.parametrize("texts_a_pass", [1, 2, 256])
def test_tokens_stand_caption_after_caption_in_batches_of_any_size(tmp_path, backbone, monkeypatch, texts_a_pass):
    monkeypatch.setattr(embedding, "TEXTS_A_PASS", texts_a_pass)
    write_caption_tokens(tmp_path, embedder(backbone), CAPTIONS)
    tokens, offsets = np.load(tmp_path / "caption_tokens.npy"), np.load(tmp_path / "caption_token_offsets.npy")
    expected = [token_vectors(backbone, text) for text in CAPTIONS]
    assert offsets.tolist() == [0, *np.cumsum([len(vectors) for vectors in expected])]
    assert offsets[-1] - offsets[-2] == 2  # start and end of a text without words
    np.testing.assert_allclose(tokens, np.concatenate(expected), atol=1e-6)
    assert tokens.dtype == np.float32


def test_the_last_token_of_a_caption_is_its_embedding(tmp_path, backbone):
    own = embedder(backbone)
    write_caption_tokens(tmp_path, own, CAPTIONS)
    tokens, offsets = np.load(tmp_path / "caption_tokens.npy"), np.load(tmp_path / "caption_token_offsets.npy")
    np.testing.assert_allclose(tokens[offsets[1:] - 1], own.texts(CAPTIONS, "captions"), atol=1e-6)


def test_the_file_is_the_one_that_numpy_writes(tmp_path, backbone):
    write_caption_tokens(tmp_path, embedder(backbone), CAPTIONS)
    save_array(tmp_path / "again.npy", np.load(tmp_path / "caption_tokens.npy"))
    assert (tmp_path / "again.npy").read_bytes() == (tmp_path / "caption_tokens.npy").read_bytes()


def test_no_captions_are_no_tokens_of_the_right_width(tmp_path, backbone):
    write_caption_tokens(tmp_path, embedder(backbone), [])
    assert np.load(tmp_path / "caption_tokens.npy").shape == (0, 16)
    assert np.load(tmp_path / "caption_token_offsets.npy").tolist() == [0]


def test_with_a_memo_or_without_it_the_bytes_are_the_same_and_nothing_is_made_twice(
    tmp_path, store, backbone, monkeypatch
):
    memo = tmp_path / "memo"
    for name, root in (("without", None), ("first", memo), ("second", memo)):
        (tmp_path / name).mkdir()
        if name == "second":
            monkeypatch.setattr(type(backbone), "frame_embeddings", lambda *_: pytest.fail("made again"))
            monkeypatch.setattr(type(backbone), "token_embeddings", lambda *_: pytest.fail("made again"))
        write_clip_frames(tmp_path / name, embedder(backbone, root), store, store.videos, clip_frames=4)
        write_caption_tokens(tmp_path / name, embedder(backbone, root), CAPTIONS)
    paths = list((tmp_path / "without").iterdir())
    assert len(paths) == 3
    for path in paths:
        assert path.read_bytes() == (tmp_path / "first" / path.name).read_bytes(), path.name
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name


def test_tokens_that_a_bad_disk_changed_in_the_memo_are_made_again(tmp_path, store, backbone, spoil):
    memo = tmp_path / "memo"
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_clip_frames(tmp_path / name, embedder(backbone, memo), store, store.videos, clip_frames=4)
        write_caption_tokens(tmp_path / name, embedder(backbone, memo), CAPTIONS)
        assert spoil(memo) > 1
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name


def test_another_key_or_another_clip_is_embedded_anew(tmp_path, store, backbone):
    for name, frames, key in (("first", 4, {}), ("fewer", 2, {}), ("other", 4, {"model": "def"})):
        (tmp_path / name).mkdir()
        write_clip_frames(
            tmp_path / name, embedder(backbone, tmp_path / "memo", **key), store, store.videos, clip_frames=frames
        )
    assert np.load(tmp_path / "fewer" / "clip_frames.npy").shape == (3, 2, 16)
    assert len(list((tmp_path / "memo" / "clip_frames").rglob("*.npy"))) == 9


def test_a_clip_whose_texts_end_where_nobody_knows_has_no_embeddings_of_tokens(backbone, monkeypatch):
    embedder(backbone).require_tokens()

    def none(*_):
        raise InputError("it pools by 'none'")

    monkeypatch.setattr(type(backbone), "token_embeddings", none)
    with pytest.raises(InputError, match="it pools by 'none'"):
        embedder(backbone).require_tokens()


def write_spans(folder, store, own, span_views):
    """Write a folder of embeddings with three labelled spans; gives actions.npy."""
    actions = [Action("b", "spins", 0.0, 8.0), Action("a", "moves", 4.0, 8.0), Action("b", "grows", 0.0, 4.0)]
    folder.mkdir()
    labels = write_videos(
        folder, own, store, store.videos, actions, clip_counts=[1, 2], clip_frames=2, span_views=span_views
    )
    assert labels == ["grows", "moves", "spins"]
    return np.load(folder / "actions.npy")


@pytest.mark.parametrize(
    ("span_views", "views"),
    [
        # The stored frames are a second apart; where two are as near, the earlier one is taken.
        (1, [[[5, 7]], [[1, 3]], [[2, 6]]]),
        (2, [[[4, 6], [5, 7]], [[0, 2], [1, 3]], [[1, 5], [3, 7]]]),
    ],
)
def test_a_span_is_the_unit_vector_along_the_mean_of_its_views(tmp_path, store, backbone, span_views, views):
    found = write_spans(tmp_path / "out", store, embedder(backbone), span_views)
    assert found.dtype == np.float32
    names = ["a", "b", "b"]  # by video, then time
    for row, (name, frames_of_views) in enumerate(zip(names, views, strict=True)):
        clips = []
        for frames in frames_of_views:
            with torch.no_grad():
                images = backbone.model.encode_image(backbone.pixels(store.all(name)[frames]), normalize=True)
            clips.append(torch.nn.functional.normalize(images.mean(dim=0), dim=0).double().numpy())
        mean = np.mean(clips, axis=0)
        np.testing.assert_allclose(found[row], mean / np.linalg.norm(mean), atol=1e-6)
        # It ranks any class texts as the means of the views' cosines do.
        texts = np.random.default_rng(row).normal(size=(50, 16))
        assert (texts @ found[row]).argsort().tolist() == np.mean(clips @ texts.T, axis=0).argsort().tolist()


def test_views_of_spans_leave_all_other_files_as_they_are(tmp_path, store, backbone):
    vectors = [write_spans(tmp_path / str(views), store, embedder(backbone), views) for views in (1, 3)]
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-4
    for path in (tmp_path / "1").iterdir():
        same = path.read_bytes() == (tmp_path / "3" / path.name).read_bytes()
        assert same == (path.name != "actions.npy"), path.name


@pytest.mark.parametrize("single_frames", [True, False])
def test_a_model_that_mixes_frames_has_those_by_themselves_where_they_are_wanted(
    tmp_path, store, backbone, single_frames
):
    settings = StanSettings(
        1, 0, 1, "branch", "self_attention", "linear", "clip", "after_attention", 8, 2, drop_path=0.0, seed=0
    )
    for name, own in (("image", embedder(backbone)), ("video", embedder(expand_stan(backbone, settings).eval()))):
        folder = tmp_path / name
        folder.mkdir()
        sizes = {"clip_counts": [1, 2], "clip_frames": 2, "span_views": 1}
        write_videos(folder, own, store, store.videos, [], **sizes, single_frames=single_frames)
        write_json(folder / "model.json", {"dim": 16, "clip_counts": [1, 2]})
        embedded = Embeddings(folder)
        assert embedded.clips(2).shape == (3, 2, 16)
        assert embedded.has_frames is (single_frames or name == "image")
        if embedded.has_frames:
            assert embedded.video_frames(embedded.videos[2]).shape == (8, 16)
            continue
        with pytest.raises(InputError, match=r"frames\.npy: no such file; set embed\.single_frames: true"):
            embedded.video_frames(embedded.videos[2])


def test_without_spans_all_other_files_are_as_with_them(tmp_path, store, backbone):
    write_spans(tmp_path / "with", store, embedder(backbone), 1)
    (tmp_path / "without").mkdir()
    actions = [Action("b", "spins", 0.0, 8.0), Action("a", "moves", 4.0, 8.0), Action("b", "grows", 0.0, 4.0)]
    sizes = {"clip_counts": [1, 2], "clip_frames": 2, "span_views": 1}
    labels = write_videos(
        tmp_path / "without", embedder(backbone), store, store.videos, actions, **sizes, with_spans=False
    )
    assert labels == ["grows", "moves", "spins"]
    left_out = {path.name for path in (tmp_path / "with").iterdir()}
    for path in (tmp_path / "without").iterdir():
        assert path.read_bytes() == (tmp_path / "with" / path.name).read_bytes(), path.name
        left_out.remove(path.name)
    assert left_out == {"actions.npy", "actions.jsonl"}
    write_json(tmp_path / "without" / "model.json", {"clip_counts": [1, 2]})
    with pytest.raises(InputError, match=r"actions\.npy: no such file; set embed\.spans: true"):
        Embeddings(tmp_path / "without").labelled_spans("test")
