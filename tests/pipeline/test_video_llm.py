"""Video LLMs of real architectures, at a reduced depth and with initial weights, on all captioned clips: one command.

About 80 s of one core, half of it starting thirteen processes.
"""

import csv
import json
import shutil

import numpy as np
import pytest
from tiny_video_llms import write

from stillmotion.embedding.reader import Embeddings
from stillmotion.embedding.states import StoredStates

pytestmark = [pytest.mark.pipeline, pytest.mark.slow, pytest.mark.real]

NUM_CLIPS = 33
DEFINITION = """\
base: video_llm
about: Two video LLMs of real width; not timed
set:
  sample_frames: {size_px: 140, num_uniform: 8, clip_length_s: 10.0}
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
  retrieval:
    - {model: &models [smolvlm2, video_llama3], scorer: mean}
  run:
    backbones: *models
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
    "size_px": 140,
}
MODELS = {"smolvlm2": ("smolvlm", SMOLVLM2_500M), "video_llama3": ("video_llama_3", VIDEO_LLAMA3_2B)}


def test_real_clips_go_through_video_llms_of_real_width_from_file_to_ranks(workplace, real_material):
    clips = workplace.root / "data" / "sources" / "real"
    clips.mkdir(parents=True)
    shutil.copyfile(real_material / "captions.csv", clips / "captions.csv")
    with (clips / "captions.csv").open(encoding="utf-8", newline="") as file:
        names = [row["video"] for row in csv.DictReader(file)]
    assert len(names) == NUM_CLIPS
    for name in names:
        shutil.copyfile(real_material / "videos" / name, clips / name)
    for name, (member, sizes) in MODELS.items():
        shallow = {part: dict(sizes[part], num_hidden_layers=depth) for part, depth in (("llm", 2), ("vision", 1))}
        write(member, workplace.root / "data" / "weights" / name, weights=False, **sizes | shallow)
    (workplace.root / "experiments" / "two.yaml").write_text(DEFINITION, encoding="utf-8")
    workplace.commit("Define it")
    workplace.run("stillmotion", "run", "two", "--set", "dataset=real")
    name = workplace.git("for-each-ref", "--format=%(refname:lstrip=4)", "refs/exps/*/*/two*").split()[0]
    workplace.dvc("exp", "apply", name)
    num_test = None
    for model, (_, sizes) in MODELS.items():
        metrics = json.loads((workplace.root / f"metrics/retrieval/{model}-mean.json").read_text(encoding="utf-8"))
        protocol = metrics["protocol"]
        assert protocol["gallery_size"] > 5
        assert num_test in (None, protocol["gallery_size"])
        num_test = protocol["gallery_size"]
        assert protocol["video_llm"]["num_frames"] == protocol["clip_frames"] == 2
        assert 0 < metrics["t2v"]["MRR"] <= 100
        folder = workplace.root / f"data/embeddings/real-{model}"
        stored, embedded = StoredStates(folder), Embeddings(folder)
        assert stored.layers == ["before_llm", "layer:1", "layer:2"]
        assert stored.width == sizes["llm"]["hidden_size"]
        assert len(embedded.videos) == NUM_CLIPS
        videos = stored.videos("last", "mean")
        assert videos.shape == (NUM_CLIPS, stored.width)
        unit = videos / np.linalg.norm(videos, axis=1, keepdims=True)
        np.testing.assert_allclose(embedded.clips(1)[:, 0], unit, atol=1e-6)
        # Different videos are different from the first layer on, and no two layers are alike.
        assert len(np.unique(stored.videos("before_llm", "mean").round(4), axis=0)) == NUM_CLIPS
        assert np.abs(stored.videos("layer:1", "mean") - videos).max() > 1e-3
