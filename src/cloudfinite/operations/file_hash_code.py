"""FileHashCode: the MD5, SHA-1 or SHA-256 of a file.

Wire: Cloud Infinite API documentation, "Submit a hash calculation job" and "Query hash calculation result", nodes
FileHashCodeConfig and FileHashCodeResult with their samples.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

from cloudfinite.errors import UnsupportedOption
from cloudfinite.operations import operation
from cloudfinite.wire.nodes import node
from cloudfinite.wire.operation import LocalFile
from cloudfinite.wire.times import job_time


class HashType(StrEnum):
    MD5 = "MD5"
    SHA1 = "SHA1"
    SHA256 = "SHA256"

    @classmethod
    def _missing_(cls, value: object) -> HashType | None:
        # Wire: tencentyun/cos-go-sdk-v5, example/CI: `Type: "sha1"` where the documentation has capitals.
        return next((member for member in cls if member == str(value).upper()), None)


@dataclass(frozen=True, slots=True)
class HashParams:
    """Wire: Type is required; AddToHeader asks for the hash in the object's own header `x-cos-meta-<type>`."""

    type: HashType = node("Type")
    add_to_header: bool = node("AddToHeader", default=False)


@dataclass(frozen=True, slots=True)
class HashResult:
    """One of the hashes is set, in lower-case hexadecimal. What is not known of a URL's file is left out."""

    md5: str | None = node("MD5", default=None)
    sha1: str | None = node("SHA1", default=None)
    sha256: str | None = node("SHA256", default=None)
    size_bytes: int = node("FileSize", default=0)
    last_modified: str | None = node("LastModified", default=None)
    etag: str | None = node("Etag", default=None)


@operation(
    "FileHashCode",
    service="file",
    area="File Processing",
    params=("FileHashCodeConfig", HashParams),
    result=("FileHashCodeResult", HashResult),
    hands_on=True,
)
def hash_file(source: LocalFile, params: HashParams, engine: Any) -> HashResult:
    """Hash the bytes of `source`, which are read once and never held whole."""
    if params.add_to_header:
        # Missing: writing an object's headers from an operation; a job that asks for it ends Failed today.
        raise UnsupportedOption("AddToHeader is true; cloudfinite does not write the hash into the object's headers")
    with source.path.open("rb") as file:
        # MD5 here is a checksum the client asked for, no protection.
        digest = hashlib.file_digest(file, lambda: hashlib.new(params.type.lower(), usedforsecurity=False))
        size_bytes = file.tell()
    at = parsedate_to_datetime(source.last_modified) if source.last_modified else None
    return HashResult(
        **{params.type.lower(): digest.hexdigest()},
        size_bytes=size_bytes,
        last_modified=job_time(at) if at else None,
        etag=source.etag or None,
    )
