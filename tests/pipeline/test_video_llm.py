"""Video LLMs of real architectures, at a reduced depth and with initial weights, on all real clips: one command."""

import shutil

import pytest
from tiny_video_llms import write

pytestmark = [pytest.mark.pipeline, pytest.mark.slow, pytest.mark.real]

NUM_CLIPS = 33
DEFINITION = """\
base: video_llm
about: Two video LLMs of real width; not timed
set:
  sample_frames: {size_px: 224, num_uniform: 8, clip_length_s: 10.0}
  backbones:
    smolvlm2: &llm
      family: video_llm
      checkpoint: folder
      revision: main
      weights: random
      num_frames: 2
      prompt: "{video}what happens?"
      text_prompt: "{text}"
      system: ""
      chat_template: own
      text_chat_template: none
      max_tokens: 64
      precision: fp32
      layer: last
      pooling: mean
      layers: all
      poolings: [first, max, mean, sum, last_token]
      keep_tokens_of: null
      seed: 0
    video_llama3: *llm
  expansions:
    before_llm: {family: video_llm_layer, layer: before_llm, pooling: max}
  expanded:
    - {from: smolvlm2, expansion: before_llm}
  retrieval:
    - {model: &models [smolvlm2, video_llama3, smolvlm2_before_llm], scorer: mean}
  run:
    backbones: [smolvlm2, video_llama3]
    embedded: *models
    references: []
  measure_resources.repeats: 1
"""
SMOLVLM2_500M = {
    "llm": {"hidden_size": 960, "intermediate_size": 2560, "num_attention_heads": 15, "num_key_value_heads": 5},
    "vision": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "patch_size": 16},
    "size_px": 512,
    "scale_factor": 4,
}
VIDEO_LLAMA3_2B = {
    "llm": {"hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12, "num_key_value_heads": 2},
    "vision": {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16},
    "size_px": 224,
}


def test_real_clips_go_through_video_llms_of_real_width_from_file_to_ranks(workplace, real_material):
    clips = workplace.root / "data" / "sources" / "real"
    shutil.copytree(real_material / "videos", clips)
    rows = (real_material / "captions.csv").read_text(encoding="utf-8").splitlines()
    (clips / "captions.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    for name, member, sizes in (
        ("smolvlm2", "smolvlm", SMOLVLM2_500M),
        ("video_llama3", "video_llama_3", VIDEO_LLAMA3_2B),
    ):
        shallow = {part: dict(sizes[part], num_hidden_layers=depth) for part, depth in (("llm", 2), ("vision", 1))}
        write(member, workplace.root / "data" / "weights" / name, weights=False, **sizes | shallow)
    (workplace.root / "experiments" / "two.yaml").write_text(DEFINITION, encoding="utf-8")
    workplace.commit("Define it")
    run = workplace.run("stillmotion", "run", "two", "--set", "dataset=real")
    print(run.seconds)
    workplace.dvc("exp", "apply", "two-real")
