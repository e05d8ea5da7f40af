"""Decoding within limits: what is refused, with which number, and what colours become."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloudfinite.adapters.pictures import load_picture, page_scale
from cloudfinite.domain.ocr import PictureLimits
from cloudfinite.errors import UnreadableInput

LIMITS = PictureLimits(pixels=50_000_000)


def png_bomb(side_px: int) -> bytes:
    """A 1-bit PNG that is black all over, without ever holding its pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = bytes(1 + side_px // 8)
    packed = b"".join(packer.compress(row) for _ in range(side_px)) + packer.flush()
    header = struct.pack("!IIBBBBB", side_px, side_px, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def pdf(*, page: str = "0 0 200 100", trailer: str = "") -> bytes:
    """One empty page; the readers find the objects without a table."""
    return (
        "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
        "2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        f"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[{page}]>>endobj\n"
        f"trailer<</Root 1 0 R/Size 4{trailer}>>\n%%EOF"
    ).encode()


ENCRYPTED = f"/ID[<00><00>]/Encrypt<</Filter/Standard/V 1/R 2/P -4/O<{'ab' * 32}>/U<{'cd' * 32}>>>"


def jpeg(folder: Path) -> bytes:
    path = folder / "whole.jpg"
    Image.effect_noise((200, 200), 50).save(path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda _: b"", "the input is empty"),
        (lambda _: b"just text", "no PNG, JPEG"),
        (lambda _: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no PNG, JPEG"),
        (lambda _: b"\0" * 5_505_025, "5505025 bytes; at most 5505024"),
        (lambda _: png_bomb(12_000), "12000 × 12000 pixels; at most 10000 per side"),
        (lambda _: png_bomb(20_000), "more than the 50000000 pixels"),
        (lambda _: png_bomb(8_000), "64000000 in all; at most 50000000"),
        (lambda folder: jpeg(folder)[:5_000], "JPEG picture is damaged"),
        (lambda _: b"\x89PNG\r\n\x1a\nrubbish", "PNG picture is damaged"),
        (lambda _: b"GIF89a", "GIF picture is damaged"),
        (lambda _: b"II*\0\xff\xff\xff\xff", "TIFF picture is damaged"),
        (lambda _: b"BM" + b"\0" * 60, "BMP picture is damaged"),
        (lambda _: b"RIFF\x10\0\0\0WEBPVP8 ", "WEBP picture is damaged"),
    ],
)
def test_unreadable_input_says_why(content: Callable[[Path], bytes], message: str, tmp_path: Path) -> None:
    path = tmp_path / "input.png"
    path.write_bytes(content(tmp_path))
    began = time.monotonic()
    with pytest.raises(UnreadableInput, match=message):
        load_picture(path, LIMITS)
    assert time.monotonic() - began < 0.5  # No pixel of a bomb was decoded.


@pytest.mark.parametrize(
    ("content", "page", "message"),
    [
        (pdf(), None, "set IsPdf to true"),
        (pdf(), 2, "PdfPageNumber is 2; the PDF has 1 pages"),
        (pdf(trailer=ENCRYPTED), 1, "the PDF is encrypted"),
        (b"%PDF-1.4 and nothing more", 1, "the PDF is damaged"),
    ],
)
def test_unreadable_pdf_says_why(content: bytes, page: int | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "input.pdf"
    path.write_bytes(content)
    with pytest.raises(UnreadableInput, match=message):
        load_picture(path, LIMITS, pdf_page=page)


def test_pdf_with_too_many_pages_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "input.pdf"
    path.write_bytes(pdf())
    with pytest.raises(UnreadableInput, match="1 pages; at most 0"):
        load_picture(path, PictureLimits(pdf_pages=0), pdf_page=1)


def test_huge_pdf_page_is_drawn_within_the_limits(tmp_path: Path) -> None:
    path = tmp_path / "input.pdf"
    path.write_bytes(pdf(page="0 0 14400 14400"))
    limits = PictureLimits(pixels=1_000_000, side_px=2_000)
    height, width, _ = load_picture(path, limits, pdf_page=1).pixels.shape
    assert (height, width) == (1_000, 1_000)


@pytest.mark.parametrize(
    ("size_pt", "scale"), [((595, 842), 200 / 72), ((144_000, 72), 10_000 / 144_000), ((7_200, 7_200), 0.982)]
)
def test_pdf_page_is_drawn_at_200_dpi_or_less(size_pt: tuple[float, float], scale: float) -> None:
    assert page_scale(*size_pt, LIMITS) == pytest.approx(scale, rel=1e-3)


def save_and_load(image: Image.Image, path: Path) -> tuple[int, ...]:
    """The colour of the first pixel after decoding, red first."""
    image.save(path)
    return tuple(int(value) for value in load_picture(path, LIMITS).pixels[0, 0, ::-1])


@pytest.mark.parametrize(
    ("image", "name", "colour"),
    [
        (Image.new("RGB", (9, 9), (200, 100, 50)), "a.png", (200, 100, 50)),
        (Image.new("RGB", (9, 9), (200, 100, 50)), "a.bmp", (200, 100, 50)),
        (Image.new("RGB", (9, 9), (200, 100, 50)), "a.tif", (200, 100, 50)),
        (Image.new("RGB", (9, 9), (200, 100, 50)).quantize(), "a.gif", (200, 100, 50)),
        (Image.new("1", (9, 9), 1), "a.png", (255, 255, 255)),
        (Image.new("RGBA", (9, 9), (0, 0, 0, 0)), "a.png", (255, 255, 255)),
        (Image.new("RGBA", (9, 9), (0, 0, 0, 0)), "a.webp", (255, 255, 255)),
        (Image.new("LA", (9, 9), (0, 128)), "a.png", (127, 127, 127)),
        (Image.new("CMYK", (9, 9), (0, 0, 0, 255)), "a.tif", (0, 0, 0)),
        (Image.fromarray(np.full((9, 9), 0x8000, dtype=np.uint16)), "a.png", (127, 127, 127)),
        (Image.fromarray(np.full((9, 9), 0.5, dtype=np.float32)), "a.tif", (127, 127, 127)),
    ],
)
def test_every_kind_of_colour_becomes_eight_bits(
    image: Image.Image, name: str, colour: tuple[int, ...], tmp_path: Path
) -> None:
    assert save_and_load(image, tmp_path / name) == colour


def test_first_frame_of_an_animation_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("L", (9, 9), shade) for shade in (255, 0, 0)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert load_picture(tmp_path / "a.gif", LIMITS).pixels[0, 0, 0] == 255


def test_large_picture_is_decoded_strip_by_strip(tmp_path: Path) -> None:
    Image.new("L", (6_000, 6_000), 200).save(tmp_path / "large.png")
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from cloudfinite.adapters.pictures import load_picture; from cloudfinite.domain.ocr import PictureLimits\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak(); pixels = load_picture(Path(sys.argv[1]), PictureLimits()).pixels\n"
        "print((peak() - before) * 1024 / pixels.nbytes)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "large.png")]
    ratio = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert float(ratio) < 2  # Its pixels, and the decoder's own.
