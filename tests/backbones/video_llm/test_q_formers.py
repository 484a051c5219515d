"""Video LLMs with Q-Formers: Video-LLaMA as its authors released it, and InstructBLIP on any number of frames."""

import shutil

import numpy as np
import pytest
import torch
from tiny_video_llms import IDS, LLM, SETTINGS, tokenizer
from torch.nn import functional
from transformers import (
    InstructBlipVideoConfig,
    InstructBlipVideoForConditionalGeneration,
    InstructBlipVideoProcessor,
    InstructBlipVideoVideoProcessor,
    LlamaConfig,
    LlamaForCausalLM,
)

from stillmotion.backbones.registry import load_embeds
from stillmotion.backbones.video_llm import instruct_blip_video, video_llama_checkpoint
from stillmotion.backbones.video_llm.checkpoint import pretrained_video_llm
from stillmotion.config.video_llms import VideoLLMBackboneParams, VideoLLMSettings
from stillmotion.errors import InputError

CPU = torch.device("cpu")
SIZE_PX, PATCH_PX, TOWER_WIDTH, WIDTH, MLP, QUERIES, FRAMES = 224, 56, 176, 128, 40, 5, 8  # two heads in each
READ_BLOCKS, STORED_BLOCKS = 2, 3
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def draw(*shape):
    return torch.randn(*shape) * 0.07


def norm(name, width):
    return {f"{name}.weight": 1 + draw(width), f"{name}.bias": draw(width)}


def linear(name, out, into):
    return {f"{name}.weight": draw(out, into), f"{name}.bias": draw(out)}


