"""The drawing of graphs: every step and every arrow is there, and nothing but numbers and escaped text."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cloudfinite.web.drawing_graph import Box, draw_graph

PLACE = re.compile(r'<rect x="([\d.]+)" y="([\d.]+)"')


def places(drawing: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in PLACE.findall(drawing)]


def test_steps_stand_behind_what_they_follow() -> None:
    boxes = [Box("a", "", "", ("b", "c")), Box("b", "", "", ("c",)), Box("c", "", "")]
    a, b, c = places(draw_graph(boxes))
    assert a[0] < b[0] < c[0]


def test_arrow_past_a_step_has_a_slot_of_its_own() -> None:
    a, b, c = places(draw_graph([Box("a", "", "", ("b", "c")), Box("b", "", "", ("c",)), Box("c", "", "")]))
    assert b[1] != a[1] == c[1]  # the middle column holds b and the arrow from a to c


def test_texts_are_escaped_and_cut() -> None:
    drawing = draw_graph([Box("<script>alert(1)</script>", "success", "图" * 40, url='"><b>')])
    assert "<script" not in drawing and "<b>" not in drawing
    assert f">{'图' * 8}…<" in drawing


def test_no_style_attribute_that_the_policy_would_forbid() -> None:
    assert "style=" not in draw_graph([Box("a", "", "", ("b",)), Box("b", "", "")])


@given(st.integers(1, 30), st.data())
def test_any_graph_is_drawn_whole_and_without_overlap(count: int, data: st.DataObject) -> None:
    names = [f"s{number}" for number in range(count)]
    edges = [
        tuple(sorted(set(data.draw(st.lists(st.sampled_from(names[number + 1 :]), max_size=3)))))
        if number < count - 1
        else ()
        for number in range(count)
    ]
    drawing = draw_graph([Box(name, "", "", to) for name, to in zip(names, edges, strict=True)])
    found = sorted(places(drawing))
    assert len(found) == count and drawing.count('class="link"') == sum(map(len, edges))
    assert all(b[0] - a[0] >= 196 or b[1] - a[1] >= 52 for a, b in pairwise(found))
