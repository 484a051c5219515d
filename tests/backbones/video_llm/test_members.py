import importlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import load_file, save_file
from tiny_video_llms import MEMBERS, SETTINGS, TEMPLATE, write
from transformers.video_utils import VideoMetadata

from stillmotion.backbones.registry import PUBLISHED_VIDEO_LLMS, VIDEO_LLMS, load_backbone, load_embeds
from stillmotion.backbones.video_llm.pooling import pool
from stillmotion.config.video_llms import VideoLLMSettings
from stillmotion.errors import InputError

CPU = torch.device("cpu")
REPOSITORY = Path(__file__).resolve().parents[3]
OVER = {"smolvlm": "text_model"}
IMAGES = ("smolvlm", "llava_next")
"""Whose frames are images."""
TOKEN = {
    "video_llama_3": "<|video_pad|>",
    "qwen2_vl": "<|video_pad|>",
    "qwen3_vl": "<|video_pad|>",
    "smolvlm": "<video>",
    "llava_onevision": "<video>",
    "llava_next": "<image>",
}
USER = {  # what `own` of the settings renders, written out; SmolVLM's processor has a template of its own for videos
    **dict.fromkeys(MEMBERS, "<|im_start|>user\nTOKEN\nwhat happens?<|im_end|>\n<|im_start|>assistant\n"),
    "smolvlm": "<|im_start|>User: <video>\nwhat happens?<end_of_utterance>\nAssistant:",
}


def test_every_published_member_is_tested():
    of_q_formers = {"instructblipvideo", "video_llama"}  # test_q_formers.py, test_video_llama.py
    missing = PUBLISHED_VIDEO_LLMS.keys() - of_q_formers - set(MEMBERS)
    assert missing == set(), "give it to MEMBERS and `configured` of tests/tiny_video_llms.py, and to TOKEN here"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {member: write(member, tmp_path_factory.mktemp(member)) for member in MEMBERS}


def opened(member, folder, **changes):
    settings = VideoLLMSettings(**SETTINGS | changes)
    return importlib.import_module(VIDEO_LLMS[member]).load(folder, settings, CPU)


@pytest.fixture
def videos():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in [(4, 40, 56, 3), (2, 40, 40, 3), (4, 30, 60, 3)]]


def directly(video_llm, member, video, seconds):
    """One video, unpadded, through the public class alone: its visual tokens, states by layer, and their places."""
    model, processor = video_llm.model, video_llm.processor
    metadata = VideoMetadata(
        len(video), fps=1000, duration=seconds[-1], frames_indices=[int(1000 * s) for s in seconds]
    )
    prompt = USER[member].replace("TOKEN", TOKEN[member] * (len(video) if member == "llava_next" else 1))
    inputs = (
        processor(text=[prompt], images=list(video), return_tensors="pt")
        if member == "llava_next"
        else processor(
            text=[prompt], videos=[video], video_metadata=[metadata], do_sample_frames=False, return_tensors="pt"
        )
    )
    inputs = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}
    with torch.no_grad():
        out = model.model(**inputs, output_hidden_states=True)
        pixels = {name: value for name, value in inputs.items() if name.startswith(("pixel", "video_", "image_"))}
        mask = pixels.pop("video_compression_mask", None)
        features = (model.model.get_image_features if member in IMAGES else model.model.get_video_features)(**pixels)
    tokens = features.pooler_output
    tokens = torch.cat(list(tokens)) if member == "llava_next" else tokens
    tokens = tokens[0] if isinstance(tokens, tuple | list) or tokens.dim() == 3 else tokens
    tokens = tokens if mask is None else tokens[mask]
    is_visual = inputs["input_ids"][0] == processor.tokenizer.convert_tokens_to_ids(
        "<image>" if member in IMAGES else TOKEN[member]
    )
    return tokens, out, is_visual