def released_tower():
    positions = (SIZE_PX // PATCH_PX) ** 2 + 1
    tensors = {"cls_token": draw(1, 1, TOWER_WIDTH), "pos_embed": draw(1, positions, TOWER_WIDTH)}
    tensors["patch_embed.proj.weight"] = draw(TOWER_WIDTH, 3, PATCH_PX, PATCH_PX) * 0.1
    tensors["patch_embed.proj.bias"] = draw(TOWER_WIDTH)
    for block in range(STORED_BLOCKS):
        stem = f"blocks.{block}"
        tensors |= norm(f"{stem}.norm1", TOWER_WIDTH) | norm(f"{stem}.norm2", TOWER_WIDTH)
        tensors[f"{stem}.attn.q_bias"], tensors[f"{stem}.attn.v_bias"] = draw(TOWER_WIDTH), draw(TOWER_WIDTH)
        tensors[f"{stem}.attn.qkv.weight"] = draw(3 * TOWER_WIDTH, TOWER_WIDTH)
        tensors |= linear(f"{stem}.attn.proj", TOWER_WIDTH, TOWER_WIDTH)
        tensors |= linear(f"{stem}.mlp.fc1", MLP, TOWER_WIDTH) | linear(f"{stem}.mlp.fc2", TOWER_WIDTH, MLP)
    return tensors | norm("fc_norm", TOWER_WIDTH) | linear("head", 10, TOWER_WIDTH)


def released_qformer(prefix, layers, encoder_width, every):
    """By the names of the authors' BERT; `every` says which layers have cross-attention."""
    tensors = {f"{prefix}.bert.embeddings.position_ids": torch.arange(12)[None]}
    tensors |= norm(f"{prefix}.bert.embeddings.LayerNorm", WIDTH)
    for layer in range(layers):
        stem = f"{prefix}.bert.encoder.layer.{layer}"
        for kind, width in [("attention", WIDTH), *([("crossattention", encoder_width)] if layer % every == 0 else [])]:
            tensors |= linear(f"{stem}.{kind}.self.query", WIDTH, WIDTH)
            tensors |= linear(f"{stem}.{kind}.self.key", WIDTH, width)
            tensors |= linear(f"{stem}.{kind}.self.value", WIDTH, width)
            tensors |= linear(f"{stem}.{kind}.output.dense", WIDTH, WIDTH)
            tensors |= norm(f"{stem}.{kind}.output.LayerNorm", WIDTH)
        tensors |= linear(f"{stem}.intermediate_query.dense", MLP, WIDTH)
        tensors |= linear(f"{stem}.output_query.dense", WIDTH, MLP)
        tensors |= norm(f"{stem}.output_query.LayerNorm", WIDTH)
    return tensors


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A folder of the authors' files, tiny, and its tensors by their names."""
    folder = tmp_path_factory.mktemp("weights") / "video_llama"
    (folder / "vicuna").mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tower = released_tower()
        frames = released_qformer("Qformer", 3, TOWER_WIDTH, 2) | norm("ln_vision", TOWER_WIDTH)
        frames |= {"query_tokens": draw(1, QUERIES, WIDTH)} | linear("t5_proj", 16, WIDTH)
        trained = released_qformer("video_Qformer", 2, WIDTH, 1) | linear("llama_proj", LLM["hidden_size"], WIDTH)
        trained |= {
            "video_query_tokens": draw(1, 4, WIDTH),
            "video_frame_position_embedding.weight": draw(FRAMES, WIDTH),
        }
        trained |= {"audio_position_embedding.weight": draw(8, 6)}
        torch.save(tower, folder / "eva_vit_g.pth")
        torch.save({"model": frames}, folder / "blip2_pretrained_flant5xxl.pth")
        kept = {"model": trained, "optimizer": {"state": {}}, "epoch": 3, "config": {"run": {"lr": 1e-4}}}
        torch.save(kept, folder / "VL_LLaMA_2_7B_Finetuned.pth")
        llm = LlamaForCausalLM(LlamaConfig(**LLM))
        for parameter in llm.parameters():
            torch.nn.init.normal_(parameter, std=0.3) if parameter.dim() > 1 else None
    llm.save_pretrained(folder / "vicuna")
    tokenizer().save_pretrained(folder / "vicuna")
    return folder, {f"visual_encoder.{name}": value for name, value in tower.items()} | frames | trained


@pytest.fixture(autouse=True)
def small_tower(monkeypatch):
    monkeypatch.setattr(video_llama_checkpoint, "TOWER_BLOCKS", READ_BLOCKS)


def opened(folder, **changes):
    settings = SETTINGS | {"chat_template": "none", "prompt": "Video: {video} what?"}
    block = {"family": "video_llm", "checkpoint": "folder", "revision": "", "weights": "checkpoint", "seed": 0}
    return pretrained_video_llm(folder.name, VideoLLMBackboneParams(**settings | block | changes), folder.parent)


# Video-LLaMA's vision branch in 64 bits, by its authors' names.


def layer_norm(tensors, name, x, eps):
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    return (x - mean) / (variance + eps).sqrt() * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def product(tensors, name, x):
    return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]


def attend(query, key, value, heads):
    split = [each.reshape(len(each), heads, -1).transpose(0, 1) for each in (query, key, value)]
    weights = (split[0] @ split[1].transpose(1, 2) / split[0].shape[-1] ** 0.5).softmax(-1)
    return (weights @ split[2]).transpose(0, 1).flatten(1)


def tower_by_hand(tensors, pixels_CHW):
    stem = "visual_encoder"
    weight, bias = tensors[f"{stem}.patch_embed.proj.weight"], tensors[f"{stem}.patch_embed.proj.bias"]
    patches = pixels_CHW.unfold(1, PATCH_PX, PATCH_PX).unfold(2, PATCH_PX, PATCH_PX)  # C, rows, columns, px, px
    patches = patches.permute(1, 2, 0, 3, 4).flatten(0, 1).flatten(1)
    x = (
        torch.cat([tensors[f"{stem}.cls_token"][0], patches @ weight.flatten(1).T + bias])
        + tensors[f"{stem}.pos_embed"][0]
    )
    for block in range(READ_BLOCKS):
        name = f"{stem}.blocks.{block}"
        y = layer_norm(tensors, f"{name}.norm1", x, 1e-6) @ tensors[f"{name}.attn.qkv.weight"].T
        query, key, value = y.split(TOWER_WIDTH, dim=-1)
        query, value = query + tensors[f"{name}.attn.q_bias"], value + tensors[f"{name}.attn.v_bias"]
        x = x + product(tensors, f"{name}.attn.proj", attend(query, key, value, 2))
        y = functional.gelu(product(tensors, f"{name}.mlp.fc1", layer_norm(tensors, f"{name}.norm2", x, 1e-6)))
        x = x + product(tensors, f"{name}.mlp.fc2", y)
    return layer_norm(tensors, "ln_vision", x, 1e-5)


