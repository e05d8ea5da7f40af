"""Processing rules: what each part means, and what is told of parts that are wrong."""

from __future__ import annotations

from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfinite.domain.pictures import Cut, Fit, Gravity, Plain, Quality, Resize, Rotate, Step
from cloudfinite.errors import InvalidArgument, NotImplementedHere, RequestError
from cloudfinite.wire.picture_rules import read_rule

RED = urlsafe_b64encode(b"#FF0000").decode().rstrip("=")


def steps(rule: str) -> tuple[Step, ...]:
    return read_rule(f"imageMogr2/{rule}", "ProcessRule").steps


# Wire: Cloud Infinite API documentation, "Scaling": each row of its table, on a picture of 800 × 400 pixels.
@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("!50p", (400, 200)),
        ("!50px", (400, 400)),
        ("!x50p", (800, 200)),
        ("200x", (200, 100)),
        ("x200", (400, 200)),
        ("200x200", (200, 100)),
        ("1600x1600", (1600, 800)),
        ("1600x1600>", (800, 400)),
        ("200x200>", (200, 100)),
        ("200x200<", (800, 400)),
        ("1600x1600<", (1600, 800)),
        ("!200x200r", (400, 200)),
        ("200x200!", (200, 200)),
        ("80000@", (400, 200)),
        ("900000@", (800, 400)),
    ],
)
def test_thumbnail_brings_a_picture_to_its_size(size: str, expected: tuple[int, int]) -> None:
    (step,) = steps(f"thumbnail/{size}")
    assert isinstance(step, Resize) and step.size_of(800, 400) == expected


@pytest.mark.parametrize(
    ("rule", "box"),
    [
        ("cut/100x50x10x20", (10, 20, 110, 70)),
        ("cut/900x50x10x20", (10, 20, 800, 70)),
        ("cut/100x50x10x20/gravity/southeast", (690, 330, 790, 380)),
        ("crop/100x", (0, 0, 100, 400)),
        ("crop/x100", (0, 0, 800, 100)),
        ("crop/100x50/gravity/center", (350, 175, 450, 225)),
        ("gravity/north/crop/100x50", (350, 0, 450, 50)),
    ],
)
def test_cut_keeps_its_part(rule: str, box: tuple[int, int, int, int]) -> None:
    (step,) = steps(rule)
    assert isinstance(step, Cut) and step.box_of(800, 400) == box


def test_pipe_takes_one_rule_after_another_each_with_its_own_gravity() -> None:
    rule = read_rule("imageMogr2/crop/9x9/gravity/east|imageMogr2/rotate/90/crop/8x8/format/jpg", "ProcessRule")
    assert rule.steps == (Cut(9, 9, gravity=Gravity.EAST), Rotate(90), Cut(8, 8))
    assert rule.format == "JPEG"


def test_padding_belongs_to_the_thumbnail_of_its_rule() -> None:
    assert steps(f"thumbnail/60x60/pad/1/color/{RED}") == (Resize(Fit.INSIDE, 60, 60, pad=(255, 0, 0)),)
    with pytest.raises(InvalidArgument, match=r"pad/1.*thumbnail/<Width>x<Height>"):
        steps("thumbnail/!50p/pad/1")


def test_quality_is_told_in_three_ways() -> None:
    def quality(rule: str) -> Quality:
        return read_rule(f"imageMogr2/{rule}", "ProcessRule").quality

    # Wire: "Quality change": 80 × 80 % is 64; the least of both; the named one with an exclamation mark.
    assert quality("rquality/80").of(80) == 64
    assert (quality("quality/90").of(70), quality("quality/90").of(95)) == (70, 90)
    assert quality("quality/90!").of(70) == 90
    assert (quality("lquality/80").of(85), quality("lquality/80").of(60)) == (85, 80)


def test_steps_without_a_value_take_none() -> None:
    assert steps("auto-orient/flip/vertical/strip/grayscale/1") == (
        Plain.AUTO_ORIENT,
        Plain.FLIP_VERTICAL,
        Plain.GRAYSCALE,
    )


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("imageMogr2/thumbnail/50p", "ProcessRule has 'thumbnail/50p'; it must be a size like"),
        ("imageMogr2/thumbnail/0x0", "thumbnail/0x0"),
        ("imageMogr2/thumbnail/10000x", "thumbnail/10000x"),
        ("imageMogr2/thumbnail", "'thumbnail'; it must be followed by its value"),
        ("imageMogr2/blurr/3x5", "'blurr'; it must be one of auto-orient, blur"),
        ("imageMogr2/blur/51x5", "blur/51x5"),
        ("imageMogr2/rotate/361", "rotate/361'; it must be a whole number from 0 to 360"),
        ("imageMogr2/rotate/٣", "rotate/"),
        ("imageMogr2/sharpen/9", "from 10 to 300"),
        ("imageMogr2/format/tpg", "format/tpg"),
        ("imageMogr2/cut/0x5x0x0", "cut/0x5x0x0"),
        ("imageMogr2/thumbnail/9x9/pad/1/color/red", "color/red"),
        ("thumbnail/!50p", "a rule like imageMogr2/"),
        ("", "a rule like imageMogr2/"),
        ("imageMogr2/rotate/1|", "a rule like imageMogr2/"),
    ],
)
def test_wrong_part_is_named(rule: str, told: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_rule(rule, "ProcessRule")
    assert told in caught.value.message


@pytest.mark.parametrize("rule", ["imageMogr2/scrop/10x10", "watermark/2/text/aGk", "imageMogr2/rotate/9|imageView2/1"])
def test_part_of_the_vendors_that_is_not_built_is_named(rule: str) -> None:
    with pytest.raises(NotImplementedHere, match=r"scrop|watermark|imageView2"):
        read_rule(rule, "ProcessRule")


def test_rule_is_bounded() -> None:
    with pytest.raises(InvalidArgument, match="at most 32"):
        steps("/".join(["rotate/1"] * 33))
    with pytest.raises(InvalidArgument, match="at most 2048"):
        steps("rotate/1/" * 300)


@given(st.text(max_size=60), st.lists(st.sampled_from(["thumbnail", "!50p", "pad", "1", "color", "blur", "|", "crop"])))
def test_any_text_is_read_or_refused(text: str, words: list[str]) -> None:
    for rule in (text, "imageMogr2/" + text, "imageMogr2/" + "/".join(words)):
        try:
            read_rule(rule, "ProcessRule")
        except RequestError:
            continue
