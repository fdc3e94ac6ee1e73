# SPDX-License-Identifier: Apache-2.0
"""Centred second moments of paired rows: the statistics every closed form needs."""

from jaxalign.moments.merging import decay_moments as decay_moments
from jaxalign.moments.merging import merge_moments as merge_moments
from jaxalign.moments.merging import subtract_moments as subtract_moments
from jaxalign.moments.reduce import reduce_groups as reduce_groups
from jaxalign.moments.statistics import Moments as Moments
from jaxalign.moments.statistics import init_moments as init_moments
from jaxalign.moments.update import update_moments as update_moments
