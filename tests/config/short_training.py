"""Four steps of the built-in training with two threads; prints the SHA-256 of its weights, for test_processor.py."""

import stillmotion.config.capped

import hashlib

from stillmotion.backbones.compute import prepare_torch
from stillmotion.config.environment import read_environment
from stillmotion.config.models import BuiltinBackboneParams
from stillmotion.io.memo import Memo
from stillmotion.training.builtin import train_builtin

PARAMS = BuiltinBackboneParams(
    family="builtin",
    image_size_px=64,
    patch_size_px=16,
    width=128,
    layers=4,
    text_layers=2,
    heads=4,
    embed_dim=128,
    steps=4,
    batch_size=32,
    learning_rate=1.5e-3,
    weight_decay=0.1,
    warmup_fraction=0.1,
    max_sentences=5,
    seed=0,
)

if __name__ == "__main__":
    device = prepare_torch(read_environment(), 2)
    trained = train_builtin(PARAMS, device, Memo(None), "", 2)
    digest = hashlib.sha256()
    for name, tensor in sorted(trained.state_dict().items()):
        digest.update(name.encode() + tensor.detach().numpy().tobytes())
    print(digest.hexdigest())
