"""What the system knows of a job tag: its place on the wire, its values' forms, and its work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True)
class LocalFile:
    """An operation's input: a readable file, with what is known of the object it came from.

    `size_bytes`, `etag` (in double quotes) and `last_modified` (HTTP date) are empty or 0 for an input that came
    from a URL.
    """

    path: Path
    name: str = ""
    size_bytes: int = 0
    etag: str = ""
    last_modified: str = ""


class Run(Protocol):
    """The work: raises JobFailed when the input cannot be processed. `engine` is what `Operation.engine` names."""

    def __call__(self, source: LocalFile, params: Any, engine: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class Operation:
    """What the system knows of a tag.

    service: which service's queue its jobs wait in (`domain/queue.py`). params_node, result_node: their names below
    `Operation` on the wire. engine: the port it needs in the child process, "" for none. can_template: whether
    `/template` saves its parameters. wraps_json: whether its JSON callback has the outer `Response`, as the vendor's
    page for the tag shows. process: the name of its synchronous form (`ci-process=…`), "" for none. area: the product
    area of the coverage table.
    """

    tag: str
    service: str
    params: type
    result: type
    params_node: str
    result_node: str
    run: Run
    area: str
    engine: str = ""
    can_template: bool = False
    wraps_json: bool = False
    process: str = ""

    def params_data(self, value: Any) -> Mapping[str, Any]:
        """Parameters as JSON data, for the store."""
        return dict(_codec(self.params).dump_python(value, mode="json"))

    def params_value(self, data: Mapping[str, Any]) -> Any:
        return _codec(self.params).validate_python(data)

    def result_data(self, value: Any) -> Mapping[str, Any]:
        """A result as JSON data, for the store and the way from the child process."""
        return dict(_codec(self.result).dump_python(value, mode="json"))

    def result_value(self, data: Mapping[str, Any]) -> Any:
        return _codec(self.result).validate_python(data)


@cache
def _codec(cls: type) -> TypeAdapter[Any]:
    return TypeAdapter(cls)
