"""Queues: where a bucket's jobs wait, one per service, with their limits and their notification setting.

Wire: Cloud Infinite API documentation, queue pages of each service (`/queue`, `/ai_queue`, …).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cloudfinite.domain.job import CallbackFormat


class QueueState(StrEnum):
    ACTIVE = "Active"
    PAUSED = "Paused"


@dataclass(frozen=True, slots=True)
class Service:
    """One of the vendor's processing services: its queue and job paths and the spellings that belong to it."""

    name: str
    queue_path: str
    jobs_path: str
    queue_name: str
    category: str
    letter: str
    bucket_path: str


SERVICES: Mapping[str, Service] = {
    service.name: service
    for service in (
        Service("ai", "ai_queue", "ai_jobs", "queue-ai-process-1", "AIProcess", "a", "ai_bucket"),
        Service("media", "queue", "jobs", "queue-1", "Transcoding", "j", "mediabucket"),
        Service("pic", "picqueue", "pic_jobs", "queue-pic-process-1", "PicProcessing", "c", "picbucket"),
        Service("asr", "asrqueue", "asr_jobs", "queue-speech-1", "Speeching", "s", "asrbucket"),
        Service("doc", "docqueue", "doc_jobs", "queue-doc-process-1", "DocProcessing", "d", "docbucket"),
        Service("file", "file_queue", "file_jobs", "queue-file-process-1", "FileProcessing", "f", "file_bucket"),
    )
}


@dataclass(frozen=True, slots=True)
class Notify:
    """A queue's NotifyConfig: where the ends of its jobs are told, unless the job says otherwise."""

    is_on: bool = False
    url: str = ""
    events: tuple[str, ...] = ()
    format: CallbackFormat = CallbackFormat.XML
    type: str = "Url"

    def sends(self, event: str) -> bool:
        return self.is_on and event in self.events and bool(self.url)


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """How many jobs wait in a queue and how many of it run now, over all machines."""

    waiting: int = 0
    running: int = 0


@dataclass(frozen=True, slots=True)
class Queue:
    """`max_size` jobs may wait in it, `max_concurrent` may run at once over all machines."""

    id: str
    bucket: str
    service: str
    name: str
    created_at: datetime
    updated_at: datetime
    state: QueueState = QueueState.ACTIVE
    notify: Notify = Notify()
    max_size: int = 1_000_000
    max_concurrent: int = 1_000

    @property
    def category(self) -> str:
        return SERVICES[self.service].category
