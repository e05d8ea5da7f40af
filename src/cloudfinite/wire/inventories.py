"""Lists of objects as files: a URL on each line, or the CSV of an inventory, found by its manifest.

Wire: Cloud Infinite API documentation, "Trigger job" (UrlFile: "each URL is a COS object access address"); COS
documentation, "Inventory Overview" (manifest.json, fileSchema).
Wire: our choice – Key cells are URL-encoded, as in the S3 inventories whose form this is.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from cloudfinite.errors import InvalidContent

MAX_MANIFEST_BYTES = 16 << 20
MAX_LINE_BYTES = 65_536  # A key has 850 bytes, and each may be percent-encoded.


@dataclass(frozen=True, slots=True)
class Listed:
    """One line that names an object; `bucket` is "" when it does not say. `modified_at`: when it says that."""

    bucket: str
    key: str
    modified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """The columns, and the keys of the CSV files in their order."""

    columns: tuple[str, ...]
    files: tuple[str, ...]


def read_url_line(line: str) -> Listed | None:
    """The object of a line; None for an empty one. A line that is no URL is a key.

    The bucket is told by a host like `<bucket>.cos.<region>…`; other hosts are this server by another name.
    """
    text = line.strip()
    if not text:
        return None
    if not text.lower().startswith(("http://", "https://")):
        return Listed("", text.removeprefix("/"))
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
    except ValueError:
        return Listed("", "")
    bucket, found, _ = host.partition(".cos")
    return Listed(bucket if found else "", unquote(parts.path).removeprefix("/"))


def read_manifest(body: bytes) -> Manifest:
    """Raises InvalidContent saying what is wrong."""
    try:
        data: Any = json.loads(body)
        files, schema = data["files"], data["fileSchema"]
        keys = tuple(str(file["key"]).removeprefix("/") for file in files)
    except (ValueError, RecursionError, TypeError, KeyError) as exc:
        raise InvalidContent("the manifest must be JSON with fileSchema and files, each with its key") from exc
    if str(data.get("fileFormat", "CSV")).upper() != "CSV":
        raise InvalidContent(f"the manifest's fileFormat is {data['fileFormat']!r}; it must be CSV")
    columns = tuple(part.strip().lower() for part in str(schema).split(","))
    if "key" not in columns:
        raise InvalidContent(f"the manifest's fileSchema is {schema!r}; it must have the column Key")
    return Manifest(columns, keys)


def is_whole_row(text: str) -> bool:
    """Whether a row of CSV ends with this line: a quoted cell may hold line breaks."""
    return text.count('"') % 2 == 0


def read_inventory_row(text: str, columns: Sequence[str]) -> Listed:
    """The object of one row. Raises InvalidContent for a row that is no CSV, or has too few cells."""
    try:
        cells = next(csv.reader([text]), [])
    except csv.Error as exc:
        raise InvalidContent(f"a row of the inventory is no CSV: {exc}") from exc
    row: Mapping[str, str] = dict(zip(columns, cells, strict=False))
    if "key" not in row:
        raise InvalidContent(f"a row of the inventory has {len(cells)} cells; its fileSchema has {len(columns)}")
    return Listed(row.get("bucket", ""), unquote(row["key"]), _read_time(row.get("lastmodifieddate", "")))


def _read_time(text: str) -> datetime | None:
    """An ISO time; None for what is none, which the object's own time then stands in for."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else None
