# SPDX-License-Identifier: Apache-2.0
"""What holds for the product of two maps, and the product itself."""

from jaxalign.errors import ArgumentError
from jaxalign.families.family import Structure
from jaxalign.maps.numbers import MapNumbers
from jaxalign.precise import product
from jaxalign.spaces import same_space


def composed_structure(
    structures: tuple[Structure, Structure], widths: tuple[int, int, int]
) -> Structure:
    r"""Return what holds for the product of two matrices.

    Two isometries make an isometry if the width goes one way. A partial isometry
    :math:`U V^\top` stays one before an isometry to no smaller width, which keeps the
    columns of :math:`U` orthonormal, and after an isometry from no smaller width. All
    else, two partial isometries included, is "general".

    Args:
      structures: of the map applied first, and of the one after it.
      widths: of the rows that go in, between the two, and that come out.

    >>> composed_structure(("isometry", "partial_isometry"), (8, 8, 4))
    'partial_isometry'
    """
    goes_in, between, comes_out = widths
    if structures == ("partial_isometry", "isometry"):
        return "partial_isometry" if comes_out >= between else "general"
    if structures == ("isometry", "partial_isometry"):
        return "partial_isometry" if goes_in >= between else "general"
    one_way = list(widths) in (sorted(widths), sorted(widths, reverse=True))
    if structures == ("isometry", "isometry") and one_way:
        return "isometry"
    return "general"


def compose(later: MapNumbers, earlier: MapNumbers) -> MapNumbers:
    """Multiply two maps that `check_composable` accepts."""
    # (d_target, d_middle) @ (d_middle, d_source)
    matrix = product(later.matrix, earlier.matrix)
    target_means = {}
    for name, scale in later.scales.items():
        step = earlier.target_means[name] - later.source_means[name]
        moved = product(later.matrix, step)
        target_means[name] = scale * moved + later.target_means[name]
    return MapNumbers(
        matrix=matrix,
        scales={name: s * earlier.scales[name] for name, s in later.scales.items()},
        source_means=earlier.source_means,
        target_means=target_means,
        source_norms=earlier.source_norms,
        target_norms=later.target_norms,
        structure=composed_structure(
            (earlier.structure, later.structure),
            (earlier.matrix.shape[1], later.matrix.shape[1], later.matrix.shape[0]),
        ),
    )


def check_composable(
    later: MapNumbers, earlier: MapNumbers, spaces: tuple[str | None, str | None]
) -> None:
    """Raise for two maps that do not meet in one space, and those with no product.

    Args:
      later: the map applied second.
      earlier: the map applied first.
      spaces: that rows of the later map come from, and those of the earlier end in.
    """
    call = "later @ earlier"
    if "residual" in (later.structure, earlier.structure):
        raise ArgumentError(
            call,
            "maps with a matrix each",
            "an MLP, which no single map can hold together with another",
            "carry rows by one after the other",
        )
    goes_in, comes_out = later.matrix.shape[1], earlier.matrix.shape[0]
    if goes_in != comes_out:
        raise ArgumentError(
            call,
            "equal widths where the maps meet",
            f"{goes_in} after {comes_out}",
            "the map applied first stands on the right",
        )
    if None not in spaces and not same_space(*spaces):
        raise ArgumentError(
            call,
            "one space where the maps meet",
            f"{spaces[0]!r} after {spaces[1]!r}",
            "the map applied first stands on the right, and `inverse()` turns a map "
            "around",
        )
    if set(later.scales) != set(earlier.scales):
        raise ArgumentError(
            call,
            "the same modalities",
            f"{sorted(later.scales)} after {sorted(earlier.scales)}",
            "fit both maps on pairs of the same modalities",
        )
