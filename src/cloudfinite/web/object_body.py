"""An answer whose body is an object's bytes, read while they are sent: a slow client holds one chunk of memory."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from cloudfinite.errors import RequestError
from cloudfinite.ports import BytesReader

log = structlog.get_logger()


class ObjectBody(web.StreamResponse):
    """Closes its reader when the answer ends, however it ends."""

    def __init__(self, reader: BytesReader, size_bytes: int, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(status=status, headers=headers)
        self.content_length = size_bytes
        self._reader = reader

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        try:
            return await super().prepare(request)
        except BaseException:
            await self._reader.close()
            raise

    async def write_eof(self, data: bytes = b"") -> None:
        try:
            while chunk := await self._reader.read():
                await self.write(chunk)
        except ConnectionError:
            raise
        except (OSError, RequestError) as exc:
            # The head is sent: cutting the connection is the only way left to say that the body is not whole.
            log.error("object.unreadable", error=str(exc))
            raise ConnectionResetError("the object's bytes cannot be read") from exc
        finally:
            await self._reader.close()
        await super().write_eof(data)
