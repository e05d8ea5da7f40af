from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfinite.errors import InvalidArgument, InvalidContent, MissingContent
from cloudfinite.wire.documents import MAX_DEPTH, MAX_NODES, Element, parse_body, read_fields
from cloudfinite.wire.nodes import node


def wrap(inner: str) -> bytes:
    return f"<Request>{inner}</Request>".encode()


# --- what is read --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"<Request><Tag>ImageOCR</Tag></Request>",
        b'<?xml version="1.0" encoding="utf-8"?>\n<Request><Tag>ImageOCR</Tag></Request>',
        b"\xef\xbb\xbf \n<Request><Tag> ImageOCR\n</Tag></Request>",
        b"<Request><!-- a --><?pi x?><Tag><![CDATA[Image]]>OCR</Tag></Request>",
        b"<Request><Tag>Image<!-- in between -->OCR</Tag></Request>",
        b'<r:Request xmlns:r="http://x/"><r:Tag a="1">ImageOCR</r:Tag></r:Request>',
        b'{"Request": {"Tag": "ImageOCR"}}',
        b'\xef\xbb\xbf {"Tag": "ImageOCR"}',
    ],
)
def test_body_is_told_by_its_first_character_and_read_alike(body: bytes) -> None:
    assert parse_body(body).get("Tag") == "ImageOCR"


def test_lists_and_scalars_of_json_are_repeated_nodes_and_texts() -> None:
    body = parse_body(b'{"Operation": [{"JobLevel": 1}, {"JobLevel": null}], "On": true, "F": 1.50}')
    assert [item.get("JobLevel") for item in body.all("operation")] == ["1", ""]
    assert (body.get("On"), body.get("F")) == ("true", "1.50")


def test_names_match_in_any_letter_case() -> None:
    assert parse_body(wrap("<ispdf>true</ispdf>")).get("IsPdf") == "true"


def test_second_copy_of_a_single_node_is_refused_and_not_the_last_taken() -> None:
    with pytest.raises(InvalidArgument, match=r"Request\.Tag occurs 2 times"):
        parse_body(wrap("<Tag>a</Tag><tag>b</tag>")).get("Tag")


# --- what is refused -----------------------------------------------------------------------------------------------

LAUGHS = (
    '<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;">]>'
)


@pytest.mark.parametrize(
    "body",
    [
        f"{LAUGHS}<Request>&c;</Request>".encode(),
        f'<?xml version="1.0"?><!-- x --> <?pi?>\n{LAUGHS}<Request a="&c;"/>'.encode(),
        b'<!DOCTYPE r SYSTEM "file:///etc/passwd"><Request/>',
        b'<!DOCTYPE r [<!ENTITY % p SYSTEM "http://127.0.0.1/x"> %p;]><Request/>',
    ],
    ids=["laughs", "laughs-in-attribute", "external", "parameter-entity"],
)
def test_any_doctype_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidContent, match="DOCTYPE"):
        parse_body(body)


def test_doctype_as_text_is_only_text() -> None:
    assert parse_body(wrap("<UserData><![CDATA[<!DOCTYPE html>]]></UserData>")).get("UserData") == "<!DOCTYPE html>"


def test_search_for_a_doctype_does_not_backtrack() -> None:
    # Would take for ever if each comment could be read in several ways.
    with pytest.raises(InvalidContent):
        parse_body(b"<!-- -->" * 5_000 + b"<!DOC")


@pytest.mark.parametrize(
    "body",
    [
        "<Request><Tag>é</Tag></Request>".encode("latin-1"),
        "<Request/>".encode("utf-16"),
        "<Request/>".encode("utf-16-le"),
        b'<?xml version="1.0" encoding="UTF-7"?><Request/>',
        b"<?xml version='1.0' encoding='GBK'?><Request/>",
        b"<Request>\0</Request>",
        b'{"Tag": "\xff"}',
        b'{"Tag": "\\u0000"}',
        b'{"Tag": "\\ud800"}',
        b'{"\\udfff": 1}',
    ],
)
def test_text_that_is_not_utf_8_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidContent):
        parse_body(body)


