"""Server-made SVG of the console: recognised polygons over their picture, and a job's life as a bar.

Only numbers and our own words get into the markup; texts are escaped. No `style` attribute: the CSP forbids it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from markupsafe import Markup

from cloudfinite.operations.image_ocr import Corner, TextLine

# Lower bounds of the classes `q0` (worst) to `q5`: most lines are read with 90 or more, so there the colours differ.
CONFIDENCE_STEPS = (60, 75, 85, 92, 97)

MAX_LINES = 2_000  # A browser draws no more at ease; the list beside says how many there are.


def confidence_class(confidence: int) -> str:
    return f"q{sum(confidence >= step for step in CONFIDENCE_STEPS)}"


def picture_size(lines: Sequence[TextLine]) -> tuple[int, int]:
    """Width and height that hold all polygons, for when the picture itself cannot be had."""
    corners = [corner for line in lines for corner in line.corners]
    return max([1, *(corner.x + 1 for corner in corners)]), max([1, *(corner.y + 1 for corner in corners)])


def draw_boxes(lines: Sequence[TextLine], width_px: int, height_px: int, picture_url: str = "") -> Markup:
    """The picture with one linked polygon per line; line n is `#line-n` of the page, its polygon `#box-n`."""
    picture = Markup('<image href="{}" width="{}" height="{}"/>').format(picture_url, width_px, height_px)
    boxes = Markup("").join(_box(number, line) for number, line in enumerate(lines[:MAX_LINES], start=1))
    return Markup(
        '<svg class="boxes" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="group" aria-label="{label}">'
        "{picture}{boxes}</svg>"
    ).format(
        w=width_px,
        h=height_px,
        label=f"Picture with {len(lines)} recognised lines",
        picture=picture if picture_url else "",
        boxes=boxes,
    )


def _box(number: int, line: TextLine) -> Markup:
    return Markup(
        '<a href="#line-{n}" tabindex="-1"><polygon id="box-{n}" data-line="{n}" class="box {q}" points="{points}">'
        "<title>{text} ({confidence} %)</title></polygon></a>"
    ).format(
        n=number,
        q=confidence_class(line.confidence),
        points=_points(line.corners),
        text=line.text,
        confidence=line.confidence,
    )


def _points(corners: Sequence[Corner]) -> str:
    return " ".join(f"{corner.x},{corner.y}" for corner in corners)


# --- a job's life --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a job's life: what it was doing (`waited`, `ran`, `told`), and for how long."""

    kind: str
    label: str
    length: timedelta


_BAR_WIDTH = 1000
_LEAST_WIDTH = 14  # So that a wait of a millisecond beside a run of a minute can still be pointed at.


def draw_spans(spans: Sequence[Span]) -> Markup:
    """A bar with one stretch per span, wide in proportion to its length but never invisible."""
    total_s = sum(span.length.total_seconds() for span in spans)
    if not spans or total_s < 0:
        return Markup("")
    spare = _BAR_WIDTH - _LEAST_WIDTH * len(spans)
    x = 0.0
    stretches = []
    for span in spans:
        share = span.length.total_seconds() / total_s if total_s else 1 / len(spans)
        width = _LEAST_WIDTH + spare * share
        stretches.append(
            Markup(
                '<rect class="span {kind}" x="{x:.1f}" y="0" width="{w:.1f}" height="10"><title>{t}</title></rect>'
            ).format(kind=span.kind, x=x, w=max(width - 2, 1), t=f"{span.label}: {duration(span.length)}")
        )
        x += width
    return Markup(
        '<svg class="life" viewBox="0 0 {w} 10" preserveAspectRatio="none" role="img" aria-label="{label}">{s}</svg>'
    ).format(
        w=_BAR_WIDTH,
        label=", ".join(f"{span.label} {duration(span.length)}" for span in spans),
        s=Markup("").join(stretches),
    )


def duration(length: timedelta) -> str:
    """A length of time as people say it: `3 ms`, `1.24 s`, `2 min 5 s`, `3 h 10 min`, `2 d 4 h`."""
    seconds = length.total_seconds()
    if seconds < 0:
        return "0 ms"  # Two machines' clocks.
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    days, hours_left = divmod(hours, 24)
    if not hours:
        return f"{minutes} min {rest_s} s"
    return f"{hours} h {minutes_left} min" if not days else f"{days} d {hours_left} h"
