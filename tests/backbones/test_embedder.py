import numpy as np
import pytest
import torch

from stillmotion.config.models import BuiltinBackboneParams
from stillmotion.embedding.embedder import FRAMES_A_PASS, TEXTS_A_PASS, Embedder
from stillmotion.errors import InputError
from stillmotion.io.memo import Memo
from stillmotion.training.builtin import new_builtin


@pytest.fixture(scope="module")
def backbone():
    params = BuiltinBackboneParams(
        family="builtin",
        image_size_px=32,
        patch_size_px=8,
        width=32,
        layers=1,
        text_layers=1,
        heads=2,
        embed_dim=16,
        steps=1,
        batch_size=1,
        learning_rate=1e-3,
        weight_decay=0.0,
        warmup_fraction=0.0,
        max_sentences=1,
        seed=0,
    )
    return new_builtin(params).eval()


def make_frames(num, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (num, 32, 32, 3), dtype=np.uint8)


def make_texts(num):
    return [f"text number {row}" for row in range(num)]


NO_CLIPS = np.zeros((0, 2), np.int64)


def embedder(backbone, root=None, **key):
    return Embedder(backbone, Memo(root), {"weights": "abc", **key}, "fp32")


def test_a_video_is_embedded_as_open_clip_does_in_passes_of_any_length(backbone):
    frames = make_frames(FRAMES_A_PASS + 3)
    found, _, from_memo = embedder(backbone).video(frames, "digest", NO_CLIPS)
    with torch.no_grad():
        expected = backbone.model.encode_image(backbone.pixels(frames), normalize=True).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32
    assert from_memo is False


def test_with_a_memo_or_without_it_the_bytes_are_the_same(backbone, tmp_path):
    frames, texts = make_frames(5), make_texts(7)
    clips = np.array([[0, 1], [2, 4]])
    without = embedder(backbone).video(frames, "digest", clips)
    made = embedder(backbone, tmp_path).video(frames, "digest", clips)
    remembered = embedder(backbone, tmp_path).video(frames, "digest", clips)
    assert [without[2], made[2], remembered[2]] == [False, False, True]
    for part in (0, 1):
        assert without[part].tobytes() == made[part].tobytes() == remembered[part].tobytes()
    spoken = [embedder(backbone, root).texts(texts, "captions") for root in (None, tmp_path, tmp_path)]
    assert spoken[0].tobytes() == spoken[1].tobytes() == spoken[2].tobytes()


def test_embeddings_that_a_bad_disk_changed_in_the_memo_are_told_and_made_again(backbone, tmp_path, spoil, caplog):
    frames, texts = make_frames(5), make_texts(7)
    clean = [embedder(backbone, tmp_path).video(frames, "digest", NO_CLIPS)[0]]
    clean += [embedder(backbone, tmp_path).texts(texts, "captions")]
    assert spoil(tmp_path) == 2
    again = [embedder(backbone, tmp_path).video(frames, "digest", NO_CLIPS)[0]]
    again += [embedder(backbone, tmp_path).texts(texts, "captions")]
    assert [array.tobytes() for array in again] == [array.tobytes() for array in clean]
    assert caplog.text.count("not the bytes that were stored there") == 2
    assert embedder(backbone, tmp_path).video(frames, "digest", NO_CLIPS)[2]


def test_what_the_memo_knows_is_not_embedded_again(backbone, tmp_path, monkeypatch):
    frames, texts = make_frames(2), make_texts(2)
    embedder(backbone, tmp_path).video(frames, "digest", NO_CLIPS)
    embedder(backbone, tmp_path).texts(texts, "captions")
    monkeypatch.setattr(type(backbone), "embed_frames", lambda *_: pytest.fail("embedded again"))
    monkeypatch.setattr(type(backbone), "embed_texts", lambda *_: pytest.fail("embedded again"))
    assert embedder(backbone, tmp_path).video(frames, "digest", NO_CLIPS)[2]
    assert embedder(backbone, tmp_path).texts(texts, "captions").shape == (2, 16)


@pytest.mark.parametrize(("digest", "key"), [("other frames", {}), ("digest", {"code": "other"})])
def test_other_frames_or_another_key_are_embedded_anew(backbone, tmp_path, digest, key):
    embedder(backbone, tmp_path).video(make_frames(2), "digest", NO_CLIPS)
    assert embedder(backbone, tmp_path, **key).video(make_frames(2, seed=1), digest, NO_CLIPS)[2] is False


