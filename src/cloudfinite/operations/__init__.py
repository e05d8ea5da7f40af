"""The registry of operations: one module per job tag, found by being here.

A tag's module holds its parameters, its result, both wire forms (declared at the fields) and the work. The registry
imports every module of this package; nothing else changes when a tag is added.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from cloudfinite.errors import SetupError
from cloudfinite.wire.operation import LocalFile, Operation, OutputFile, Run

__all__ = ["LocalFile", "Operation", "OutputFile", "Run", "load", "operation", "operations"]


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
    process: str = "",
    takes: Iterable[str] = (),
    produces: str = "",
    hands_on: bool = False,
    run_node: str = "",
    content_type: Callable[[Any], str] | None = None,
    extension: Callable[[Any], str] | None = None,
) -> Callable[[Run], Run]:
    """Register the decorated function as the work of `tag`.

    params, result: (wire node, dataclass declared with `node()`). The rest: see `Operation`.
    """
    named = {"content_type": content_type, "extension": extension}
    told: dict[str, Any] = {name: function for name, function in named.items() if function}

    def register(run: Run) -> Run:
        if tag in _REGISTRY:
            raise ValueError(f"two operations are registered for the tag {tag}")
        _REGISTRY[tag] = Operation(
            tag=tag,
            service=service,
            params=params[1],
            result=result[1],
            params_node=params[0],
            result_node=result[0],
            run=run,
            area=area,
            engine=engine,
            can_template=can_template,
            wraps_json=wraps_json,
            process=process,
            takes=frozenset(takes),
            produces=produces,
            hands_on=hands_on,
            run_node=run_node,
            **told,
        )
        return run

    return register


@cache
def operations() -> Mapping[str, Operation]:
    """All registered operations by tag."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(sorted(_REGISTRY.items()))


def load(modules: Iterable[str]) -> None:
    """Import modules from outside the package that register tags of their own; harmless when repeated.

    Parent and child processes load the same ones. Raises SetupError when a module cannot be imported.
    """
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as exc:
            raise SetupError(
                f"the operation module {name!r} cannot be imported: {exc}", "Install it, or take it out of the setting."
            ) from exc
    operations.cache_clear()
