"""What all console pages share: the templates, the headers that keep them safe, and their style sheet and script.

Everything shown may come from an attacker: recognised text, object keys, bodies, receivers' answers. So templates
escape always, and the policy lets the browser run and load nothing but our own files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cloudfinite import __version__
from cloudfinite.domain.job import JobState
from cloudfinite.errors import InvalidUrl
from cloudfinite.web import replies
from cloudfinite.web.drawing import confidence_class, duration
from cloudfinite.web.request import Request

STATIC_URL = "/-/static/"
_MAX_FORM_BYTES = 16_384  # a target's URL, percent-coded twice, and more

PAGE_HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)
# Their address holds a hash of what they contain.
_STATIC_HEADERS = (("X-Content-Type-Options", "nosniff"), ("Cache-Control", "public, max-age=31536000, immutable"))
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Frame:
    """Renders pages and serves the files they need."""

    def __init__(self) -> None:
        here = Path(__file__).parent
        self._files = {path.name: path.read_bytes() for path in (here / "static").iterdir() if path.suffix in _TYPES}
        self._versions = {name: hashlib.sha256(data).hexdigest()[:12] for name, data in self._files.items()}
        self._templates = Environment(
            loader=FileSystemLoader(here / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.filters.update(
            iso=iso_time, stamp=stamp, took=duration, quality=confidence_class, size=byte_size, seconds=seconds
        )
        self._templates.globals.update(static=self.static_url, version=__version__, JobState=JobState)

    def page(
        self, request: Request, template: str, values: Mapping[str, Any], *, now: datetime, status: int = 200
    ) -> web.Response:
        body = self._templates.get_template(template).render(values, request=request, now=now)
        return replies.text(request, body, "text/html", status, PAGE_HEADERS)

    def static_url(self, name: str) -> str:
        return f"{STATIC_URL}{name}?v={self._versions[name]}"

    def static_file(self, request: Request, name: str) -> web.Response:
        """Raises InvalidUrl."""
        if name not in self._files:
            raise InvalidUrl(f"there is no file {name!r}")
        return replies.data(
            request, self._files[name], f"{_TYPES[Path(name).suffix]}; charset=utf-8", headers=_STATIC_HEADERS
        )


def iso_time(at: datetime) -> str:
    """For `<time datetime>`, which the browser turns into its own zone's time."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def stamp(at: datetime) -> str:
    """What is shown where no script runs."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def seconds(count: float) -> str:
    return duration(timedelta(seconds=count))


def byte_size(count: int) -> str:
    if count < 10_000:
        return f"{count:,} bytes"
    return f"{count / 1000:,.0f} kB" if count < 10_000_000 else f"{count / 1_000_000:,.1f} MB"


async def read_form(request: Request) -> dict[str, str]:
    """A small form's fields."""
    pairs = parse_qs((await request.body(_MAX_FORM_BYTES)).decode("utf-8", "replace"), keep_blank_values=True)
    return {name: values[0] for name, values in pairs.items()}
