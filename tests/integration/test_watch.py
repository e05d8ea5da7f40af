"""`cloudfinite watch`: complete files, each once, whatever restarts in between."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from qcloud_cos import CosConfig, CosS3Client
from tests.support.waiting import until

from cloudfinite.cli import watch_folder
from cloudfinite.cli.upload import ServerAway, UploadRefused
from cloudfinite.cli.watch_folder import FolderWatch, Look, WatchRules
from cloudfinite.cli.watch_state import Remembered, Stage, Version, WatchState
from cloudfinite.errors import SetupError
from cloudfinite.testing import Server


class Bucket:
    """A sender that keeps what it is sent, and fails when told to."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, int]] = {}
        self.puts: list[str] = []
        self.problems: list[Exception] = []
        self.before_put: Callable[[], object] = lambda: None
        self.loses_answer = False

    def put(self, key: str, file: BinaryIO, size_bytes: int, mtime_ns: int) -> None:
        if self.problems:
            raise self.problems.pop(0)
        self.before_put()
        self.puts.append(key)
        self.objects[key] = (file.read(), mtime_ns)
        if self.loses_answer:
            self.loses_answer = False
            raise ServerAway("timed out")

    def has(self, key: str, size_bytes: int, mtime_ns: int) -> bool:
        known = self.objects.get(key)
        return known is not None and (len(known[0]), known[1]) == (size_bytes, mtime_ns)


