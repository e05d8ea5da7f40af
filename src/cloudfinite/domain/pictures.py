"""What can be done to a picture: steps in the order they are taken, and what is known of the pictures before and after.

Wire: Cloud Infinite API documentation, "imageMogr2" (Scaling, Cropping, Rotation, …) for what each step means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

MAX_SIDE_PX = 9_999  # Wire: "Scaling": the sides of the output image.


class Fit(StrEnum):
    """How a picture is brought to a size; see `Resize.size_of`."""

    INSIDE = "inside"
    SMALLER = "smaller"
    LARGER = "larger"
    COVER = "cover"
    EXACT = "exact"
    AREA = "area"
    PERCENT = "percent"


@dataclass(frozen=True, slots=True)
class Resize:
    """Scale. width and height are pixels, or percent; 0 leaves the side to the other one, or as it is.

    area_px: of the fit AREA. pad: the colour (red, green, blue) that fills the box around a picture inside it.
    """

    fit: Fit
    width: int = 0
    height: int = 0
    area_px: int = 0
    pad: tuple[int, int, int] | None = None

    def size_of(self, width_px: int, height_px: int) -> tuple[int, int]:
        """The size that a picture of these sides gets."""
        if self.fit is Fit.EXACT:
            return self.width, self.height
        if self.fit is Fit.PERCENT:
            return _whole(width_px * (self.width or 100) / 100), _whole(height_px * (self.height or 100) / 100)
        scale = self._scale(width_px, height_px)
        return _whole(width_px * scale), _whole(height_px * scale)

    def _scale(self, width_px: int, height_px: int) -> float:
        if self.fit is Fit.AREA:
            return min(1.0, math.sqrt(self.area_px / (width_px * height_px)))
        sides = ((self.width, width_px), (self.height, height_px))
        scales = [wanted / present for wanted, present in sides if wanted]
        if self.fit is Fit.COVER:
            return max(scales)
        scale = min(scales)
        if self.fit is Fit.SMALLER:
            return min(1.0, scale)
        return max(1.0, scale) if self.fit is Fit.LARGER else scale


def _whole(pixels: float) -> int:
    return max(1, round(pixels))


class Gravity(StrEnum):
    """The ninth of a picture that a cut is measured from."""

    NORTH_WEST = "northwest"
    NORTH = "north"
    NORTH_EAST = "northeast"
    WEST = "west"
    CENTER = "center"
    EAST = "east"
    SOUTH_WEST = "southwest"
    SOUTH = "south"
    SOUTH_EAST = "southeast"


@dataclass(frozen=True, slots=True)
class Cut:
    """Keep a part; 0 keeps a side whole. dx, dy lead inwards from the gravity's corner or edge."""

    width_px: int
    height_px: int
    dx_px: int = 0
    dy_px: int = 0
    gravity: Gravity = Gravity.NORTH_WEST

    def box_of(self, width_px: int, height_px: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) in a picture of these sides; what would lie outside is left out."""
        left, right = _span(width_px, self.width_px, self.dx_px, self.gravity, "west", "east")
        top, bottom = _span(height_px, self.height_px, self.dy_px, self.gravity, "north", "south")
        return left, top, right, bottom


def _span(whole: int, part: int, offset: int, gravity: Gravity, low: str, high: str) -> tuple[int, int]:
    part = min(part or whole, whole)
    if low in gravity:
        start = offset
    elif high in gravity:
        start = whole - part - offset
    else:
        start = (whole - part) // 2  # Wire: "Cropping": the offset means nothing along a centred side.
    return max(0, start), min(whole, max(0, start + part))


@dataclass(frozen=True, slots=True)
class Circle:
    """Keep the circle of this radius round the centre; what is outside becomes transparent, or white."""

    radius_px: int


@dataclass(frozen=True, slots=True)
class RoundCorners:
    radius_px: int


@dataclass(frozen=True, slots=True)
class Rotate:
    """Turn clockwise; what appears in the corners is transparent, or white."""

    angle_deg: int


class Plain(StrEnum):
    """Steps without a number."""

    AUTO_ORIENT = "auto-orient"
    GRAYSCALE = "grayscale"
    FLIP_VERTICAL = "vertical"
    FLIP_HORIZONTAL = "horizontal"


@dataclass(frozen=True, slots=True)
class Blur:
    """Gaussian; sigma is the standard deviation in pixels, and nothing farther than radius_px counts."""

    radius_px: int
    sigma: float


@dataclass(frozen=True, slots=True)
class Sharpen:
    """amount: 10 to 300, in percent of the difference to the blurred picture."""

    amount: int


@dataclass(frozen=True, slots=True)
class Tone:
    """Brightness or contrast, -100 to 100 percent; 0 changes nothing."""

    brightness: int = 0
    contrast: int = 0


Step: TypeAlias = Resize | Cut | Circle | RoundCorners | Rotate | Blur | Sharpen | Tone | Plain


@dataclass(frozen=True, slots=True)
class Quality:
    """How strongly a picture is compressed, 1 to 100.

    highest: at most this. exact: this. percent: of the source's quality. lowest: at least this.
    """

    highest: int = 0
    exact: int = 0
    percent: int = 0
    lowest: int = 0

    def of(self, source: int) -> int:
        """The quality of what is written, given the source's."""
        if self.exact:
            return self.exact
        found = source
        if self.highest:
            found = min(found, self.highest)
        if self.percent:
            found = max(1, round(found * self.percent / 100))
        return max(found, self.lowest)


FORMATS: Mapping[str, str] = {
    "jpg": "JPEG",
    "jpeg": "JPEG",
    "yjpeg": "JPEG",
    "png": "PNG",
    "bmp": "BMP",
    "gif": "GIF",
    "webp": "WEBP",
    "avif": "AVIF",
}
"""The names of formats in rules, and as they are told of pictures."""


@dataclass(frozen=True, slots=True)
class PictureRule:
    """One processing rule. format: the written form, "" for the source's. strip: leave EXIF and comments out."""

    steps: tuple[Step, ...] = ()
    format: str = ""
    quality: Quality = Quality()
    is_progressive: bool = False
    strips: bool = False


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What is told of a picture. quality: 1 to 100; average: red, green, blue; orientation: the EXIF value, or 0."""

    format: str
    width_px: int
    height_px: int
    quality: int
    average: tuple[int, int, int] = (0, 0, 0)
    orientation: int = 0
