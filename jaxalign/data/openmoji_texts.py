# SPDX-License-Identifier: Apache-2.0
"""Texts for emoji: class prompt ensembles, and captions at evaluation.

Class names are Unicode's subgroups, "animal-mammal". They become English by one rule
(`readable_class`) and a short table of the names that the rule garbles.
"""

from collections.abc import Sequence

CAPTION_TEMPLATE = "an emoji of {}"
"""The caption of a picture at evaluation, filled with the emoji's name."""

CLASS_TEMPLATES = (
    "{}",
    "a kind of {}",
    "an emoji of the kind {}",
    "a picture of {}",
    "a drawing of {}",
)
"""The prompt ensemble of a class; texts are embedded one by one and averaged."""

# Subgroups whose last word is not a noun, or that read badly when turned round.
_READABLE = {
    "face-hand": "face with hands",
    "face-hat": "face with a hat",
    "face-glasses": "face with glasses",
    "face-tongue": "face with tongue",
    "face-neutral-skeptical": "neutral or skeptical face",
    "face-affection": "affectionate face",
    "face-costume": "costumed face",
    "cat-face": "cat face",
    "monkey-face": "monkey face",
    "hand-fingers-open": "hand with open fingers",
    "hand-fingers-partial": "hand with some fingers",
    "hand-fingers-closed": "hand with closed fingers",
    "hand-single-finger": "hand with a single finger",
    "hand-prop": "hand with a thing",
    "body-parts": "body parts",
    "person-gesture": "gesture of a person",
    "person-role": "person in a role",
    "person-fantasy": "fantasy person",
    "person-activity": "activity of a person",
    "person-sport": "person at sport",
    "person-symbol": "symbol of a person",
    "food-prepared": "prepared food",
    "food-fruit": "fruit",
    "food-vegetable": "vegetable",
    "place-map": "map",
    "place-building": "building",
    "sky-weather": "sky and weather",
    "award-medal": "award medal",
    "arts-crafts": "arts and crafts",
    "musical-instrument": "musical instrument",
    "light-video": "light and video",
    "book-paper": "book and paper",
    "other-object": "other object",
    "transport-sign": "transport sign",
    "av-symbol": "audio and video symbol",
    "other-symbol": "other symbol",
    "alphanum": "letters and numbers",
    "geometric": "geometric shape",
    "country-flag": "country flag",
    "subdivision-flag": "flag of a region",
}


def readable_class(subgroup: str) -> str:
    """Turn a subgroup's code name into words.

    Unicode puts the general word first; English puts it last: "animal-mammal" reads
    "mammal animal". A table holds the names for which this rule gives nonsense.

    >>> readable_class("face-smiling"), readable_class("drink")
    ('smiling face', 'drink')
    """
    if subgroup in _READABLE:
        return _READABLE[subgroup]
    general, *special = subgroup.split("-")
    return " ".join([*special, general])


def class_prompts(class_names: Sequence[str]) -> list[list[str]]:
    """Return the prompt ensemble of each class.

    Args:
      class_names: subgroups, as `DatasetInfo.class_names`.

    Returns:
      One list of texts a class, all of one length, in the classes' order.
    """
    return [
        [template.format(readable_class(name)) for template in CLASS_TEMPLATES]
        for name in class_names
    ]


def caption(name: str) -> str:
    """Return an emoji's caption at evaluation.

    >>> caption("red apple")
    'an emoji of red apple'
    """
    return CAPTION_TEMPLATE.format(name)
