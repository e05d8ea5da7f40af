"""The three networks of rapidocr (detector, line classifier, recogniser), called one by one with its own settings."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cloudfinite.adapters.ocr_geometry import PageTurn, page_skew, rotate_quad, turn_corners
from cloudfinite.adapters.ocr_order import reading_order
from cloudfinite.adapters.ocr_orientation import FoundLine, ReadText, half_turn, is_tall
from cloudfinite.adapters.pictures import Pixels
from cloudfinite.domain.ocr import Quad
from cloudfinite.errors import EngineFailed

_SMALLEST_SIDE_PX = 30  # rapidocr's min_side_len.
_STRIP_RATIO = 8  # rapidocr's width_height_ratio; it pads flat strips, and tall ones are padded here.
_GRID_PX = 32  # Sides are multiples of it, as the detector wants them.
# How many pieces of machine code OpenVINO keeps of each kind; a shape needs one for each operation of the network.
# All the shapes of lines and of batches for the classifier fit, there are some 30; of pages, the last few.
_KEPT = {"det": 128, "cls": 512, "rec": 2048}
_LINE_PX = 48  # What a line is scaled to before it is recognised.
_WIDTH_GROWTH = 1.15  # From one width of lines to the next.
_WIDTH_STEP_PX = 16
_NARROWEST_PX = 64


@dataclass(frozen=True, slots=True)
class ModeOptions:
    """How a mode trades accuracy for speed.

    page_side_px: larger pages are scaled down to it first. shorter_side_px: small pages are enlarged for the detector
    until their shorter side has it, or the longer one longer_side_px; 0 is never. most_side_px: for the detector,
    larger pages are scaled down to it. line_width_px: a line is given to the recogniser at least as wide
    (it is 48 high), the rest blank. line_squeeze: wider ones are made narrower by it, their letters with them.
    """

    page_side_px: int = 2000
    shorter_side_px: int = 736
    longer_side_px: int = 1600
    most_side_px: int = 1600
    line_width_px: int = 192
    line_squeeze: float = 0.9

    def detector_ratio(self, width_px: int, height_px: int) -> float:
        """By how much a page is scaled for the detector.

        rapidocr itself knows no longer_side_px and enlarges the letters of strips to 300 pixels and more.
        """
        shorter, longer = sorted((width_px, height_px))
        if longer > self.most_side_px:
            return self.most_side_px / longer
        return max(1.0, min(self.shorter_side_px / shorter, self.longer_side_px / longer))

    def line_size(self, length_by_height: float) -> tuple[int, int]:
        """How long a line's picture is made for the recogniser, and how wide it is with its blank rest."""
        natural = math.ceil(length_by_height * _LINE_PX)
        length = max(min(natural, self.line_width_px), math.ceil(natural * self.line_squeeze))
        return length, line_width(max(length, self.line_width_px))


