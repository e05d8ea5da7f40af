"""The documents of the object API: lists, multipart uploads, copies, deletions.

Wire: COS API documentation, the page of each call; node order as in its sample. Names are percent-encoded only where
`encoding-type=url` asked for it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from lxml import etree

from cloudfinite.domain.objects import Acl, Bucket, ListQuery, ObjectPage, Part, StoredObject, Upload, UploadPage
from cloudfinite.errors import InvalidArgument, InvalidContent, MalformedXml, MissingContent, NotImplementedHere
from cloudfinite.wire.documents import parse_body, read_integer
from cloudfinite.wire.nodes import Node
from cloudfinite.wire.times import object_time

MAX_KEYS = 1000  # per page, and per multiple deletion


# --- reading -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Listing:
    """A list request: what it selects, and whether names are to be encoded in the answer."""

    query: ListQuery
    encoding: str = ""

    def text(self, name: str) -> str:
        return quote(name, safe="/") if self.encoding else name


def read_listing(get: Callable[[str], str], *, size: str, marker: str, marker_id: str = "") -> Listing:
    """Read a list's parameters; `size`, `marker` and `marker_id` are this call's names for them.

    Raises InvalidArgument.
    """
    count = read_integer(get(size) or str(MAX_KEYS), size, 0, 10**9)
    query = ListQuery(
        prefix=get("prefix"),
        delimiter=get("delimiter"),
        marker=get(marker),
        marker_id=get(marker_id) if marker_id and get(marker) else "",
        size=min(count, MAX_KEYS),
    )
    return Listing(query, read_encoding(get))


def read_acl(headers: Mapping[str, str]) -> Acl:
    """What `x-cos-acl` says of a bucket. Raises InvalidArgument, NotImplementedHere for what would let others write."""
    text = headers.get("x-cos-acl", "") or Acl.PRIVATE.value
    if text in ("public-read-write", "authenticated-read"):
        raise NotImplementedHere(
            f"x-cos-acl {text} is not implemented; use private, public-read, or keys with policies"
        )
    try:
        return Acl(text)
    except ValueError as exc:
        raise InvalidArgument(f"x-cos-acl is {text!r}; it must be one of {', '.join(Acl)}") from exc


def read_token(text: str) -> str:
    """The marker in a continuation token. Raises InvalidArgument."""
    try:
        return base64.b64decode(text.encode(), altchars=b"-_", validate=True).decode()
    except ValueError as exc:
        raise InvalidArgument("continuation-token is none that this server gave") from exc


def write_token(marker: str) -> str:
    """A marker as text that clients take for opaque."""
    return base64.urlsafe_b64encode(marker.encode()).decode()


def read_encoding(get: Callable[[str], str]) -> str:
    """`url`, or "" for names as they are. Raises InvalidArgument."""
    encoding = get("encoding-type").lower()
    if encoding not in ("", "url"):
        raise InvalidArgument(f"encoding-type is {encoding!r}; it must be url")
    return encoding


def read_deletion(body: bytes) -> tuple[list[str], bool]:
    """The keys of a `Delete` document, exactly as written, and whether the answer is to be quiet.

    Raises MalformedXml.
    """
    try:
        root = parse_body(body, "Delete")
    except (InvalidContent, MissingContent) as exc:
        raise MalformedXml(exc.message) from exc
    if body.lstrip()[:1] == b"{":
        raise MalformedXml("the body must be XML")
    # A second look at a body that has been checked: white space at the ends belongs to a key.
    keys = [_raw_text(item, "Key") for item in etree.fromstring(body) if _name(item) == "Object"]
    if not 1 <= len(keys) <= MAX_KEYS:
        raise MalformedXml(f"Delete names {len(keys)} objects; it must be from 1 to {MAX_KEYS}")
    return keys, root.get("Quiet").lower() == "true"


def _raw_text(item: etree._Element, name: str) -> str:
    texts = ["".join(map(str, child.itertext())) for child in item if _name(child) == name]
    if len(texts) != 1:
        raise MalformedXml(f"{_name(item)} needs one {name}")
    return texts[0]


def _name(item: etree._Element) -> str:
    return etree.QName(item).localname if isinstance(item.tag, str) else ""


def read_completion(body: bytes) -> list[tuple[int, str]]:
    """(number, ETag) of each part of a `CompleteMultipartUpload` document. Raises MalformedXml."""
    try:
        root = parse_body(body, "CompleteMultipartUpload")
        parts = [(read_integer(part.get("PartNumber"), "PartNumber", 1), part.get("ETag")) for part in root.all("Part")]
    except (InvalidContent, MissingContent, InvalidArgument) as exc:
        raise MalformedXml(exc.message) from exc
    if not parts:
        raise MalformedXml("CompleteMultipartUpload names no Part")
    return parts


# --- writing -------------------------------------------------------------------------------------------------------


def bucket_list(buckets: Sequence[Bucket]) -> Node:
    owner = buckets[0].owner if buckets else ""
    items = tuple(
        Node(
            "Bucket",
            (
                Node("Name", bucket.name),
                Node("Location", bucket.region),
                Node("CreationDate", f"{bucket.created_at:%Y-%m-%dT%H:%M:%SZ}"),
            ),
            is_many=True,
        )
        for bucket in buckets
    )
    # Wire: COS documentation, "GET Service"; one account owns all buckets here, so its number stands for the user.
    name = f"qcs::cam::uin/{owner}:uin/{owner}" if owner else ""
    return Node(
        "ListAllMyBucketsResult",
        (Node("Owner", (Node("ID", name), Node("DisplayName", owner))), Node("Buckets", items)),
    )


def access_control(bucket: Bucket) -> Node:
    """Wire: COS documentation, "GET Bucket acl"."""
    owner = Node("ID", f"qcs::cam::uin/{bucket.owner}:uin/{bucket.owner}"), Node("DisplayName", bucket.owner)
    grants = [_grant(Node("Grantee", owner), "FULL_CONTROL")]
    if bucket.acl is Acl.PUBLIC_READ:
        anybody = Node("Grantee", (Node("URI", "http://cam.qcloud.com/groups/global/AllUsers"),))
        grants.append(_grant(anybody, "READ"))
    return Node("AccessControlPolicy", (Node("Owner", owner), Node("AccessControlList", tuple(grants))))


def _grant(grantee: Node, permission: str) -> Node:
    return Node("Grant", (grantee, Node("Permission", permission)), is_many=True)


def object_list(bucket: Bucket, listing: Listing, page: ObjectPage) -> Node:
    query, text = listing.query, listing.text
    nodes = [
        Node("Name", bucket.name),
        *_encoding("EncodingType", listing),
        Node("Prefix", text(query.prefix)),
        Node("Marker", text(query.marker)),
        Node("MaxKeys", query.size),
        Node("Delimiter", text(query.delimiter)),
        Node("IsTruncated", bool(page.next_marker)),
        *([Node("NextMarker", text(page.next_marker))] if page.next_marker else []),
        *_common_prefixes(page.common_prefixes, text),
        *_contents(page.objects, text, bucket.owner),
    ]
    return Node("ListBucketResult", tuple(nodes))


def object_list_v2(bucket: Bucket, listing: Listing, page: ObjectPage, token: str, start_after: str) -> Node:
    """Wire: Amazon S3 documentation, "ListObjectsV2"; a courtesy to its clients, COS has no such call."""
    query, text = listing.query, listing.text
    nodes = [
        Node("Name", bucket.name),
        *_encoding("EncodingType", listing),
        Node("Prefix", text(query.prefix)),
        Node("Delimiter", text(query.delimiter)),
        Node("MaxKeys", query.size),
        Node("KeyCount", len(page.objects) + len(page.common_prefixes)),
        Node("IsTruncated", bool(page.next_marker)),
        *([Node("ContinuationToken", token)] if token else []),
        *([Node("NextContinuationToken", write_token(page.next_marker))] if page.next_marker else []),
        *([Node("StartAfter", text(start_after))] if start_after else []),
        *_contents(page.objects, text),
    ]
    return Node("ListBucketResult", (*nodes, *_common_prefixes(page.common_prefixes, text)))


def location(bucket: Bucket) -> Node:
    """Wire: Amazon S3 and COS documentation, "GET Bucket location"."""
    return Node("LocationConstraint", bucket.region)


def _contents(objects: Iterable[StoredObject], text: Callable[[str], str], owner: str = "") -> list[Node]:
    return [
        Node(
            "Contents",
            (
                Node("Key", text(item.key)),
                Node("LastModified", object_time(item.modified_at)),
                Node("ETag", item.etag),
                Node("Size", item.size_bytes),
                *([_person("Owner", owner)] if owner else []),
                Node("StorageClass", "STANDARD"),
            ),
            is_many=True,
        )
        for item in objects
    ]


def upload_list(bucket: Bucket, listing: Listing, page: UploadPage) -> Node:
    query, text = listing.query, listing.text
    nodes = [
        Node("Bucket", bucket.name),
        *_encoding("Encoding-Type", listing),
        Node("KeyMarker", text(query.marker)),
        Node("UploadIdMarker", query.marker_id),
        Node("MaxUploads", query.size),
        Node("Prefix", text(query.prefix)),
        Node("Delimiter", text(query.delimiter)),
        Node("IsTruncated", bool(page.next_marker)),
    ]
    if page.next_marker:
        nodes += [Node("NextKeyMarker", text(page.next_marker)), Node("NextUploadIdMarker", page.next_marker_id)]
    for upload in page.uploads:
        fields = (
            Node("Key", text(upload.key)),
            Node("UploadId", upload.id),
            Node("StorageClass", "STANDARD"),
            _person("Initiator", bucket.owner),
            _person("Owner", bucket.owner),
            Node("Initiated", object_time(upload.created_at)),
        )
        nodes.append(Node("Upload", fields, is_many=True))
    return Node("ListMultipartUploadsResult", (*nodes, *_common_prefixes(page.common_prefixes, text)))


def part_list(
    bucket: Bucket, key: str, upload_id: str, parts: Sequence[Part], *, encoding: str, after: int, size: int, more: bool
) -> Node:
    nodes = [
        Node("Bucket", bucket.name),
        *([Node("Encoding-type", encoding)] if encoding else []),
        Node("Key", quote(key, safe="/") if encoding else key),
        Node("UploadId", upload_id),
        _person("Initiator", bucket.owner),
        _person("Owner", bucket.owner),
        Node("PartNumberMarker", after),
        *([Node("NextPartNumberMarker", parts[-1].number)] if more else []),
        Node("StorageClass", "STANDARD"),
        Node("MaxParts", size),
        Node("IsTruncated", more),
    ]
    for part in parts:
        fields = (
            Node("PartNumber", part.number),
            Node("LastModified", object_time(part.modified_at)),
            Node("ETag", part.etag),
            Node("Size", part.size_bytes),
        )
        nodes.append(Node("Part", fields, is_many=True))
    return Node("ListPartsResult", tuple(nodes))


def upload_started(upload: Upload) -> Node:
    fields = (Node("Bucket", upload.bucket), Node("Key", upload.key), Node("UploadId", upload.id))
    return Node("InitiateMultipartUploadResult", fields)


def upload_completed(item: StoredObject, location: str) -> Node:
    fields = (
        Node("Location", location),
        Node("Bucket", item.bucket),
        Node("Key", item.key),
        Node("ETag", item.etag),
    )
    return Node("CompleteMultipartUploadResult", fields)


def form_posted(item: StoredObject, location: str) -> Node:
    """Wire: COS documentation, "POST Object", success_action_status 201."""
    fields = (
        Node("Location", location),
        Node("Bucket", item.bucket),
        Node("Key", item.key),
        Node("ETag", item.etag),
    )
    return Node("PostResponse", fields)


def object_copied(item: StoredObject) -> Node:
    fields = (
        Node("ETag", item.etag),
        *([] if item.crc64 is None else [Node("CRC64", str(item.crc64))]),
        Node("LastModified", object_time(item.modified_at)),
    )
    return Node("CopyObjectResult", fields)


def part_copied(part: Part) -> Node:
    return Node(
        "CopyPartResult",
        (Node("ETag", part.etag), Node("CRC64", str(part.crc64)), Node("LastModified", object_time(part.modified_at))),
    )


def deletion(deleted: Iterable[str], refused: Iterable[tuple[str, str, str]]) -> Node:
    """`refused`: (key, code, message)."""
    nodes = [Node("Deleted", (Node("Key", key),), is_many=True) for key in deleted]
    nodes += [
        Node("Error", (Node("Key", key), Node("Code", code), Node("Message", message)), is_many=True)
        for key, code, message in refused
    ]
    return Node("DeleteResult", tuple(nodes))


def _encoding(name: str, listing: Listing) -> list[Node]:
    return [Node(name, listing.encoding)] if listing.encoding else []


def _common_prefixes(names: Iterable[str], text: Callable[[str], str]) -> list[Node]:
    return [Node("CommonPrefixes", (Node("Prefix", text(name)),), is_many=True) for name in names]


def _person(role: str, owner: str) -> Node:
    return Node(role, (Node("ID", owner), Node("DisplayName", owner)))
