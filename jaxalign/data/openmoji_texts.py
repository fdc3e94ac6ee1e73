# SPDX-License-Identifier: Apache-2.0
"""Texts for emoji: class prompt ensembles, evaluation and training captions.

Class names are Unicode's subgroups, "animal-mammal". They become English by one rule
(`readable_class`) and a short table of the names that the rule garbles.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import grain
import numpy as np

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

CAPTION_SHARES = {
    "name": 0.15,
    "name and keywords": 0.3,
    "keywords": 0.2,
    "class": 0.35,
}
"""Kinds of training captions, and their shares. Shared properties of emoji (keywords,
classes) align the geometries of two models; names alone leave them independent."""

DETAIL_SHARE = 0.15
"""Share of training captions with words for the style, and as much, independently, with
words for the background."""

_NAME_TEMPLATES = (
    "{}",
    "an emoji of {}",
    "a picture of {}",
    "a drawing of {}",
    "an icon of {}",
    "the emoji {}",
)
_STYLE_WORDS = {
    "full": ("in colour", "with lines and colours"),
    "line": ("as a line drawing", "in black lines"),
    "fill": ("without lines", "in flat colours"),
}

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


def training_caption(example: Mapping[str, object], rng: np.random.Generator) -> str:
    """Write one of the many captions that fit a training picture.

    A caption tells the emoji's name, its name and some keywords, some keywords alone,
    or its class, with the shares of `CAPTION_SHARES`.

    Args:
      example: an example of the catalog: "name", "keywords", "subgroup", "style" and
        "background" are read. Without keywords the name stands in for them.
      rng: where the choice comes from.
    """
    kind = rng.choice(list(CAPTION_SHARES), p=list(CAPTION_SHARES.values()))
    if kind == "class":
        class_name = readable_class(str(example["subgroup"]))
        text = _choose(("a kind of {}", "{}"), rng).format(class_name)
    else:
        name = [str(example["name"])]
        keywords = _some_keywords(str(example["keywords"]), rng)
        subject = {
            "name": name,
            "name and keywords": name + keywords,
            "keywords": keywords or name,
        }[kind]
        text = _choose(_NAME_TEMPLATES, rng).format(", ".join(subject))
    if rng.random() < DETAIL_SHARE:
        text = f"{text} {_choose(_STYLE_WORDS[str(example['style'])], rng)}"
    if rng.random() < DETAIL_SHARE:
        text = f"{text} on {_with_article(str(example['background']))} background"
    return text


class WriteTrainingCaption(grain.transforms.RandomMap):
    """Set `text` to a caption drawn at random, see `training_caption`."""

    def random_map(
        self, element: dict[str, Any], rng: np.random.Generator
    ) -> dict[str, Any]:
        """Add a random caption to one example."""
        return {**element, "text": training_caption(element, rng)}


def _some_keywords(keywords: str, rng: np.random.Generator) -> list[str]:
    """Draw one to three of the keywords in any order; [] if there are no keywords."""
    words = [word for word in keywords.split(", ") if word]
    if not words:
        return []
    count = min(len(words), int(rng.integers(1, 4)))
    return [words[i] for i in rng.choice(len(words), size=count, replace=False)]


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _choose(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]
