# SPDX-License-Identifier: Apache-2.0
"""Metrics: pure functions of rows, without a map in sight."""

from jaxalign.metrics.cosine import centred_cosine as centred_cosine
from jaxalign.metrics.cosine import mean_cosine as mean_cosine
from jaxalign.metrics.cosine import mismatched_cosine as mismatched_cosine
from jaxalign.metrics.cosine import pair_cosines as pair_cosines
from jaxalign.metrics.recall import class_top1 as class_top1
from jaxalign.metrics.recall import exact_recall as exact_recall
from jaxalign.metrics.spectrum import dimensions_used as dimensions_used
from jaxalign.metrics.zeroshot import average_prompts as average_prompts
from jaxalign.metrics.zeroshot import zeroshot_hits as zeroshot_hits
