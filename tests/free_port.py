# SPDX-License-Identifier: Apache-2.0
"""A port for the coordinator of a run of several processes on this machine."""

import socket


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
