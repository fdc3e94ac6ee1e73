# SPDX-License-Identifier: Apache-2.0
"""Dimensions in use, against spectra prescribed by hand."""

import numpy as np
import pytest

from jaxalign.metrics.spectrum import dimensions_used


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 1), (0.9, 2), (0.99, 3), (1.0, 3)]
)
def test_prescribed_spectrum(share, expected):
    rng = np.random.default_rng(0)
    left = rng.normal(size=(40, 3))
    left, _ = np.linalg.qr(left - left.mean(axis=0))
    right, _ = np.linalg.qr(rng.normal(size=(8, 3)))
    # Variances 16, 3 and 1 of 20: shares 0.8, 0.95, 1.
    rows = left * np.sqrt([16.0, 3.0, 1.0]) @ right.T + 5.0
    assert dimensions_used(rows, share=share) == expected


def test_rows_without_variance_use_no_dimension():
    assert dimensions_used(np.ones((4, 3))) == 0


def test_share_out_of_range():
    with pytest.raises(ValueError, match="share"):
        dimensions_used(np.eye(3), share=1.5)
