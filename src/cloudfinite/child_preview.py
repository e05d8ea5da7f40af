"""An operation that only child processes know: draws a picture or PDF page anew, small enough for the console.

The pool loads this module in the children; the server never does, so its tag cannot be submitted as a job. What a
browser gets are pixels that we encoded, never bytes that somebody uploaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudfinite.domain.ocr import PictureLimits
from cloudfinite.operations import operation
from cloudfinite.wire.nodes import node
from cloudfinite.wire.operation import LocalFile

TAG = "-preview"  # No tag of the wire starts with a hyphen.

_PNG_PIXELS = 600_000  # Up to here PNG, which keeps letters sharp; beyond it JPEG, which keeps the file small.
_JPEG_QUALITY = 88


@dataclass(frozen=True, slots=True)
class PreviewParams:
    """target: the file to write. side_px: the longest side of what is written. pdf_page counts from 1."""

    target: str = node("Target")
    pdf_page: int = node("PdfPage", default=1)
    side_px: int = node("Side", default=1600)
    limit_bytes: int = node("Limit", default=PictureLimits().size_bytes)


@dataclass(frozen=True, slots=True)
class PreviewFacts:
    """width_px and height_px are the whole picture's, as displayed: what polygons are measured in."""

    content_type: str = node("ContentType")
    width_px: int = node("Width")
    height_px: int = node("Height")
    page_count: int = node("PageCount")


@operation(TAG, service="file", area="", params=("Preview", PreviewParams), result=("Preview", PreviewFacts))
def draw_preview(source: LocalFile, params: PreviewParams, engine: Any) -> PreviewFacts:
    """Decode `source` within the limits of recognition and write it to `params.target`. Raises UnreadableInput."""
    # Imported here: a child must be ready for its first job early, and few of them ever draw.
    from PIL import Image

    from cloudfinite.adapters.pictures import load_picture

    picture = load_picture(source.path, PictureLimits(size_bytes=params.limit_bytes), pdf_page=params.pdf_page)
    image = Image.fromarray(picture.pixels[:, :, ::-1])
    width_px, height_px = image.size
    image.thumbnail((params.side_px, params.side_px))
    is_small = image.width * image.height <= _PNG_PIXELS
    with Path(params.target).open("wb") as file:
        if is_small:
            image.save(file, "PNG")
        else:
            image.save(file, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return PreviewFacts("image/png" if is_small else "image/jpeg", width_px, height_px, picture.page_count)
