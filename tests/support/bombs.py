"""Small files that unpack to much, or break decoders: made anew by the tests, never stored."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable

from PIL import Image


def bilevel_png(side_px: int) -> bytes:
    """A white PNG of one bit a pixel: 12,000 × 12,000 pixels have 18 KB."""
    packer = zlib.compressobj(9)
    row = b"\0" + b"\xff" * ((side_px + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(side_px)) + packer.flush()
    header = struct.pack("!IIBBBBB", side_px, side_px, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, chunks))


def _chunk(chunk: tuple[bytes, bytes]) -> bytes:
    kind, data = chunk
    return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))


def fax_tiff(side_px: int) -> bytes:
    return _saved(Image.new("1", (side_px, side_px), 1), "TIFF", compression="group4")


def many_frames_gif(side_px: int, frames: int) -> bytes:
    one = _saved(Image.new("P", (side_px, side_px)), "GIF")
    start = one.index(b"\x2c", 13 + 3 * 2 ** ((one[10] & 7) + 1) if one[10] & 0x80 else 13)
    return one[:start] + one[start:-1] * frames + b"\x3b"


def picture(kind: str, size: tuple[int, int] = (600, 400), **options: object) -> bytes:
    return _saved(Image.effect_noise(size, 60), kind, **options)


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pdf(
    content: bytes = b"",
    *,
    filters: str = "",
    side_pt: float = 612,
    kids: str = "3 0 R",
    count: int = 1,
    catalog: str = "",
    trailer: str = "",
    extra: Iterable[bytes] = (),
) -> bytes:
    """A PDF of one page whose parts the caller may spoil; `extra` are objects from number 5."""
    objects = [
        f"<< /Type /Catalog /Pages 2 0 R {catalog} >>".encode(),
        f"<< /Type /Pages /Kids [{kids}] /Count {count} >>".encode(),
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {side_pt} {side_pt}] /Contents 4 0 R >>".encode(),
        b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(content), filters.encode(), content),
        *extra,
    ]
    out = bytearray(b"%PDF-1.7\n")
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += f"trailer << /Size {len(objects) + 1} /Root 1 0 R {trailer} >>\nstartxref\n{table}\n%%EOF\n".encode()
    return bytes(out)


def path_operators_pdf(size_bytes: int) -> bytes:
    """Drawing without end: 320 MB of operators in 600 KB."""
    packer = zlib.compressobj(9)
    piece = b"0 0 m 500 500 l S\n" * 60_000
    data = b"".join(packer.compress(piece) for _ in range(size_bytes // len(piece))) + packer.flush()
    return pdf(data, filters="/Filter /FlateDecode")


def double_packed_pdf(size_bytes: int) -> bytes:
    packer = zlib.compressobj(9)
    piece = b" " * 1_000_000
    once = b"".join(packer.compress(piece) for _ in range(size_bytes // len(piece))) + packer.flush()
    return pdf(zlib.compress(once, 9), filters="/Filter [/FlateDecode /FlateDecode]")


def encrypted_pdf() -> bytes:
    lock = "/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <{0}> /U <{0}> >> /ID [<00> <00>]".format("41" * 32)
    return pdf(trailer=lock)
