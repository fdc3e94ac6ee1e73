# SPDX-License-Identifier: Apache-2.0
import pytest

from jaxalign.data import render_workers, renderings
from jaxalign.data.renderings import Rendering

STEMS = ("1F600", "1F34E", "27A1")


def test_processes_draw_what_one_would_in_order():
    jobs = [
        (stem, r) for stem in STEMS for r in renderings.renderings_of(stem, "source")
    ]
    expected = [renderings.draw_png(renderings.read_svg(s), r) for s, r in jobs]
    assert list(render_workers.draw_all(jobs, processes=2)) == expected


def test_a_dead_worker_is_reported(capfd):
    jobs = [("no-such-emoji", Rendering("plain", "full"))]
    with pytest.raises(RuntimeError, match="started again"):
        list(render_workers.draw_all(jobs, processes=1))
    assert "no-such-emoji" in capfd.readouterr().err


def test_who_stops_reading_stops_the_workers(capfd):
    family = renderings.renderings_of("1F600", "source")
    drawn = render_workers.draw_all([("1F600", r) for r in family] * 400, processes=2)
    next(drawn)
    drawn.close()  # waits for the workers
    assert capfd.readouterr().err == ""
