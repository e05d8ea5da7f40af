"""`cloudfinite receive`: the inbox standing alone, which prints each callback and tells what is wrong with the stream.

With nothing but the headers it proves, for each path: lost callbacks (a hole in `cloudfinite-sequence`), repeats (the
same `webhook-id`, and whether the bytes are the same), late and out-of-sequence ones, and bad signatures.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiohttp import web

from cloudfinite.errors import RequestError, SetupError
from cloudfinite.receiver import CallbackError, SignatureError, parse_callback, verify
from cloudfinite.web.inbox import Fault, Inbox, Message
from cloudfinite.web.request import HostKind, Query, Request
from cloudfinite.wire.webhooks import ATTEMPT_HEADER, ID_HEADER, SEQUENCE_HEADER

LATE_S = 60.0
_REMEMBERED = 100_000  # callbacks whose repeats are recognised
_MAX_HOLES = 10_000  # sequence numbers, per path


@dataclass(slots=True)
class Findings:
    """What is wrong with the callbacks of one path so far."""

    received: int = 0
    repeated: int = 0
    changed: int = 0
    late: int = 0
    out_of_sequence: int = 0
    badly_signed: int = 0
    unreadable: int = 0
    missing: set[int] = field(default_factory=set)

    @property
    def is_clean(self) -> bool:
        """Whether all is well; a repeat with the same bytes is."""
        wrong = (self.changed, self.late, self.out_of_sequence, self.badly_signed, self.unreadable, len(self.missing))
        return not any(wrong)

    def summary(self) -> str:
        return (
            f"{self.received} received, {len(self.missing)} lost, {self.repeated} repeated ({self.changed} changed), "
            f"{self.late} late, {self.out_of_sequence} out of sequence, {self.badly_signed} badly signed, "
            f"{self.unreadable} unreadable"
        )


class Watch:
    """Judges the callbacks of one path, in the order of their arrival.

    A callback is late when its job ended more than `late_s` before it arrived. Without secrets no signature is checked.
    """

    def __init__(self, secrets: Sequence[str] = (), late_s: float = LATE_S) -> None:
        self.findings = Findings()
        self._secrets = secrets
        self._late_s = late_s
        self._digests: OrderedDict[str, bytes] = OrderedDict()
        self._highest = 0

    def see(self, message: Message) -> list[str]:
        """What is to be said of this one; empty when all is well."""
        headers = {name.lower(): value for name, value in message.headers}
        self.findings.received += 1
        said: list[str] = []
        said += self._check_signature(headers, message)
        is_repeat = self._check_repeat(headers, message, said)
        self._check_sequence(headers, is_repeat, said)
        self._check_body(message, is_repeat, said)
        return said

    def _check_signature(self, headers: Mapping[str, str], message: Message) -> list[str]:
        if not self._secrets:
            return []
        try:
            verify(headers, message.body, self._secrets, now_s=message.received_at.timestamp())
        except SignatureError as exc:
            self.findings.badly_signed += 1
            return [f"badly signed: {exc}"]
        return []

    def _check_repeat(self, headers: Mapping[str, str], message: Message, said: list[str]) -> bool:
        key = headers.get(ID_HEADER, "")
        if not key:
            return False
        digest = hashlib.sha256(message.body).digest()
        known = self._digests.get(key)
        if known is None:
            self._digests[key] = digest
            if len(self._digests) > _REMEMBERED:
                self._digests.popitem(last=False)
            return False
        self.findings.repeated += 1
        said.append(f"repeated, attempt {headers.get(ATTEMPT_HEADER, '?')}")
        if known != digest:
            self.findings.changed += 1
            said.append("with other bytes than before")
        return True

    def _check_sequence(self, headers: Mapping[str, str], is_repeat: bool, said: list[str]) -> None:
        text = headers.get(SEQUENCE_HEADER, "")
        if is_repeat or not (text.isascii() and text.isdigit()):
            return
        number, missing = int(text), self.findings.missing
        if not self._highest:
            self._highest = number  # we need not have been here from the start
        elif number > self._highest:
            missing.update(range(max(self._highest + 1, number - _MAX_HOLES + len(missing)), number))
            if number > self._highest + 1:
                said.append(f"{number - self._highest - 1} before it not (yet) received")
            self._highest = number
        else:
            missing.discard(number)
            self.findings.out_of_sequence += 1
            said.append(f"out of sequence: {number} after {self._highest}")

    def _check_body(self, message: Message, is_repeat: bool, said: list[str]) -> None:
        try:
            callback = parse_callback(message.body)
        except CallbackError as exc:
            self.findings.unreadable += 1
            said.append(f"unreadable: {exc}")
            return
        ended = [job.ended_at for job in callback.jobs if job.ended_at]
        age_s = max(((message.received_at - at).total_seconds() for at in ended), default=0.0)
        if age_s > self._late_s and not is_repeat:
            self.findings.late += 1
            said.append(f"late: {age_s:.0f} s after its job's end")


class Receiver:
    """Takes POSTs on any path below `/`, as the inbox of that path's last part; prints a line for each.

    `write` gets the lines. Faults hold for every path.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        secrets: Sequence[str] = (),
        late_s: float = LATE_S,
        faults: Sequence[Fault] = (),
    ) -> None:
        self._write = write
        self._secrets = secrets
        self._late_s = late_s
        self._faults = list(faults)
        self._watches: dict[str, Watch] = {}
        self._inbox = Inbox(lambda: datetime.now(UTC), self._received)
        self._runner: web.ServerRunner | None = None

    async def start(self, host: str, port: int) -> str:
        """Listen; returns the URL. Raises SetupError."""
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None))
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port, reuse_address=True).start()
        except OSError as exc:
            await self._runner.cleanup()
            raise SetupError(f"{host}:{port} cannot be listened on: {exc.strerror}", "give another --port") from exc
        bound = self._runner.addresses[0]
        return f"http://{f'[{bound[0]}]' if ':' in bound[0] else bound[0]}:{bound[1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def findings(self, name: str) -> Findings:
        return self._watch(name).findings

    def report(self) -> list[str]:
        """One line per path; the last word when the command ends."""
        return [f"{name}: {watch.findings.summary()}" for name, watch in sorted(self._watches.items())]

    @property
    def is_clean(self) -> bool:
        return all(watch.findings.is_clean for watch in self._watches.values())

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        path = http.path
        if not path.startswith("/-/inbox"):
            path = "/-/inbox/" + (path.rstrip("/").rpartition("/")[2] or "callbacks")
        request = Request(
            id="", method=http.method, kind=HostKind.OWN, host=http.host, bucket="", region="", path=path,
            query=Query(), headers=http.headers, secret_id="", http=http,
        )  # fmt: skip
        name = request.segments[2] if len(request.segments) > 2 else ""
        if name not in self._watches and http.method == "POST":
            for fault in self._faults:
                self._inbox.add_fault(name, fault)
        try:
            return await self._inbox.serve(request)
        except RequestError as exc:
            return web.Response(status=exc.status, text=exc.message + "\n")

    def _watch(self, name: str) -> Watch:
        if name not in self._watches:
            self._watches[name] = Watch(self._secrets, self._late_s)
        return self._watches[name]

    def _received(self, name: str, message: Message) -> None:
        said = self._watch(name).see(message)
        self._write(f"{message.received_at:%H:%M:%S.%f} {name} {describe(message)}")
        for line in said:
            self._write(f"    {line}")


def describe(message: Message) -> str:
    """One line: what the callback tells, its size, what it was answered."""
    try:
        callback = parse_callback(message.body)
        told = " ".join(f"{job.job_id} {job.tag} {job.state}" for job in callback.jobs) or callback.event
    except CallbackError:
        told = "?"
    return f"{told} ({len(message.body)} bytes) → {message.answer}"


async def receive(receiver: Receiver, host: str, port: int, write: Callable[[str], None]) -> bool:
    """Run until cancelled, then report; returns whether all was well."""
    url = await receiver.start(host, port)
    write(f"receiving at {url}/<name>; Ctrl-C ends and reports")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        for line in receiver.report():
            write(line)
    finally:
        await receiver.stop()
    return receiver.is_clean
