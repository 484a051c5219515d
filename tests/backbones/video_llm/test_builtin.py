"""The built-in video LLM: its tokens, its states against transformers called directly, its losses and its folder."""

import hashlib
import math

import numpy as np
import pytest
import torch
from tiny_video_llms import small_clip

from stillmotion.backbones.registry import load_embeds
from stillmotion.backbones.video_llm.builtin import LanguageModelSizes, builtin_words, expand_video_llm
from stillmotion.config.models import BuiltinVideoLLMParams
from stillmotion.datasets.toy_scene import random_subject, sentence
from stillmotion.errors import InputError

PARAMS = BuiltinVideoLLMParams(
    family="builtin_video_llm",
    width=16,
    blocks=2,
    heads=2,
    mlp_width=24,
    seed=0,
    num_frames=3,
    prompt="{video}",
    text_prompt="{text}",
    system="",
    chat_template="none",
    text_chat_template="none",
    max_tokens=6,
    precision="fp32",
    layer="last",
    pooling="mean",
    layers="all",
    poolings=["first", "mean"],
    keep_tokens_of=None,
)


@pytest.fixture(scope="module")
def clip():
    return small_clip()


@pytest.fixture(scope="module")
def model(clip):
    return expand_video_llm(clip, PARAMS)


def video(num_frames, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (num_frames, 16, 16, 3), dtype=np.uint8)


def test_a_known_word_is_one_token_and_another_is_its_bytes():
    sizes = LanguageModelSizes(4, 1, 1, 4, ["a", "red"])
    assert sizes.tokens("A red fox.") == [258, 259, 2 + 102, 2 + 111, 2 + 120, 2 + 46]
    assert sizes.tokens("é") == [2 + 0xC3, 2 + 0xA9]


def test_every_word_of_the_built_in_dataset_is_one_token():
    sizes = LanguageModelSizes(4, 1, 1, 4, builtin_words())
    for seed in range(20):
        text = sentence(random_subject(np.random.default_rng(seed)), "moves left")
        assert len(sizes.tokens(text + ".")) == len(text.split()) + 1


@torch.inference_mode()
def test_the_states_are_those_of_transformers_llama_called_alone_though_videos_share_a_padded_batch(model):
    videos = [video(3), video(5, seed=1)]
    for given, states in zip(videos, model.video_states(videos), strict=True):
        begin = model.llm.get_input_embeddings()(torch.tensor([0]))
        inputs = torch.cat([begin, model.visual_tokens(given)])[None]
        found = model.llm.model(inputs_embeds=inputs, output_hidden_states=True).hidden_states
        torch.testing.assert_close(states.layers_LTD[0], found[0][0, 1:], atol=1e-5, rtol=0)
        torch.testing.assert_close(states.layers_LTD[1], model.llm.model.norm(found[1][0, 1:]), atol=1e-5, rtol=0)
        torch.testing.assert_close(states.layers_LTD[2], found[2][0, 1:], atol=1e-5, rtol=0)
        assert states.layers_LTD.shape == (3, len(given), 16)
        torch.testing.assert_close(states.last_LD, states.layers_LTD[:, -1], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_the_first_state_is_the_same_for_all_texts_which_end_at_the_token_limit(model):
    short, long = model.text_states(["a red circle", "a large red circle moves left on a gray background"])
    torch.testing.assert_close(short.layers_LTD[:, 0], long.layers_LTD[:, 0], atol=1e-6, rtol=0)
    assert (short.layers_LTD.shape[1], long.layers_LTD.shape[1]) == (1 + 3, 1 + 6)
    assert model.truncated(["a red circle", "a large red circle moves left on"]).tolist() == [False, True]


@torch.inference_mode()
def test_the_loss_of_a_caption_is_the_mean_over_its_tokens_and_its_end_in_a_batch_too(model):
    texts, videos = ["a red circle", "red"], [video(3), video(3, seed=1)]
    expected = []
    for text, given in zip(texts, videos, strict=True):
        ids = [*model.sizes.tokens(text), 1]
        embed = model.llm.get_input_embeddings()
        inputs = torch.cat([embed(torch.tensor([0])), model.visual_tokens(given), embed(torch.tensor(ids[:-1]))])
        logits = model.llm(inputs_embeds=inputs[None]).logits[0].double()
        logs = [logits[3 + place].log_softmax(-1)[token].item() for place, token in enumerate(ids)]
        expected.append(-math.fsum(logs) / len(ids))
    assert model.caption_losses(videos, texts).tolist() == pytest.approx(expected, abs=1e-5)


def test_a_saved_folder_opens_as_the_same_model_and_is_the_same_bytes_again(model, clip, tmp_path):
    model.save(tmp_path / "a", {"system": {}})
    expand_video_llm(clip, PARAMS).save(tmp_path / "b", {"system": {}})
    opened = load_embeds(tmp_path / "a", torch.device("cpu"))
    with torch.inference_mode():
        for one, other in zip(model.text_states(["a fox"]), opened.text_states(["a fox"]), strict=True):
            assert torch.equal(one.layers_LTD, other.layers_LTD)

    def digest(name):
        files = sorted((tmp_path / name).iterdir())
        return [(file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]

    assert digest("a") == digest("b")


def test_it_is_asked_like_the_others_and_answers_by_single_tokens(model):
    videos = [np.random.default_rng(7).integers(0, 256, (frames, 32, 32, 3), dtype=np.uint8) for frames in (1, 3)]
    prompt, texts = "A {video} . {text} ?", ["red", "a blue circle on fox"]
    with torch.no_grad():
        states = model.video_states(videos)
        found = model.answers([{"tokens": each.layers_LTD[0]} for each in states], texts, prompt, yes=["y"], no=["n"])
        for place, (video, text) in enumerate(zip(videos, texts, strict=True)):
            ids = [[0, *model.sizes.tokens("a")], model.sizes.tokens(f". {text} ?")]
            before, after = (model.llm.get_input_embeddings()(torch.tensor(part)) for part in ids)
            whole = torch.cat([before, model.visual_tokens(video), after])[None]
            logits = model.llm(inputs_embeds=whole).logits[0, -1].double()
            # A byte's token is 2 more than the byte.
            wanted = logits[2 + ord("y")] - logits[2 + ord("n")]
            assert found[place].item() == pytest.approx(wanted.item(), abs=1e-5)
    with pytest.raises(
        InputError, match="an answer of scorer rerank is 'yes', which is no single token of the model; take 'y'$"
    ):
        model.answers([{"tokens": states[0].layers_LTD[0]}], ["red"], prompt, yes=["yes"], no=["n"])
    with pytest.raises(
        InputError, match="a question of 1035 tokens, and the model's context is 1024; lower num_frames"
    ):
        model.answers([{"tokens": torch.zeros(1030, model.width)}], ["red"], prompt, yes=["y"], no=["n"])


def test_a_folder_that_lacks_its_language_model_is_refused_with_the_file(model, tmp_path):
    model.save(tmp_path / "a", {"system": {}})
    (tmp_path / "a" / "builtin_llm.safetensors").unlink()
    with pytest.raises(InputError, match=r"builtin_llm.safetensors: no such file"):
        load_embeds(tmp_path / "a", torch.device("cpu"))
