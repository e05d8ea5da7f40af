from __future__ import annotations

import json
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from cloudfinite.wire.nodes import Node, node, pretty_xml, sorted_by_name, to_json, to_xml, tree, xml_text

# Every character there is, lone surrogates too: recognised text may hold any.
anything = st.text(st.characters(codec=None, exclude_categories=()))


@dataclass(frozen=True, slots=True)
class Point:
    x: int = node("X")


@dataclass(frozen=True, slots=True)
class Found:
    angle: str = node("Angel")
    box: Point = node("Box", json=list)
    score: int = node("Score", json=str)
    points: tuple[Point, ...] = node("Point", many=True)
    words: tuple[Point, ...] = node("Words", many=True, placeholder=Point(0))
    note: str | None = node("Note", default=None)
    empty: str = node("Empty", default="")


ONE = Found("0", Point(1), 98, (Point(2),), ())


def test_one_declaration_gives_both_forms_with_their_differences() -> None:
    assert to_xml(tree("Found", ONE)) == (
        b"<Found><Angel>0</Angel><Box><X>1</X></Box><Score>98</Score><Point><X>2</X></Point>"
        b"<Words><X>0</X></Words><Empty/></Found>"
    )
    assert to_json(tree("Found", ONE)) == (
        b'{"Found":{"Angel":"0","Box":[{"X":1}],"Score":"98","Point":[{"X":2}],"Words":[{"X":0}]}}'
    )


def test_without_placeholders_an_empty_list_leaves_nothing() -> None:
    assert b"Words" not in to_xml(tree("Found", ONE, placeholders=False))


def test_bare_json_leaves_out_the_root_name() -> None:
    assert to_json(Node("Response", (Node("State", "Success"),)), wrapped=False) == b'{"State":"Success"}'


def test_names_sort_by_ascii_with_the_marked_one_last() -> None:
    root = Node("R", (Node("b", 1), Node("CosHeaders", 2, sorts_last=True), Node("Z", 3), Node("A", 4)))
    assert to_xml(sorted_by_name(root)) == b"<R><A>4</A><Z>3</Z><b>1</b><CosHeaders>2</CosHeaders></R>"


def test_characters_that_xml_cannot_carry_become_u_fffd() -> None:
    assert xml_text("a\x00\x08\x0b\x1f\ufffe\uffff\ud800z") == "a" + "\ufffd" * 7 + "z"
    assert xml_text("a\tb\nc\rd<&>]]>\U0001f600") == "a\tb\nc&#13;d&lt;&amp;&gt;]]&gt;\U0001f600"


@given(anything)
def test_any_text_gives_xml_that_parses_back(text: str) -> None:
    parsed = etree.fromstring(to_xml(Node("R", text)))
    allowed = "".join(char if xml_text(char) != "\ufffd" else "\ufffd" for char in text)
    assert (parsed.text or "") == allowed


@given(anything)
def test_any_text_gives_json_that_parses_back(text: str) -> None:
    assert json.loads(to_json(Node("R", text)).decode()) == {"R": _joined(text)}


def _joined(text: str) -> str:
    # A high and a low half written side by side are one character to every JSON reader.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def test_pretty_form_is_indented_and_holds_the_same() -> None:
    assert pretty_xml(Node("R", (Node("A", 1), Node("B", (Node("C", "x"),))))) == (
        "<R>\n  <A>1</A>\n  <B>\n    <C>x</C>\n  </B>\n</R>"
    )


def test_child_is_found_by_name() -> None:
    root = Node("R", (Node("A", 1),))
    assert root.child("A") == Node("A", 1)
    assert root.child("B") is None
    assert Node("R", "text").child("A") is None
