import math

import numpy as np
import pytest
import torch

from stillmotion.attention.attended import attend, choose_captions
from stillmotion.config.models import BuiltinBackboneParams
from stillmotion.io.records import Caption
from stillmotion.training.builtin import new_builtin

TAU = 20.0


@pytest.fixture(scope="module")
def clip():
    sizes = {"image_size_px": 32, "patch_size_px": 8, "width": 32, "layers": 1, "text_layers": 1, "heads": 2}
    training = {"steps": 1, "batch_size": 1, "learning_rate": 1e-3, "weight_decay": 0.0, "warmup_fraction": 0.0}
    params = BuiltinBackboneParams(family="builtin", embed_dim=16, max_sentences=1, seed=0, **sizes, **training)
    return new_builtin(params).eval()


FRAMES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def softmax(values):
    total = sum(math.exp(value) for value in values)
    return [math.exp(value) / total for value in values]


def guided(rows):
    """How well each row finds itself on the other side, and what it weighs: METHODS.md section 6."""
    scores = [sum(w * s for w, s in zip(softmax([TAU * s for s in row]), row, strict=True)) for row in rows]
    return softmax([TAU * score for score in scores])


def test_the_weights_are_those_of_the_formula_in_float64(clip):
    found = attend(clip, FRAMES, "a red ball moves", tau=TAU)
    with torch.no_grad():
        frames = clip.embed_frames(clip.pixels(FRAMES)).double().numpy()
        tokens, mask = clip.token_embeddings(clip.tokens(["a red ball moves"]))
    assert mask.all()
    cosines = tokens[0].double().numpy() @ frames.T
    np.testing.assert_allclose(found.cosines_LF, cosines, atol=1e-6)
    np.testing.assert_allclose(found.token_weights_L, guided(cosines.tolist()), atol=1e-6)
    np.testing.assert_allclose(found.frame_weights_F, guided(cosines.T.tolist()), atol=1e-6)
    assert np.ptp(found.frame_weights_F) > 0.01


def test_tokens_are_words_and_parts_of_words_with_the_start_and_the_end(clip):
    found = attend(clip, FRAMES, "A red ball, stillmotion", tau=TAU)
    assert found.tokens == ["<start_of_text>", "a", "red", "ball", ",", "still", "motion", "<end_of_text>"]
    assert found.cosines_LF.shape == (8, 3)


def test_what_is_beyond_the_context_is_cut(clip):
    found = attend(clip, FRAMES, "word " * 100, tau=TAU)
    assert found.tokens == ["<start_of_text>", *["word"] * 75, "<end_of_text>"]
    assert found.token_weights_L.shape == (77,)


def captions(num):
    return [Caption(f"c{number}", f"v{number}", "x", None, None) for number in range(num)]


def test_captions_are_the_middle_ones_of_equal_parts():
    found = choose_captions(captions(9), {f"v{number}" for number in range(9)}, 3)
    assert [caption.caption_id for caption in found] == ["c1", "c4", "c7"]


def test_only_captions_of_whole_videos_that_are_there_are_chosen_and_none_twice():
    every = [*captions(3), Caption("part", "v1", "x", 0.0, 1.0)]
    assert [caption.caption_id for caption in choose_captions(every, {"v0", "v1"}, 5)] == ["c0", "c1"]
    assert choose_captions(every, set(), 5) == []
