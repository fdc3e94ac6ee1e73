# SPDX-License-Identifier: Apache-2.0
"""Running the command in this process, and small files of rows."""

import dataclasses
import json
from typing import Any

import jaxtyping
import numpy as np
import pytest

from jaxalign.cli.main import main

D_SOURCE, D_TARGET, COUNT = 8, 12, 120


@dataclasses.dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout."""
        (line,) = self.out.splitlines()
        return json.loads(line)


@pytest.fixture
def run(capsys):
    """Run the command; shapes are not checked, as they are not for users."""

    def run(*argv):
        checked = not jaxtyping.config.jaxtyping_disable
        jaxtyping.config.update("jaxtyping_disable", True)
        try:
            capsys.readouterr()
            code = main([str(one) for one in argv])
        finally:
            jaxtyping.config.update("jaxtyping_disable", not checked)
        return Done(code, *capsys.readouterr())

    return run


def planted_rows(seed=0, count=COUNT):
    """Rows of two models that see one thing, about long means; not normalised."""
    # The models stay the same, whatever the rows.
    models = np.random.default_rng(99)
    q, _ = np.linalg.qr(models.normal(size=(D_TARGET, D_SOURCE)))
    means = models.normal(size=D_SOURCE), models.normal(size=D_TARGET)
    rng = np.random.default_rng(seed)
    content = rng.normal(size=(count, D_SOURCE))
    source = 3 * (content + means[0])
    target = 5 * (content @ q.T + means[1] + 0.02 * rng.normal(size=(count, D_TARGET)))
    return source.astype(np.float16), target.astype(np.float16)


@pytest.fixture
def files(tmp_path):
    """`old.npy` and `new.npy` of paired rows, and `shuffled.npy`."""
    source, target = planted_rows()
    np.save(tmp_path / "old.npy", source)
    np.save(tmp_path / "new.npy", target)
    shuffled = np.random.default_rng(1).permutation(target)
    np.save(tmp_path / "shuffled.npy", shuffled)
    return tmp_path
