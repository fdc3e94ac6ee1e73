# SPDX-License-Identifier: Apache-2.0
"""Text cut into the lines of a terminal."""

import textwrap

WIDTH = 96


def wrap(text: str) -> list[str]:
    """Cut a text into lines; a number and its % stay on one.

    >>> wrap("USABLE: 94 % find their partner")
    ['USABLE: 94 % find their partner']
    """
    cut = textwrap.wrap(text.replace(" %", "\xa0%"), WIDTH)
    return [line.replace("\xa0", " ") for line in cut]
