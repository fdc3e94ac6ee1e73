# SPDX-License-Identifier: Apache-2.0
"""What the comparison and the benchmark of Stiefel solvers share, and the former's."""
