# SPDX-License-Identifier: Apache-2.0
"""Timed comparisons: warm up, block, alternate with the peers in one run, medians."""
