# SPDX-License-Identifier: Apache-2.0
"""Results as a file, a table in the terminal, and one self-contained page."""
