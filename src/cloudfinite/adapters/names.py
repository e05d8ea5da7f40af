"""Host name look-ups with a time budget, in threads of their own, so that a silent name delays only its own callers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

_LOOKUPS = 32  # threads at once for names that answer
_SLOW_LOOKUPS = 16  # and for those that lately did not, so that they cannot take the others' threads
_SLOW_S = 1.0
_REMEMBERED = 10_000
MAX_ADDRESSES = 1_000  # as many are classified; see `outbound` for how many are tried

Lookup = Callable[[str], Sequence[str]]


def system_lookup(host: str) -> list[str]:
    """All addresses of a name, as the system resolver orders them."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class NameLookup:
    """Raises OSError when a name has no address, TimeoutError when the budget is spent."""

    def __init__(self, budget_s: float, lookup: Lookup = system_lookup) -> None:
        self._budget_s = budget_s
        self._lookup = lookup
        self._fast = asyncio.Semaphore(_LOOKUPS)
        self._slow = asyncio.Semaphore(_SLOW_LOOKUPS)
        self._slow_names: OrderedDict[str, None] = OrderedDict()

    async def addresses(self, host: str) -> list[str]:
        async with asyncio.timeout(self._budget_s):
            lane = self._slow if host in self._slow_names else self._fast
            await lane.acquire()
            return await asyncio.shield(self._in_thread(host, lane))

    def _in_thread(self, host: str, lane: asyncio.Semaphore) -> asyncio.Future[list[str]]:
        """Look up in a daemon thread: one that hangs must not hold up the end of the process."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[str]] = loop.create_future()
        started = loop.time()

        def finish(found: list[str], error: OSError | None) -> None:
            lane.release()
            self._note(host, is_slow=loop.time() - started > _SLOW_S)
            if future.cancelled():
                return
            if error is None:
                future.set_result(found)
            else:
                future.set_exception(error)
                future.exception()  # seen: the caller may have given up already

        def work() -> None:
            found: list[str] = []
            error: OSError | None = None
            try:
                found = list(self._lookup(host))
            except OSError as exc:
                error = exc
            except UnicodeError as exc:  # the IDNA codec of getaddrinfo
                error = OSError(str(exc))
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(finish, found, error)

        threading.Thread(target=work, name="name-lookup", daemon=True).start()
        return future

    def _note(self, host: str, *, is_slow: bool) -> None:
        if is_slow:
            self._slow_names[host] = None
            if len(self._slow_names) > _REMEMBERED:
                self._slow_names.popitem(last=False)
        else:
            self._slow_names.pop(host, None)
