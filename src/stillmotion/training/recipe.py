"""What a recipe of fine-tuning makes of a backbone before the first step."""

from stillmotion.backbones.backbone import Backbone
from stillmotion.config.training import RecipeParams
from stillmotion.training.freezing import freeze
from stillmotion.training.patch_dropout import PatchDropout


def apply_recipe(backbone: Backbone, recipe: RecipeParams) -> PatchDropout:
    """Freeze what the recipe freezes, set its temperature and patch dropout, and choose what is kept for the gradients.

    Returns:
        The dropout, to draw from.

    Raises:
        InputError: the layers can't be frozen so, or there is no branch whose layers could be computed again.
    """
    freeze(backbone, embeddings=recipe.freeze_embeddings, blocks=recipe.frozen_blocks, texts=recipe.freeze_texts)
    if recipe.loss_temperature != "learned":
        backbone.fix_temperature(recipe.loss_temperature)
    backbone.set_gradient_checkpointing(recipe.gradient_checkpointing)
    dropout = PatchDropout(recipe.patch_keep_rate, recipe.patch_sampling)
    backbone.set_patch_dropout(dropout)
    return dropout
