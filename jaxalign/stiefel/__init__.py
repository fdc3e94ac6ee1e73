# SPDX-License-Identifier: Apache-2.0
"""Optimisation over matrices with orthonormal columns or rows, as optax pieces."""
