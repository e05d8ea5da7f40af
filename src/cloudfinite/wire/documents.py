"""Request bodies: XML or JSON text into one bounded tree, and from there into declared dataclasses.

Wire: our choice – a body that starts with `<` is XML and with `{` is JSON whatever Content-Type says (the Python SDK
sends none); unknown nodes are ignored; a second copy of a single-valued node is refused rather than one of them taken.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from lxml import etree

from cloudfinite.errors import InvalidArgument, InvalidContent, MissingContent
from cloudfinite.wire.nodes import Declared, declared_nodes

T = TypeVar("T")

MAX_DEPTH = 64  # The deepest documented body (a workflow) has 7 levels.
MAX_NODES = 10_000  # A workflow of 100 steps has about 3,000. Attributes count too, though none means anything.
_MAX_MARKUP = 4 * MAX_NODES  # `<` in the text: two for a node, and as many again for comments.

# What may stand before the root. Atomic and possessive, so that hostile comments cost no backtracking.
_DOCTYPE = re.compile(rb"(?>\s+|<\?.*?\?>|<!--.*?-->)*+<!DOCTYPE", re.DOTALL)
_DECLARED_ENCODING = re.compile(rb"<\?xml\s[^>]*?\bencoding\s*=\s*[\"']([^\"']*)[\"']")


@dataclass(frozen=True, slots=True)
class Element:
    """One node of a request: `text` is stripped of white space around it; `children` in order."""

    name: str
    text: str = ""
    children: tuple[Element, ...] = ()

    def all(self, name: str) -> list[Element]:
        """The children called `name`; letter case does not matter (clients differ: IsPdf, Ispdf, ispdf)."""
        wanted = name.lower()
        return [child for child in self.children if child.name.lower() == wanted]

    def find(self, name: str) -> Element | None:
        """The child called `name`, or None; raises InvalidArgument when there are several."""
        found = self.all(name)
        if len(found) > 1:
            raise InvalidArgument(f"{self.name}.{name} occurs {len(found)} times; send it once")
        return found[0] if found else None

    def get(self, name: str, default: str = "") -> str:
        """The text of the child called `name`; absent and empty are the same."""
        found = self.find(name)
        return (found.text if found else "") or default


def parse_body(body: bytes, root: str = "Request") -> Element:
    """Read a request body. Raises MissingContent, or InvalidContent saying what is wrong with it."""
    text = body.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text:
        raise MissingContent()
    _check_encoding(text)
    match text[:1]:
        case b"<":
            parsed = _parse_xml(text)
            if parsed.name != root:
                raise InvalidContent(f"the root node is {parsed.name!r}; it must be {root!r}")
            return parsed
        case b"{":
            return _parse_json(text, root)
    raise InvalidContent("the body starts with neither '<' (XML) nor '{' (JSON)")


def _check_encoding(body: bytes) -> None:
    if b"\0" in body:
        raise InvalidContent("the body holds NUL bytes; send UTF-8")
    try:
        body.decode()
    except UnicodeDecodeError as exc:
        raise InvalidContent(f"the body is not UTF-8: {exc.reason} at byte {exc.start}") from exc


def _parse_xml(body: bytes) -> Element:
    if _DOCTYPE.match(body):
        # Before libxml2 sees it: nothing is expanded, nothing is fetched.
        raise InvalidContent("a DOCTYPE is not allowed in the body")
    declared = _DECLARED_ENCODING.match(body)
    if declared and declared[1].upper() not in (b"UTF-8", b"UTF8", b"US-ASCII", b"ASCII"):
        raise InvalidContent(f"the body is declared as {declared[1].decode()}; send UTF-8")
    if body.count(b"<") > _MAX_MARKUP:
        raise InvalidContent(f"the body has more than {MAX_NODES} nodes")
    parser = etree.XMLParser(encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        document = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError) as exc:
        raise InvalidContent(f"the XML cannot be read: {exc}") from exc
    return _from_lxml(document, 1, _Budget())


class _Budget:
    """Counts nodes over one document."""

    def __init__(self) -> None:
        self.nodes = 0

    def spend(self, depth: int, attributes: int = 0) -> None:
        self.nodes += 1 + attributes
        if self.nodes > MAX_NODES:
            raise InvalidContent(f"the body has more than {MAX_NODES} nodes")
        if depth > MAX_DEPTH:
            raise InvalidContent(f"the body is nested deeper than {MAX_DEPTH} levels")


def _from_lxml(item: Any, depth: int, budget: _Budget) -> Element:
    budget.spend(depth, len(item.attrib))
    # Comments, processing instructions and entity references have a function for a tag.
    children = tuple(_from_lxml(child, depth + 1, budget) for child in item if isinstance(child.tag, str))
    name = etree.QName(item).localname
    text = (item.text or "") if not len(item) else "".join([item.text or "", *(child.tail or "" for child in item)])
    return Element(name, text.strip(), children)


def _parse_json(body: bytes, root: str) -> Element:
    try:
        data = json.loads(
            body.decode("utf-8"), object_pairs_hook=_unique_object, parse_constant=_refuse_constant, parse_float=_number
        )
    except RecursionError as exc:
        raise InvalidContent(f"the body is nested deeper than {MAX_DEPTH} levels") from exc
    except ValueError as exc:
        raise InvalidContent(f"the JSON cannot be read: {exc}") from exc
    if isinstance(data, dict) and set(data) == {root} and isinstance(data[root], dict):
        data = data[root]
    elements = list(_from_json(root, data, 1, _Budget()))
    if len(elements) != 1:
        raise InvalidContent(f"the JSON must be one object, {{{root!r}: {{…}}}} or its inside")
    return elements[0]


def _unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = {_checked_text(name): value for name, value in pairs}
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidContent(f"the JSON object has the key {twice!r} twice")
    return found


def _refuse_constant(name: str) -> Any:
    raise InvalidContent(f"the JSON holds {name}, which is not a JSON number")


def _number(text: str) -> Any:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise InvalidContent(f"the JSON number {text} is out of range")
    return text  # Kept as written: the wire's numbers are texts.


def _from_json(name: str, data: Any, depth: int, budget: _Budget) -> Iterator[Element]:
    budget.spend(depth)
    match data:
        case dict():
            children = tuple(
                child for key, value in data.items() for child in _from_json(str(key), value, depth + 1, budget)
            )
            yield Element(name, "", children)
        case list():
            for value in data:
                yield from _from_json(name, value, depth + 1, budget)
        case None:
            yield Element(name)
        case bool():
            yield Element(name, "true" if data else "false")
        case _:
            yield Element(name, _checked_text(str(data)).strip())


def _checked_text(text: str) -> str:
    if "\0" in text:
        raise InvalidContent("a JSON text holds a NUL character")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidContent("a JSON text holds half a surrogate pair")
    return text


# --- into declared dataclasses -------------------------------------------------------------------------------------


def read_fields(cls: type[T], element: Element | None, *, name: str = "") -> T:
    """Build `cls`, whose fields are declared with `node()`, from an element; absent or empty means the default.

    Raises InvalidArgument naming node, value and what would be right.
    """
    element = element or Element(name or cls.__name__)
    hints, declarations = _declarations(cls)  # type: ignore[arg-type]  # mypy takes no class for Hashable
    values: dict[str, Any] = {}
    for attribute, declared in declarations:
        where = f"{element.name}.{declared.name}"
        text = element.get(declared.name)
        if text:
            values[attribute] = _read_scalar(hints[attribute], text, where, declared.minimum, declared.maximum)
    try:
        return cls(**values)
    except TypeError as exc:
        missing = [declared.name for attribute, declared in declarations if attribute not in values]
        raise InvalidArgument(f"{element.name} needs {', '.join(missing)}") from exc


@cache
def _declarations(cls: Any) -> tuple[dict[str, Any], tuple[tuple[str, Declared], ...]]:
    return get_type_hints(cls), declared_nodes(cls)


def _read_scalar(hint: Any, text: str, where: str, minimum: int | None, maximum: int | None) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(part for part in get_args(hint) if part is not type(None))
    if hint is bool:
        if text.lower() not in ("true", "false"):
            raise InvalidArgument(f"{where} is {text!r}; it must be true or false")
        return text.lower() == "true"
    if hint is int:
        return read_integer(text, where, minimum, maximum)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        try:
            return hint(text)
        except ValueError as exc:
            allowed = ", ".join(hint)
            raise InvalidArgument(f"{where} is {text!r}; it must be one of {allowed}") from exc
    return text


def read_integer(text: str, where: str, minimum: int | None = None, maximum: int | None = None) -> int:
    """A whole number within bounds. Raises InvalidArgument naming `where`, the value and the bounds."""
    bounds = f" from {minimum} to {maximum}" if maximum is not None else f" of at least {minimum}"
    bounds = bounds if minimum is not None else ""
    if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 18):
        raise InvalidArgument(f"{where} is {text!r}; it must be a whole number{bounds}")
    value = int(text)
    if (minimum is not None and value < minimum) or (maximum is not None and value > maximum):
        raise InvalidArgument(f"{where} is {text}; it must be a whole number{bounds}")
    return value
