"""Processing rules as text (`imageMogr2/thumbnail/!50p|imageMogr2/rotate/90`), read into steps.

Wire: Cloud Infinite API documentation, "Basic Image Processing": Scaling, Cropping, Rotation, Format conversion,
Quality change, Gaussian blurring, Sharpening, Brightness, Contrast, Grayscale, Metadata removal, Pipeline operator.
Wire: our choice – inside one rule the steps are taken in the order they are written; animations count by their first
frame.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cloudfinite.domain.pictures import (
    FORMATS,
    MAX_SIDE_PX,
    Blur,
    Circle,
    Cut,
    Fit,
    Gravity,
    PictureRule,
    Plain,
    Quality,
    Resize,
    Rotate,
    RoundCorners,
    Sharpen,
    Step,
    Tone,
)
from cloudfinite.errors import InvalidArgument, NotImplementedHere

MAX_RULE_CHARS = 2_048
MAX_STEPS = 32  # Each costs a pass over all pixels.

_RULE = "imageMogr2"
# Wire: "Basic Image Processing", "Image Compression", "Blind Watermark": rules of other names, and parts of this one.
_OTHER_RULES = ("imageView2", "imageInfo", "imageAve", "exif", "watermark", "imageSlim", "guetzli", "ci-process")
_OTHER_PARTS = ("scrop", "size-limit", "ignore-error", "cgif", "gif-optimization", "adaptive-orient", "aigc")
_FORMS_BY_NAME = ", ".join(FORMATS)


def read_rule(text: str, where: str) -> PictureRule:
    """Read a rule. Raises InvalidArgument naming the part that is wrong; NotImplementedHere for parts not built."""
    if len(text) > MAX_RULE_CHARS:
        raise InvalidArgument(f"{where} has {len(text)} characters; at most {MAX_RULE_CHARS} are allowed")
    draft = _Draft(where)
    for rule in text.split("|"):
        _read_one(rule.strip(), draft)
    if len(draft.steps) > MAX_STEPS:
        raise InvalidArgument(f"{where} has {len(draft.steps)} steps; at most {MAX_STEPS} are allowed")
    return draft.finish()


@dataclass(slots=True)
class _Draft:
    """A rule while it is read: of one imageMogr2, padding and gravity belong to what was named before them."""

    where: str
    steps: list[Step] = field(default_factory=list)
    rule: PictureRule = field(default_factory=PictureRule)
    gravity: Gravity | None = None
    is_padded: bool = False
    color: tuple[int, int, int] = (255, 255, 255)
    first: int = 0  # where the steps of the present imageMogr2 start

    def wrong(self, part: str, wanted: str) -> InvalidArgument:
        return InvalidArgument(f"{self.where} has {part!r}; it must be {wanted}")

    def begin(self) -> None:
        self.gravity, self.is_padded, self.color, self.first = None, False, (255, 255, 255), len(self.steps)

    def end(self) -> None:
        """Give gravity and padding to the steps they belong to, wherever in the imageMogr2 they stand."""
        for number in range(self.first, len(self.steps)):
            step = self.steps[number]
            if isinstance(step, Cut) and self.gravity:
                self.steps[number] = replace(step, gravity=self.gravity)
            if isinstance(step, Resize) and self.is_padded:
                if not (step.width and step.height) or step.fit not in (Fit.INSIDE, Fit.SMALLER, Fit.LARGER):
                    raise self.wrong("pad/1", "used with thumbnail/<Width>x<Height>")
                self.steps[number] = replace(step, pad=self.color)

    def finish(self) -> PictureRule:
        return replace(self.rule, steps=tuple(self.steps))


def _read_one(rule: str, draft: _Draft) -> None:
    name, *parts = rule.split("/")
    if name != _RULE:
        if name.startswith(_OTHER_RULES):
            raise NotImplementedHere(f"{draft.where} has {name!r}, which is not built yet; {_RULE} is")
        raise draft.wrong(rule, f"a rule like {_RULE}/thumbnail/!50p")
    draft.begin()
    waiting = [part for part in parts if part]
    while waiting:
        waiting = _read_part(waiting, draft)
    draft.end()


def _read_part(waiting: Sequence[str], draft: _Draft) -> list[str]:
    """Read the first part; returns what is left."""
    name, *rest = waiting
    if name in _WITHOUT_VALUE:
        _WITHOUT_VALUE[name](draft)
        return rest
    reader = _WITH_VALUE.get(name)
    if reader is None:
        if name in _OTHER_PARTS:
            raise NotImplementedHere(
                f"{draft.where} has {name!r}, which is not built yet; docs/coverage.md lists what is"
            )
        known = ", ".join(sorted((*_WITHOUT_VALUE, *_WITH_VALUE)))
        raise draft.wrong(name, f"one of {known}")
    if not rest:
        raise draft.wrong(name, "followed by its value")
    reader(draft, rest[0])
    return list(rest[1:])


# --- sizes ---------------------------------------------------------------------------------------------------------

_SIZE = re.compile(r"(?P<force>!?)(?P<width>\d{0,5})x(?P<height>\d{0,5})(?P<sign>[!<>r]?)", re.ASCII)
_PERCENT = re.compile(r"!(?:(?P<both>\d{1,3})p|(?P<width>\d{1,3})px|x(?P<height>\d{1,3})p)", re.ASCII)
_AREA = re.compile(r"(\d{1,9})@", re.ASCII)
_FITS = {"": Fit.INSIDE, ">": Fit.SMALLER, "<": Fit.LARGER, "!": Fit.EXACT, "r": Fit.COVER}
_SIZES = "a size like 300x, x200, 300x200, 300x200!, 300x200>, 300x200<, !300x200r, !50p, !50px, !x50p or 90000@"


def _thumbnail(draft: _Draft, text: str) -> None:
    step = _percent(text) or _area(text) or _sized(text)
    if step is None:
        raise draft.wrong(f"thumbnail/{text}", _SIZES)
    draft.steps.append(step)


def _percent(text: str) -> Resize | None:
    match = _PERCENT.fullmatch(text)
    if not match:
        return None
    both = int(match["both"] or 0)
    width, height = int(match["width"] or both), int(match["height"] or both)
    return Resize(Fit.PERCENT, width, height) if width or height else None


def _area(text: str) -> Resize | None:
    match = _AREA.fullmatch(text)
    return Resize(Fit.AREA, area_px=int(match[1])) if match and int(match[1]) else None


def _sized(text: str) -> Resize | None:
    match = _SIZE.fullmatch(text)
    if not match:
        return None
    width, height, fit = int(match["width"] or 0), int(match["height"] or 0), _FITS[match["sign"]]
    if bool(match["force"]) != (fit is Fit.COVER) or max(width, height) > MAX_SIDE_PX or not (width or height):
        return None
    if fit is Fit.EXACT and not (width and height):
        return None
    return Resize(fit, width, height)


def _pad(draft: _Draft, text: str) -> None:
    draft.is_padded = _switch(draft, "pad", text)


def _color(draft: _Draft, text: str) -> None:
    """Wire: "Scaling": `#RRGGBB` in URL-safe Base64, as a rule without `=` at its end."""
    try:
        plain = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
        if not re.fullmatch(r"#[0-9A-Fa-f]{6}", plain):
            raise ValueError(plain)
    except ValueError as exc:
        raise draft.wrong(f"color/{text}", "a color like #FF0000 in URL-safe Base64") from exc
    draft.color = (int(plain[1:3], 16), int(plain[3:5], 16), int(plain[5:7], 16))


# --- parts of a picture --------------------------------------------------------------------------------------------


def _cut(draft: _Draft, text: str) -> None:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})x(\d{1,5})x(\d{1,5})", text, re.ASCII)
    if not match or not int(match[1]) or not int(match[2]):
        raise draft.wrong(f"cut/{text}", "<width>x<height>x<dx>x<dy>, for example 600x600x100x10")
    width, height, dx, dy = map(int, match.groups())
    draft.steps.append(Cut(width, height, dx, dy))


def _crop(draft: _Draft, text: str) -> None:
    match = re.fullmatch(r"(\d{0,5})x(\d{0,5})", text, re.ASCII)
    width, height = (int(match[1] or 0), int(match[2] or 0)) if match else (0, 0)
    if not (width or height):
        raise draft.wrong(f"crop/{text}", "<Width>x, x<Height> or <Width>x<Height>")
    draft.steps.append(Cut(width, height))


def _gravity(draft: _Draft, text: str) -> None:
    if text.lower() not in tuple(Gravity):
        raise draft.wrong(f"gravity/{text}", f"one of {', '.join(Gravity)}")
    draft.gravity = Gravity(text.lower())


# --- numbers -------------------------------------------------------------------------------------------------------


def _number(draft: _Draft, name: str, text: str, lowest: int, highest: int) -> int:
    if not re.fullmatch(r"-?\d{1,4}", text, re.ASCII) or not lowest <= int(text) <= highest:
        raise draft.wrong(f"{name}/{text}", f"a whole number from {lowest} to {highest}")
    return int(text)


def _numbered(name: str, lowest: int, highest: int, make: Callable[[int], Step]) -> Callable[[_Draft, str], None]:
    def read(draft: _Draft, text: str) -> None:
        draft.steps.append(make(_number(draft, name, text, lowest, highest)))

    return read


def _blur(draft: _Draft, text: str) -> None:
    match = re.fullmatch(r"(\d{1,2})x(\d{1,3}(?:\.\d{1,3})?)", text, re.ASCII)
    if not match or not 1 <= int(match[1]) <= 50 or not float(match[2]):
        raise draft.wrong(f"blur/{text}", "<radius>x<sigma> with a radius from 1 to 50, for example 8x5")
    draft.steps.append(Blur(int(match[1]), float(match[2])))


def _flip(draft: _Draft, text: str) -> None:
    if text not in (Plain.FLIP_VERTICAL, Plain.FLIP_HORIZONTAL):
        raise draft.wrong(f"flip/{text}", "vertical or horizontal")
    draft.steps.append(Plain(text))


def _grayscale(draft: _Draft, text: str) -> None:
    if _switch(draft, "grayscale", text):
        draft.steps.append(Plain.GRAYSCALE)


def _switch(draft: _Draft, name: str, text: str) -> bool:
    if text not in ("0", "1"):
        raise draft.wrong(f"{name}/{text}", "0 or 1")
    return text == "1"


# --- the written form ----------------------------------------------------------------------------------------------


def _format(draft: _Draft, text: str) -> None:
    if text.lower() not in FORMATS:
        raise draft.wrong(f"format/{text}", f"one of {_FORMS_BY_NAME}")
    draft.rule = replace(draft.rule, format=FORMATS[text.lower()])


def _interlace(draft: _Draft, text: str) -> None:
    draft.rule = replace(draft.rule, is_progressive=_switch(draft, "interlace", text))


def _quality(draft: _Draft, text: str) -> None:
    is_exact = text.endswith("!")
    value = max(1, _number(draft, "quality", text.removesuffix("!"), 0, 100))
    draft.rule = replace(draft.rule, quality=Quality(exact=value) if is_exact else Quality(highest=value))


def _relative_quality(draft: _Draft, text: str) -> None:
    value = max(1, _number(draft, "rquality", text, 0, 100))
    draft.rule = replace(draft.rule, quality=replace(draft.rule.quality, percent=value))


def _lowest_quality(draft: _Draft, text: str) -> None:
    value = max(1, _number(draft, "lquality", text, 0, 100))
    draft.rule = replace(draft.rule, quality=replace(draft.rule.quality, lowest=value))


def _strip(draft: _Draft) -> None:
    draft.rule = replace(draft.rule, strips=True)


_WITHOUT_VALUE: Mapping[str, Callable[[_Draft], None]] = {
    "auto-orient": lambda draft: draft.steps.append(Plain.AUTO_ORIENT),
    "strip": _strip,
}
_WITH_VALUE: Mapping[str, Callable[[_Draft, str], None]] = {
    "thumbnail": _thumbnail,
    "pad": _pad,
    "color": _color,
    "cut": _cut,
    "crop": _crop,
    "gravity": _gravity,
    "iradius": _numbered("iradius", 1, MAX_SIDE_PX, Circle),
    "rradius": _numbered("rradius", 1, MAX_SIDE_PX, RoundCorners),
    "rotate": _numbered("rotate", 0, 360, Rotate),
    "flip": _flip,
    "blur": _blur,
    "sharpen": _numbered("sharpen", 10, 300, Sharpen),
    "grayscale": _grayscale,
    "bright": _numbered("bright", -100, 100, lambda value: Tone(brightness=value)),
    "contrast": _numbered("contrast", -100, 100, lambda value: Tone(contrast=value)),
    "format": _format,
    "interlace": _interlace,
    "quality": _quality,
    "rquality": _relative_quality,
    "lquality": _lowest_quality,
}
