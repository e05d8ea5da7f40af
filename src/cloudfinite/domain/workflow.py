"""Workflows: steps that follow one another, and the objects whose arrival starts them.

Wire: Cloud Infinite API documentation, "Create workflow" and the structures of its appendix (Start.Input, ExtFilter).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from cloudfinite.domain.job import JobOutput
from cloudfinite.domain.queue import Notify


class WorkflowState(StrEnum):
    ACTIVE = "Active"
    PAUSED = "Paused"


class FileKind(StrEnum):
    """Wire: "ExtFilter": the classes of files that can be switched on; each stands for a set of extensions."""

    VIDEO = "Video"
    AUDIO = "Audio"
    IMAGE = "Image"


_EXTENSIONS: Mapping[FileKind, frozenset[str]] = {
    # Wire: Cloud Infinite console guide, "Workflow": the media extensions.
    FileKind.VIDEO: frozenset(
        [
            "3gp",
            "asf",
            "avi",
            "dv",
            "flv",
            "f4v",
            "m3u8",
            "m4v",
            "mkv",
            "mov",
            "mp4",
            "mpg",
            "mpeg",
            "mts",
            "ogg",
            "rm",
            "rmvb",
            "swf",
            "vob",
            "wmv",
            "webm",
        ]
    ),
    FileKind.AUDIO: frozenset(["mp3", "aac", "flac", "amr", "m4a", "wma", "wav"]),
    # Wire: our choice – no page lists them: what Cloud Infinite's image processing takes.
    FileKind.IMAGE: frozenset(
        ["jpg", "jpeg", "png", "bmp", "gif", "webp", "heif", "heic", "avif", "tpg", "tif", "tiff"]
    ),
}


@dataclass(frozen=True, slots=True)
class ExtFilter:
    """Which files a workflow takes, by their extension; `extensions` are the customer's own, in lower case, no dot.

    by_content_type: a file is also taken when its Content-Type is of a kind that is on, or of any kind when none is.
    Wire: our choice – the documentation names the switch `ContentType` and says no more.
    """

    is_on: bool = False
    takes_all: bool = False
    kinds: frozenset[FileKind] = frozenset()
    by_content_type: bool = False
    extensions: frozenset[str] = frozenset()

    def takes(self, key: str, content_type: str) -> bool:
        if not self.is_on or self.takes_all:
            return True
        extension = extension_of(key)
        if extension in self.extensions or any(extension in _EXTENSIONS[kind] for kind in self.kinds):
            return True
        kind = content_type.partition("/")[0]
        return self.by_content_type and kind in {wanted.lower() for wanted in self.kinds or FileKind}


@dataclass(frozen=True, slots=True)
class Start:
    """What starts a workflow, and whom its runs tell of their ends; without `notify` their queues' settings hold.

    queue_ids: as the client named them; a bucket has one queue for each service, so they choose nothing.
    """

    prefix: str = ""
    filter: ExtFilter = ExtFilter()
    notify: Notify | None = None
    queue_ids: tuple[str, ...] = ()

    def takes(self, key: str, content_type: str) -> bool:
        """Whether an object of this key starts the workflow. Wire: samples write `/dir/` and `dir/` for the same."""
        return key.startswith(self.prefix.removeprefix("/")) and self.filter.takes(key, content_type)


@dataclass(frozen=True, slots=True)
class Step:
    """One operation of a workflow. `after` names the steps it follows; one without any comes behind Start.

    type: as the client spelled it; tag: the operation that this is. params: in the operation's JSON form, None when the
    template gives them. output: where its object goes; the key may hold variables.
    """

    name: str
    type: str
    tag: str
    after: tuple[str, ...] = ()
    params: Mapping[str, Any] | None = None
    template_id: str = ""
    output: JobOutput | None = None


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow as stored. `topology` is the text of the graph as the client sent it, for answers.

    steps are in an order in which each comes behind those it follows.
    """

    id: str
    bucket: str
    name: str
    state: WorkflowState
    topology: str
    start: Start
    steps: tuple[Step, ...]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class WorkflowRequest:
    """A workflow as a client wants it; without a `state` a new one is Paused, and a changed one stays what it is."""

    name: str
    state: WorkflowState | None
    topology: str
    start: Start
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class WorkflowFilter:
    """What a list of workflows selects; what is empty does not narrow it. `name` is a part of the name."""

    name: str = ""
    ids: tuple[str, ...] = ()


def extension_of(key: str) -> str:
    """Behind the last dot of the file's name, in lower case; "" without one."""
    name = key.rpartition("/")[2]
    return name.rpartition(".")[2].lower() if "." in name else ""
