"""`POST /-/events/s3`: where other object stores tell of new objects.

Wire: our choice – the secret as MinIO's webhook sends its auth_token (`Authorization: Bearer …`), or as the parameter
`secret` for senders that cannot set headers.
"""

from __future__ import annotations

import hmac

from aiohttp import web

from cloudfinite.errors import AccessDenied, InvalidUrl, MethodNotAllowed
from cloudfinite.service.events import EventService
from cloudfinite.web import replies
from cloudfinite.web.request import Request
from cloudfinite.wire.notifications import read_notification


class EventPages:
    """The door `/-/events/`. Without a secret it stays closed."""

    def __init__(self, events: EventService, secret: str) -> None:
        self._events = events
        self._secret = secret

    async def serve(self, request: Request) -> web.StreamResponse:
        if request.path != "/-/events/s3":
            raise InvalidUrl(f"there is no page {request.path}")
        if request.method != "POST":
            raise MethodNotAllowed(headers=(("Allow", "POST"),))
        self._check_secret(request)
        creations = read_notification(await request.body())
        count = await self._events.record(creations)
        body = f'{{"creations":{len(creations)},"new":{count}}}'
        return replies.data(request, body.encode(), replies.JSON)

    def _check_secret(self, request: Request) -> None:
        """Raises AccessDenied."""
        if not self._secret:
            raise AccessDenied("notifications are not taken: the setting events_secret is empty")
        header = request.headers.get("Authorization", "").strip()
        scheme, _, token = header.partition(" ")
        given = (token.strip() if scheme.lower() == "bearer" else header) or request.query.get("secret")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self._secret.encode()):
            raise AccessDenied("the secret is not that of the setting events_secret")
