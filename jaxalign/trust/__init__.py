# SPDX-License-Identifier: Apache-2.0
"""How far to trust a map: intervals, held-out errors and angles from moments alone."""
