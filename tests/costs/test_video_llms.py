from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML
from tiny_video_llms import LLM, MEMBERS, configured

from stillmotion.config.evaluation import MeasureArchitecturesParams
from stillmotion.config.video_llms import VideoLLMArchitectureParams
from stillmotion.costs import video_llms
from stillmotion.costs.video_llms import initial_video_llm, measure_video_llm
from stillmotion.errors import InputError

CPU = torch.device("cpu")
EXPERIMENT = Path(__file__).parents[2] / "experiments" / "video_llm_resources.yaml"
PUBLISHED = {  # as the hub counts the numbers in the files
    "smolvlm2_256m": 256_484_928,
    "smolvlm2_500m": 507_482_304,
    "smolvlm2_2_2b": 2_246_784_880,
    "qwen3_vl_2b": 2_127_532_032,
}
T, F = 7, 4  # tokens of the prompt, frames
D, D_MLP, LAYERS = LLM["hidden_size"], LLM["intermediate_size"], LLM["num_hidden_layers"]
W, W_MLP, Q, Q_LATE, PATCHES, PATCH_VALUES = 24, 40, 3, 2, 4, 3 * 14 * 14
TINY_VIDEO_LLAMA = {
    "model_type": "video_llama",
    "num_query_tokens": Q,
    "num_video_query_tokens": Q_LATE,
    "vision_config": {
        "hidden_size": W,
        "intermediate_size": W_MLP,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 28,
    },
    "qformer_config": {"hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2},
    "video_qformer_config": {
        "hidden_size": 12,
        "intermediate_size": 20,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    },
    "text_config": {"model_type": "llama", **LLM},
}


def architecture(config, size_px=28):
    return VideoLLMArchitectureParams(family="video_llm", config=config, num_frames=F, size_px=size_px)


@pytest.fixture
def setting():
    return MeasureArchitecturesParams(
        batch_size=1, num_tokens=T, keep_rates=[1.0], frozen_blocks=[0], timed_batch_size=1, timed_repeats=1
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations_have_the_parameters_of_the_published_files(name):
    block = YAML(typ="safe").load(EXPERIMENT)["set"]["architectures"][name]
    _, model = initial_video_llm(VideoLLMArchitectureParams.model_validate(block), video_llms.META)
    assert sum(each.numel() for each in model.parameters()) == PUBLISHED[name]


def qformer_by_hand(rows, queries, seen, encoder_width, every, width=12, mlp=20):
    """Multiply-adds of two layers: each attends to itself, some to what is seen, and has an MLP."""
    products = scores = 0
    for layer in range(2):
        products += rows * queries * (4 * width * width + 2 * width * mlp)
        scores += rows * 2 * queries * queries * width
        if layer % every == 0:
            products += rows * (queries * 2 * width * width + seen * 2 * encoder_width * width)
            scores += rows * 2 * queries * seen * width
    return products + scores


def video_llama_by_hand():
    tokens = 1 + PATCHES
    tower = F * PATCHES * PATCH_VALUES * W
    tower += 2 * F * (tokens * (4 * W * W + 2 * W * W_MLP) + 2 * tokens * tokens * W)
    frames = qformer_by_hand(F, Q, tokens, W, 2)
    joined = qformer_by_hand(1, Q_LATE, F * Q, 12, 1) + Q_LATE * 12 * D
    length = Q_LATE + T
    keys = D // 2  # two heads of four have keys and values of their own
    block = length * (2 * D * D + 2 * D * keys + 3 * D * D_MLP) + 2 * length * length * D
    return 2 * (tower + frames + joined + LAYERS * block)


@pytest.mark.parametrize("runs", [True, False])
def test_flops_of_a_video_llama_are_worked_by_hand_whether_it_is_run_or_counted(runs, setting, monkeypatch):
    monkeypatch.setattr(video_llms, "RUN_BELOW_BYTES", 2**30 if runs else 0)
    found = measure_video_llm("tiny", architecture(TINY_VIDEO_LLAMA), setting, CPU)
    assert found["visual_tokens"] == Q_LATE
    assert found["forward_flops"] == video_llama_by_hand()
    assert (found["measured"] is not None) == runs


@pytest.mark.slow
@pytest.mark.parametrize("member", MEMBERS)
def test_every_member_is_measured_by_its_configuration_alone(member, setting):
    size_px = 32 if member == "qwen3_vl" else 28
    found = measure_video_llm("tiny", architecture(configured(member)[1].to_dict(), size_px), setting, CPU)
    patches = F // 2 if member.startswith("qwen") else F  # a patch, merged from four, a frame or two
    if member == "llava_next":  # a frame whole, 2 x 2 patches, and again in tiles, with its lines' ends
        assert found["visual_tokens"] == F * (4 + 4 + 2)
    else:
        assert found["visual_tokens"] in (patches, patches + 1)  # and a line's end
    assert found["forward_flops"] > 0
    assert found["measured"]["seconds_a_video"] > 0


def test_a_model_type_that_is_no_video_llm_is_told(setting):
    with pytest.raises(InputError, match=r"model_type of an architecture is 'bert'; set one of: video_llama_3"):
        measure_video_llm("tiny", architecture({"model_type": "bert"}), setting, CPU)
