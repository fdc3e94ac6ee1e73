# SPDX-License-Identifier: Apache-2.0
"""What a solver has to say about its data: status codes, their texts, and `check`.

Shapes and options that are wrong raise at trace time. Trouble that only the numbers
show cannot raise inside `jax.jit`, so each solution carries a `Status` code per batch
entry, as data; `check_status` turns it into an error on the host.
"""

import enum
from collections.abc import Iterable
from typing import Any, ClassVar, TypeVar

import numpy as np
from jaxtyping import Int

from jaxalign.array_types import ArrayLike
from jaxalign.errors import UserError


class Status(enum.IntEnum):
    """Outcome of a solve, one code per batch entry."""

    OK = 0
    TOO_FEW_ANCHORS = 1
    NON_FINITE = 2
    RANK_DEFICIENT = 3
    NOT_CONVERGED = 4
    FEW_BLOCKS = 5
    MORE_ANCHORS = 6
    OFF_MANIFOLD = 7


STATUS_TEXTS: dict[Status, str] = {
    Status.OK: "solved; the solution is unique.",
    Status.TOO_FEW_ANCHORS: (
        "fewer than two anchors carry weight, so nothing is left after centring. "
        "Likely causes: an empty batch, or a mask of zeros. Pass more anchors, or "
        "check `weights`."
    ),
    Status.NON_FINITE: (
        "the moments or the scale are not finite. Likely causes: NaN or infinite "
        "rows, a half-precision overflow, or rows without any spread. Look at the "
        "embeddings with `numpy.isfinite`, and give padding the weight 0."
    ),
    Status.RANK_DEFICIENT: (
        "the anchors determine the map on part of the space only; on the rest it is "
        "arbitrary. Likely causes: fewer anchors than dimensions (n anchors give "
        "rank n - 1 once centred), duplicated anchors, or embeddings of low rank. "
        "Add more varied anchors, or accept it with "
        "`check(allow=[Status.RANK_DEFICIENT])`: the map is still right on the span "
        "of the anchors."
    ),
    Status.NOT_CONVERGED: (
        "the iteration stopped before it reached an optimum. Likely causes: an "
        "iterative polar factor of anchors that leave directions open (fewer anchors "
        "than dimensions, embeddings of low rank), a spectrum so steep that steps are "
        "small, or models or pairs with nothing in common. Pass method='svd', which "
        "is exact at any rank, more iterations, or more varied anchors."
    ),
    Status.FEW_BLOCKS: (
        "the rows lie in blocks worth fewer than 8 of equal size, too few to tell an "
        "error from. Likely causes: one id for many rows, groups of very unequal size, "
        "or fewer rows than blocks. Deal rows to blocks by `block_of_rows`, by ids "
        "that differ."
    ),
    Status.MORE_ANCHORS: (
        "held-out errors still fall with the number of anchors. Likely causes: fewer "
        "anchors than the directions that carry the embeddings, or noisy pairs. Add "
        "about `learning.more` of them, or accept it with "
        "`check(allow=[Status.MORE_ANCHORS])`."
    ),
    Status.OFF_MANIFOLD: (
        "the optimizer's steps left the manifold on the way. Likely causes: a "
        "transformation after its last piece, such as "
        "`optax.chain(riemannian_sgd(...), reduce_on_plateau())`, or an optimizer that "
        "is not of `ja.stiefel`. Pass the transformation as `step_transform` of the "
        "optimizer, which applies it before the point is brought back."
    ),
}


class SolveError(UserError, ValueError):
    """A solution was checked and found wanting; `status` is its worst code."""

    def __init__(self, message: str, status: Status):
        super().__init__(message)
        self.status = status


def check_status(
    status: Int[ArrayLike, "*batch"], *, call: str, allow: Iterable[Status] = ()
) -> None:
    """Raise `SolveError` if any code is neither OK nor allowed.

    Args:
      status: codes, shape ``(...)``; read on the host, so not under `jax.jit`.
      call: the function that made them, named in the message.
      allow: codes that are accepted besides `Status.OK`.

    Raises:
      SolveError: naming each code, how many entries have it, causes and remedy.

    >>> check_status(np.array([0, 3]), call="solve", allow=[Status.RANK_DEFICIENT])
    """
    codes, counts = np.unique(np.asarray(status), return_counts=True)
    accepted = {Status.OK, *allow}
    bad = [
        (Status(code), count)
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True)
        if Status(code) not in accepted
    ]
    if not bad:
        return
    size = int(np.asarray(status).size)
    lines = []
    for code, count in bad:
        share = "" if size == 1 else f" ({count} of {size} solves)"
        lines.append(f"`{call}`: {code.name}{share}: {STATUS_TEXTS[code]}")
    raise SolveError("\n".join(lines), bad[0][0])


Solution = TypeVar("Solution", bound="Checked")


class Checked:
    """Base of solutions, whose `status` holds a `Status` code per batch entry."""

    made_by: ClassVar[str]
    status: Any

    def check(self: Solution, *, allow: Iterable[Status] = ()) -> Solution:
        """Return itself, or raise `SolveError` for a status not in `allow`."""
        check_status(self.status, call=self.made_by, allow=allow)
        return self
