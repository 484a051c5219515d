PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
UV_VERSION := 0.13.8
export PATH := $(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
# Threads that wait in a spin slow everything down several times over when something else wants the cores.
export OMP_WAIT_POLICY ?= passive

.DEFAULT_GOAL := help
.PHONY: help env repro retrieval moments alignment guided pretraining heads recognition resources full test lint bench lock

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(VENV)/.stamp  ## make the environment in .venv, from requirements.lock

$(VENV)/.stamp: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Stillmotion needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.11 env"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

repro: env  ## make the environment and rebuild every result that is not up to date
	dvc repro

# What an experiment leaves out where it is of retrieval alone: probes of actions, with their spans; moments, with the
# frames by themselves.
NO_ACTIONS := -S 'run.probed=[]' -S embed.spans=false
NO_MOMENTS := -S 'run.assessed=[]' -S 'run.selected=[]' -S 'run.references=[]' -S embed.single_frames=false
# What both experiments add to the default run: X-CLIP made from the built-in CLIP, the class token, and the clip
# counts of the thesis.
XCLIP := -S 'run.aggregators=[mean,transformer_mean,class_token]' -S 'run.expanded=[small_clip]' -S 'run.expansions=[xclip]' \
  -S 'run.embedded=[small_clip,small_clip_xclip]' -S 'run.finetuned=[small_clip,small_clip_xclip]' \
  -S 'embed.clip_counts=[1,2,3,4]' -S embed.contexts=true -S 'run.conditional=[small_clip_xclip]'

retrieval: env  ## run the retrieval matrix of CLIP and X-CLIP alone, as the experiment "retrieval" beside the default results
	dvc exp run --temp --name retrieval $(XCLIP) $(NO_ACTIONS) $(NO_MOMENTS) \
	  -S 'run.models=[small_clip,small_clip-half_patches,small_clip_xclip,small_clip_xclip-half_patches]'
	dvc exp show --only-changed

# What the whole of VClipper's study adds: the fine-tuned model, thresholds searched for the selected frames, and the
# shots of PySceneDetect.
MOMENTS := -S 'run.shot_detectors=[content_shots,adaptive_shots]' \
  -S 'run.selections=[vc1_none,vc1_norm,vc1_adjust_norm,vc1_log_smooth_norm,vc2_none,vc2_norm,vc2_adjust_norm,vc2_log_smooth_norm,vc1_none_frames,vc1_norm_frames,vc1_adjust_norm_frames,vc1_log_smooth_norm_frames,vc2_none_frames,vc2_norm_frames,vc2_adjust_norm_frames,vc2_log_smooth_norm_frames]'

moments: env  ## run every selection, reference and shot detector of moment retrieval, as the experiment "moments"
	dvc exp run --temp --name moments $(MOMENTS) -S 'run.selected=[small_clip,small_clip-half_patches]'
	dvc exp show --only-changed

# What five experiments are about: the built-in CLIP and its STAN on videos that their captions speak of in part,
# without moments. Nothing is trained on embeddings, probes neither: those of the test videos will do.
STAN := -S dataset=clips -S sample_frames.num_uniform=32 -S 'embed.clip_counts=[1]' -S 'run.aggregators=[mean]' \
  -S 'embed.splits=[test]' \
  -S 'run.expanded=[small_clip]' -S 'run.expansions=[stan]' -S 'run.finetuned=[small_clip,small_clip_stan]' $(NO_MOMENTS)
# The STAN that is post-pretrained by Mug on videos with misaligned narrations, and what a comparison by Mug needs.
NARRATED := small_clip_stan_narrated_narrations
POST_PRETRAINED := -S 'run.corpora=[narrated]' -S 'run.post_pretrained=[small_clip_stan]' \
  -S 'run.post_pretraining=[narrations]' -S embed.tokens=true
COSINE := clips,clips_seed_1,clips_seed_2
MUG := clips_mug,clips_mug_seed_1,clips_mug_seed_2
MUG_COSINE := clips_mug_cosine,clips_mug_cosine_seed_1,clips_mug_cosine_seed_2
MOTIONS := motions,motions_seed_1,motions_seed_2
comma := ,
# The names of a backbone once it is fine-tuned: $(call tuned,BACKBONE,RECIPES)
tuned = $(1)-$(subst $(comma),$(comma)$(1)-,$(2))
both_tuned = $(call tuned,small_clip,$(1)),$(call tuned,small_clip_stan,$(1))

alignment: env  ## run STAN and Mug beside CLIP and cosines, fine-tuned alike, as the experiment "alignment"
	dvc exp run --temp --name alignment $(STAN) $(NO_ACTIONS) $(POST_PRETRAINED) \
	  -S 'run.embedded=[small_clip,small_clip_stan,$(NARRATED)]' -S 'run.recipes=[$(COSINE),$(MUG)]' \
	  -S 'run.models=[small_clip,$(NARRATED)]' -S 'run.alignments=[cosine,mug,mug_dual_softmax]' \
	  -S 'run.aligned=[small_clip,$(NARRATED),$(call both_tuned,$(COSINE)$(comma)$(MUG))]' \
	  -S 'run.attended=[small_clip_stan-clips_mug]'
	dvc exp show --only-changed

# Ours: Mug by the cosine of its guided embeddings, and a STAN whose frames stay apart for it.
COSINE_AND_OURS := $(COSINE),$(MUG_COSINE)
CLIP_AND_STANS := small_clip,small_clip_stan,small_clip_stan_frame_class
guided: env  ## run our form of Mug beside cosines, with CLIP and two STANs, as the experiment "guided"
	dvc exp run --temp --name guided $(STAN) $(NO_ACTIONS) -S embed.tokens=true \
	  -S 'run.expansions=[stan,stan_frame_class]' -S 'run.embedded=[$(CLIP_AND_STANS)]' -S 'run.finetuned=[$(CLIP_AND_STANS)]' \
	  -S 'run.recipes=[$(COSINE_AND_OURS)]' -S 'run.models=[small_clip]' -S 'run.alignments=[cosine,mug_cosine]' \
	  -S 'run.aligned=[small_clip,$(call both_tuned,$(COSINE_AND_OURS)),$(call tuned,small_clip_stan_frame_class,$(COSINE_AND_OURS))]' \
	  -S 'run.attended=[small_clip_stan_frame_class-clips_mug_cosine]' -S show_attention.tau=5.0
	dvc exp show --only-changed

pretraining: env  ## fine-tune STAN by Mug with and without post-pretraining, as the experiment "pretraining"
	dvc exp run --temp --name pretraining $(STAN) $(NO_ACTIONS) $(POST_PRETRAINED) \
	  -S 'run.finetuned=[small_clip_stan,$(NARRATED)]' \
	  -S 'run.embedded=[small_clip,small_clip_stan,$(NARRATED)]' -S 'run.recipes=[$(MUG)]' \
	  -S 'run.alignments=[cosine,mug,mug_dual_softmax]' \
	  -S 'run.models=[small_clip,$(NARRATED)]' \
	  -S 'run.aligned=[$(NARRATED),$(call tuned,small_clip_stan,$(MUG)),$(call tuned,$(NARRATED),$(MUG))]'
	dvc exp show --only-changed

HEADED := small_clip,small_clip_stan,small_clip_seq_lstm,small_clip_seq_transf,small_clip_tight_transf
heads: env  ## run STAN beside the heads of CLIP4Clip, fine-tuned alike, as the experiment "heads"
	dvc exp run --temp --name heads $(STAN) $(NO_ACTIONS) -S embed.tokens=true \
	  -S 'run.expansions=[stan,seq_lstm,seq_transf,tight_transf]' \
	  -S 'run.embedded=[$(HEADED)]' -S 'run.finetuned=[$(HEADED)]' -S 'run.recipes=[$(COSINE)]' \
	  -S 'run.models=[small_clip,$(call both_tuned,$(COSINE)),$(call tuned,small_clip_seq_lstm,$(COSINE)),$(call tuned,small_clip_seq_transf,$(COSINE))]' \
	  -S 'run.tight=[$(call tuned,small_clip_tight_transf,$(COSINE))]'
	dvc exp show --only-changed

recognition: env  ## name motions with STAN and CLIP, fine-tuned alike, as the experiment "recognition"
	dvc exp run --temp --name recognition $(STAN) -S 'run.embedded=[small_clip,small_clip_stan]' \
	  -S 'run.recipes=[$(MOTIONS)]' \
	  -S 'run.models=[small_clip,small_clip_stan]' -S 'run.probed=[small_clip,$(call both_tuned,$(MOTIONS))]'
	dvc exp show --only-changed

resources: env  ## count and time the published models at full size, as the experiment "resources"
	dvc exp run --temp --name resources \
	  -S 'run.architectures=[xclip_base_patch32_8f,xclip_base_patch32_16f,xclip_base_patch16_8f,xclip_base_patch16_16f,xclip_base_patch16_32f,vit_b_32_12f,vit_b_32_stan_12f,vit_b_16_12f,vit_b_16_stan_12f]'
	dvc exp show --only-changed

THESIS := small_clip,small_clip-half_patches,small_clip-all_patches,small_clip-two_blocks_frozen,small_clip_xclip,small_clip_xclip-half_patches,small_clip_xclip-all_patches,small_clip_xclip-two_blocks_frozen
full: env  ## run retrieval and moments with every recipe of the thesis, as the experiment "full" beside the default results
	dvc exp run --temp --name full $(XCLIP) \
	  -S 'run.recipes=[half_patches,all_patches,two_blocks_frozen]' \
	  -S 'run.models=[$(THESIS)]' -S 'run.probed=[$(THESIS)]' \
	  $(MOMENTS) -S 'run.assessed=[$(THESIS)]' \
	  -S 'run.selected=[small_clip,small_clip-half_patches,small_clip_xclip,small_clip_xclip-half_patches]'
	dvc exp show --only-changed

test: env  ## make the environment and run every test, in two processes
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: env  ## ruff and mypy
	ruff check src tests benchmarks
	ruff format --check src tests benchmarks
	mypy

bench: env  ## measure speed and memory against named peers; writes benchmarks/results
	python -m benchmarks

lock:  ## resolve the dependencies again into requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-header --group dev --output-file requirements.lock --upgrade pyproject.toml
