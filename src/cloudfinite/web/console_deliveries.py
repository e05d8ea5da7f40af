"""The console's pages of deliveries and of the targets they go to: lists, one delivery, and their buttons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from aiohttp import web

from cloudfinite.domain.delivery import DeliveryFilter, DeliveryState
from cloudfinite.errors import InvalidArgument, InvalidUrl
from cloudfinite.ports import Clock
from cloudfinite.service.changes import ChangeFeed
from cloudfinite.service.deliveries import DeliveryService
from cloudfinite.web import replies
from cloudfinite.web.console_frame import PAGE_HEADERS, Frame, read_form
from cloudfinite.web.console_job import DeliveryFacts, show_answer, show_body
from cloudfinite.web.request import Query, Request

HOME = "/-/console/deliveries/"
TARGETS = "/-/console/targets/"
_PAGE_SIZE = 50
_NAMES = ("state", "url", "job", "before")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the list's URL asks for; `values` are its parameters as given, "" where one is not."""

    filter: DeliveryFilter
    values: Mapping[str, str]

    @property
    def is_narrowed(self) -> bool:
        """Whether the list leaves anything out."""
        return any(self.values.values())

    def url(self, **changes: str) -> str:
        """This list with other parameters; any change but `before` starts at its first page."""
        return list_url(**{**self.values, "before": "", **changes})


def list_url(**values: str) -> str:
    """Where the deliveries are listed that fit these values."""
    query = urlencode({name: value for name, value in values.items() if value})
    return f"{HOME}?{query}" if query else HOME


def read_wanted(query: Query) -> Wanted:
    """Read the list's URL. Raises InvalidArgument naming the parameter and what would be right."""
    values = {name: query.get(name) for name in _NAMES}
    state, before = values["state"], values["before"]
    if state and state not in tuple(DeliveryState):
        raise InvalidArgument(f"state is {state!r}; it must be one of {', '.join(DeliveryState)}")
    if before and not (before.isascii() and before.isdigit() and len(before) < 19):
        raise InvalidArgument(f"before is {before!r}; it must be a number of the page before")
    return Wanted(
        DeliveryFilter(
            job_id=values["job"],
            url=values["url"],
            states=frozenset({DeliveryState(state)}) if state else frozenset(),
            before=int(before) if before else None,
            size=_PAGE_SIZE,
        ),
        values,
    )


class DeliveryPages:
    """Serves `/-/console/deliveries/…` and `/-/console/targets/…`."""

    def __init__(self, deliveries: DeliveryService, feed: ChangeFeed, frame: Frame, clock: Clock) -> None:
        self._deliveries = deliveries
        self._feed = feed
        self._frame = frame
        self._clock = clock

    async def serve(self, request: Request, method: str, path: list[str]) -> web.Response:
        """Raises InvalidUrl for what is no page of these."""
        match method, path:
            case "GET", ["deliveries", ""] | ["deliveries"]:
                return await self._list(request)
            case "GET", ["deliveries", delivery_id]:
                return await self._show(request, delivery_id)
            case "GET", ["deliveries", delivery_id, "body"]:
                return await self._body(request, delivery_id)
            case "POST", ["deliveries", delivery_id, "replay"]:
                return await self._replay(request, delivery_id)
            case "GET", ["targets", ""] | ["targets"]:
                return await self._targets(request)
            case "POST", ["targets", "pause" | "resume" as action]:
                return await self._switch(request, action)
        raise InvalidUrl(f"there is no page {request.path}")

    # --- deliveries -------------------------------------------------------------------------------------------------

    async def _list(self, request: Request) -> web.Response:
        wanted = read_wanted(request.query)
        page = await self._deliveries.list_deliveries(wanted.filter)
        values = {
            "wanted": wanted,
            "deliveries": page.deliveries,
            "next_url": "" if page.before is None else wanted.url(before=str(page.before)),
            "states": list(DeliveryState),
            "here": wanted.url(before=wanted.values["before"]),
        }
        return self._frame.page(request, "deliveries.html", values, now=self._clock())

    async def _show(self, request: Request, delivery_id: str) -> web.Response:
        delivery, attempts = await self._deliveries.show_delivery(delivery_id)
        target = await self._deliveries.find_target(delivery.url)
        values = {
            "item": DeliveryFacts(delivery, attempts, target),
            "body": show_body(delivery.body, delivery.content_type),
            "show_answer": show_answer,
            "targets_url": list_url(url=delivery.url),
        }
        return self._frame.page(request, "delivery.html", values, now=self._clock())

    async def _body(self, request: Request, delivery_id: str) -> web.Response:
        """The exact bytes, as a file: never shown as a page of ours."""
        delivery, _ = await self._deliveries.show_delivery(delivery_id)
        suffix = "json" if "json" in delivery.content_type else "xml"
        name = delivery.job_id or delivery.id
        disposition = ("Content-Disposition", f'attachment; filename="{name}.{suffix}"')
        return replies.data(request, delivery.body, "application/octet-stream", headers=[*PAGE_HEADERS, disposition])

    async def _replay(self, request: Request, delivery_id: str) -> web.Response:
        delivery, _ = await self._deliveries.show_delivery(delivery_id)
        await self._deliveries.replay_delivery(delivery_id)
        self._feed.publish(delivery.job_id)
        back = (await read_form(request)).get("back", "")
        if back.startswith(HOME):  # a page of ours, and no other
            return replies.see_other(request, back)
        if delivery.job_id:
            return replies.see_other(request, f"/-/console/jobs/{quote(delivery.job_id)}#delivery-{quote(delivery_id)}")
        return replies.see_other(request, HOME + quote(delivery_id))

    # --- targets ----------------------------------------------------------------------------------------------------

    async def _targets(self, request: Request) -> web.Response:
        after = request.query.get("after")
        targets = await self._deliveries.list_targets(after, _PAGE_SIZE)
        is_full = len(targets) == _PAGE_SIZE
        values = {
            "targets": targets,
            "after": after,
            "next_url": f"{TARGETS}?{urlencode({'after': targets[-1].url})}" if is_full else "",
            "list_url": list_url,
        }
        return self._frame.page(request, "targets.html", values, now=self._clock())

    async def _switch(self, request: Request, action: str) -> web.Response:
        form = await read_form(request)
        url = form.get("url", "")
        if not url:
            raise InvalidArgument("url is missing; name the target")
        if action == "pause":
            await self._deliveries.pause_target(url)
        else:
            await self._deliveries.resume_target(url)
        after = form.get("after", "")
        return replies.see_other(request, f"{TARGETS}?{urlencode({'after': after})}" if after else TARGETS)
