"""The words of S3: the signature against Amazon's own example, objects as headers and back, lists and errors."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cloudfinite.domain.objects import ListQuery, StoredObject
from cloudfinite.wire import s3

AT = datetime(2013, 5, 24, tzinfo=UTC)


def test_signature_is_that_of_the_documentation() -> None:
    """Amazon S3 API reference, "Signature Calculations for the Authorization Header", example "GET Object"."""
    credentials = s3.Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1")
    headers = {"Host": "examplebucket.s3.amazonaws.com", "Range": "bytes=0-9"}
    signed = s3.sign("GET", "/test.txt", "", headers, s3.EMPTY_SHA256, credentials, AT)
    assert signed["Authorization"].rpartition("Signature=")[2] == (
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


def test_query_is_in_the_order_of_its_encoded_names() -> None:
    assert s3.encode_query([("uploadId", "a+b/c"), ("partNumber", "1"), ("uploads", "")]) == (
        "partNumber=1&uploadId=a%2Bb%2Fc&uploads="
    )


def test_object_comes_back_from_its_headers() -> None:
    kept = {"Content-Type": "image/png", "Expires": "0", "x-cos-meta-team": "蓝" * 300, "x-cos-meta-a": "plain"}
    item = StoredObject("b-1", "k", "", 7, '"e"', 2**64 - 1, AT, kept)
    sent = s3.object_headers(item) | {"Content-Length": "7", "ETag": '"e"'}
    assert all(value.isascii() and "\n" not in value for value in sent.values())
    assert s3.stored_object("b-1", "k", sent, AT) == item


def test_crc_of_other_bytes_is_not_believed() -> None:
    sent = {"x-amz-meta-cloudfinite-crc64": "5-7", "Content-Length": "8"}
    assert s3.stored_object("b-1", "k", sent, AT).crc64 is None


def test_list_is_decoded_and_goes_on_behind_its_last_entry() -> None:
    body = (
        b'<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        b"<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
        b"<Contents><Key>+a%2Bb</Key><LastModified>2026-01-05T02:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag>"
        b"<Size>7</Size></Contents><CommonPrefixes><Prefix>%E4%B8%AD/</Prefix></CommonPrefixes></ListBucketResult>"
    )
    page = s3.read_list(body, "b-1")
    [item] = page.objects
    assert (item.key, item.size_bytes, item.etag) == (" a+b", 7, '"e"')
    assert item.modified_at == datetime(2026, 1, 5, 2, tzinfo=UTC)
    assert (page.common_prefixes, page.next_marker) == (("中/",), "中/")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html/>",
        b"<ListBucketResult/>",
        b"<!DOCTYPE a><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key><Size>x</Size></Contents>"
        b"</ListBucketResult>",
    ],
)
def test_answer_that_is_no_list_is_told(body: bytes) -> None:
    with pytest.raises(s3.UnreadableAnswer):
        s3.read_list(body, "b-1")


def test_error_document_gives_code_and_message() -> None:
    assert s3.read_error(b"<Error><Code>SlowDown</Code><Message>wait</Message></Error>") == ("SlowDown", "wait")
    assert s3.read_error(b"<html>Bad Gateway</html>") == ("", "")


def test_list_query_leaves_out_what_is_not_asked() -> None:
    assert dict(s3.list_pairs(ListQuery(prefix="a", size=3))) == {
        "encoding-type": "url",
        "max-keys": "3",
        "prefix": "a",
    }
