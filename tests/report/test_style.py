# SPDX-License-Identifier: Apache-2.0
"""The style sheet is whole: colours defined, braces closed, nothing fetched."""

import re

from jaxalign.report.document import ENVIRONMENT

STYLE = ENVIRONMENT.get_template("style.css").render()


def test_every_colour_is_defined_for_light_and_dark():
    light, dark = re.findall(r":root \{([^}]*)\}", STYLE)
    used = set(re.findall(r"var\((--[a-z]+)\)", STYLE))
    assert used
    for scheme in (light, dark):
        assert used <= set(re.findall(r"(--[a-z]+):", scheme))


def test_braces_close_and_nothing_is_fetched():
    assert STYLE.count("{") == STYLE.count("}")
    assert "url(" not in STYLE
    assert "@import" not in STYLE
