"""What a recipe of fine-tuning makes of a backbone before the first step."""

from stillmotion.backbones.backbone import Backbone
from stillmotion.backbones.lora import adapt
from stillmotion.config.training import SeededLoraRecipe, SeededRecipe
from stillmotion.training.freezing import freeze
from stillmotion.training.patch_dropout import PatchDropout


def apply_recipe(backbone: Backbone, recipe: SeededRecipe) -> PatchDropout:
    """Freeze what the recipe freezes, set its temperature, adapters and patch dropout, and choose what gradients keep.

    Returns:
        The dropout, to draw from.

    Raises:
        InputError: layers can't be frozen or adapted so, or there is no branch whose layers could be computed again.
    """
    freeze(backbone, embeddings=recipe.freeze_embeddings, blocks=recipe.frozen_blocks, texts=recipe.freeze_texts)
    if recipe.loss_temperature != "learned":
        backbone.fix_temperature(recipe.loss_temperature)
    if isinstance(recipe, SeededLoraRecipe):
        adapt(backbone, recipe.lora, seed=recipe.seed)
    backbone.set_gradient_checkpointing(recipe.gradient_checkpointing)
    dropout = PatchDropout(recipe.patch_keep_rate, recipe.patch_sampling)
    backbone.set_patch_dropout(dropout)
    return dropout
