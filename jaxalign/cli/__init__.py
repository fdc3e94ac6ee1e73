# SPDX-License-Identifier: Apache-2.0
"""The `jaxalign` command: one thin file a subcommand, over `jaxalign.workflows`."""
