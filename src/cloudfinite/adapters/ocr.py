"""From an EngineSpec to an OCR engine: the built-in ones by short name, anybody's own by `module:factory`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, cast

from cloudfinite.domain.ocr import OcrMode, TextLanguage
from cloudfinite.errors import SetupError
from cloudfinite.ports import EngineSpec, OcrEngine

# Imported only when asked for: an engine's libraries take a second to load and 400 MB.
BUILT_IN = {
    "rapidocr": "cloudfinite.adapters.ocr_rapid:RapidEngine",
    "fixed": "cloudfinite.testing_engine:FixedEngine",
}


def build_engine(spec: EngineSpec) -> OcrEngine:
    """Import and call the engine's factory. Raises SetupError when there is none of this name or it refuses."""
    factory = _factory(spec.name)
    try:
        return factory(spec.limits, **spec.options)
    except (TypeError, ValueError) as exc:
        raise SetupError(f"the OCR engine {spec.name!r} does not take its options: {exc}") from exc


def _factory(name: str) -> Callable[..., OcrEngine]:
    module_name, colon, attribute = BUILT_IN.get(name, name).partition(":")
    if not colon:
        known = ", ".join(BUILT_IN)
        raise SetupError(f"there is no OCR engine {name!r}", f"Name one of {known}, or your own as module:factory.")
    try:
        module: Any = importlib.import_module(module_name)
        return cast("Callable[..., OcrEngine]", getattr(module, attribute))
    except (ImportError, AttributeError) as exc:
        raise SetupError(f"the OCR engine {name!r} cannot be imported: {exc}") from exc


def engine_table() -> dict[str, dict[str, str | int | float]]:
    """What each Type of the built-in engine means: models, limits, and what docs/ocr.md measured of it.

    page_px: longest side of a page that is read; detector: how it is scaled to find lines; line_px: least width a line
    is read with; line_squeeze: how much narrower longer ones are made; speed: pages in the time that rapidocr alone
    needs for one; word_f1: on the same pages.
    """
    from cloudfinite.adapters.ocr_rapid import MEASURED, MODES

    table: dict[str, dict[str, str | int | float]] = {}
    for mode in OcrMode:
        options = MODES[mode]
        enlarged = f"up to {options.shorter_side_px} x {options.longer_side_px}, "
        scaled = f"down to {options.most_side_px}"
        table[mode.value] = {
            "model": "PP-OCRv6 small",
            "page_px": options.page_side_px,
            "detector": (enlarged if options.shorter_side_px else "") + scaled,
            "line_px": options.line_width_px,
            "line_squeeze": options.line_squeeze,
            "tiling": "none",
            "speed": MEASURED[mode][0],
            "word_f1": MEASURED[mode][1],
        }
    return table


def language_table(tesseract: str = "tesseract") -> dict[str, str]:
    """What reads each LanguageType on this machine, or what to install for it."""
    from cloudfinite.adapters.ocr_tesseract import BY_LANGUAGE, Tesseract

    codes = Tesseract(tesseract).codes
    table: dict[str, str] = {}
    for language in TextLanguage:
        script = BY_LANGUAGE.get(language)
        if language in (TextLanguage.AUTO, TextLanguage.MIXED):
            found = [script.code for script in Tesseract(tesseract).scripts]
            table[language.value] = "PP-OCRv6" + (f", Tesseract {' '.join(found)}" if found else "")
        elif script is None:
            table[language.value] = "PP-OCRv6"
        else:
            is_there = script.code in codes
            table[language.value] = f"Tesseract {script.code}" if is_there else f"not here: install {script.package}"
    return table
