"""How S3-compatible storages are spoken to: the signature of a request, and the documents of its answers.

Wire: Amazon S3 API reference, "Authenticating Requests (AWS Signature Version 4)", "ListObjects", "PutObject",
"CreateMultipartUpload", "CompleteMultipartUpload", "CopyObject", "Error responses".
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.errors import HeaderParseError
from email.header import Header, decode_header, make_header
from typing import Any
from urllib.parse import quote, unquote_plus
from xml.sax.saxutils import escape

from lxml import etree

from cloudfinite.domain.objects import ListQuery, ObjectPage, StoredObject
from cloudfinite.wire.times import parse_job_time

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()

_ALGORITHM = "AWS4-HMAC-SHA256"
_META, _OUR_META = "x-amz-meta-", "x-cos-meta-"
_CRC64 = "x-amz-meta-cloudfinite-crc64"
_KEPT = ("Content-Type", "Cache-Control", "Content-Disposition", "Content-Encoding", "Expires")


class UnreadableAnswer(ValueError):
    """The storage's answer is no document of S3."""


# --- requests ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Credentials:
    """Whose requests they are; `region` is part of the signature."""

    access_key_id: str
    secret_access_key: str
    region: str


def encode_path(text: str) -> str:
    """A path as it is sent and signed: each byte but unreserved ones and `/` encoded, once."""
    return quote(text, safe="/-._~")


def encode_query(pairs: Iterable[tuple[str, str]]) -> str:
    """A query in the order that the signature wants."""
    encoded = sorted((_encode(name), _encode(value)) for name, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)


