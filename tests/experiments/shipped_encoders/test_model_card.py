# SPDX-License-Identifier: Apache-2.0
"""The model card says how a pair was made and what it scores."""

from experiments.shipped_encoders.model_card import format_card
from experiments.shipped_encoders.recipes import RECIPES


def test_card_holds_recipe_scores_and_credit():
    recipe = RECIPES["openmoji-siglip"]
    card = format_card(
        recipe,
        recipe.make_config(1500),
        batch_size=128,
        parameters=1_250_000,
        renderings=["target-0", "target-1"],
        scores={"learnt emoji": {"n": 1347, "@1": 0.5}},
        credit="Pictures by OpenMoji.",
        versions={"jax": "0.10.2"},
    )
    assert card.startswith("---\nlicense: cc-by-sa-4.0\n")
    for text in (
        "jaxalign/openmoji-siglip",
        "1.25 M parameters",
        "target-0, target-1",
        "sigmoid contrastive",
        "Captions tell: name 15 %",
        "logit scale at most 4",
        "Muon on kernels",
        f"seed {recipe.seed}",
        "| learnt emoji | 1347 | 0.5 |",
        "Pictures by OpenMoji.",
        "jax 0.10.2",
    ):
        assert text in card
    assert "None" not in card
