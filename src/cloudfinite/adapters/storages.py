"""From `s3://…` and `file:///…` in the settings to the storages that keep those buckets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cloudfinite.adapters.folder import FolderStorage
from cloudfinite.adapters.s3 import S3Place, S3Storage
from cloudfinite.errors import SetupError
from cloudfinite.ports import Clock, Storage
from cloudfinite.wire.s3 import Credentials

DEFAULT = "default"
"""The name of the access that buckets without one of their own use."""


@dataclass(frozen=True, slots=True)
class StorageAccess:
    """How an S3-compatible storage is reached, and what it can do: see `S3Place`, `S3Storage`."""

    endpoint: str
    access_key_id: str
    secret_access_key: str
    region: str = "us-east-1"
    path_style: bool = True
    opaque_keys: bool = False
    tells_creations: bool = False


def open_storages(
    urls: Mapping[str, str], accesses: Mapping[str, StorageAccess], clock: Clock, *, ca_file: Path | None = None
) -> dict[str, Storage]:
    """The storages of the buckets that `urls` names. Raises SetupError for what cannot be read."""
    found: dict[str, Storage] = {}
    for bucket, url in urls.items():
        parts = urlsplit(url)
        match parts.scheme:
            case "file" if parts.path and not parts.netloc:
                found[bucket] = FolderStorage(bucket, Path(unquote(parts.path)))
            case "s3" if parts.netloc and parts.path in ("", "/") and not parts.query and "@" not in parts.netloc:
                access = accesses.get(bucket) or accesses.get(DEFAULT)
                if access is None:
                    raise SetupError(
                        f"the bucket {bucket} is kept at {url}, and nothing says how to reach it",
                        f'give [storages."{bucket}"] or [storages.{DEFAULT}] an endpoint and keys; '
                        "see docs/remote-buckets.md",
                    )
                found[bucket] = S3Storage(
                    bucket, _place(parts.netloc, access), clock, tells_creations=access.tells_creations, ca_file=ca_file
                )
            case _:
                raise SetupError(
                    f"the bucket {bucket} is kept at {_without_secrets(url)!r}",
                    "write s3://bucket, with keys in the setting storages, or file:///folder",
                )
    return found


def remote_names(urls: Mapping[str, str], accesses: Mapping[str, StorageAccess]) -> dict[str, str]:
    """The storages' buckets that tell of new objects, and the bucket of ours that each stands for."""
    names: dict[str, str] = {}
    for bucket, url in urls.items():
        access = accesses.get(bucket) or accesses.get(DEFAULT)
        if not url.startswith("s3://") or access is None or not access.tells_creations:
            continue
        name = urlsplit(url).netloc
        if name in names:
            raise SetupError(
                f"{bucket} and {names[name]} are both kept in a bucket {name} that tells of new objects",
                "its notifications do not say which storage they come from; leave tells_creations off for one of them",
            )
        names[name] = bucket
    return names


def _place(bucket: str, access: StorageAccess) -> S3Place:
    credentials = Credentials(access.access_key_id, access.secret_access_key, access.region)
    return S3Place(bucket, access.endpoint, credentials, access.path_style, access.opaque_keys)


def _without_secrets(url: str) -> str:
    return f"{urlsplit(url).scheme}://…" if "@" in url else url