def qformer_by_hand(tensors, prefix, queries, seen, layers, every):
    x = layer_norm(tensors, f"{prefix}.bert.embeddings.LayerNorm", queries, 1e-12)
    for layer in range(layers):
        stem = f"{prefix}.bert.encoder.layer.{layer}"
        for kind, source in [("attention", None), *([("crossattention", seen)] if layer % every == 0 else [])]:
            source = x if source is None else source
            query = product(tensors, f"{stem}.{kind}.self.query", x)
            key, value = (product(tensors, f"{stem}.{kind}.self.{each}", source) for each in ("key", "value"))
            y = product(tensors, f"{stem}.{kind}.output.dense", attend(query, key, value, 2))
            x = layer_norm(tensors, f"{stem}.{kind}.output.LayerNorm", x + y, 1e-12)
        y = functional.gelu(product(tensors, f"{stem}.intermediate_query.dense", x))
        y = product(tensors, f"{stem}.output_query.dense", y)
        x = layer_norm(tensors, f"{stem}.output_query.LayerNorm", x + y, 1e-12)
    return x


def visual_tokens_by_hand(tensors, video_FHWC):
    tensors = {name: value.double() for name, value in tensors.items()}
    mean, std = (torch.tensor(each, dtype=torch.float64)[:, None, None] for each in (CLIP_MEAN, CLIP_STD))
    frames = []
    for place, frame in enumerate(video_FHWC):  # of the model's size already
        pixels = (torch.from_numpy(frame).permute(2, 0, 1).double() / 255 - mean) / std
        seen = tower_by_hand(tensors, pixels)
        asked = qformer_by_hand(tensors, "Qformer", tensors["query_tokens"][0], seen, 3, 2)
        frames.append(asked + tensors["video_frame_position_embedding.weight"][place])
    joined = qformer_by_hand(tensors, "video_Qformer", tensors["video_query_tokens"][0], torch.cat(frames), 2, 1)
    return product(tensors, "llama_proj", joined)


@pytest.fixture
def videos():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (frames, SIZE_PX, SIZE_PX, 3), dtype=np.uint8) for frames in (3, 1, 3)]


def test_a_released_video_llama_gives_the_tokens_and_states_of_its_parts_in_64_bits(released, videos):
    folder, tensors = released
    video_llm, _ = opened(folder)
    llm = LlamaForCausalLM.from_pretrained(folder / "vicuna").double()
    for states, video in zip(video_llm.video_states(videos), videos, strict=True):
        tokens = visual_tokens_by_hand(tensors, video)
        torch.testing.assert_close(states.layers_LTD[0].double(), tokens, atol=1e-5, rtol=1e-5)
        head, tail = ([IDS["<s>"], *(IDS[letter] for letter in "Video: ")], [IDS[letter] for letter in " what?"])
        embed = llm.get_input_embeddings()
        embedded = torch.cat([embed(torch.tensor(head)), tokens, embed(torch.tensor(tail))])
        with torch.no_grad():
            out = llm.model(inputs_embeds=embedded[None], output_hidden_states=True)
            wanted = llm.model.norm(out.hidden_states[1])[0]
        places = slice(len(head), len(head) + 4)
        torch.testing.assert_close(states.layers_LTD[1].double(), wanted[places], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            states.layers_LTD[3].double(), out.last_hidden_state[0, places], atol=1e-5, rtol=1e-5
        )
        torch.testing.assert_close(states.last_LD[3].double(), out.last_hidden_state[0, -1], atol=1e-5, rtol=1e-5)


