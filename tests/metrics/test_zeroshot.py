# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from jaxalign.metrics.zeroshot import (
    average_prompts,
    class_similarities,
    zeroshot_hits,
)

IMAGES = np.eye(4, 8, dtype=np.float32)
LABELS = np.array([20, 20, 10, 10])
# Class 10 lies between rows 2 and 3, class 20 on row 0 alone.
TEXTS = np.zeros((2, 8), np.float32)
TEXTS[0, 2:4], TEXTS[1, 0] = 1.0, 3.0
CLASS_IDS = np.array([10, 20])


def test_prompts_are_normalised_before_and_after_the_mean():
    prompts = np.array([[[10.0, 0.0], [0.0, 0.1]], [[0.0, 2.0], [0.0, 5.0]]])
    expected = np.array([[np.sqrt(0.5), np.sqrt(0.5)], [0.0, 1.0]])
    np.testing.assert_allclose(average_prompts(prompts), expected, atol=1e-6)


def test_hits_of_a_hand_made_table():
    # Image 1 is orthogonal to both texts: a tie is a miss.
    hits = zeroshot_hits(IMAGES, LABELS, TEXTS, CLASS_IDS)
    assert hits.tolist() == [True, False, True, True]


def test_class_similarities_average_over_images():
    table = class_similarities(IMAGES, LABELS, TEXTS, CLASS_IDS)
    np.testing.assert_allclose(table, [[np.sqrt(0.5), 0.0], [0.0, 0.5]], atol=1e-6)
    absent = class_similarities(IMAGES, LABELS, TEXTS, np.array([10, 30]))
    assert np.isnan(absent[1]).all()


@pytest.mark.usefixtures("no_shape_hook")
def test_prompts_need_three_axes():
    with pytest.raises(ValueError, match=r"average_prompts\(prompt_rows"):
        average_prompts(np.ones((2, 8)))
