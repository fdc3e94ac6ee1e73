# SPDX-License-Identifier: Apache-2.0
"""Folds of anchors, fits that leave some out, and searches among what they left out."""
