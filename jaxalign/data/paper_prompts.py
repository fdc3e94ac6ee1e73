# SPDX-License-Identifier: Apache-2.0
"""The prompt ensembles of the paper's data sets, CLIP's for each.

Source: the list of prompts in the repository openai/CLIP (MIT licence), with its
wording ("a embroidered"), on which published figures rest.
"""

from collections.abc import Sequence

PETS = ("a photo of a {}, a type of pet.",)

STL10 = ("a photo of a {}.", "a photo of the {}.")

DTD = tuple(
    f"a photo of {article} {{}} {noun}."
    for article in ("a", "the")
    for noun in ("texture", "pattern", "thing", "object")
)

_QUALITIES = (
    "blurry",
    "black and white",
    "low contrast",
    "high contrast",
    "bad",
    "good",
)

CIFAR100 = tuple(
    template
    for article in ("a", "the")
    for template in (
        f"a photo of {article} {{}}.",
        *(f"a {quality} photo of {article} {{}}." for quality in _QUALITIES),
        *(f"a photo of {article} {size} {{}}." for size in ("small", "big")),
    )
)

_CALTECH101 = (
    "a photo of {} {{}}.",
    "a painting of {} {{}}.",
    "{} plastic {{}}.",
    "a sculpture of {} {{}}.",
    "a sketch of {} {{}}.",
    "a tattoo of {} {{}}.",
    "{} toy {{}}.",
    "a rendition of {} {{}}.",
    "{} embroidered {{}}.",
    "{} cartoon {{}}.",
    "{} {{}} in a video game.",
    "{} plushie {{}}.",
    "{} origami {{}}.",
    "art of {} {{}}.",
    "graffiti of {} {{}}.",
    "a drawing of {} {{}}.",
    "a doodle of {} {{}}.",
)

CALTECH101 = tuple(
    template.format(article) for article in ("a", "the") for template in _CALTECH101
)


def class_prompts(
    class_names: Sequence[str], templates: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """Return the prompt ensemble of each class.

    >>> class_prompts(["beagle"], PETS)
    (('a photo of a beagle, a type of pet.',),)
    """
    return tuple(
        tuple(template.format(name) for template in templates) for name in class_names
    )
