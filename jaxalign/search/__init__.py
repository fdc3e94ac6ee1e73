# SPDX-License-Identifier: Apache-2.0
"""Using a map in a search: how, a prepared index, top-k, hubness offsets."""

from jaxalign.search.hubness import hubness_offsets as hubness_offsets
from jaxalign.search.index import PreparedIndex as PreparedIndex
from jaxalign.search.index import prepare as prepare
from jaxalign.search.top_k import top_k as top_k
from jaxalign.search.use import SearchMap as SearchMap
from jaxalign.search.use import Use as Use
