"""From the bytes of a picture or PDF page to pixels, within limits that are checked before a pixel is decoded.

The format is chosen by the first bytes, never by the name; nothing else that a library could open is tried.
"""

from __future__ import annotations

import math
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pypdfium2
import pypdfium2.raw as pdfium
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cloudfinite.domain.ocr import PictureLimits
from cloudfinite.errors import UnreadableInput

Pixels: TypeAlias = NDArray[np.uint8]
"""Height × width × 3, blue first (as the engines want it)."""

PDF_DPI = 200  # Wire: our choice – a common scanning resolution; letters of 8 pt are 22 pixels high.
_POINTS_PER_INCH = 72
_STRIP_ROWS = 512
# What Pillow's decoders were seen to raise on damaged files.
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, LookupError, OverflowError, TypeError, struct.error)
_PDF_HEAD_BYTES = 1024  # A PDF may have this much before its magic, as common readers allow.


@dataclass(frozen=True, slots=True)
class Picture:
    """`pixels` as displayed: EXIF applied, transparency on white. `page_count` of a PDF, else 0."""

    pixels: Pixels
    page_count: int = 0


def load_picture(path: Path, limits: PictureLimits, *, pdf_page: int | None = None) -> Picture:
    """Decode a file: PNG, JPEG, BMP, WebP, TIFF, GIF (its first frame), and page `pdf_page` of a PDF if not None.

    Raises UnreadableInput saying what is wrong, with the number and the limit.
    """
    kind = checked_format(path, limits)
    if kind == "PDF":
        if pdf_page is None:
            raise UnreadableInput("the input is a PDF; set IsPdf to true (Type general or fast) to read it")
        return _load_pdf(path, pdf_page, limits)
    if not kind:
        raise UnreadableInput("the input is no PNG, JPEG, BMP, WebP, TIFF, GIF or PDF")
    return Picture(_load_image(path, kind, limits))


def checked_format(path: Path, limits: PictureLimits) -> str:
    """The file's format as `detect_format` tells it. Raises UnreadableInput for an empty file or one too large."""
    size_bytes = path.stat().st_size
    if not size_bytes:
        raise UnreadableInput("the input is empty")
    if size_bytes > limits.size_bytes:
        raise UnreadableInput(f"the input has {size_bytes} bytes; at most {limits.size_bytes} are allowed")
    with path.open("rb") as file:
        return detect_format(file.read(_PDF_HEAD_BYTES))


def detect_format(head: bytes) -> str:
    """The format's name as Pillow has it, PDF, or "" for anything else."""
    match head:
        case _ if head.startswith(b"\x89PNG\r\n\x1a\n"):
            return "PNG"
        case _ if head.startswith(b"\xff\xd8\xff"):
            return "JPEG"
        case _ if head.startswith(b"BM"):
            return "BMP"
        case _ if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            return "WEBP"
        case _ if head.startswith((b"II*\0", b"MM\0*")):
            return "TIFF"
        case _ if head.startswith((b"GIF87a", b"GIF89a")):
            return "GIF"
        case _ if b"%PDF-" in head[:_PDF_HEAD_BYTES]:
            return "PDF"
    return ""


# --- pictures ------------------------------------------------------------------------------------------------------


def _load_image(path: Path, kind: str, limits: PictureLimits) -> Pixels:
    with opened_image(path, kind, limits) as image:
        ImageOps.exif_transpose(image, in_place=True)
        return _to_bgr(image)


@contextmanager
def opened_image(path: Path, kind: str, limits: PictureLimits) -> Iterator[Image.Image]:
    """The decoded picture (of an animation its first frame); what decoding it raises is UnreadableInput."""
    with _decoding(kind, limits), Image.open(path, formats=[kind]) as image:
        check_size(*image.size, limits)
        image.load()
        yield image


def _to_bgr(image: Image.Image) -> Pixels:
    """Strip by strip: converted at once, a picture of 64 million pixels needed 1 GiB beside itself."""
    if has_deep_grey(image):
        image = to_grey(image)
    width, height = image.size
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    for top in range(0, height, _STRIP_ROWS):
        strip = image.crop((0, top, width, min(top + _STRIP_ROWS, height)))
        pixels[top : top + _STRIP_ROWS] = np.asarray(_to_rgb(strip))[:, :, ::-1]
    return pixels


