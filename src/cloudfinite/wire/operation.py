"""What the system knows of a job tag: its place on the wire, its values' forms, and its work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True)
class OutputFile:
    """The file that an operation writes, and the object it then becomes. The file is there and empty."""

    path: Path
    bucket: str
    region: str
    key: str


@dataclass(frozen=True, slots=True)
class LocalFile:
    """An operation's input: a readable file, with what is known of the object it came from.

    `size_bytes`, `etag` (in double quotes) and `last_modified` (HTTP date) are empty or 0 for an input that came
    from a URL. `output` is there for an operation that produces an object.
    """

    path: Path
    name: str = ""
    size_bytes: int = 0
    etag: str = ""
    last_modified: str = ""
    output: OutputFile | None = None


class Run(Protocol):
    """The work: raises JobFailed when the input cannot be processed. `engine` is what `Operation.engine` names."""

    def __call__(self, source: LocalFile, params: Any, engine: Any) -> Any: ...


def _octet_stream(_result: Any) -> str:
    return "application/octet-stream"


def _same_extension(_params: Any) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Operation:
    """What the system knows of a tag.

    service: which service's queue its jobs wait in (`domain/queue.py`). params_node, result_node: their names below
    `Operation` on the wire. engine: the port it needs in the child process, "" for none. can_template: whether
    `/template` saves its parameters. wraps_json: whether its JSON callback has the outer `Response`, as the vendor's
    page for the tag shows. process: the name of its synchronous form (`ci-process=…`), "" for none. area: the product
    area of the coverage table. produces: what kind of object it writes, "" for none. takes: the kinds it works on,
    empty for any; together they say which step of a workflow may follow which. hands_on: whether a step behind it may
    work on the object that it worked on itself. content_type: of the object, told from
    the result. extension: what `${Ext}` in the object's key stands for, told from the parameters; "" is the input's.
    run_node: what holds its result when a workflow's run tells of its end, "" when the run does not tell it.
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
    takes: frozenset[str] = frozenset()
    produces: str = ""
    hands_on: bool = False
    run_node: str = ""
    content_type: Callable[[Any], str] = _octet_stream
    extension: Callable[[Any], str] = _same_extension

    def can_follow(self, earlier: Operation) -> bool:
        """Whether it can work on what the step before it in a workflow produces, or hands on."""
        return earlier.hands_on or (bool(earlier.produces) and (not self.takes or earlier.produces in self.takes))

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
