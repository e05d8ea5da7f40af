"""The JSON API's operations as a table: each is a method with its types, from which reading and description follow.

A handler is `async def name(self, <path parts>, query: …, body: …) -> Answer` under `@operation(method, path)`; it
takes what it declares. Its docstring is its description, its class's `group` the heading it stands under.

Wire: our choice – design of the project, section 3.
"""

from __future__ import annotations

import base64
import binascii
import inspect
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Generic, Protocol, TypeVar, get_origin, get_type_hints

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cloudfinite.errors import InvalidArgument, InvalidContent, MissingContent
from cloudfinite.web.request import Query

MAX_PAGE = 200
_MAX_TOKEN_CHARS = 4_096  # A position can hold a target's URL.
_MAX_SHOWN_CHARS = 100
_MAX_POSITION = 2**62  # What a database's integer holds.
_MARK = "__api_operation__"

Item = TypeVar("Item", bound=BaseModel)
Handler = TypeVar("Handler", bound=Callable[..., Awaitable[BaseModel]])


# --- values --------------------------------------------------------------------------------------------------------


class Answer(BaseModel):
    """What the API sends."""

    model_config = ConfigDict(frozen=True)


class Question(BaseModel):
    """What the API takes: a body or a query. Names it does not know are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)


def _to_utc(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError as exc:
        raise ValueError("the time is out of range") from exc


def _no_number(value: Any) -> Any:
    if isinstance(value, int | float) or (isinstance(value, str) and value.replace(".", "", 1).isdigit()):
        raise ValueError("a time is written 2026-01-05T10:00:00Z")
    return value


Time = Annotated[AwareDatetime, BeforeValidator(_no_number), AfterValidator(_to_utc)]


class Page(Answer, Generic[Item]):
    """One page; `next` is the `after` of the following one, null on the last."""

    items: list[Item]
    next: str | None = None


class PageQuery(Question):
    after: str = Field("", max_length=_MAX_TOKEN_CHARS, description="`next` of the page before")
    size: int = Field(50, ge=1, le=MAX_PAGE, description="Items of a page at most")


def write_position(*parts: str | int) -> str:
    """Where a page ends; opaque to clients."""
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def read_position(token: str, *kinds: type) -> list[Any]:
    """The parts of a position of these types; raises InvalidArgument for what `write_position` did not write."""
    try:
        parts = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        parts = None
    is_ours = isinstance(parts, list) and [type(part) for part in parts] == list(kinds)
    if not is_ours or any(isinstance(part, int) and abs(part) > _MAX_POSITION for part in parts):
        raise InvalidArgument(f"after is {token[:_MAX_SHOWN_CHARS]!r}; send the `next` of the page before")
    check_texts(parts)
    return list(parts)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def instant_number(at: datetime) -> int:
    """A time as part of a position."""
    return (at - _EPOCH) // _MICROSECOND


def instant(number: int) -> datetime:
    """The time of such a part."""
    try:
        return _EPOCH + number * _MICROSECOND
    except OverflowError as exc:
        raise InvalidArgument("after holds no time; send the `next` of the page before") from exc


# --- the table -----------------------------------------------------------------------------------------------------


class Group(Protocol):
    """A class of handlers."""

    group: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. `path` is below the API's root; a part in braces stands for any text."""

    name: str
    method: str
    path: str
    status: int
    group: str
    description: str
    query: type[Question] | None
    body: type[Question] | None
    answer: type[BaseModel]
    handler: Callable[..., Awaitable[BaseModel]]

    @property
    def parts(self) -> list[str]:
        return self.path.strip("/").split("/")

    @property
    def path_names(self) -> list[str]:
        return [part[1:-1] for part in self.parts if part.startswith("{")]

    def match(self, parts: list[str]) -> dict[str, str] | None:
        """The path's values by name; None when the path is another one."""
        if len(parts) != len(self.parts):
            return None
        found = {}
        for wanted, part in zip(self.parts, parts, strict=True):
            if wanted.startswith("{") and part:
                found[wanted[1:-1]] = part
            elif wanted != part:
                return None
        return found