class Watched:
    """A folder under watch; each `look` is what an interval later would be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "inbox"
        self.folder.mkdir()
        self.bucket = Bucket()
        self.lines: list[str] = []
        self.now_s = 1_000.0
        self.state: WatchState | None = None
        self.restart()

    def restart(self, **rules: object) -> None:
        if self.state:
            self.state.close()
        self.state = WatchState(self.folder / ".state", "b-1/scans/")
        self.watch = FolderWatch(
            WatchRules(self.folder, "scans/", **rules),  # type: ignore[arg-type]
            self.state,
            self.bucket,
            self.lines.append,
            clock=lambda: self.now_s,
            sleep=self.sleep,
        )

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def look(self) -> Look:
        self.now_s += 2
        return self.watch.look()

    def write(self, name: str, content: bytes = b"content") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    @property
    def sent(self) -> list[str]:
        return sorted(self.bucket.objects)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    found = Watched(tmp_path)
    yield found
    assert found.state is not None
    found.state.close()


def test_file_is_sent_when_two_looks_find_it_the_same(watched: Watched) -> None:
    watched.write("a/b c.png")
    assert watched.look() == Look(unsettled=1)
    assert watched.look() == Look(sent=1)
    assert watched.bucket.objects["scans/a/b c.png"][0] == b"content"
    assert watched.look() == Look() and len(watched.bucket.puts) == 1


def test_file_that_grows_is_not_sent_before_it_is_complete(watched: Watched) -> None:
    path = watched.write("a.png", b"1")
    for length in range(2, 5):
        assert watched.look() == Look(unsettled=1)
        path.write_bytes(b"1" * length)
    watched.look()
    assert watched.look() == Look(sent=1)
    assert watched.bucket.objects["scans/a.png"][0] == b"1111"


def test_file_renamed_into_place_is_sent_and_its_temporary_name_is_not(watched: Watched) -> None:
    part = watched.write("scan.pdf.part")
    watched.look()
    watched.look()
    part.rename(watched.folder / "scan.pdf")
    watched.look()
    watched.look()
    assert watched.sent == ["scans/scan.pdf"]


def test_file_written_to_while_it_is_sent_is_sent_again(watched: Watched) -> None:
    path = watched.write("a.png")
    watched.look()
    watched.bucket.before_put = lambda: path.write_bytes(b"longer content")
    assert watched.look() == Look(unsettled=1)
    watched.bucket.before_put = lambda: None
    watched.look()
    assert watched.look() == Look(sent=1)
    assert watched.bucket.objects["scans/a.png"][0] == b"longer content"


def test_changed_file_is_sent_again(watched: Watched) -> None:
    path = watched.write("a.png")
    watched.look()
    watched.look()
    path.write_bytes(b"second")
    watched.look()
    assert watched.look() == Look(sent=1)
    assert watched.bucket.objects["scans/a.png"][0] == b"second"


def test_restart_sends_nothing_twice(watched: Watched) -> None:
    watched.write("a.png")
    watched.look()
    watched.look()
    watched.restart()
    watched.look()
    watched.look()
    assert watched.bucket.puts == ["scans/a.png"]


def test_crash_behind_the_put_sends_nothing_twice(watched: Watched) -> None:
    watched.write("a.png")
    watched.look()

    def die() -> None:
        raise KeyboardInterrupt

    put = watched.bucket.put

    def put_and_die(key: str, file: BinaryIO, size_bytes: int, mtime_ns: int) -> None:
        put(key, file, size_bytes, mtime_ns)
        die()

    watched.bucket.put = put_and_die  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        watched.look()
    watched.bucket.put = put  # type: ignore[method-assign]
    watched.restart()
    assert watched.look() == Look(sent=1)
    assert watched.bucket.puts == ["scans/a.png"]


def test_server_that_is_away_is_waited_for_and_told_of_once(watched: Watched) -> None:
    watched.write("a.png")
    watched.look()
    watched.bucket.problems = [ServerAway("refused") for _ in range(5)]
    assert watched.look() == Look(sent=1)
    told = [line for line in watched.lines if "does not answer" in line]
    assert len(told) == 1 and "the server answers again" in watched.lines


def test_answer_that_was_lost_sends_nothing_twice(watched: Watched) -> None:
    watched.write("a.png")
    watched.look()
    watched.bucket.loses_answer = True
    assert watched.look() == Look(sent=1)
    assert watched.bucket.puts == ["scans/a.png"]


def test_refused_file_is_reported_and_tried_again_later(watched: Watched) -> None:
    watched.write("a.png")
    watched.write("b.png")
    watched.look()
    watched.bucket.problems = [UploadRefused("400 no"), UploadRefused("400 no")]
    assert watched.look() == Look(failed=2)
    assert sum("400 no" in line for line in watched.lines) == 2
    watched.now_s -= 1.5  # before the next try
    assert watched.look() == Look(failed=2)
    assert watched.look() == Look(sent=2)


def test_unreadable_file_is_reported_and_sent_once_it_can_be_read(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.write("a.png")
    watched.look()

    def refuse(path: Path) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    with monkeypatch.context() as patch:  # root, as whom tests may run, reads everything
        patch.setattr(watch_folder, "_open_plain", refuse)
        assert watched.look() == Look(failed=1)
    assert any("a.png: Permission denied" in line for line in watched.lines)
    watched.look()
    watched.look()
    assert watched.sent == ["scans/a.png"]


def test_links_pipes_and_hidden_files_are_left_alone(watched: Watched, tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.mkdir()
    (outside / "key").write_text("secret")
    (watched.folder / "link").symlink_to(outside / "key")
    (watched.folder / "folder").symlink_to(outside)
    os.mkfifo(watched.folder / "pipe")
    watched.write(".hidden")
    watched.write(".git/config")
    watched.look()
    watched.look()
    assert watched.sent == []


def test_file_that_became_a_link_is_not_followed(watched: Watched, tmp_path: Path) -> None:
    path = watched.write("a.png")
    watched.look()
    (tmp_path / "secret").write_text("content")
    files = list(watched.watch._files())
    path.unlink()
    path.symlink_to(tmp_path / "secret")
    watched.watch._files = lambda: iter(files)  # type: ignore[method-assign]
    assert watched.look() == Look(failed=1)
    assert watched.sent == []


def test_patterns_choose_files(watched: Watched) -> None:
    watched.restart(include=["*.png", "*.pdf"], exclude=["draft-*", "old/*"])
    for name in ("a.png", "b.PDF", "c.pdf", "draft-d.png", "old/e.png", "new/f.png", "new/draft-x/g.png"):
        watched.write(name)
    watched.look()
    watched.look()
    assert watched.sent == ["scans/a.png", "scans/c.pdf", "scans/new/f.png"]


def test_name_that_is_not_utf8_is_reported(watched: Watched) -> None:
    (watched.folder / os.fsdecode(b"\xff.png")).write_bytes(b"x")
    watched.look()
    assert watched.look() == Look(failed=1)
    assert any("not UTF-8" in line for line in watched.lines)


def test_sent_files_are_moved_and_a_new_one_of_the_name_is_kept_beside(watched: Watched, tmp_path: Path) -> None:
    done = watched.folder / "done"
    watched.restart(move_to=done)
    for content in (b"first", b"second"):
        watched.write("sub/a.png", content)
        watched.look()
        assert watched.look() == Look(sent=1)
    assert (done / "sub" / "a.png").read_bytes() == b"first"
    assert (done / "sub" / "a-1.png").read_bytes() == b"second"
    assert watched.look() == Look() and len(watched.bucket.puts) == 2


def test_once_waits_for_files_to_settle_and_ends(watched: Watched) -> None:
    for number in range(3):
        watched.write(f"{number}.png")
    assert watched.watch.run(2, once=True) == 0
    assert len(watched.sent) == 3


def test_files_that_went_are_forgotten(watched: Watched) -> None:
    path = watched.write("a.png")
    watched.look()
    watched.look()
    path.unlink()
    watched.watch.forget_gone()
    assert watched.state is not None and list(watched.state.paths()) == []


def test_state_belongs_to_one_target_and_one_watch(watched: Watched) -> None:
    with pytest.raises(SetupError, match="database is locked"):
        WatchState(watched.folder / ".state", "b-1/scans/")
    assert watched.state is not None
    watched.state.close()
    watched.state = None
    with pytest.raises(SetupError, match="went to b-1/scans/, not b-2/"):
        WatchState(watched.folder / ".state", "b-2/")
    watched.write(".other", b"no database, but long enough to be one " * 40)
    with pytest.raises(SetupError, match="no state file"):
        WatchState(watched.folder / ".other", "b-1/scans/")
    watched.restart()


def test_memory_does_not_grow_with_the_folder(watched: Watched) -> None:
    for number in range(800):
        (watched.folder / f"{number:05d}-{'x' * 100}.png").touch()
    watched.look()
    tracemalloc.start()
    watched.look()
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # What the fake bucket and the report keep is theirs.
    kept = sum(len(line) * 2 + 300 for line in watched.lines) + 800 * 900
    assert len(watched.sent) == 800 and peak_bytes < kept


# --- the command -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(ocr_engine="fixed", workers=0) as running:
        yield running


def keys_of(server: Server) -> dict[str, str]:
    client = CosS3Client(
        CosConfig(
            Region=server.region,
            SecretId=server.secret_id,
            SecretKey=server.secret_key,
            Scheme="http",
            Proxies={"http": server.url},
        )
    )
    listed = client.list_objects(Bucket=server.bucket).get("Contents", [])
    return {item["Key"]: item["ETag"] for item in listed}


def command(server: Server, folder: Path, *words: str) -> list[str]:
    name = [sys.executable, "-m", "cloudfinite.cli", "watch"]
    return [*name, str(folder), server.bucket, "--interval", "0.05", "--data", str(server.data), *words]


def test_command_sends_a_folder_once(server: Server, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a b.png").write_bytes(b"x" * 3_000_000)
    (tmp_path / "ü.txt").write_bytes(b"")
    done = subprocess.run(command(server, tmp_path, "--once", "--prefix", "once/"), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert {key for key in keys_of(server) if key.startswith("once/")} == {"once/sub/a b.png", "once/ü.txt"}


@pytest.mark.parametrize("words", ["BEGIN", "INSERT", "COMMIT"])
def test_ctrl_c_behind_any_statement_leaves_a_state_that_can_be_closed_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    state = WatchState(tmp_path / ".state", "b-1/")
    item = Remembered(Version(1, 2), Stage.SENT, 0, 0.0)

    class Interrupted:
        """A connection behind one of whose statements the user presses Ctrl-C."""

        def __init__(self, db: sqlite3.Connection) -> None:
            self.db = db

        def __getattr__(self, name: str) -> object:
            return getattr(self.db, name)

        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            cursor = self.db.execute(statement, *values)
            if statement.startswith(words):
                self.__dict__["execute"] = self.db.execute  # once
                raise KeyboardInterrupt
            return cursor

    monkeypatch.setattr(state, "_db", Interrupted(state._db))
    with pytest.raises(KeyboardInterrupt):
        state.put("a.png", item)
        state.commit()
    state.close()
    again = WatchState(tmp_path / ".state", "b-1/")
    assert again.get("a.png") == (None if words == "BEGIN" else item)
    again.close()


def test_command_watches_through_a_restart_of_the_server_until_ctrl_c(tmp_path: Path) -> None:
    folder = tmp_path / "inbox"
    folder.mkdir()
    (tmp_path / "data").mkdir()
    with Server(ocr_engine="fixed", workers=0, data=tmp_path / "data") as server:
        server._settings["port"] = server.url.rpartition(":")[2]  # again after its restart
        watching = subprocess.Popen(command(server, folder), stdout=subprocess.PIPE, text=True)
        try:
            (folder / "before.png").write_bytes(b"1")
            until(lambda: "before.png" in keys_of(server), "the first file")
            server.kill()
            (folder / "after.png").write_bytes(b"2")
            assert watching.stdout is not None
            while "does not answer" not in watching.stdout.readline():
                pass
            server.start()
            until(lambda: "after.png" in keys_of(server), "the second file")
            watching.send_signal(signal.SIGINT)
            assert watching.wait(timeout=20) == 0
        finally:
            watching.kill()
            watching.wait()
            assert watching.stdout is not None
            watching.stdout.close()


def test_command_says_at_once_what_will_never_work(server: Server, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "cloudfinite.cli", "watch", str(tmp_path), "none-1250000000"]
    done = subprocess.run([*words, "--data", str(server.data)], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and "there is no bucket none-1250000000" in done.stderr
