# SPDX-License-Identifier: Apache-2.0
"""Choosing family, strength, fit modality and use on held-out anchors."""

from jaxalign.choose.choose import MapChoice as MapChoice
from jaxalign.choose.choose import choose_map as choose_map
from jaxalign.choose.held_out import Job as Job