def test_other_clips_of_an_image_model_need_no_forward_pass_and_have_the_same_bytes(backbone, tmp_path):
    frames, clips = make_frames(4), np.array([[2, 3]])
    _, first, _ = embedder(backbone, tmp_path).video(frames, "digest", np.array([[0, 1]]))
    _, other, remembered = embedder(backbone, tmp_path).video(frames, "digest", clips)
    assert remembered is True
    assert np.abs(first - other).max() > 1e-3
    assert other.tobytes() == backbone.embed_video(frames, clips, frames_a_pass=FRAMES_A_PASS)[1].numpy().tobytes()


def test_other_clips_of_a_model_that_mixes_their_frames_are_embedded_anew(xclip, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (8, xclip.image_size_px, xclip.image_size_px, 3), np.uint8)
    first, other = np.arange(xclip.clip_frames)[None], np.arange(xclip.clip_frames)[None] + 2
    _, one, _ = embedder(xclip, tmp_path).video(frames, "digest", first)
    _, two, remembered = embedder(xclip, tmp_path).video(frames, "digest", other)
    assert remembered is False
    assert np.abs(one - two).max() > 1e-4
    assert embedder(xclip, tmp_path).video(frames, "digest", other)[2] is True


def test_single_frames_are_left_out_where_clips_are_not_means_of_them(backbone, xclip, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (8, xclip.image_size_px, xclip.image_size_px, 3), np.uint8)
    clips = np.arange(xclip.clip_frames)[None]
    with_frames = embedder(xclip, tmp_path).video(frames, "digest", clips)
    for remembered in (False, True):
        frames_TD, clips_ND, from_memo = embedder(xclip, tmp_path).video(frames, "digest", clips, single_frames=False)
        assert frames_TD.shape == (0, with_frames[0].shape[1])
        assert clips_ND.tobytes() == with_frames[1].tobytes()
        assert from_memo is remembered
    kept, _, _ = embedder(backbone).video(make_frames(3), "digest", NO_CLIPS, single_frames=False)
    assert kept.shape == (3, 16)


def test_other_texts_are_embedded_anew(backbone, tmp_path):
    first = embedder(backbone, tmp_path).texts(["a red ball", "two"], "captions")
    other = embedder(backbone, tmp_path).texts(["a red ball", "three"], "captions")
    np.testing.assert_allclose(first[0], other[0], atol=1e-6)
    assert np.abs(first[1] - other[1]).max() > 1e-3


def test_a_video_s_embedding_does_not_depend_on_the_videos_embedded_before_it(backbone):
    mine = make_frames(5)
    alone, _, _ = embedder(backbone).video(mine, "mine", NO_CLIPS)
    crowd = embedder(backbone)
    crowd.video(make_frames(9, seed=1), "before", NO_CLIPS)
    among, _, _ = crowd.video(mine, "mine", NO_CLIPS)
    assert alone.tobytes() == among.tobytes()


def test_texts_are_embedded_in_their_order_whatever_their_number(backbone):
    texts = make_texts(TEXTS_A_PASS + 2)
    found = embedder(backbone).texts(texts, "captions")
    with torch.no_grad():
        expected = backbone.model.encode_text(backbone.tokens(texts), normalize=True).numpy()
    assert found.shape == (TEXTS_A_PASS + 2, 16)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_no_texts_are_no_rows_of_the_right_width(backbone):
    found = embedder(backbone).texts([], "queries")
    assert found.shape == (0, 16)
    assert found.dtype == np.float32


def test_an_embedder_leaves_no_gradients_behind(backbone):
    embedder(backbone).video(make_frames(1), "x", NO_CLIPS)
    assert all(value.grad is None for value in backbone.parameters())


def test_a_clip_is_the_mean_of_its_frames_unit_vectors_as_a_unit_vector(backbone):
    frames = make_frames(4)
    # a short video repeats some
    found, clips, _ = embedder(backbone).video(frames, "digest", np.array([[0, 1, 1], [1, 2, 3]]))
    exact = found.astype(np.float64)
    sums = np.stack([exact[0] + 2 * exact[1], exact[1] + exact[2] + exact[3]])
    np.testing.assert_allclose(clips, sums / np.linalg.norm(sums, axis=1, keepdims=True), atol=1e-6)
    assert clips.dtype == np.float32


def test_no_clips_are_no_rows_of_the_right_width(backbone):
    assert embedder(backbone).video(make_frames(2), "digest", NO_CLIPS)[1].shape == (0, 16)


def test_an_x_clip_has_no_embeddings_of_single_tokens(xclip):
    with pytest.raises(InputError, match="single frames and tokens, which XClipBackbone has not"):
        embedder(xclip).require_tokens()