def sign(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    payload_sha256: str,
    credentials: Credentials,
    at: datetime,
) -> dict[str, str]:
    """The headers to send: `headers`, of which `Host` must be one, and those of the signature, which covers them all.

    path and query as `encode_path` and `encode_query` made them.
    """
    time = f"{at:%Y%m%dT%H%M%SZ}"
    scope = f"{at:%Y%m%d}/{credentials.region}/s3/aws4_request"
    all_headers = {**headers, "x-amz-content-sha256": payload_sha256, "x-amz-date": time}
    lines = sorted((name.lower(), " ".join(value.split())) for name, value in all_headers.items())
    names = ";".join(name for name, _ in lines)
    canonical = "\n".join(
        [method, path, query, *(f"{name}:{value}" for name, value in lines), "", names, payload_sha256]
    )
    to_sign = "\n".join([_ALGORITHM, time, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + credentials.secret_access_key.encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    signature = _hmac(key, to_sign).hex()
    all_headers["Authorization"] = (
        f"{_ALGORITHM} Credential={credentials.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return all_headers


def _encode(text: str) -> str:
    return quote(text, safe="-._~")


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def object_headers(item: StoredObject) -> dict[str, str]:
    """The headers that store what we know of an object: its CRC-64 stands beside the size of the bytes it is of."""
    headers = {name: item.headers[name] for name in _KEPT if name in item.headers}
    for name, value in item.headers.items():
        if name.startswith(_OUR_META):
            headers[_META + name.removeprefix(_OUR_META)] = _ascii(value)
    if item.crc64 is not None:
        headers[_CRC64] = f"{item.crc64}-{item.size_bytes}"
    return headers


def completion(etags: Sequence[str]) -> bytes:
    """The body that ends a multipart upload of these parts, whose numbers count from 1."""
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
        for number, etag in enumerate(etags, 1)
    )
    return f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()


def list_pairs(wanted: ListQuery) -> list[tuple[str, str]]:
    """The query of a list. Wire: the first version of it, which COS's S3 endpoint has too."""
    pairs = [("encoding-type", "url"), ("max-keys", str(wanted.size)), ("prefix", wanted.prefix)]
    if wanted.delimiter:
        pairs.append(("delimiter", wanted.delimiter))
    if wanted.marker:
        pairs.append(("marker", wanted.marker))
    return pairs


# --- answers -------------------------------------------------------------------------------------------------------


def stored_object(bucket: str, key: str, headers: Mapping[str, str], modified_at: datetime) -> StoredObject:
    """An object from the headers of a HEAD. Raises UnreadableAnswer."""
    try:
        size_bytes = int(headers["Content-Length"])
    except (KeyError, ValueError) as exc:
        raise UnreadableAnswer("the storage does not tell the object's size") from exc
    kept = {name: headers[name] for name in _KEPT if headers.get(name)}
    for name, value in headers.items():
        name = name.lower()
        if name.startswith(_META) and name != _CRC64:
            kept[_OUR_META + name.removeprefix(_META)] = _unicode(value)
    crc64, _, of_size = headers.get(_CRC64, "").partition("-")
    is_of_these_bytes = crc64.isdigit() and of_size == str(size_bytes)
    return StoredObject(
        bucket=bucket,
        key=key,
        file_id="",
        size_bytes=size_bytes,
        etag=headers.get("ETag", ""),
        crc64=int(crc64) if is_of_these_bytes else None,
        modified_at=modified_at,
        headers=kept,
    )


def read_list(body: bytes, bucket: str) -> ObjectPage:
    """A page of a list. Raises UnreadableAnswer."""
    root = _parse(body, "ListBucketResult")
    text = unquote_plus if root.findtext("{*}EncodingType") == "url" else str
    try:
        objects = tuple(_listed(bucket, text(_text(item, "Key")), item) for item in root.iterfind("{*}Contents"))
    except ValueError as exc:
        raise UnreadableAnswer(f"the storage's list cannot be read: {exc}") from exc
    prefixes = tuple(text(_text(item, "Prefix")) for item in root.iterfind("{*}CommonPrefixes"))
    if _text(root, "IsTruncated") != "true":
        return ObjectPage(objects, prefixes)
    # Wire: NextMarker is sure to be there with a delimiter alone. A storage's order need not be that of the bytes.
    last = [*(item.key for item in objects[-1:]), *prefixes[-1:]]
    marker = text(root.findtext("{*}NextMarker") or "") or max(last, key=str.encode, default="")
    return ObjectPage(objects, prefixes, marker)


def read_etag(body: bytes, root: str) -> str:
    """The ETag in an answer whose root is `root`: S3 may tell of a failure with status 200. Raises UnreadableAnswer."""
    return _text(_parse(body, root), "ETag")


def read_upload_id(body: bytes) -> str:
    """Raises UnreadableAnswer."""
    return _text(_parse(body, "InitiateMultipartUploadResult"), "UploadId")


def read_error(body: bytes) -> tuple[str, str]:
    """(code, message) of an error document, both "" where the body is none."""
    try:
        root = _parse(body, "Error")
    except UnreadableAnswer:
        return "", ""
    return root.findtext("{*}Code") or "", root.findtext("{*}Message") or ""


def _listed(bucket: str, key: str, item: Any) -> StoredObject:
    return StoredObject(
        bucket=bucket,
        key=key,
        file_id="",
        size_bytes=int(_text(item, "Size")),
        etag=item.findtext("{*}ETag") or "",
        crc64=None,
        modified_at=parse_job_time(_text(item, "LastModified")),
    )


def _parse(body: bytes, root: str) -> Any:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        document = etree.fromstring(body.strip(), parser)
    except (etree.XMLSyntaxError, ValueError) as exc:
        raise UnreadableAnswer(f"the storage's answer is no XML: {exc}") from exc
    tree: Any = document.getroottree()
    if tree.docinfo.doctype or etree.QName(document).localname != root:
        raise UnreadableAnswer(f"the storage's answer is no {root}")
    return document


def _text(item: Any, name: str) -> str:
    text = item.findtext(f"{{*}}{name}")
    if text is None:
        raise UnreadableAnswer(f"the storage's answer has no {name}")
    return str(text)


def _ascii(value: str) -> str:
    """Wire: Amazon S3 user guide, "Working with object metadata": RFC 2047 for what is not ASCII."""
    return value if value.isascii() else Header(value, "utf-8", maxlinelen=10_000).encode(maxlinelen=0)


def _unicode(value: str) -> str:
    if "=?" not in value:
        return value
    try:
        return str(make_header(decode_header(value)))
    except (HeaderParseError, LookupError, UnicodeDecodeError):
        return value
