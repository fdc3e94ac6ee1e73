# SPDX-License-Identifier: Apache-2.0
"""Every code has a text with causes and a remedy, and `check` names the bad ones."""

import numpy as np
import pytest

import jaxalign as ja
from jaxalign.status import STATUS_TEXTS, check_status


@pytest.mark.parametrize(
    "code", [code for code in ja.Status if code is not ja.Status.OK]
)
def test_texts_name_causes(code):
    assert "Likely causes" in STATUS_TEXTS[code]
    with pytest.raises(ja.SolveError, match=f"`f`: {code.name}: ") as caught:
        check_status(np.array(code), call="f")
    assert caught.value.status is code
    check_status(np.array(code), call="f", allow=[code])


def test_batches_are_counted():
    status = np.array([0, 3, 3, 2])
    with pytest.raises(ja.SolveError, match=r"RANK_DEFICIENT \(2 of 4 solves\)"):
        check_status(status, call="f", allow=[ja.Status.NON_FINITE])
