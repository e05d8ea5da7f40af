"""The registry of operations: one module per job tag, found by being here.

A tag's module holds its parameters, its result, both wire forms (declared at the fields) and the work. The registry
imports every module of this package; nothing else changes when a tag is added.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
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
    `/template` saves its parameters. jobs_prefix: the letter its job ids start with.
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


_REGISTRY: dict[str, Operation] = {}


def operation(
    tag: str,
    *,
    service: str,
    area: str,
    params: tuple[str, type],
    result: tuple[str, type],
    engine: str = "",
    can_template: bool = False,
    wraps_json: bool = False,
) -> Callable[[Run], Run]:
    """Register the decorated function as the work of `tag`.

    params, result: (wire node, dataclass declared with `node()`). area: the product area of the coverage table.
    wraps_json: whether its JSON callback has the outer `Response`, as the vendor's page for the tag shows.
    """

    def register(run: Run) -> Run:
        if tag in _REGISTRY:
            raise ValueError(f"two operations are registered for the tag {tag}")
        _REGISTRY[tag] = Operation(
            tag, service, params[1], result[1], params[0], result[0], run, area, engine, can_template, wraps_json
        )
        return run

    return register


@cache
def operations() -> Mapping[str, Operation]:
    """All registered operations by tag."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(sorted(_REGISTRY.items()))
