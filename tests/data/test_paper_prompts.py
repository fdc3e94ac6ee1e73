# SPDX-License-Identifier: Apache-2.0
import pytest

from jaxalign.data import paper_classes, paper_prompts

# How many CLIP has, its first and its last.
ENSEMBLES = {
    "PETS": (1, "a photo of a {}, a type of pet.", "a photo of a {}, a type of pet."),
    "CIFAR100": (18, "a photo of a {}.", "a photo of the big {}."),
    "CALTECH101": (34, "a photo of a {}.", "a doodle of the {}."),
    "DTD": (8, "a photo of a {} texture.", "a photo of the {} object."),
    "STL10": (2, "a photo of a {}.", "a photo of the {}."),
}


@pytest.mark.parametrize("name", ENSEMBLES)
def test_ensembles_are_clips(name):
    count, first, last = ENSEMBLES[name]
    templates = getattr(paper_prompts, name)
    assert len(set(templates)) == len(templates) == count
    assert (templates[0], templates[-1]) == (first, last)
    assert all(template.count("{}") == 1 for template in templates)


def test_wordings_that_articles_do_not_reach():
    assert "a embroidered {}." in paper_prompts.CALTECH101
    assert "the {} in a video game." in paper_prompts.CALTECH101
    assert "art of a {}." in paper_prompts.CALTECH101
    assert "a black and white photo of the {}." in paper_prompts.CIFAR100
    assert "a photo of a small {}." in paper_prompts.CIFAR100


def test_every_rewording_is_of_a_label():
    labels = {label for name in ENSEMBLES for label in getattr(paper_classes, name)}
    assert set(paper_classes._REWORDED) <= labels


def test_each_class_fills_each_template():
    found = paper_prompts.class_prompts(["cat", "dog"], paper_prompts.STL10)
    assert found == (
        ("a photo of a cat.", "a photo of the cat."),
        ("a photo of a dog.", "a photo of the dog."),
    )
