# SPDX-License-Identifier: Apache-2.0
"""Whole jobs from references to files, with their progress: what a command runs.

Each joins what the rooms below do: it opens what the user named, validates every option
before a pass over data, shows progress on stderr, and writes what comes out. The
subcommands of `jaxalign.cli` and the launches of the experiments are thin over them.
"""
