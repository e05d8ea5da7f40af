"""Whatever text gets into a document, every parser reads it back: X9-X11 of the attack table."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lxml import etree

from cloudfinite.wire.nodes import Node, to_json, to_xml

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=200)  # surrogates and controls too
FORBIDDEN = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
HARD = [
    "\0",
    "a\x0bb",
    "\ud800",
    "\udfff\ud800",
    "\ufffe\uffff",
    "a\rb\r\n",
    "]]>",
    "</Value><Inject>",
    "&#0;",
    "\u202e",
    "🙂",
]


def document(text: str) -> Node:
    return Node("Response", (Node("DetectedText", text), Node("After", "x")))


@given(ANY_TEXT)
@example("".join(HARD))
def test_xml_is_read_back_by_expat_and_libxml2(text: str) -> None:
    written = to_xml(document(text))
    expected = FORBIDDEN.sub("\ufffd", text)
    for root in (ElementTree.fromstring(written), etree.fromstring(written)):
        assert (root.findtext("DetectedText") or "") == expected
        assert [child.tag for child in root] == ["DetectedText", "After"]


@given(ANY_TEXT)
@example("".join(HARD))
def test_json_is_read_back_exactly(text: str) -> None:
    written = to_json(document(text))
    # Half a pair that another half follows is one character to every JSON parser.
    expected = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    assert json.loads(written.decode("utf-8"))["Response"].get("DetectedText", "") == expected


@pytest.mark.parametrize("text", HARD)
def test_no_text_adds_or_ends_a_node(text: str) -> None:
    root = etree.fromstring(to_xml(document(text)))
    assert len(root) == 2 and root.findtext("After") == "x"


def test_a_megabyte_of_text_survives() -> None:
    text = "]]><&\r\x07" * 150_000
    assert etree.fromstring(to_xml(document(text))).findtext("DetectedText") == text.replace("\x07", "\ufffd")
