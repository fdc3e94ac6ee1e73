# SPDX-License-Identifier: Apache-2.0
import pytest

from jaxalign.report.finding import describe_finding
from jaxalign.report.summary import collect
from tests.report.result_rows import HEADLINE, make_rows


def sentences(headline=HEADLINE, **changes):
    [cells] = collect(make_rows(**changes)).values()
    return describe_finding(cells, headline, fit_on="image")


def test_every_sentence_has_its_numbers():
    text = " ".join(sentences())
    for part in (
        "45.0 % of texts (95 % interval 42.0 to 48.0 %)",
        "(means alone 0.2 %, no map 0.1 %)",
        "cosine 0.87 (means alone 0.87, no map 0.87)",
        "72 % of what the target model's own pictures find (95 % interval 69 to 75 %)",
        "ridge 34.0 %, least squares 0.6 %",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("found", "share", "verdict"),
    [
        (0.45, 0.72, "Found: one map fitted on images alone carries texts"),
        (0.45, None, "Found: "),
        (0.45, 0.40, "Found in part: "),
        (0.05, 0.72, "Not found: "),
    ],
)
def test_the_verdict_follows_the_numbers(found, share, verdict):
    assert sentences(texts={HEADLINE: (found, share)})[0].startswith(verdict)


def test_an_unknown_headline_says_nothing():
    assert sentences(headline="no such method") == []
