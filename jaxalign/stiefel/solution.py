# SPDX-License-Identifier: Apache-2.0
"""What a fit on the Stiefel manifold returns: the point, its quality, and the way."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxalign.array_types import Array
from jaxalign.pytrees import pytree_dataclass, static_field
from jaxalign.status import Status, check_status


@pytree_dataclass
class History:
    """Measured along the way, the start first.

    Attributes:
      step: steps taken at each record, shape ``(records, *batch)``.
      value: of the objective, ``(records, *batch)``; repeats once a problem is done.
      gradient_norm: of the Riemannian gradient, relative, ``(records, *batch)``.
      orthogonality_error: largest entry of ``|Q'Q - I|``, ``(records, *batch)``.
    """

    step: Int[Array, "*records_and_batch"]
    value: Float[Array, "*records_and_batch"]
    gradient_norm: Float[Array, "*records_and_batch"]
    orthogonality_error: Float[Array, "*records_and_batch"]


@pytree_dataclass
class StiefelSolution:
    """Optimised points.

    Attributes:
      point: as `init` of the fit, orthonormal to rounding.
      value: of the objective there, ``(*batch)``.
      gradient_norm: of the Riemannian gradient, relative to the Euclidean gradient at
        the start, ``(*batch)``; 0 at an optimum.
      orthogonality_error: largest entry of ``|Q'Q - I|``, measured, ``(*batch)``.
      determinant: +1 or -1, the component of `point`, ``(*batch)``; 0 where points are
        not square, or are several.
      reflected: whether `point` comes from the start in the other component than
        `init`'s, ``(*batch)``.
      other_value: best value in the component that was not taken, ``(*batch)``;
        infinite where only one was tried.
      steps: taken until the gradient was small enough, ``(*batch)``.
      status: a `Status` code, ``(*batch)``; NOT_CONVERGED where the steps ran out,
        OFF_MANIFOLD where they were changed after they were taken.
      history: of the run that `point` ends.
      state: of the optimizer after the last step, to resume from.
      start: static; where the fit began, in words.
    """

    point: Any
    value: Float[Array, "*batch"]
    gradient_norm: Float[Array, "*batch"]
    orthogonality_error: Float[Array, "*batch"]
    determinant: Int[Array, "*batch"]
    reflected: Bool[Array, "*batch"]
    other_value: Float[Array, "*batch"]
    steps: Int[Array, "*batch"]
    status: Int[Array, "*batch"]
    history: History
    state: Any
    start: str = static_field(default="the given point")

    def check(self, *, allow: Iterable[Status] = ()) -> "StiefelSolution":
        """Return itself, or raise `SolveError` for a status not in `allow`."""
        check_status(self.status, call="stiefel.fit", allow=allow)
        return self

    def describe(self) -> str:
        """Say in a line or two how the fit went; on the host."""
        status = [Status(code).name for code in np.unique(np.asarray(self.status))]
        turned = np.asarray(self.reflected)
        tried = np.isfinite(np.asarray(self.other_value)).any()
        lines = [
            f"Started from {self.start}"
            + (" and from its reflection" if tried else "")
            + f"; {int(np.max(np.asarray(self.steps)))} steps; {', '.join(status)}; "
            f"relative gradient {float(np.max(np.asarray(self.gradient_norm))):.1e}, "
            "|Q'Q - I| at most "
            f"{float(np.max(np.asarray(self.orthogonality_error))):.1e}."
        ]
        if tried and turned.size == 1:
            better = "other" if bool(turned) else "given"
            sign = int(self.determinant)
            # Several matrices of one problem have no one determinant.
            end = f"Determinant {sign:+d}, the" if sign else "The better end is the"
            lines.append(
                f"{end} {better} start's: value {float(self.value):.6g} against "
                f"{float(self.other_value):.6g}."
            )
        elif tried:
            lines.append(
                f"The other component was better in {int(turned.sum())} of "
                f"{turned.size} problems."
            )
        return "\n".join(lines)
