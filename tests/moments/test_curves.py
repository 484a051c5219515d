import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics.pairwise import cosine_similarity

from stillmotion.config.models import BuiltinBackboneParams
from stillmotion.errors import InputError
from stillmotion.moments.curves import (
    curves_from_embeddings,
    frame_similarity,
    query_similarity,
    stack_curves,
)
from stillmotion.moments.selection import select_vc1, select_vc2
from stillmotion.search.query import embed_image
from stillmotion.training.builtin import new_builtin


def rng():
    return np.random.default_rng(0)


def test_similarities_are_cosines():
    frames, queries = rng().standard_normal((6, 8)), rng().standard_normal((3, 8))
    assert query_similarity(frames, queries) == pytest.approx(cosine_similarity(queries, frames))
    assert frame_similarity(frames) == pytest.approx(cosine_similarity(frames).diagonal(1))
    assert query_similarity(5 * frames, queries) == pytest.approx(query_similarity(frames, queries))


def test_a_zero_embedding_has_similarity_zero():
    assert query_similarity(np.zeros((2, 3)), np.ones((1, 3))).tolist() == [[0, 0]]


def test_a_batch_holds_each_query_with_the_frames_of_its_video():
    frames = [rng().standard_normal((count, 4)) for count in (3, 1, 5)]
    queries = rng().standard_normal((4, 4))
    curves = curves_from_embeddings(
        frames, queries, video_of_query=[2, 0, 1, 2], durations=[6, 1.5, 9.5], clip_length_s=2.0
    )
    assert curves.num_frames_Q.tolist() == [5, 3, 1, 5]
    assert curves.durations_Q.tolist() == [9.5, 6, 1.5, 9.5]
    for query, video in enumerate([2, 0, 1, 2]):
        count = len(frames[video])
        assert curves.sc_QT[query, :count] == pytest.approx(
            cosine_similarity(queries[query : query + 1], frames[video])[0]
        )
        assert curves.cfsc_QU[query, : count - 1].tolist() == frame_similarity(frames[video]).tolist()
    assert curves.valid_QT.sum(axis=1).tolist() == [5, 3, 1, 5]


@pytest.mark.parametrize(
    ("sc", "cfsc", "duration", "message"),
    [
        (np.empty(0), np.empty(0), 2.0, "query 0: 0 frames"),
        (np.ones(3), np.ones(3), 6.0, "query 0: 3 frames and 3"),
        (np.ones(3), np.ones(2), 4.0, "past its end"),
        (np.ones(3), np.ones(2), np.inf, "past its end"),
    ],
)
def test_curves_that_do_not_fit_are_an_error(sc, cfsc, duration, message):
    with pytest.raises(InputError, match=message):
        stack_curves([sc], [cfsc], durations=[duration], clip_length_s=2.0)


def test_embeddings_that_are_not_finite_are_an_error():
    with pytest.raises(InputError, match="finite"):
        frame_similarity(np.array([[1.0, np.nan]]))


@pytest.mark.parametrize("clip_length_s", [2.0, 1.0, 0.5])
@pytest.mark.parametrize("method", ["vc1", "vc2"])
def test_a_moment_in_an_hour_long_video_is_found_at_its_seconds(method, clip_length_s):
    num_frames, first, end = round(3600 / clip_length_s), 900, 930
    scene, other = np.eye(2)
    frames = np.array([scene if first <= frame < end else other for frame in range(num_frames)])
    frames += 0.05 * rng().standard_normal(frames.shape)
    durations = [num_frames * clip_length_s - 0.1]
    curves = curves_from_embeddings(
        [frames], scene[None], video_of_query=[0], durations=durations, clip_length_s=clip_length_s
    )
    assert curves.sc_QT.shape == (1, num_frames)
    assert curves.cfsc_QU.shape == (1, num_frames - 1)
    assert np.flatnonzero(curves.cfsc_QU[0] < 0.5).tolist() == [first - 1, end - 1]
    if method == "vc1":
        selection = select_vc1(curves, curves.sc_QT, threshold=0.5)
    else:
        selection = select_vc2(curves, curves.sc_QT, threshold=0.5, change=0.5, share=0.2)
    assert selection.num_windows_Q.tolist() == [1]
    assert selection.windows_QW2[0, 0].tolist() == [first * clip_length_s, end * clip_length_s]


@pytest.mark.parametrize("clip_length_s", [2.0, 1.0, 0.5])
def test_the_last_window_of_any_interval_ends_with_the_video(clip_length_s):
    frames = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    duration = 2.25 * clip_length_s
    curves = curves_from_embeddings(
        [frames], np.array([[1.0, 0.0]]), video_of_query=[0], durations=[duration], clip_length_s=clip_length_s
    )
    selection = select_vc1(curves, curves.sc_QT, threshold=0.5)
    assert selection.windows_QW2[0, 0].tolist() == [2 * clip_length_s, duration]


@pytest.fixture(scope="module")
def clip():
    """A CLIP with random weights."""
    sizes = {"image_size_px": 32, "patch_size_px": 8, "width": 32, "layers": 2, "text_layers": 1, "heads": 2}
    training = {"steps": 1, "batch_size": 2, "learning_rate": 1e-3, "weight_decay": 0.1, "warmup_fraction": 0.1}
    return new_builtin(
        BuiltinBackboneParams(family="builtin", embed_dim=16, max_sentences=1, seed=0, **sizes, **training)
    ).eval()


def test_a_frame_of_the_video_as_image_query_has_cosine_one_at_its_place(clip):
    stored = rng().integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    with torch.inference_mode():
        frames, _ = clip.embed_video(stored, np.zeros((0, 1), dtype=np.int64), frames_a_pass=4)
    queries = np.stack([embed_image(clip, Image.fromarray(image)) for image in stored])
    sc = query_similarity(frames.numpy(), queries)
    assert sc.diagonal() == pytest.approx(1, abs=1e-5)
    assert sc.argmax(axis=1).tolist() == list(range(6))
    off_diagonal = sc[~np.eye(6, dtype=bool)]
    assert off_diagonal.max() < 1 - 1e-3
    # image to image, a frame's curve is the similarity of frames: its neighbours' values are CFSc
    assert sc.diagonal(1) == pytest.approx(frame_similarity(frames.numpy()), abs=1e-5)
    both = np.concatenate([queries[3:4], np.ones((1, 16), np.float32)])  # with another query of the same video
    assert query_similarity(frames.numpy(), both)[0] == pytest.approx(sc[3])