@pytest.mark.parametrize("member", MEMBERS)
def test_states_of_a_padded_batch_are_those_of_the_class_called_with_each_video_alone(member, folders, videos):
    video_llm = opened(member, folders[member])
    times = [np.arange(len(video)) * 1.5 for video in videos]
    norm = getattr(video_llm.model.model, OVER.get(member, "language_model")).norm
    for states, video, seconds in zip(video_llm.video_states(videos, times), videos, times, strict=True):
        tokens, out, is_visual = directly(video_llm, member, video, seconds)
        torch.testing.assert_close(states.layers_LTD[0], tokens, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(states.layers_LTD[3], out.last_hidden_state[0, is_visual], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(states.last_LD[3], out.last_hidden_state[0, -1], atol=1e-5, rtol=1e-5)
        for layer in (1, 2):  # which the class gives before its final norm
            wanted = norm(out.hidden_states[layer][0])
            torch.testing.assert_close(states.layers_LTD[layer], wanted[is_visual], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(states.last_LD[layer], wanted[-1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("member", MEMBERS)
def test_states_of_texts_in_a_batch_are_those_of_the_class_called_with_each_alone(member, folders):
    video_llm = opened(member, folders[member])
    texts = ["a red circle moves left", "rain", "two dogs"]
    for states, text in zip(video_llm.text_states(texts), texts, strict=True):
        ids = video_llm.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            out = video_llm.model.model(input_ids=ids, output_hidden_states=True)
        assert states.layers_LTD.shape == (4, 1 + len(text), 32)  # <s>, and a token a letter
        torch.testing.assert_close(states.layers_LTD[0], video_llm.model.get_input_embeddings()(ids)[0].detach())
        torch.testing.assert_close(states.layers_LTD[3], out.last_hidden_state[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("member", MEMBERS)
def test_what_is_saved_opens_as_the_same_model(member, folders, videos, tmp_path):
    video_llm = opened(member, folders[member], layer="layer:2", pooling="max")
    video_llm.save(tmp_path / "model", {"system": {"model": "m"}})
    again = load_embeds(tmp_path / "model", CPU)
    assert again.settings == video_llm.settings
    clips = np.array([[0, 2]])
    before, after = (each.embed_video(videos[0], clips, frames_a_pass=2) for each in (video_llm, again))
    assert torch.equal(torch.cat(before), torch.cat(after))
    assert before[0].shape == (4, 32)
    torch.testing.assert_close(before[0].norm(dim=1), torch.ones(4))
    assert torch.equal(video_llm.text_vectors(["a", "bc"]), again.text_vectors(["a", "bc"]))


def test_an_embedding_is_the_unit_vector_of_the_chosen_layer_and_pooling(folders, videos):
    video_llm = opened("qwen3_vl", folders["qwen3_vl"], layer="layer:1", pooling="sum")
    (states,) = video_llm.video_states(videos[:1], [np.arange(4.0)])
    wanted = states.layers_LTD[1].sum(0)
    _, clips = video_llm.embed_video(videos[0], np.arange(4)[None], frames_a_pass=4, single_frames=False)
    torch.testing.assert_close(clips[0], wanted / wanted.norm())


def test_qwen3_vl_embeddings_way_of_pooling_is_settings_alone(folders, videos):
    """Against its authors' way, written out: system message, generation prompt, right padding, last token, L2."""
    instruction = "Retrieve the video that shows this."
    video_llm = opened(
        "qwen3_vl",
        folders["qwen3_vl"],
        prompt="{video}",
        system=instruction,
        text_chat_template="own",
        pooling="last_token",
    )
    model, processor = video_llm.model, video_llm.processor
    texts = ["a red circle moves left", "rain"]
    conversations = [
        [
            {"role": "system", "content": [{"type": "text", "text": instruction}]},
            {"role": "user", "content": [{"type": "text", "text": text}]},
        ]
        for text in texts
    ]
    prompts = processor.apply_chat_template(conversations, add_generation_prompt=True, tokenize=False)
    inputs = processor(text=prompts, padding=True, padding_side="right", return_tensors="pt")
    with torch.no_grad():
        hidden = model.model(**inputs).last_hidden_state
    mask = inputs["attention_mask"]
    column = mask.shape[1] - mask.flip(dims=[1]).argmax(dim=1) - 1
    wanted = torch.nn.functional.normalize(hidden[torch.arange(2), column], p=2, dim=-1)
    torch.testing.assert_close(video_llm.text_vectors(texts), wanted, atol=1e-5, rtol=1e-5)

    conversation = [
        {"role": "system", "content": [{"type": "text", "text": instruction}]},
        {"role": "user", "content": [{"type": "video"}]},
    ]
    prompt = processor.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False)
    metadata = VideoMetadata(4, fps=1, duration=3, frames_indices=[0, 1, 2, 3])
    inputs = processor(
        text=[prompt], videos=[videos[0]], video_metadata=[metadata], do_sample_frames=False, return_tensors="pt"
    )
    with torch.no_grad():
        hidden = model.model(**{n: v for n, v in inputs.items() if isinstance(v, torch.Tensor)}).last_hidden_state
    wanted = torch.nn.functional.normalize(hidden[:, -1], p=2, dim=-1)
    _, clips = video_llm.embed_video(videos[0], np.arange(4)[None], frames_a_pass=4, single_frames=False)
    torch.testing.assert_close(clips, wanted, atol=1e-5, rtol=1e-5)


def test_e5_vs_way_of_embedding_is_the_settings_of_its_experiment(folders, videos):
    """Against its authors' way, written out: a prompt for images, another for sentences, the last state, L2."""
    with (REPOSITORY / "experiments" / "e5_v_msrvtt.yaml").open(encoding="utf-8") as file:
        block = YAML(typ="safe").load(file)["set"]["backbones.e5_v"]
    told = {name: value for name, value in block.items() if name in VideoLLMSettings.model_fields}
    video_llm = opened("llava_next", folders["llava_next"], **told)
    model, processor = video_llm.model, video_llm.processor
    template = "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"
    template += "<|start_header_id|>assistant<|end_header_id|>\n\n \n"
    about_image = template.format("<image>\nSummary above image in one word: ")
    about_text = template.format("<sent>\nSummary above sentence in one word: ")
    texts, frames = ["a red circle moves left", "rain"], list(videos[0])

    processor.tokenizer.padding_side = "left"
    read = processor(text=[about_text.replace("<sent>", text) for text in texts], return_tensors="pt", padding=True)
    seen = processor(text=[about_image] * len(frames), images=frames, return_tensors="pt", padding=True)
    with torch.no_grad():
        of_texts, of_frames = (
            torch.nn.functional.normalize(model(**inputs, output_hidden_states=True).hidden_states[-1][:, -1], dim=-1)
            for inputs in (read, seen)
        )
    processor.tokenizer.padding_side = "right"

    torch.testing.assert_close(video_llm.text_vectors(texts), of_texts, atol=1e-5, rtol=1e-5)
    _, clips = video_llm.embed_video(videos[0], np.arange(4)[:, None], frames_a_pass=4, single_frames=False)
    torch.testing.assert_close(clips, of_frames, atol=1e-5, rtol=1e-5)


def test_the_times_of_frames_are_told(folders, videos):
    video_llm = opened("video_llama_3", folders["video_llama_3"])
    inputs = video_llm.video_inputs(videos[:1], [np.array([0.5, 2.25, 4.0, 30.0])])
    told = video_llm.processor.batch_decode(inputs["input_ids"])[0]
    assert re.findall(r"Time (\S+)s:", told) == ["0.5", "2.2", "4.0", "30.0"]


def test_a_text_is_cut_to_its_own_tokens_and_the_prompt_around_it_stays(folders):
    video_llm = opened("qwen3_vl", folders["qwen3_vl"], text_prompt="say: {text}!", max_tokens=3)
    assert video_llm.truncated(["abc", "abcd"]).tolist() == [False, True]
    cut, short = video_llm.text_states(["abcd", "abc"])
    assert cut.layers_LTD.shape[1] == 3
    assert torch.equal(cut.last_LD, short.last_LD)


def test_a_system_message_reaches_texts_through_the_template(folders):
    plain, told = (
        opened("qwen3_vl", folders["qwen3_vl"], text_chat_template="own", system=system) for system in ("", "be kind")
    )
    assert plain.text_prompt == ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n")
    assert told.text_prompt[0] == "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\n"


# ---------------------------------------------------------------- the invariants of METHODS 5, on real classes


def ranks(videos_ND, texts_ND):
    """Of text i the rank of video i: one more than are scored higher, and half of the ties."""
    scores = texts_ND @ videos_ND.T
    own = scores.diagonal()[:, None]
    return 1 + (scores > own).sum(1) + ((scores == own).sum(1) - 1) / 2


@pytest.mark.parametrize("member", ["video_llama_3", "smolvlm"])
def test_sum_and_mean_rank_alike_and_the_first_token_of_causal_texts_ranks_as_a_permutation(member, folders):
    video_llm = opened(member, folders[member])
    rng = np.random.default_rng(1)
    num = 12
    clips = [rng.integers(0, 256, (2, 28, 28, 3), dtype=np.uint8) for _ in range(num)]
    texts = [f"thing number {place} of {place * 7}" for place in range(num)]
    poolings = ["first", "mean", "sum"]
    videos, texts = (
        torch.stack([pool(states, poolings) for states in found]).double()
        for found in (video_llm.video_states(clips), video_llm.text_states(texts))
    )
    unit = torch.nn.functional.normalize
    for layer in range(4):
        by_mean, by_sum = (ranks(unit(videos[:, layer, i], dim=-1), unit(texts[:, layer, i], dim=-1)) for i in (1, 2))
        assert torch.equal(by_mean, by_sum)
    first_texts = unit(texts[:, 3, 0], dim=-1)
    torch.testing.assert_close(first_texts, first_texts[:1].expand_as(first_texts), atol=1e-5, rtol=0)
    # One embedding for all texts: every video has a rank of its own, and MRR is H_n / n whatever the model.
    found = ranks(unit(videos[:, 3, 1], dim=-1), first_texts[:1].expand_as(first_texts))
    assert sorted(found.tolist()) == list(range(1, num + 1))
    assert (1 / found).mean().item() == pytest.approx(sum(1 / n for n in range(1, num + 1)) / num)


# ---------------------------------------------------------------- bad input: one line with the mend


@pytest.fixture
def folder(folders, tmp_path):
    return shutil.copytree(folders["qwen3_vl"], tmp_path / "there")


def refusal(folder, **changes):
    with pytest.raises(InputError) as caught:
        opened("qwen3_vl", folder, **changes)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_a_folder_that_lacks_tensors_is_told(folder):
    tensors = load_file(folder / "model.safetensors")
    gone = sorted(name for name in tensors if "layers.1.mlp" in name)
    save_file(
        {name: tensors[name] for name in tensors if name not in gone}, folder / "model.safetensors", {"format": "pt"}
    )
    line = refusal(folder)
    assert f"lack {len(gone)} tensors" in line
    assert "layers.1.mlp" in line
    assert line.endswith("take both from one checkpoint, whole")


def test_a_folder_without_weights_is_told(folder):
    (folder / "model.safetensors").unlink()
    assert "no weights of a Qwen3VLForConditionalGeneration" in refusal(folder)


def test_tensors_of_another_shape_are_told(folder):
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["intermediate_size"] = 40
    (folder / "config.json").write_text(json.dumps(config))
    assert "take config.json and the safetensors from one checkpoint" in refusal(folder)


@pytest.mark.parametrize("name", ["processor_config.json", "tokenizer.json"])
def test_a_folder_without_a_processor_is_told(folder, name):
    (folder / name).unlink()
    line = refusal(folder)
    assert "no processor of a Qwen3VLProcessor" in line
    assert "add its preprocessor_config.json" in line


def test_an_unknown_layer_is_told_with_those_there_are(folder):
    assert refusal(folder, layer="layer:4").endswith("set before_llm, layer:1 to layer:3, or last")
    assert refusal(folder, layers=["last"], layer="layer:1").endswith("add it to layers, or take one of: last")
    assert "names one twice, as last is layer:3" in refusal(folder, layers=["last", "layer:3"])


def test_a_template_that_leaves_the_video_out_is_told(folder):
    line = refusal(folder, chat_template=TEMPLATE.replace("VIDEO", ""))
    assert "makes 0 places for a video" in line
    assert "the chat template leaves out the text" in refusal(folder, text_chat_template="nothing")


def test_a_template_that_fails_is_told(folder):
    line = refusal(folder, chat_template="{{ messages.what.is.this }}")
    assert "does not go through the chat template" in line


def test_a_folder_without_a_template_is_told(folder):
    (folder / "chat_template.jinja").unlink()
    assert "set chat_template and text_chat_template to none" in refusal(folder)


def test_more_tokens_than_the_context_are_told(folder, videos):
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 60
    (folder / "config.json").write_text(json.dumps(config))
    video_llm = opened("qwen3_vl", folder)
    with pytest.raises(InputError, match="tokens, and the model's context is 60; lower num_frames"):
        video_llm.video_states(videos[:1])
    with pytest.raises(InputError, match=r"a prompt of 64 tokens.*lower max_tokens"):
        video_llm.text_states(["a" * 99])


def test_a_video_llm_is_no_backbone_to_fine_tune(folder, tmp_path):
    opened("qwen3_vl", folder).save(tmp_path / "model", {})
    with pytest.raises(InputError, match="embeds and is not fine-tuned"):
        load_backbone(tmp_path / "model", CPU)