def check_size(width_px: int, height_px: int, limits: PictureLimits) -> None:
    """Raise UnreadableInput unless sides and pixels are within the limits."""
    size = f"the picture has {width_px} × {height_px} pixels"
    if not width_px or not height_px:
        raise UnreadableInput(size)
    if max(width_px, height_px) > limits.side_px:
        raise UnreadableInput(f"{size}; at most {limits.side_px} per side are allowed")
    if width_px * height_px > limits.pixels:
        raise UnreadableInput(f"{size}, {width_px * height_px} in all; at most {limits.pixels} are allowed")


@contextmanager
def _decoding(kind: str, limits: PictureLimits) -> Iterator[None]:
    """Turn what Pillow raises into UnreadableInput; its own pixel limits only warn below the double."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Image.DecompressionBombError as exc:
        raise UnreadableInput(f"the picture has far more than the {limits.pixels} pixels that are allowed") from exc
    except _DECODER_ERRORS as exc:
        raise UnreadableInput(f"the {kind} picture is damaged: {exc}") from exc


def _to_rgb(image: Image.Image) -> Image.Image:
    """Eight bits a colour; transparency is laid on white."""
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGBA", image.size, "white")
        image.alpha_composite(layer)
    return image.convert("RGB")


def has_deep_grey(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def to_grey(image: Image.Image) -> Image.Image:
    """Scale 16 or 32 bits to 8; Pillow's own conversion would cut the values at 255."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float32))
    highest = float(values.max())
    white = 65_535.0 if image.mode != "F" else next((top for top in (1.0, 255.0, 65_535.0) if highest <= top), highest)
    return Image.fromarray(np.clip(values * (255 / max(white, highest)), 0, 255).astype(np.uint8))


# --- PDF -----------------------------------------------------------------------------------------------------------


def _load_pdf(path: Path, number: int, limits: PictureLimits) -> Picture:
    document = _open_pdf(path)
    try:
        count = len(document)
        if count > limits.pdf_pages:
            raise UnreadableInput(f"the PDF has {count} pages; at most {limits.pdf_pages} are allowed")
        if number > count:
            raise UnreadableInput(f"PdfPageNumber is {number}; the PDF has {count} pages")
        return Picture(_draw_page(document, number, limits), count)
    except pypdfium2.PdfiumError as exc:
        raise UnreadableInput(f"page {number} of the PDF is damaged: {exc}") from exc
    finally:
        document.close()


def _open_pdf(path: Path) -> Any:
    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as exc:
        if exc.err_code == pdfium.FPDF_ERR_PASSWORD:
            raise UnreadableInput("the PDF is encrypted; remove its password") from exc
        raise UnreadableInput(f"the PDF is damaged: {exc}") from exc
    document.init_forms()  # So that what was filled in is drawn.
    return document


def _draw_page(document: Any, number: int, limits: PictureLimits) -> Pixels:
    page = document[number - 1]
    try:
        width_pt, height_pt = page.get_size()
        scale = page_scale(width_pt, height_pt, limits)
        bitmap = page.render(scale=scale, force_bitmap_format=pdfium.FPDFBitmap_BGR)
        try:
            return np.array(bitmap.to_numpy(), dtype=np.uint8, order="C")  # A copy: the bitmap's memory is freed.
        finally:
            bitmap.close()
    finally:
        page.close()


def page_scale(width_pt: float, height_pt: float, limits: PictureLimits) -> float:
    """Pixels per point: 200 dpi, or less where a page would have more pixels than allowed."""
    if width_pt <= 0 or height_pt <= 0:
        raise UnreadableInput(f"the PDF page has {width_pt} × {height_pt} points")
    return min(
        PDF_DPI / _POINTS_PER_INCH,
        limits.side_px / max(width_pt, height_pt),
        math.sqrt(limits.pixels / (width_pt * height_pt)),
    )
