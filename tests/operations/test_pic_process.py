"""PicProcess: real pictures, and its nodes in both forms."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image, ImageCms

from cloudfinite.adapters.picture_editing import PillowEditor
from cloudfinite.domain.job import CallbackFormat, Job, JobInput, JobOutput, JobState
from cloudfinite.domain.ocr import PictureLimits
from cloudfinite.errors import InvalidArgument, UnreadableInput, UnsupportedOption
from cloudfinite.operations import operations
from cloudfinite.operations.pic_process import (
    ImageInfo,
    OriginalInfo,
    PicParams,
    PicResult,
    ProcessResult,
    UploadedObject,
    UploadedOriginal,
    UploadedResults,
    UploadResult,
    content_type,
    extension,
    process_picture,
)
from cloudfinite.wire.documents import parse_body, read_fields
from cloudfinite.wire.nodes import to_json, to_xml, tree
from cloudfinite.wire.operation import LocalFile, OutputFile
from cloudfinite.wire.shapes import callback_body

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
EDITOR = PillowEditor(PictureLimits())
ORIENTATION = 0x0112
GOLDEN = Path(__file__).parents[1] / "golden" / "pictures"


class Bench:
    """One picture – its left half red, its right half blue – and what becomes of it."""

    def __init__(self, folder: Path) -> None:
        self.source, self.target = folder / "in", folder / "out"
        self.image = Image.new("RGB", (80, 40), BLUE)
        self.image.paste(RED, (0, 0, 40, 40))

    def run(self, rule: str, form: str = "PNG", editor: PillowEditor = EDITOR, **options: object) -> Image.Image:
        self.image.save(self.source, form, **options)
        self.result = self.process(rule, editor)
        with Image.open(self.target) as written:
            written.load()
            return written

    def process(self, rule: str, editor: PillowEditor = EDITOR, *, is_pic_info: bool = True) -> PicResult:
        output = OutputFile(self.target, "b-1250000000", "ap-chongqing", "out dir/a.png")
        source = LocalFile(self.source, "in/a.png", etag='"0fe7"', output=output)
        return process_picture(source, PicParams(f"imageMogr2/{rule}", is_pic_info), editor)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_steps_are_taken_in_their_order(bench: Bench) -> None:
    written = bench.run("crop/40x40/gravity/east|imageMogr2/thumbnail/20x/rotate/90")
    assert written.size == (20, 20) and written.getpixel((10, 10)) == BLUE


@pytest.mark.parametrize(
    ("rule", "size", "corner"),
    [
        ("rotate/90", (40, 80), RED),
        ("rotate/270", (40, 80), BLUE),
        ("rotate/360", (80, 40), RED),
        ("rotate/45", (86, 86), WHITE),
        ("flip/horizontal", (80, 40), BLUE),
        ("flip/vertical", (80, 40), RED),
        ("thumbnail/80x80/pad/1", (80, 80), WHITE),
        ("thumbnail/40x40!", (40, 40), RED),
        ("cut/10x10x60x0", (10, 10), BLUE),
    ],
)
def test_picture_is_changed(bench: Bench, rule: str, size: tuple[int, int], corner: tuple[int, int, int]) -> None:
    written = bench.run(rule)
    assert (written.size, written.convert("RGB").getpixel((0, 0))) == (size, corner)


def test_grey_blur_sharpen_and_tone_change_pixels_only(bench: Bench) -> None:
    assert bench.run("grayscale/1").mode == "L"
    edge = bench.run("blur/8x5").getpixel((40, 20))
    assert isinstance(edge, tuple) and 60 < edge[0] < 195 and 60 < edge[2] < 195
    assert bench.run("sharpen/70").size == (80, 40)
    assert bench.run("bright/-100").getpixel((0, 0)) == (0, 0, 0)
    assert bench.run("contrast/0").getpixel((0, 0)) == RED


def test_circle_and_round_corners_are_transparent_outside_and_white_in_jpeg(bench: Bench) -> None:
    circle = bench.run("iradius/20")
    assert circle.size == (40, 40) and circle.getpixel((0, 0))[3] == 0 and circle.getpixel((10, 20)) == (*RED, 255)
    assert bench.run("rradius/10").getpixel((0, 0))[3] == 0
    white = bench.run("rradius/10/format/jpg").getpixel((0, 0))
    assert min(white) > 240


@pytest.mark.parametrize("form", ["jpg", "png", "bmp", "gif", "webp", "avif"])
def test_every_documented_format_is_written(bench: Bench, form: str) -> None:
    written = bench.run(f"format/{form}")
    assert bench.result.result.format == written.format
    assert written.format == {"jpg": "JPEG"}.get(form, form.upper())
    assert content_type(bench.result) == f"image/{'jpeg' if form == 'jpg' else form}"
    assert extension(PicParams(f"imageMogr2/format/{form}")) == form


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("form", ["jpg", "gif", "webp"])
def test_every_kind_of_pixels_can_be_processed(bench: Bench, mode: str, form: str) -> None:
    bench.image = bench.image.convert("L").convert(mode) if mode == "I;16" else bench.image.convert(mode)
    written = bench.run(f"thumbnail/!50p/rotate/30/format/{form}", "TIFF")
    assert written.format == {"jpg": "JPEG"}.get(form, form.upper())


def test_auto_orient_shows_the_picture_as_it_is_displayed(bench: Bench) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # to be turned by 90° clockwise
    exif[0x010F] = "maker"
    kept = bench.run("thumbnail/80x", "JPEG", exif=exif)
    assert kept.size == (80, 40) and kept.getexif()[ORIENTATION] == 6
    turned = bench.run("auto-orient", "JPEG", exif=exif)
    assert turned.size == (40, 80) and turned.getexif()[ORIENTATION] == 1
    assert bench.result.upload.original is not None and bench.result.upload.original.info.orientation == 6
    assert turned.getexif()[0x010F] == "maker"


def test_strip_leaves_exif_out_and_keeps_the_colours(bench: Bench) -> None:
    exif = Image.Exif()
    exif[0x010F] = "maker"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    written = bench.run("strip", "JPEG", exif=exif, icc_profile=profile)
    assert not written.getexif() and written.info["icc_profile"] == profile


@pytest.mark.parametrize(
    ("source", "rule", "quality"),
    [(80, "rotate/0", 80), (80, "quality/60", 60), (60, "quality/80", 60), (60, "quality/80!", 80),
     (80, "rquality/80", 64), (60, "lquality/80", 80)],
)  # fmt: skip
def test_quality_follows_the_source(bench: Bench, source: int, rule: str, quality: int) -> None:
    written = bench.run(rule, "JPEG", quality=source)
    assert bench.result.upload.original is not None and bench.result.upload.original.info.quality == source
    assert bench.result.result.quality == quality
    reference = bench.target.with_name("reference")
    bench.image.save(reference, "JPEG", quality=quality)
    with Image.open(reference) as expected:
        assert written.quantization == expected.quantization  # type: ignore[attr-defined]


def test_progressive_jpeg(bench: Bench) -> None:
    assert bench.run("interlace/1/format/jpg").info.get("progressive")


def test_result_has_the_documented_nodes(bench: Bench) -> None:
    bench.run("rotate/90")
    data = bench.target.read_bytes()
    etag, size = f'"{hashlib.md5(data).hexdigest()}"', len(data)
    info = ("<ImageInfo><Ave>0x800080</Ave><Format>PNG</Format><Height>40</Height><Orientation>0</Orientation>"
            "<Quality>100</Quality><Width>80</Width></ImageInfo>")  # fmt: skip
    found = tree("PicProcessResult", bench.result)
    assert to_xml(found).decode() == (
        "<PicProcessResult><ObjectName>out dir/a.png</ObjectName>"
        f'<OriginalInfo><Etag>"0fe7"</Etag>{info}</OriginalInfo>'
        f"<ProcessResult><Etag>{etag}</Etag><Format>PNG</Format><Height>80</Height><Quality>100</Quality>"
        f"<Size>{size}</Size><Width>40</Width></ProcessResult><UploadResult><OriginalInfo><Key>in/a.png</Key>"
        f'<ETag>"0fe7"</ETag>{info}</OriginalInfo><ProcessResults><Object><Key>out dir/a.png</Key>'
        "<Location>b-1250000000.cos.ap-chongqing.myqcloud.com/out%20dir/a.png</Location><Format>PNG</Format>"
        f"<Width>40</Width><Height>80</Height><Size>{size}</Size><Quality>100</Quality><Etag>{etag}</Etag>"
        "</Object></ProcessResults></UploadResult></PicProcessResult>"
    )
    told = json.loads(to_json(found, wrapped=False))
    assert told["ProcessResult"]["Width"] == "40" and told["OriginalInfo"]["ImageInfo"]["Quality"] == "100"


# Wire: Cloud Infinite API documentation, "Image Processing Callback": the samples' values.
INFO = ImageInfo("0xc64847", "JPEG", 417, 0, 68, 500)
SAMPLE = PicResult(
    "output/out.jpg",
    OriginalInfo('"d5a491cd3d8d071e3212c3478e8e35a1"', INFO),
    ProcessResult('"0123456789abcdef0123456789abcdef"', "JPEG", 500, 68, 24911, 417),
    UploadResult(
        UploadedOriginal("input/deer.jpg", '"d5a491cd3d8d071e3212c3478e8e35a1"', INFO),
        UploadedResults(
            UploadedObject(
                "output/out.jpg", "test-1234567890.cos.ap-chongqing.myqcloud.com/output/out.jpg", "JPEG", 417, 500,
                24911, 68, '"0123456789abcdef0123456789abcdef"',
            )
        ),
    ),
)  # fmt: skip


@pytest.mark.parametrize("form", CallbackFormat)
def test_callback_has_the_golden_bytes(form: CallbackFormat) -> None:
    operation = operations()["PicProcess"]
    job = Job(
        id="c93984788066911ed89ed352d4d9d2084",
        bucket="test-1234567890",
        region="ap-chongqing",
        tag="PicProcess",
        queue_id="p2911917386e148639319e13c285cc774",
        input=JobInput("input/deer.jpg"),
        params=operation.params_data(PicParams("imageMogr2/rotate/90", is_pic_info=True)),
        created_at=datetime(2022, 7, 18, 7, 16, 43, tzinfo=UTC),
        state=JobState.SUCCESS,
        template_id="t10461fe2bd5a649db9022452ec71e0381",
        template_name="test",
        user_data="This is my PicProcess job.",
        started_at=datetime(2022, 7, 18, 7, 16, 44, tzinfo=UTC),
        ended_at=datetime(2022, 7, 18, 7, 16, 44, tzinfo=UTC),
        result=operation.result_data(SAMPLE),
        output=JobOutput("test-1234567890", "ap-chongqing", "output/out.jpg"),
    )
    _, body = callback_body(job, operation, form, wrapped=operation.wraps_json)
    assert body.decode() == (GOLDEN / f"task-finish.{form.lower()}").read_text()


def test_source_is_told_of_only_when_asked(bench: Bench) -> None:
    bench.image.save(bench.source, "PNG")
    found = bench.process("rotate/90", is_pic_info=False)
    assert found.original is None and found.upload.original is None
    assert b"OriginalInfo" not in to_xml(tree("PicProcessResult", found))


def test_step_that_does_not_fit_the_picture_is_told(bench: Bench) -> None:
    bench.image.save(bench.source, "PNG")
    for rule, told in (
        ("iradius/21", "at most 20"),
        ("cut/5x5x80x0", "outside the picture of 80 × 40"),
        ("thumbnail/9999x/thumbnail/x9999", "at most 9999 a side"),
        ("thumbnail/!999p/thumbnail/!999p/thumbnail/!999p", "at most 9999 a side"),
    ):
        with pytest.raises(UnsupportedOption, match=told):
            bench.process(rule)


def test_limits_of_recognition_hold(bench: Bench) -> None:
    with pytest.raises(UnreadableInput, match="at most 79 per side"):
        bench.run("rotate/90", editor=PillowEditor(PictureLimits(side_px=79)))
    with pytest.raises(UnreadableInput, match="at most 3199 are allowed"):
        bench.run("rotate/90", editor=PillowEditor(PictureLimits(pixels=3_199)))
    with pytest.raises(UnreadableInput, match="at most 10 are allowed"):
        bench.run("rotate/90", editor=PillowEditor(PictureLimits(size_bytes=10)))
    with pytest.raises(UnreadableInput, match="at most 10000 are allowed"):
        bench.run("thumbnail/200x200!", editor=PillowEditor(PictureLimits(pixels=10_000)))


@pytest.mark.parametrize("content", [b"", b"text", b"%PDF-1.7", b"\x89PNG\r\n\x1a\nbroken", b"\xff\xd8\xff\xe0broken"])
def test_what_is_no_picture_is_told(bench: Bench, content: bytes) -> None:
    bench.source.write_bytes(content)
    with pytest.raises(UnreadableInput):
        bench.process("rotate/90")


def test_rule_is_checked_when_the_job_comes() -> None:
    def read(rule: str) -> PicParams:
        body = f"<PicProcess><ProcessRule>{rule}</ProcessRule></PicProcess>".encode()
        return read_fields(PicParams, parse_body(body, "PicProcess"))

    assert read("imageMogr2/thumbnail/9x9&gt;") == PicParams("imageMogr2/thumbnail/9x9>", False)
    with pytest.raises(InvalidArgument, match=r"PicProcess\.ProcessRule has 'turn'"):
        read("imageMogr2/turn/90")
    with pytest.raises(InvalidArgument, match="needs ProcessRule"):
        read("")


def test_values_survive_the_way_through_the_store(bench: Bench) -> None:
    operation = operations()["PicProcess"]
    params = PicParams("imageMogr2/rotate/90", True)
    assert operation.params_value(json.loads(json.dumps(operation.params_data(params)))) == params
    bench.run("rotate/90")
    assert operation.result_value(json.loads(json.dumps(operation.result_data(bench.result)))) == bench.result