def test_every_released_tensor_is_used_or_listed(released, tmp_path):
    folder, tensors = released
    video_llm, source = opened(folder)
    unused = set(video_llm.unused)
    left_out = f"visual_encoder.blocks.{READ_BLOCKS}."
    assert {name for name in unused if not name.startswith(left_out)} == {
        "visual_encoder.fc_norm.weight",
        "visual_encoder.fc_norm.bias",
        "visual_encoder.head.weight",
        "visual_encoder.head.bias",
        "t5_proj.weight",
        "t5_proj.bias",
        "Qformer.bert.embeddings.position_ids",
        "video_Qformer.bert.embeddings.position_ids",
        "audio_position_embedding.weight",
    }
    # Each of the others has its place: as many numbers as the model has beside its LLaMA and the keys' biases of zero.
    used = sum(value.numel() for name, value in tensors.items() if name not in unused)
    of_llama = ("language_model.", "lm_head.")
    parts = [each for name, each in video_llm.model.named_parameters() if not name.startswith(of_llama)]
    assert used + READ_BLOCKS * TOWER_WIDTH == sum(each.numel() for each in parts)
    assert all(
        any(torch.equal(tensors[name], part) for part in parts)
        for name in tensors
        if "Qformer" in name and name not in unused
    )
    video_llm.save(tmp_path / "model", source | {"system": {"model": "m"}})
    assert '"unused_tensors"' in (tmp_path / "model" / "source.json").read_text()


def test_a_converted_video_llama_opens_as_the_same_model(released, videos, tmp_path):
    video_llm, source = opened(released[0])
    video_llm.save(tmp_path / "model", source)
    again = load_embeds(tmp_path / "model", CPU)
    clips = np.array([[0, 2]])
    for before, after in zip(
        *(each.embed_video(videos[0], clips, frames_a_pass=2) for each in (video_llm, again)), strict=True
    ):
        assert torch.equal(before, after)
    assert torch.equal(video_llm.text_vectors(["a", "bc"]), again.text_vectors(["a", "bc"]))
    again.save(tmp_path / "again", source)
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == sorted(
        path.name for path in (tmp_path / "model").iterdir()
    )


@pytest.mark.parametrize("tied", [False, True])
def test_a_video_llama_answers_as_its_parts_do_in_64_bits_before_and_after_it_is_saved(
    released, videos, tmp_path, tied
):
    folder = shutil.copytree(released[0], tmp_path / "mine")
    if tied:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            LlamaForCausalLM(LlamaConfig(**LLM, tie_word_embeddings=True)).save_pretrained(folder / "vicuna")
    llm = LlamaForCausalLM.from_pretrained(folder / "vicuna").double()
    video_llm, source = opened(folder, keep_tokens_of="before_llm")
    video_llm.save(tmp_path / "model", source)
    with torch.no_grad():
        kept = video_llm.keep(video_llm.video_states(videos[:2]))
    wanted = []
    for video, text in zip(videos[:2], ("red", "a dog"), strict=True):
        tokens = visual_tokens_by_hand(released[1], video)
        embed = llm.get_input_embeddings()
        head, tail = ([IDS["<s>"], *map(IDS.get, "On: ")], [*map(IDS.get, f" is it {text}?")])
        whole = torch.cat([embed(torch.tensor(head)), tokens, embed(torch.tensor(tail))])
        with torch.no_grad():
            logits = llm(inputs_embeds=whole[None]).logits[0, -1]
        wanted.append((logits[IDS["Y"]] - torch.logaddexp(logits[IDS["N"]], logits[IDS["n"]])).item())
    for model in (video_llm, load_embeds(tmp_path / "model", CPU)):
        found = model.answers(kept, ["red", "a dog"], "On: {video} is it {text}?", yes=["Y"], no=["N", "n"])
        assert found.tolist() == pytest.approx(wanted, abs=1e-5)


