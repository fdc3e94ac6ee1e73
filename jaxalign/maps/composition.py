# SPDX-License-Identifier: Apache-2.0
"""Of which kind the product of two maps is."""


def composed_kind(kinds: tuple[str, str], widths: tuple[int, int, int]) -> str:
    r"""Name the kind of a product of two maps that have one.

    Two rotations make a rotation if the width goes one way. A partial isometry
    :math:`U V^\top` stays one before a rotation to no smaller width, which keeps the
    columns of :math:`U` orthonormal, and after a rotation from no smaller width. All
    else, two partial isometries included, is "linear".

    Args:
      kinds: of the map applied first, and of the one after it.
      widths: of the rows that go in, between the two, and that come out.

    >>> composed_kind(("orthogonal", "partial_isometry"), (8, 8, 4))
    'partial_isometry'
    """
    goes_in, between, comes_out = widths
    if "linear" in kinds or kinds == ("partial_isometry", "partial_isometry"):
        return "linear"
    if kinds[0] == "partial_isometry":
        return "partial_isometry" if comes_out >= between else "linear"
    if kinds[1] == "partial_isometry":
        return "partial_isometry" if goes_in >= between else "linear"
    if list(widths) not in (sorted(widths), sorted(widths, reverse=True)):
        return "linear"
    return "mean_only" if kinds == ("mean_only", "mean_only") else "orthogonal"