def operation(method: str, path: str, *, status: int = 200) -> Callable[[Handler], Handler]:
    """Mark a method as the handler of an operation."""

    def mark(function: Handler) -> Handler:
        setattr(function, _MARK, (method, path, status))
        return function

    return mark


def collect_routes(groups: Iterable[Group]) -> list[Route]:
    """The routes of handler objects, in the order of their definition."""
    return [
        _route(group, name, *marked)
        for group in groups
        for name, function in vars(type(group)).items()
        if (marked := getattr(function, _MARK, None))
    ]


def _route(group: Group, name: str, method: str, path: str, status: int) -> Route:
    handler = getattr(group, name)
    hints = get_type_hints(handler)
    answer = hints.pop("return")
    query, body = hints.pop("query", None), hints.pop("body", None)
    route = Route(name, method, path, status, group.group, inspect.getdoc(handler) or "", query, body, answer, handler)
    assert set(hints) == set(route.path_names), f"{name} takes {set(hints)}, its path has {route.path_names}"
    return route


# --- reading -------------------------------------------------------------------------------------------------------


def read_query(model: type[Question], query: Query) -> Question:
    """The query's parameters; lists are comma separated or repeated. Raises InvalidArgument naming the parameter."""
    lists = {field.alias or name for name, field in model.model_fields.items() if get_origin(field.annotation) is list}
    values: dict[str, Any] = {}
    for name, value in query.pairs:
        if not value:
            continue
        if name in lists:
            values.setdefault(name, []).extend(part for part in value.split(",") if part)
        elif name in values:
            raise InvalidArgument(f"the parameter {name} is there twice")
        else:
            values[name] = value
    return _validated(model, values, "parameter")


def read_json(model: type[Question], body: bytes) -> Question:
    """The body as JSON. Raises MissingContent, InvalidContent, InvalidArgument naming the field."""
    if not body.strip():
        if any(field.is_required() for field in model.model_fields.values()):
            raise MissingContent(f"the body is empty; send a JSON object with {', '.join(_required(model))}")
        body = b"{}"
    try:
        values = json.loads(body.decode(), parse_constant=_refuse_constant)
    except RecursionError as exc:
        raise InvalidContent("the JSON is nested too deep") from exc
    except ValueError as exc:
        raise InvalidContent(f"the JSON cannot be read: {exc}") from exc
    if not isinstance(values, dict):
        raise InvalidContent("the body must be a JSON object")
    check_texts(values)
    return _validated(model, values, "field")


def _required(model: type[Question]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items() if field.is_required()]


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"it holds {name}, which is no JSON number")


def check_texts(value: Any) -> None:
    """Raises InvalidArgument for texts that no database column, and no XML document, can hold."""
    match value:
        case str() if "\0" in value or (not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value)):
            raise InvalidArgument("a text holds a NUL character or half a surrogate pair")
        case list():
            for item in value:
                check_texts(item)
        case dict():
            for name, item in value.items():
                check_texts(name)
                check_texts(item)


def _validated(model: type[Question], values: Mapping[str, Any], kind: str) -> Question:
    try:
        return model.model_validate(values)
    except ValidationError as exc:
        raise InvalidArgument(first_problem(exc, kind)) from exc


def first_problem(exc: ValidationError, kind: str) -> str:
    """One sentence on what is wrong with a value."""
    first = exc.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"])) or "the body"
    if first["type"] == "missing":
        return f"the {kind} {where} is missing"
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"there is no {kind} {where} in this call"
    message = first["msg"].removeprefix("Value error, ")
    if "secret" in where:
        return f"{where} cannot be used: {message}"
    shown = repr(first["input"])
    return f"{where} is {shown if len(shown) <= _MAX_SHOWN_CHARS else shown[:_MAX_SHOWN_CHARS] + '…'}: {message}"
