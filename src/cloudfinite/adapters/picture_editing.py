"""Pillow as the editor of pictures: the steps of a rule, one after another, and the written form.

Pixels are worked on as grey, RGB or RGBA with eight bits a colour; what has more or a palette is converted first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from cloudfinite.adapters.pictures import check_size, checked_format, has_deep_grey, opened_image, to_grey
from cloudfinite.domain.ocr import PictureLimits
from cloudfinite.domain.pictures import (
    MAX_SIDE_PX,
    Blur,
    Circle,
    Cut,
    PictureFacts,
    PictureRule,
    Plain,
    Resize,
    Rotate,
    RoundCorners,
    Sharpen,
    Step,
    Tone,
)
from cloudfinite.errors import UnreadableInput, UnsupportedOption

_ORIENTATION = 0x0112
# Wire: our choice – what is told of pictures whose form has no quality, and what one gets that becomes lossy.
_LOSSLESS_QUALITY = 100
_USUAL_QUALITY = 90
_LOSSY = frozenset({"JPEG", "WEBP", "AVIF"})
_OPAQUE = frozenset({"JPEG", "BMP"})
_WITH_EXIF = frozenset({"JPEG", "PNG", "WEBP", "AVIF", "TIFF"})
_WHITE = (255, 255, 255)

# Wire: ITU-T T.81, table K.1: the luminance table that quality 50 stands for, in order of rows.
_LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PillowEditor:
    """`ports.PictureEditor`. Animations count by their first frame."""

    limits: PictureLimits

    def edit(self, source: Path, target: Path, rule: PictureRule) -> tuple[PictureFacts, PictureFacts]:
        kind = checked_format(source, self.limits)
        if kind in ("", "PDF"):
            raise UnreadableInput("the input is no PNG, JPEG, BMP, WebP, TIFF or GIF")
        with opened_image(source, kind, self.limits) as image:
            before = _facts(image, kind)
            exif, profile = image.getexif(), image.info.get("icc_profile")
            work = _plain(image)
        for step in rule.steps:
            work = _oriented(work, exif) if step is Plain.AUTO_ORIENT else self._take(work, step)
        form = rule.format or kind
        options = _options(form, before.quality if kind == "JPEG" else _USUAL_QUALITY, rule)
        # Wire: our choice – the colour profile stays with `strip`: the pixels mean nothing without it.
        if profile:
            options["icc_profile"] = profile
        if exif and not rule.strips and form in _WITH_EXIF:
            options["exif"] = exif.tobytes()
        with target.open("wb") as file:
            _for_form(work, form).save(file, form, **options)
        quality = options.get("quality", _LOSSLESS_QUALITY)
        return before, PictureFacts(form, *work.size, quality, _average(work), int(exif.get(_ORIENTATION, 0)))

    def _take(self, image: Image.Image, step: Step) -> Image.Image:
        """One step; its size is checked before its pixels are made."""
        match step:
            case Resize():
                return self._resize(image, step)
            case Cut():
                return _cut(image, step)
            case Circle(radius):
                return _circle(image, radius)
            case RoundCorners(radius):
                return _round_corners(image, radius)
            case Rotate(angle):
                return self._rotate(image, angle)
            case Blur(radius, sigma):
                # Pillow's filter has no radius: beyond three sigma nothing is left anyway.
                return image.filter(ImageFilter.GaussianBlur(min(sigma, radius)))
            case Sharpen(amount):
                return image.filter(ImageFilter.UnsharpMask(radius=2, percent=amount, threshold=0))
            case Tone(brightness, contrast):
                image = ImageEnhance.Brightness(image).enhance(1 + brightness / 100) if brightness else image
                return ImageEnhance.Contrast(image).enhance(1 + contrast / 100) if contrast else image
            case Plain.GRAYSCALE:
                return image.convert("LA" if image.mode in ("RGBA", "LA") else "L")
            case Plain.FLIP_VERTICAL:
                return ImageOps.flip(image)
            case Plain.FLIP_HORIZONTAL:
                return ImageOps.mirror(image)
        raise AssertionError(f"{step} is no step")

    def _check(self, size: tuple[int, int]) -> None:
        if max(size) > MAX_SIDE_PX:
            raise UnsupportedOption(f"the result would have {size[0]} × {size[1]} pixels; at most {MAX_SIDE_PX} a side")
        check_size(*size, self.limits)

    def _resize(self, image: Image.Image, step: Resize) -> Image.Image:
        size = step.size_of(*image.size)
        self._check(size)
        resized = image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)
        if step.pad is None:
            return resized
        self._check((step.width, step.height))
        canvas = Image.new("RGB", (step.width, step.height), step.pad)
        place = ((step.width - resized.width) // 2, (step.height - resized.height) // 2)
        layer = resized.convert("RGBA")
        canvas.paste(layer, place, layer)
        return canvas

    def _rotate(self, image: Image.Image, angle_deg: int) -> Image.Image:
        if angle_deg % 360 == 0:
            return image
        if angle_deg % 90:
            diagonal = int((image.width**2 + image.height**2) ** 0.5) + 1
            self._check((diagonal, diagonal))
            image = _coloured(image)
        fill = (0, 0, 0, 0) if image.mode == "RGBA" else _WHITE
        return image.rotate(
            -angle_deg, Image.Resampling.BICUBIC, expand=True, fillcolor=fill if angle_deg % 90 else None
        )


# --- pixels --------------------------------------------------------------------------------------------------------


def _plain(image: Image.Image) -> Image.Image:
    """The picture as L, LA, RGB or RGBA, apart from its file."""
    if has_deep_grey(image):
        return to_grey(image)
    if image.has_transparency_data:
        return image.convert("LA" if image.mode == "LA" else "RGBA")
    if image.mode == "1":
        return image.convert("L")
    return image.copy() if image.mode in ("L", "RGB") else image.convert("RGB")


def _coloured(image: Image.Image) -> Image.Image:
    if image.mode == "LA":
        return image.convert("RGBA")
    return image.convert("RGB") if image.mode == "L" else image


def _oriented(image: Image.Image, exif: Image.Exif) -> Image.Image:
    """As it is meant to be displayed; the EXIF data then say so."""
    image.getexif()[_ORIENTATION] = exif.get(_ORIENTATION, 1)
    if _ORIENTATION in exif:
        exif[_ORIENTATION] = 1
    return ImageOps.exif_transpose(image)


def _cut(image: Image.Image, step: Cut) -> Image.Image:
    left, top, right, bottom = step.box_of(*image.size)
    if left >= right or top >= bottom:
        raise UnsupportedOption(f"the part to keep lies outside the picture of {image.width} × {image.height} pixels")
    return image.crop((left, top, right, bottom))


def _circle(image: Image.Image, radius_px: int) -> Image.Image:
    _check_radius(image, radius_px)
    left, top = image.width // 2 - radius_px, image.height // 2 - radius_px
    side = 2 * radius_px
    return _masked(image.crop((left, top, left + side, top + side)), radius_px)


def _round_corners(image: Image.Image, radius_px: int) -> Image.Image:
    _check_radius(image, radius_px)
    return _masked(image, radius_px)


def _check_radius(image: Image.Image, radius_px: int) -> None:
    # Wire: "Cropping": less than half of the shorter side.
    if 2 * radius_px > min(image.size):
        raise UnsupportedOption(
            f"the radius is {radius_px}; a picture of {image.width} × {image.height} pixels allows at most "
            f"{min(image.size) // 2}"
        )


def _masked(image: Image.Image, radius_px: int) -> Image.Image:
    """What lies outside corners of this radius becomes transparent."""
    mask = Image.new("L", image.size, 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, image.width - 1, image.height - 1), radius_px, fill=255)
    layer = Image.new("RGBA", image.size, (255, 255, 255, 0))
    layer.paste(image.convert("RGBA"), (0, 0), mask)
    return layer


# --- what is written, what is told ---------------------------------------------------------------------------------


def _for_form(image: Image.Image, form: str) -> Image.Image:
    """In colours that the form can hold; what cannot be transparent lies on white."""
    if form in _OPAQUE and image.mode in ("RGBA", "LA"):
        layer = image.convert("RGBA")
        image = Image.new("RGB", image.size, _WHITE)
        image.paste(layer, (0, 0), layer)
    return image.convert("RGBA") if image.mode == "LA" and form != "PNG" else image


def _options(form: str, source_quality: int, rule: PictureRule) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if form in _LOSSY:
        options["quality"] = rule.quality.of(source_quality)
    if form == "JPEG" and rule.is_progressive:
        options["progressive"] = True
    return options


def _facts(image: Image.Image, kind: str) -> PictureFacts:
    quality = _jpeg_quality(getattr(image, "quantization", {})) if kind == "JPEG" else _LOSSLESS_QUALITY
    return PictureFacts(kind, *image.size, quality, _average(image), int(image.getexif().get(_ORIENTATION, 0)))


def _average(image: Image.Image) -> tuple[int, int, int]:
    small = to_grey(image) if has_deep_grey(image) else image
    red, green, blue = small.convert("RGB").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))  # type: ignore[misc]  # of an RGB picture three
    return int(red), int(green), int(blue)


def _jpeg_quality(tables: dict[int, Iterable[int]]) -> int:
    """The quality whose luminance table is nearest; encoders scale one table, so it is mostly the very one."""
    if 0 not in tables:
        return _LOSSLESS_QUALITY
    present = list(tables[0])
    return min(range(1, 101), key=lambda quality: _distance(present, quality))


def _distance(table: list[int], quality: int) -> int:
    scale = 5_000 // quality if quality < 50 else 200 - 2 * quality
    scaled = (max(1, min(255, (value * scale + 50) // 100)) for value in _LUMINANCE)
    return sum(abs(ours - theirs) for ours, theirs in zip(scaled, table, strict=False))
