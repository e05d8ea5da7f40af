"""The tables of buckets, objects, uploads, events, and the files that await their removal.

Keys are bytes (UTF-8): both databases compare them byte by byte, so lists are range seeks on the primary key. A CRC-64
does not fit a signed column and is kept as text, the way the wire writes it.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, Table, Text, text

from cloudfinite.adapters.schema_base import metadata, row_number

bucket = Table(
    "bucket",
    metadata,
    Column("name", Text, primary_key=True),
    Column("region", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    # JSON; "" in a bucket whose owner set nothing.
    Column("switches", Text, nullable=False, server_default=""),
    Column("cors", Text, nullable=False, server_default=""),
    Column("acl", Text, nullable=False, server_default="private"),
)

stored_object = Table(
    "object",
    metadata,
    Column("bucket", Text, primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    # Of a multipart object: the upload's id, under which its pieces stay.
    Column("file_id", Text, nullable=False, unique=True),
    Column("is_multipart", Boolean, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("etag", Text, nullable=False),
    Column("crc64", Text, nullable=False),
    Column("modified_us", BigInteger, nullable=False),
    Column("headers", Text, nullable=False),
    sqlite_with_rowid=False,
)

upload = Table(
    "upload",
    metadata,
    Column("id", Text, primary_key=True),
    Column("bucket", Text, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("headers", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Index("upload_list", "bucket", "key", "id"),
)

# The parts of an upload; after its completion, unmoved, the pieces of the object whose file_id is the upload's id.
part = Table(
    "part",
    metadata,
    Column("upload_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("file_id", Text, nullable=False, unique=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("etag", Text, nullable=False),
    Column("crc64", Text, nullable=False),
    Column("modified_us", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Files that no object names any more; see `LocalObjects` for why they are not removed at once.
garbage = Table(
    "garbage",
    metadata,
    Column("file_id", Text, primary_key=True),
    Column("since_us", BigInteger, nullable=False, index=True),
    sqlite_with_rowid=False,
)

# Creations of objects, written with them; done_us is set by the transaction that starts what they set off.
event = Table(
    "event",
    metadata,
    Column("seq", row_number, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("bucket", Text, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("etag", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("headers", Text, nullable=False),
    # JSON: the workflows whose runs led to the object; "" for none.
    Column("lineage", Text, nullable=False, server_default=""),
    Column("created_us", BigInteger, nullable=False),
    Column("done_us", BigInteger),
    Index("event_undone", "seq", sqlite_where=text("done_us IS NULL"), postgresql_where=text("done_us IS NULL")),
    Index(
        "event_done", "done_us", sqlite_where=text("done_us IS NOT NULL"), postgresql_where=text("done_us IS NOT NULL")
    ),
)
