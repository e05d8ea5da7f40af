"""Looks at a folder again and again, and sends each file once it is completely written.

A file is complete when two looks in a row find the same size and time. What was sent is remembered, so a restart sends
nothing twice; a server that is away is waited for. Symbolic links are not followed.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO, Protocol

from cloudfinite.cli.client import Refused
from cloudfinite.cli.upload import ServerAway, UploadRefused
from cloudfinite.cli.watch_state import Remembered, Stage, Version, WatchState

# What writers call a file that is not finished, or not meant for others.
USUAL_EXCLUDES = (".*", "*.part", "*.tmp", "*.crdownload", "~$*")
_RETRY_S, _RETRY_LIMIT_S = 2.0, 300.0


class Sender(Protocol):
    """Where the files go; `cli/upload.py` is the real one."""

    def put(self, key: str, file: BinaryIO, size_bytes: int, mtime_ns: int, /) -> None: ...
    def has(self, key: str, size_bytes: int, mtime_ns: int, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class WatchRules:
    """Which files, and as which objects.

    Patterns are of shells; one with a slash is for the path below the folder, one without for each name in it. With
    `move_to`, a file that was sent goes to that folder.
    """

    folder: Path
    prefix: str = ""
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    move_to: Path | None = None

    def excludes(self, path: str) -> bool:
        return any(_matches(path, pattern) for pattern in (*USUAL_EXCLUDES, *self.exclude))

    def wants(self, path: str) -> bool:
        return not self.include or any(_matches(path, pattern) for pattern in self.include)


def _matches(path: str, pattern: str) -> bool:
    return fnmatchcase(path if "/" in pattern else path.rpartition("/")[2], pattern)


@dataclass(frozen=True, slots=True)
class Look:
    """What one look came to: files sent, still changing (or new), and not sent for a reason that was reported."""

    sent: int = 0
    unsettled: int = 0
    failed: int = 0


class FolderWatch:
    """`report` gets a line for each thing that a person may want to know. `clock` and `sleep` count in seconds."""

    def __init__(
        self,
        rules: WatchRules,
        state: WatchState,
        sender: Sender,
        report: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rules = rules
        self._state = state
        self._sender = sender
        self._report = report
        self._clock = clock
        self._sleep = sleep
        self._is_away = False

    def run(self, interval_s: float, *, once: bool) -> int:
        """Look until stopped; with `once`, until nothing is left to send. Returns how many files could not be sent."""
        self.forget_gone()
        while True:
            found = self.look()
            if once and not found.unsettled:
                return found.failed
            self._sleep(interval_s)

    def forget_gone(self) -> None:
        """Forget what is not in the folder any more: the memory stays as large as the folder."""
        for path in self._state.paths():
            if not os.path.lexists(self._rules.folder / path):
                self._state.forget(path)

    def look(self) -> Look:
        """Go through the folder once."""
        found = Look()
        for path, version in self._files():
            known = self._state.get(path)
            if known is None or known.version != version:
                self._state.put(path, Remembered(version, Stage.SEEN))
                found = replace(found, unsettled=found.unsettled + 1)
            elif known.stage is not Stage.SENT:
                if known.next_try_s > self._clock():
                    found = replace(found, failed=found.failed + 1)
                else:
                    found = self._send(path, known, found)
        self._state.commit()
        return found

    # --- finding ----------------------------------------------------------------------------------------------------

    def _files(self) -> Iterator[tuple[str, Version]]:
        """(path below the folder, version) of each wanted file, one at a time."""
        skipped = self._rules.move_to.absolute() if self._rules.move_to else None
        waiting = [""]
        while waiting:
            below = waiting.pop()
            try:
                with os.scandir(self._rules.folder / below) as entries:
                    for entry in entries:
                        path = below + entry.name
                        if self._rules.excludes(path):
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            if Path(entry.path).absolute() != skipped:
                                waiting.append(path + "/")
                        elif entry.is_file(follow_symlinks=False) and self._rules.wants(path):
                            facts = entry.stat(follow_symlinks=False)
                            yield path, Version(facts.st_size, facts.st_mtime_ns)
            except FileNotFoundError:
                if not below:
                    self._report(f"{self._rules.folder}: not there; waiting for it")
            except OSError as exc:
                self._report(f"{below or self._rules.folder}: {exc.strerror}")

    # --- sending ----------------------------------------------------------------------------------------------------

    def _send(self, path: str, known: Remembered, found: Look) -> Look:
        try:
            is_sent = self._deliver(path, known)
        except FileNotFoundError:
            self._state.forget(path)
            return found
        except (OSError, UploadRefused, Refused, ValueError) as exc:
            self._fail(path, known, exc)
            return replace(found, failed=found.failed + 1)
        if not is_sent:
            return replace(found, unsettled=found.unsettled + 1)
        self._report(f"sent {_shown(path)}")
        return replace(found, sent=found.sent + 1)

    def _deliver(self, path: str, known: Remembered) -> bool:
        """False when the file changed meanwhile. Raises OSError, UploadRefused, Refused, ValueError (the name)."""
        key = self._key(path)
        version = known.version
        with os.fdopen(_open_plain(self._rules.folder / path), "rb") as file:
            if _version(file.fileno()) != version:
                return False
            if known.stage is not Stage.SENDING:
                self._state.put(path, replace(known, stage=Stage.SENDING))
                self._state.commit()
                is_there = False
            else:
                is_there = self._patiently(lambda: self._sender.has(key, version.size_bytes, version.mtime_ns))
            if not is_there:
                self._put(key, file, version)
            if _version(file.fileno()) != version:
                return False  # Written to while it was sent: the next look finds another version.
        self._state.put(path, Remembered(version, Stage.SENT))
        self._state.commit()
        if self._rules.move_to:
            self._move(path, self._rules.move_to)
        return True

    def _put(self, key: str, file: BinaryIO, version: Version) -> None:
        is_first = True

        def put() -> None:
            nonlocal is_first
            # After an answer that never came: the object may be there all the same.
            if not is_first and self._sender.has(key, version.size_bytes, version.mtime_ns):
                return
            is_first = False
            file.seek(0)
            self._sender.put(key, file, version.size_bytes, version.mtime_ns)

        self._patiently(put)

    def _patiently(self, call: Callable[[], bool | None]) -> bool:
        """Call until the server answers."""
        pause_s = _RETRY_S
        while True:
            try:
                answer = bool(call())
            except ServerAway as exc:
                if not self._is_away:
                    self._report(f"the server does not answer ({exc.message}); waiting for it")
                self._is_away = True
                self._sleep(pause_s)
                pause_s = min(2 * pause_s, _RETRY_LIMIT_S / 10)
                continue
            if self._is_away:
                self._report("the server answers again")
                self._is_away = False
            return answer

    def _key(self, path: str) -> str:
        try:
            path.encode()
        except UnicodeEncodeError as exc:
            raise ValueError("its name is not UTF-8") from exc
        return self._rules.prefix + path

    def _fail(self, path: str, known: Remembered, exc: Exception) -> None:
        wait_s = min(_RETRY_S * 2**known.failures, _RETRY_LIMIT_S)
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        self._report(f"not sent: {_shown(path)}: {reason}; next try in {wait_s:g} s")
        kept = self._state.get(path) or known
        self._state.put(path, replace(kept, failures=min(known.failures + 1, 20), next_try_s=self._clock() + wait_s))

    def _move(self, path: str, target: Path) -> None:
        place = target / path
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            number = 0
            while os.path.lexists(place):
                number += 1
                place = place.with_name(f"{Path(path).stem}-{number}{place.suffix}")
            shutil.move(self._rules.folder / path, place)
        except OSError as exc:
            self._report(f"not moved: {_shown(path)}: {exc.strerror}")
        else:
            self._state.forget(path)


def _open_plain(path: Path) -> int:
    """Open no link, and wait for no pipe that has taken the file's place."""
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _version(handle: int) -> Version | None:
    facts = os.fstat(handle)
    return Version(facts.st_size, facts.st_mtime_ns) if stat.S_ISREG(facts.st_mode) else None


def _shown(path: str) -> str:
    """A name that is not UTF-8, too."""
    return os.fsencode(path).decode(errors="replace")
