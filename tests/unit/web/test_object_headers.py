from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from cloudfinite.domain.objects import StoredObject
from cloudfinite.errors import InvalidArgument, InvalidDigest, InvalidRange, PreconditionFailed
from cloudfinite.web.object_headers import find_range, is_unmodified, overrides, read_md5
from cloudfinite.web.objects import read_copy_source
from cloudfinite.web.request import Query

ITEM = StoredObject("b-1", "k", "f", 10, '"abc"', 0, datetime(2026, 1, 5, 2, 0, 0, 500_000, UTC))
BEFORE, SAME, AFTER = (f"Mon, 05 Jan 2026 {clock} GMT" for clock in ("01:59:59", "02:00:00", "02:00:01"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes=0-3", (0, 4)),
        ("bytes=3-", (3, 7)),
        ("bytes=-4", (6, 4)),
        ("bytes=-400", (0, 10)),
        ("bytes=9-99", (9, 1)),
        ("bytes=5-4", None),
        ("bytes=0-1,4-5", None),
        ("bytes=-", None),
        ("lines=1-2", None),
        ("", None),
    ],
)
def test_range_is_read(text: str, expected: tuple[int, int] | None) -> None:
    assert find_range({"Range": text}, ITEM) == expected


@pytest.mark.parametrize("text", ["bytes=10-", "bytes=99-100", "bytes=-0"])
def test_range_outside_the_object_is_refused_with_its_size(text: str) -> None:
    with pytest.raises(InvalidRange) as refused:
        find_range({"Range": text}, ITEM)
    assert refused.value.headers == (("Content-Range", "bytes */10"),)


@pytest.mark.parametrize(
    ("condition", "is_used"), [('"abc"', True), ("abc", True), ('"old"', False), (SAME, True), (BEFORE, False)]
)
def test_range_of_another_version_is_ignored(condition: str, is_used: bool) -> None:
    assert (find_range({"Range": "bytes=0-0", "If-Range": condition}, ITEM) is not None) == is_used


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"If-None-Match": '"abc"'}, True),
        ({"If-None-Match": "abc"}, True),
        ({"If-None-Match": 'W/"x", "abc"'}, True),
        ({"If-None-Match": "*"}, True),
        ({"If-None-Match": '"x"'}, False),
        ({"If-Modified-Since": SAME}, True),
        ({"If-Modified-Since": AFTER}, True),
        ({"If-Modified-Since": BEFORE}, False),
        ({"If-Modified-Since": AFTER, "If-None-Match": "x"}, False),
        ({"If-Modified-Since": "yesterday"}, False),
        ({"If-Match": "abc"}, False),
        ({"If-Unmodified-Since": SAME}, False),
        ({"If-Match": '"abc"', "If-Unmodified-Since": BEFORE}, False),
    ],
)
def test_precondition_says_whether_the_copy_is_good(headers: dict[str, str], expected: bool) -> None:
    assert is_unmodified(headers, ITEM) == expected


@pytest.mark.parametrize("headers", [{"If-Match": '"x"'}, {"If-Unmodified-Since": BEFORE}])
def test_precondition_that_fails_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(PreconditionFailed):
        is_unmodified(headers, ITEM)


def test_request_without_signature_overrides_nothing() -> None:
    request = SimpleNamespace(secret_id="", query=Query((("response-content-type", "text/html"),)))
    with pytest.raises(InvalidArgument):
        overrides(request)  # type: ignore[arg-type]  # all of a request that it looks at


@pytest.mark.parametrize("text", ["no base64!", "AAAA", "é"])
def test_malformed_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidDigest):
        read_md5({"Content-MD5": text})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("b-1.cos.ap-x.myqcloud.com/a%20b/%E4%B8%AD", ("b-1", "a b/中")),
        ("b-1.cos.ap-x.myqcloud.com//lead?versionId=", ("b-1", "/lead")),
        ("http://b-1.cos.ap-x.myqcloud.com/a%2Bb+c", ("b-1", "a+b+c")),
    ],
)
def test_copy_source_is_read(text: str, expected: tuple[str, str]) -> None:
    assert read_copy_source(text) == expected


@pytest.mark.parametrize("text", ["b-1.cos.ap-x.myqcloud.com", "/key", "b-1.cos.x.y/%FF", "b-1.cos.x.y/k?versionId=7"])
def test_copy_source_that_names_no_object_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        read_copy_source(text)
