"""Which media type a file name stands for."""

from __future__ import annotations

from mimetypes import MimeTypes
from pathlib import PurePosixPath

# Only what Python itself knows, so that every machine guesses the same.
_TYPES = MimeTypes(filenames=()).types_map[True] | {
    ".avif": "image/avif",
    ".heic": "image/heic",
    ".md": "text/markdown",
    ".webp": "image/webp",
}


def guess_type(key: str) -> str:
    """By the extension; `application/octet-stream` where it tells nothing."""
    return _TYPES.get(PurePosixPath(key).suffix.lower(), "application/octet-stream")