def test_a_llama_without_the_head_that_writes_words_is_told(released, tmp_path):
    folder = shutil.copytree(released[0], tmp_path / "mine")
    LlamaForCausalLM.from_pretrained(folder / "vicuna").model.save_pretrained(folder / "vicuna")
    with pytest.raises(InputError, match=r"vicuna: its weights lack 1 tensors, 'lm_head.weight' first; take all"):
        opened(folder)


def test_more_frames_than_have_positions_are_told(released):
    video_llm, _ = opened(released[0])
    with pytest.raises(InputError, match=r"num_frames is 9, and Video-LLaMA knows the positions of 8; set at most"):
        video_llm.video_states([np.zeros((9, 8, 8, 3), dtype=np.uint8)])


@pytest.mark.parametrize(
    "name", ["blip2_pretrained_flant5xxl.pth", "VL_LLaMA_2_7B_Finetuned.pth", "vicuna/config.json"]
)
def test_a_released_folder_that_lacks_a_file_is_told(released, tmp_path, name):
    folder = shutil.copytree(released[0], tmp_path / "mine")
    (folder / name).unlink()
    with pytest.raises(InputError, match=r"a released Video-LLaMA is eva_vit_g.pth, .* put them there"):
        opened(folder)


def test_a_released_file_that_lacks_tensors_or_runs_code_is_told(released, tmp_path):
    folder = shutil.copytree(released[0], tmp_path / "mine")
    path = folder / "VL_LLaMA_2_7B_Finetuned.pth"
    trained = torch.load(path, weights_only=True)["model"]
    gone = {name: value for name, value in trained.items() if "layer.1.crossattention" not in name}
    torch.save({"model": gone}, path)
    with pytest.raises(InputError, match=r"lack 10 tensors, 'video_qformer.encoder.layer.1.crossattention"):
        opened(folder)
    torch.save({"model": trained | {"llama_proj.weight": torch.zeros(7, WIDTH)}}, path)
    with pytest.raises(InputError, match=r"language_projection.weight is \(7, 128\) where \(32, 128\) is needed"):
        opened(folder)
    torch.save({"model": trained, "config": CPU, "run": shutil.copytree}, path)
    with pytest.raises(InputError, match="not weights of torch"):
        opened(folder)


# ---------------------------------------------------------------- InstructBLIP


