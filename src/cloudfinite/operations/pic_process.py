"""PicProcess: change a picture by a processing rule and store it as a new object.

Wire: Cloud Infinite API documentation, "CreatePicJobs", "Image Processing Callback" (PicProcessResult with its
samples), "CreateMediaTemplate" of PicProcess; cos-go-sdk-v5, ci_media.go, PicProcessResult (UploadResult).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from urllib.parse import quote

from cloudfinite.domain.pictures import PictureFacts
from cloudfinite.operations import operation
from cloudfinite.ports import PictureEditor
from cloudfinite.wire.nodes import node
from cloudfinite.wire.operation import LocalFile, OutputFile
from cloudfinite.wire.picture_rules import read_rule

_CONTENT_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
    "TIFF": "image/tiff",
}
_EXTENSIONS = {"JPEG": "jpg"}


@dataclass(frozen=True, slots=True)
class PicParams:
    """Wire: IsPicInfo asks for what is known of the source; ProcessRule is required."""

    rule: str = node("ProcessRule")
    is_pic_info: bool = node("IsPicInfo", default=False)

    def __post_init__(self) -> None:
        """Raises InvalidArgument or NotImplementedHere for a rule that cannot be followed."""
        read_rule(self.rule, "PicProcess.ProcessRule")


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Wire: average as 0xRRGGBB; numbers are texts in JSON."""

    average: str = node("Ave")
    format: str = node("Format")
    height_px: int = node("Height", json=str)
    orientation: int = node("Orientation", json=str)
    quality: int = node("Quality", json=str)
    width_px: int = node("Width", json=str)


@dataclass(frozen=True, slots=True)
class OriginalInfo:
    etag: str = node("Etag")
    info: ImageInfo = node("ImageInfo")


@dataclass(frozen=True, slots=True)
class ProcessResult:
    etag: str = node("Etag")
    format: str = node("Format")
    height_px: int = node("Height", json=str)
    quality: int = node("Quality", json=str)
    size_bytes: int = node("Size", json=str)
    width_px: int = node("Width", json=str)


@dataclass(frozen=True, slots=True)
class UploadedOriginal:
    key: str = node("Key")
    etag: str = node("ETag")
    info: ImageInfo = node("ImageInfo")


@dataclass(frozen=True, slots=True)
class UploadedObject:
    key: str = node("Key")
    location: str = node("Location")
    format: str = node("Format")
    width_px: int = node("Width", json=str)
    height_px: int = node("Height", json=str)
    size_bytes: int = node("Size", json=str)
    quality: int = node("Quality", json=str)
    etag: str = node("Etag")


@dataclass(frozen=True, slots=True)
class UploadedResults:
    object: UploadedObject = node("Object")


@dataclass(frozen=True, slots=True)
class UploadResult:
    original: UploadedOriginal | None = node("OriginalInfo")
    results: UploadedResults = node("ProcessResults")


@dataclass(frozen=True, slots=True)
class PicResult:
    """Wire: the samples have the first three nodes, the text and the Go SDK have `UploadResult`; both are here."""

    object_key: str = node("ObjectName")
    original: OriginalInfo | None = node("OriginalInfo")
    result: ProcessResult = node("ProcessResult")
    upload: UploadResult = node("UploadResult")


def content_type(result: PicResult) -> str:
    return _CONTENT_TYPES[result.result.format]


def extension(params: PicParams) -> str:
    """The one of the format that the rule asks for, "" when it asks for none."""
    form = read_rule(params.rule, "ProcessRule").format
    return _EXTENSIONS.get(form, form.lower())


@operation(
    "PicProcess",
    service="pic",
    area="Image Processing",
    params=("PicProcess", PicParams),
    result=("PicProcessResult", PicResult),
    engine="pictures",
    can_template=True,
    takes=("picture",),
    produces="picture",
    content_type=content_type,
    extension=extension,
)
def process_picture(source: LocalFile, params: PicParams, engine: PictureEditor) -> PicResult:
    """Write `source`, changed by the rule, to its output. Raises UnreadableInput or UnsupportedOption."""
    output = source.output
    assert output is not None, "an operation that produces an object has an output"
    before, after = engine.edit(source.path, output.path, read_rule(params.rule, "ProcessRule"))
    size_bytes, etag = output.path.stat().st_size, _etag(output)
    info = _image_info(before)
    uploaded = UploadedObject(
        key=output.key,
        location=_location(output),
        format=after.format,
        width_px=after.width_px,
        height_px=after.height_px,
        size_bytes=size_bytes,
        quality=after.quality,
        etag=etag,
    )
    original = UploadedOriginal(source.name, source.etag, info)
    return PicResult(
        object_key=output.key,
        original=OriginalInfo(source.etag, info) if params.is_pic_info else None,
        result=ProcessResult(etag, after.format, after.height_px, after.quality, size_bytes, after.width_px),
        upload=UploadResult(original if params.is_pic_info else None, UploadedResults(uploaded)),
    )


def _image_info(facts: PictureFacts) -> ImageInfo:
    return ImageInfo(
        average="0x{:02x}{:02x}{:02x}".format(*facts.average),
        format=facts.format,
        height_px=facts.height_px,
        orientation=facts.orientation,
        quality=facts.quality,
        width_px=facts.width_px,
    )


def _etag(output: OutputFile) -> str:
    with output.path.open("rb") as file:
        # No protection: the ETag of an object put in one piece is its MD5.
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    return f'"{digest.hexdigest()}"'


def _location(output: OutputFile) -> str:
    """Wire: "Persistent Image Processing": host and path, without a scheme."""
    return f"{output.bucket}.cos.{output.region}.myqcloud.com/{quote(output.key)}"
