"""An OCR engine for tests that finds what the input file says: JSON options of `FixedEngine`; empty finds nothing."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from cloudfinite.domain.ocr import OcrRequest, PictureLimits, Reading
from cloudfinite.testing_engine import FixedEngine


class ScriptedEngine:
    def __init__(self, limits: PictureLimits, **_options: Any) -> None:
        self._limits = limits

    def warm_up(self) -> None:
        """Nothing to do."""

    def read(self, path: Path, request: OcrRequest) -> Reading:
        script = json.loads(path.read_text() or "{}")
        if script.pop("kills", False):
            os.kill(os.getpid(), signal.SIGKILL)
        return FixedEngine(self._limits, **script).read(path, request)