@pytest.fixture(scope="module")
def instruct_blip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("instruct_blip")
    words = tokenizer()
    size = {"height": 28, "width": 28}
    InstructBlipVideoProcessor(
        InstructBlipVideoVideoProcessor(size=size), words, tokenizer(), num_query_tokens=QUERIES
    ).save_pretrained(folder)
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = InstructBlipVideoConfig(
        vision_config={**small, "image_size": 28, "initializer_range": 0.3},
        qformer_config={**small, "vocab_size": LLM["vocab_size"], "initializer_range": 0.3},
        text_config={"model_type": "llama", **LLM, "initializer_range": 0.3},
        num_query_tokens=QUERIES,
        video_token_index=IDS["<video>"],
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = InstructBlipVideoForConditionalGeneration(config)
        torch.nn.init.normal_(model.query_tokens)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("frames", [1, 4, 6])
def test_instruct_blip_takes_any_number_of_frames_as_its_class_does(instruct_blip, frames):
    rng = np.random.default_rng(0)
    videos = [rng.integers(0, 256, (frames, 28, 28, 3), dtype=np.uint8) for _ in range(2)]
    settings = VideoLLMSettings(**SETTINGS | {"chat_template": "none", "prompt": "{video}what happens?"})
    video_llm = instruct_blip_video.load(instruct_blip, settings, CPU)
    model = InstructBlipVideoForConditionalGeneration.from_pretrained(instruct_blip)
    processor = InstructBlipVideoProcessor.from_pretrained(instruct_blip)
    for states, video in zip(video_llm.video_states(videos), videos, strict=True):
        inputs = processor(
            images=torch.from_numpy(video).permute(0, 3, 1, 2), text="what happens?", return_tensors="pt"
        )
        # Its processor has places of four frames alone, before the words.
        words = inputs.pop("input_ids")[:, QUERIES * 4 :]
        inputs.pop("attention_mask")
        ids = torch.cat([torch.full((1, QUERIES * frames), IDS["<video>"]), words], dim=1)
        with torch.no_grad():
            out = model(input_ids=ids, **inputs, output_hidden_states=True)
            tokens = model.get_video_features(**inputs).pooler_output[0]
        hidden = out.language_model_outputs.hidden_states
        places = slice(0, QUERIES * frames)
        torch.testing.assert_close(states.layers_LTD[0], tokens, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(states.layers_LTD[3], hidden[3][0, places], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(states.last_LD[3], hidden[3][0, -1], atol=1e-5, rtol=1e-5)
        normed = model.language_model.model.norm(hidden[1][0, places])
        torch.testing.assert_close(states.layers_LTD[1], normed, atol=1e-5, rtol=1e-5)


def test_instruct_blip_answers_as_its_class_does(instruct_blip):
    rng = np.random.default_rng(4)
    videos = [rng.integers(0, 256, (frames, 28, 28, 3), dtype=np.uint8) for frames in (2, 5)]
    changes = {"chat_template": "none", "prompt": "{video}what happens?", "keep_tokens_of": "before_llm"}
    video_llm = instruct_blip_video.load(instruct_blip, VideoLLMSettings(**SETTINGS | changes), CPU)
    with torch.no_grad():
        kept = video_llm.keep(video_llm.video_states(videos))
    question = "{video}is it {text}?"
    found = video_llm.answers(kept, ["red", "a dog"], question, yes=["Y"], no=["N"])
    model = InstructBlipVideoForConditionalGeneration.from_pretrained(instruct_blip)
    processor = InstructBlipVideoProcessor.from_pretrained(instruct_blip)
    for place, (video, text) in enumerate(zip(videos, ("red", "a dog"), strict=True)):
        frames = torch.from_numpy(video).permute(0, 3, 1, 2)
        inputs = processor(images=frames, text="what happens?", return_tensors="pt")
        words = tokenizer()(f"is it {text}?", return_tensors="pt")["input_ids"]
        ids = torch.cat([torch.full((1, QUERIES * len(video)), IDS["<video>"]), words], dim=1)
        looked = {name: inputs[name] for name in ("pixel_values", "qformer_input_ids", "qformer_attention_mask")}
        with torch.no_grad():
            logits = model(input_ids=ids, **looked).logits[0, -1].double()
        assert found[place].item() == pytest.approx((logits[IDS["Y"]] - logits[IDS["N"]]).item(), abs=1e-5)


def test_what_instruct_blip_is_asked_changes_its_visual_tokens_and_it_opens_as_saved(instruct_blip, tmp_path):
    video = np.random.default_rng(1).integers(0, 256, (2, 20, 30, 3), dtype=np.uint8)
    asked = []
    for prompt in ("{video}what?", "{video}who?"):
        settings = VideoLLMSettings(**SETTINGS | {"chat_template": "none", "prompt": prompt})
        video_llm = instruct_blip_video.load(instruct_blip, settings, CPU)
        asked.append(video_llm.video_states([video])[0].layers_LTD[0])
    assert (asked[0] - asked[1]).abs().max() > 1e-3
    video_llm.save(tmp_path / "model", {"system": {"model": "m"}})
    again = load_embeds(tmp_path / "model", CPU)
    assert torch.equal(again.video_states([video])[0].layers_LTD, video_llm.video_states([video])[0].layers_LTD)
    assert torch.equal(again.text_vectors(["abc"]), video_llm.text_vectors(["abc"]))