@pytest.mark.parametrize(
    "body",
    [
        wrap("<a>" * 200_000),
        wrap("<a>" * MAX_DEPTH + "</a>" * MAX_DEPTH),
        b'{"a":' * 100_000,
        (b'{"a":' * MAX_DEPTH) + b"1" + b"}" * MAX_DEPTH,
        b"[" * 100_000,
    ],
    ids=["xml-huge", "xml-limit", "json-huge", "json-limit", "json-array"],
)
def test_depth_is_bounded(body: bytes) -> None:
    with pytest.raises(InvalidContent):
        parse_body(body)


def test_depth_at_the_limit_is_read() -> None:
    assert parse_body(wrap("<a>" * (MAX_DEPTH - 1) + "</a>" * (MAX_DEPTH - 1))).children


@pytest.mark.parametrize(
    "body",
    [
        wrap("<a/>" * (MAX_NODES + 1)),
        wrap("<a/>" * 1_000_000),
        wrap("<a " + " ".join(f'b{index}=""' for index in range(MAX_NODES)) + "/>"),
        json.dumps({"a": [1] * MAX_NODES}).encode(),
    ],
    ids=["elements", "a-million-elements", "attributes", "json"],
)
def test_number_of_nodes_is_bounded(body: bytes) -> None:
    with pytest.raises(InvalidContent, match="nodes"):
        parse_body(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"Tag": "a", "Tag": "b"}',
        b'{"Size": NaN}',
        b'{"Size": -Infinity}',
        b'{"Size": 1e400}',
        b'{"Size": ' + b"9" * 5_000 + b"}",
        b'{"Tag": "a"',
        b'{"Tag": "a"} {}',
    ],
)
def test_json_outside_the_common_ground_of_parsers_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidContent):
        parse_body(body)


@pytest.mark.parametrize("body", [b"", b"  \n", b"\xef\xbb\xbf"])
def test_empty_body_is_missing_content(body: bytes) -> None:
    with pytest.raises(MissingContent):
        parse_body(body)


@pytest.mark.parametrize("body", [b"<Request>", b"<Other/>", b"hello", b"<Request>&nbsp;</Request>", b"<Request/><b/>"])
def test_what_is_no_request_document_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidContent):
        parse_body(body)


@given(
    st.binary(max_size=200) | st.text(max_size=200).map(lambda text: ("<Request>" + text).encode("utf-8", "replace"))
)
def test_no_body_crashes_the_parser(body: bytes) -> None:
    with suppress(InvalidContent, MissingContent):
        assert parse_body(body).name == "Request"


# --- into dataclasses ----------------------------------------------------------------------------------------------


class Kind(StrEnum):
    FAST = "fast"
    EXACT = "exact"


@dataclass(frozen=True, slots=True)
class Wanted:
    kind: Kind = node("Kind", default=Kind.FAST)
    is_pdf: bool = node("IsPdf", default=False)
    page: int = node("Page", minimum=1, maximum=9, default=1)
    note: str | None = node("Note", default=None)


@dataclass(frozen=True, slots=True)
class Demanding:
    name: str = node("Name")


def test_fields_are_read_and_empty_ones_keep_their_default() -> None:
    element = parse_body(wrap("<kind>exact</kind><IsPdf>TRUE</IsPdf><Page/><Note>n</Note><Other>x</Other>"))
    assert read_fields(Wanted, element) == Wanted(Kind.EXACT, is_pdf=True, page=1, note="n")
    assert read_fields(Wanted, None) == Wanted()


@pytest.mark.parametrize(
    ("inner", "says"),
    [
        ("<Kind>slow</Kind>", "Request.Kind is 'slow'; it must be one of fast, exact"),
        ("<IsPdf>1</IsPdf>", "Request.IsPdf is '1'; it must be true or false"),
        ("<Page>0</Page>", "Request.Page is 0; it must be a whole number from 1 to 9"),
        ("<Page>1.5</Page>", "Request.Page is '1.5'"),
        ("<Page>١</Page>", "Request.Page"),
    ],
)
def test_wrong_value_is_named_with_what_would_be_right(inner: str, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says.replace(".", r"\.")):
        read_fields(Wanted, parse_body(wrap(inner)))


def test_missing_field_is_named() -> None:
    with pytest.raises(InvalidArgument, match="Demanding needs Name"):
        read_fields(Demanding, None)


def test_element_without_a_child_gives_the_default() -> None:
    element: Any = Element("Request")
    assert element.find("Tag") is None
    assert element.get("Tag", "x") == "x"