def line_width(least_px: int) -> int:
    """The next of the few widths that lines may have, so that OpenVINO prepares some 25 shapes and no more."""
    width = _NARROWEST_PX
    while width < least_px:
        width += max(_WIDTH_STEP_PX, int(width * (_WIDTH_GROWTH - 1)) // _WIDTH_STEP_PX * _WIDTH_STEP_PX)
    return width


@dataclass(frozen=True, slots=True)
class FoundBox:
    """A detected line.

    outline begins at the picture's top left, corners at the text's; should_flip as rapidocr decides.
    """

    line: FoundLine
    outline: Quad
    should_flip: bool

    @classmethod
    def of(cls, outline: Quad, crop: Pixels, label: str, score: float) -> FoundBox:
        length_px = max(crop.shape[:2])
        should_flip = "180" in label and score > 0.9  # rapidocr's cls_thresh.
        return cls(FoundLine(crop, length_px, _is_tall_box(outline), "180" in label), outline, should_flip)

    @property
    def corners(self) -> Quad:
        return turn_corners(self.outline, (1 if self.line.is_tall else 0) + (2 if self.should_flip else 0))

    @property
    def upright_crop(self) -> Pixels:
        return half_turn(self.line.crop) if self.should_flip else self.line.crop

    def unflipped(self) -> FoundBox:
        """The same line the way it was found, whatever the classifier said."""
        return replace(self, should_flip=False)


def _is_tall_box(outline: Quad) -> bool:
    a, b, c, d = outline
    return is_tall(int(max(math.dist(a, b), math.dist(d, c))), int(max(math.dist(a, d), math.dist(b, c))))


class RapidNets:
    """models: paths of the ONNX files by rapidocr's parameter names. Raises EngineFailed when one does not exist."""

    def __init__(self, models: Mapping[str, str], *, backend: str, threads: int) -> None:
        silence_telemetry()
        import rapidocr
        from rapidocr.utils.process_img import apply_vertical_padding, get_rotate_crop_image
        from rapidocr.utils.typings import EngineType

        cv2.setNumThreads(threads)
        wheel = Path(rapidocr.__file__).parent / "models"
        models = {
            # Given by path, so that rapidocr never looks for a file to fetch.
            "Det.model_path": str(wheel / "PP-OCRv6_det_small.onnx"),
            "Cls.model_path": str(wheel / "ch_ppocr_mobile_v2.0_cls_mobile.onnx"),
            "Rec.model_path": str(wheel / "PP-OCRv6_rec_small.onnx"),
            **models,
        }
        for path in map(Path, models.values()):
            if not path.is_file():
                raise EngineFailed(f"the model file {path} does not exist")
        engine_type = EngineType(backend or installed_backend())
        parts = rapidocr.RapidOCR(
            params={
                **models,
                **{f"{part}.engine_type": engine_type for part in ("Det", "Cls", "Rec")},
                "EngineConfig.openvino.inference_num_threads": threads,
                "EngineConfig.onnxruntime.intra_op_num_threads": threads,
                "EngineConfig.onnxruntime.inter_op_num_threads": threads,
                "Global.log_level": "error",
            }
        )
        # rapidocr is pinned to one version; it loads its parts on first use, here they are wanted now.
        self._detect, self._classify = parts._load_det_model(), parts._load_cls_model()
        self._recognise = parts._load_rec_model()
        if engine_type is EngineType.OPENVINO:
            for name, part in (("det", self._detect), ("cls", self._classify), ("rec", self._recognise)):
                _bound_shapes(part.session, threads, _KEPT[name])
        self._pad, self._cut = apply_vertical_padding, get_rotate_crop_image
        self._options = ModeOptions()
        # rapidocr's own way normalises in float64, which takes 6 % of a page's time.
        self._detect.get_preprocess = lambda: lambda image: _detector_input(image, self._options)

    def find_lines(self, pixels: Pixels, options: ModeOptions) -> list[FoundBox]:
        """Detect and classify the lines, in reading order; their corners are in pixels of `pixels`."""
        scaled = scale_page(pixels, options.page_side_px)
        image, record = self._pad(scaled, {}, _STRIP_RATIO, _SMALLEST_SIDE_PX)
        self._options = options
        boxes = self._detect(_pad_tall_strip(image)).boxes
        if boxes is None:
            return []
        crops = [self._cut(image, box.copy()) for box in boxes]
        scale = np.array([pixels.shape[1] / scaled.shape[1], pixels.shape[0] / scaled.shape[0]])
        offset = np.array([record["padding_1"]["left"], record["padding_1"]["top"]])
        outlines = [_quad((box - offset) * scale) for box in boxes]
        return self._classified([(outline, crop) for outline, crop in zip(outlines, crops, strict=True) if crop.size])

    def turn_lines(self, found: Sequence[FoundBox], turn: PageTurn) -> list[FoundBox]:
        """The same lines on the page turned upright, classified anew: cheaper than to detect them again."""
        turned = []
        for box in found:
            cut = np.rot90(box.line.crop, -1) if box.line.is_tall else box.line.crop
            outline = turn.upright_outline(box.outline)
            steps = turn.angle_deg // 90 + (1 if _is_tall_box(outline) else 0)
            turned.append((outline, np.ascontiguousarray(np.rot90(cut, steps))))
        return self._classified(turned)

    def _classified(self, lines: Sequence[tuple[Quad, Pixels]]) -> list[FoundBox]:
        if not lines:
            return []
        outlines = [outline for outline, _ in lines]
        skew_deg = page_skew(outlines)
        level = [rotate_quad(outline, -skew_deg, 0, 0) for outline in outlines] if skew_deg else outlines
        ordered = [lines[index] for index in reading_order(level)]
        labels = self._classify([crop for _, crop in ordered]).cls_res
        return [
            FoundBox.of(outline, crop, label, score)
            for (outline, crop), (label, score) in zip(ordered, labels, strict=True)
        ]

    def read_crops(self, crops: Sequence[Pixels], options: ModeOptions, *, wants_places: bool = True) -> list[ReadText]:
        """Read lines that lie upright, each by itself, so that its text does not depend on its neighbours.

        Measured: the cost is by pixel, not by call, and rapidocr pads the lines of a batch to the widest of them, at
        least to 320.
        """
        return [self._read_crop(crop, options, wants_places) for crop in crops]

    def _read_crop(self, crop: Pixels, options: ModeOptions, wants_places: bool) -> ReadText:
        length, width = options.line_size(crop.shape[1] / crop.shape[0])
        strip = np.zeros((1, 3, _LINE_PX, width), np.float32)
        strip[..., :length] = _normalised(cv2.resize(crop, (length, _LINE_PX)))
        ((text, score),), words = self._recognise.postprocess_op(
            self._recognise.session(strip), wants_places, wh_ratio_list=[length], max_wh_ratio=width
        )
        if not wants_places:
            return ReadText(text, float(score))
        (found,) = words
        columns = [column for word in found.word_cols for column in word]
        centres = tuple(min((column + 0.5) / found.line_txt_len, 1.0) for column in columns)
        scored = zip(text, found.confs, strict=False)
        confidences = tuple(float(confidence) for letter, confidence in scored if not letter.isspace())
        return ReadText(text, float(score), centres, confidences)


def _bound_shapes(session: Any, threads: int, kept: int) -> None:
    """Compile the network anew with less machine code kept; rapidocr has no setting for it.

    OpenVINO keeps 5,000 pieces of each kind. Measured on 71 pages: 5.0 GiB of data segment and growing, with this
    2.3 GiB. Where a memory limit stopped it, it did not fail but misread; a child near its limit is therefore replaced
    (child.py).
    """
    import openvino

    options = {"INFERENCE_NUM_THREADS": threads, "CPU_RUNTIME_CACHE_CAPACITY": kept}
    session.session = openvino.Core().compile_model(session.model, "CPU", options).create_infer_request()


def _quad(box: Any) -> Quad:
    a, b, c, d = ((float(x), float(y)) for x, y in box)
    return a, b, c, d


def _detector_input(image: Pixels, options: ModeOptions) -> Any:
    height, width = image.shape[:2]
    ratio = options.detector_ratio(width, height)
    size = [max(_GRID_PX, round(int(side * ratio) / _GRID_PX) * _GRID_PX) for side in (width, height)]
    return _normalised(cv2.resize(image, size))


def _normalised(image: Any) -> Any:
    """From 0 … 255 to -1 … 1, channel after channel."""
    return cv2.dnn.blobFromImage(image, 1 / 127.5, mean=(127.5, 127.5, 127.5))


def scale_page(pixels: Pixels, page_side_px: int) -> Pixels:
    """The page with its longer side at most page_side_px, its shorter one at least what the detector needs."""
    height, width = pixels.shape[:2]
    ratio = min(1.0, page_side_px / max(height, width))
    if min(height, width) * ratio < _SMALLEST_SIDE_PX:
        ratio = min(_SMALLEST_SIDE_PX / min(height, width), page_side_px / max(height, width))
    if ratio == 1.0:
        return pixels
    size = [max(_GRID_PX, round(int(side * ratio) / _GRID_PX) * _GRID_PX) for side in (width, height)]
    return np.asarray(cv2.resize(pixels, size), dtype=np.uint8)


def _pad_tall_strip(image: Pixels) -> Pixels:
    """Widen a tall strip at its right, else the detector enlarges it without bound (a 1 × 10,000 picture)."""
    height, width = image.shape[:2]
    missing = height // (_STRIP_RATIO // 2) - width
    if height <= _STRIP_RATIO * width or missing <= 0:
        return image
    return np.asarray(cv2.copyMakeBorder(image, 0, 0, 0, missing, cv2.BORDER_REPLICATE), dtype=np.uint8)


def installed_backend() -> str:
    """OpenVINO reads the same weights 1.7 times as fast; onnxruntime is there where it has no wheel."""
    return "openvino" if importlib.util.find_spec("openvino") else "onnxruntime"


def silence_telemetry() -> None:
    """Importing openvino would tell its maker; a package that cannot be imported is replaced by its own stub."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None is how import is refused.
