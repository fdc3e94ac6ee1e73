# SPDX-License-Identifier: Apache-2.0
"""No test here cuts the power, so none waits for the disk."""

import os

import pytest


@pytest.fixture(autouse=True, scope="module")
def quick_sync():
    """Leave `fsync` out: on a busy disk it is most of these tests' time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield
