"""Pictures that tests draw: text at known places, with the font that Pillow carries."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

LINES = ("Plow the fields at noon", "Sweat drips onto the soil", "Who knows the food", "Every grain is hard earned")
Rectangle = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass
class Page:
    """A picture with what was drawn on it, and where."""

    image: Image.Image
    words: list[tuple[str, Rectangle]] = field(default_factory=list)
    lines: dict[str, Rectangle] = field(default_factory=dict)

    def turned(self, angle_deg: int) -> Page:
        """Turned clockwise by a quarter or more, words too."""
        width, height = self.image.size
        move = {
            0: lambda left, top, right, bottom: (left, top, right, bottom),
            90: lambda left, top, right, bottom: (height - bottom, left, height - top, right),
            180: lambda left, top, right, bottom: (width - right, height - bottom, width - left, height - top),
            270: lambda left, top, right, bottom: (top, width - right, bottom, width - left),
        }[angle_deg]
        return Page(
            self.image.rotate(-angle_deg, expand=True),
            [(word, move(*box)) for word, box in self.words],
            {text: move(*box) for text, box in self.lines.items()},
        )


def draw_page(lines: tuple[str, ...] = LINES, *, size: tuple[int, int] = (700, 320), letter_px: int = 32) -> Page:
    """Black on white, one line under the other."""
    page = Page(Image.new("RGB", size, "white"))
    draw = ImageDraw.Draw(page.image)
    font = ImageFont.load_default(letter_px)
    for row, text in enumerate(lines):
        x, y = 40.0, 30 + row * letter_px * 2.0
        draw.text((x, y), text, "black", font)
        page.lines[text] = draw.textbbox((x, y), text, font)
        for index, word in enumerate(text.split(" ")):
            start = x + draw.textlength(" ".join([*text.split(" ")[:index], ""]) if index else "", font)
            page.words.append((word, draw.textbbox((start, y), word, font)))
    return page


def write_pdf(path: Path, pages: list[Page]) -> None:
    """The pages at 200 dots per inch."""
    first, *others = [page.image for page in pages]
    first.save(path, "PDF", resolution=200, save_all=True, append_images=others)


def overlap(a: Rectangle, b: Rectangle) -> float:
    """Intersection over union."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def around(boxes: list[Rectangle]) -> Rectangle:
    return (
        min(box[0] for box in boxes),
        min(box[1] for box in boxes),
        max(box[2] for box in boxes),
        max(box[3] for box in boxes),
    )
