# SPDX-License-Identifier: Apache-2.0
"""Families of maps: each a frozen object with its options and its own fit, in one file.

A new family is a new file and a line here.
"""

from jaxalign.families.family import Family as Family
from jaxalign.families.family import Solved as Solved
from jaxalign.families.given import Given as Given
from jaxalign.families.least_squares import LeastSquares as LeastSquares
from jaxalign.families.mean_only import MeanOnly as MeanOnly
from jaxalign.families.mlp import Mlp as Mlp
from jaxalign.families.orthogonal import PAPER as PAPER
from jaxalign.families.orthogonal import Orthogonal as Orthogonal
from jaxalign.families.ridge import Ridge as Ridge
from jaxalign.families.robust import Robust as Robust
