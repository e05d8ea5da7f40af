"""The ordered node tree and its two texts, XML and JSON; `node()` declares a dataclass field's place in it.

One declaration serves both forms. They differ in ways that no generic converter knows (a list of one, a number as
text, an empty element that JSON leaves out), so each difference is written at the node that has it.

Wire: "Task Callback" (OCR), samples in XML and JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from typing import Any, TypeAlias

Scalar: TypeAlias = str | int | float | bool

_METADATA_KEY = "cloudfinite.node"
# What XML 1.0 cannot carry even as a reference. One rule for all written text: each such character becomes U+FFFD.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_XML_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})


@dataclass(frozen=True, slots=True)
class Node:
    """One element: text, or children in order.

    `as_json` turns the finished JSON value into the form the wire has there (`str`, or `as_list`).
    `is_many` marks an element of a repeated node: an array in JSON even when there is one.
    `sorts_last` keeps the node behind its siblings when names are sorted.
    """

    name: str
    value: Scalar | tuple[Node, ...]
    as_json: Callable[[Any], Any] | None = None
    is_many: bool = False
    in_xml: bool = True
    in_json: bool = True
    sorts_last: bool = False

    def child(self, name: str) -> Node | None:
        children = self.value if isinstance(self.value, tuple) else ()
        return next((child for child in children if child.name == name), None)


def as_list(value: Any) -> list[Any]:
    return [value]


@dataclass(frozen=True, slots=True)
class Declared:
    """What `node()` says of a field; see there."""

    name: str
    is_many: bool
    as_json: Callable[[Any], Any] | None
    empty_in_xml: bool
    empty_in_json: bool
    placeholder: Any
    sorts_last: bool
    minimum: int | None
    maximum: int | None


def node(
    name: str,
    *,
    many: bool = False,
    json: Callable[[Any], Any] | None = None,
    empty_in_xml: bool | None = None,
    empty_in_json: bool = False,
    placeholder: Any = None,
    last: bool = False,
    minimum: int | None = None,
    maximum: int | None = None,
    default: Any = MISSING,
) -> Any:
    """A dataclass field that is the wire node `name`.

    many: a tuple, repeated in XML and an array in JSON. json: how the JSON value differs (`str`, `list`).
    empty_in_xml, empty_in_json: whether an empty text or tuple is still written (XML: yes for texts, no for tuples;
    JSON: no). None is never written. placeholder: the value that stands in for an empty tuple in job answers and
    callbacks. last: sorts behind its siblings. minimum, maximum: bounds of a whole number when read.
    """
    declared = Declared(
        name=name,
        is_many=many,
        as_json=as_list if json is list else json,
        empty_in_xml=(not many) if empty_in_xml is None else empty_in_xml,
        empty_in_json=empty_in_json,
        placeholder=placeholder,
        sorts_last=last,
        minimum=minimum,
        maximum=maximum,
    )
    metadata = {_METADATA_KEY: declared}
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


@cache
def declared_nodes(cls: Any) -> tuple[tuple[str, Declared], ...]:
    """(field name, declaration) of each declared field, in order."""
    return tuple((item.name, item.metadata[_METADATA_KEY]) for item in fields(cls) if _METADATA_KEY in item.metadata)


def tree(name: str, value: Any, *, placeholders: bool = True) -> Node:
    """The node `name` of a dataclass instance whose fields are declared with `node()`.

    placeholders: write the empty stand-ins that job answers and callbacks carry (`WordPolygon`, `Words`); the
    synchronous answer has none.
    """
    return Node(name, tuple(_field_nodes(value, placeholders)))


def _field_nodes(value: Any, placeholders: bool) -> Iterator[Node]:
    for attribute, declared in declared_nodes(type(value)):  # type: ignore[arg-type]  # mypy takes no class for Hashable
        item = getattr(value, attribute)
        if item is None:
            continue
        if declared.is_many:
            yield from _many_nodes(declared, item, placeholders)
        else:
            yield _single_node(declared, item, placeholders)


def _many_nodes(declared: Declared, items: tuple[Any, ...], placeholders: bool) -> Iterator[Node]:
    if not items and placeholders:
        if declared.placeholder is not None:
            items = (declared.placeholder,)
        elif declared.empty_in_xml:
            yield Node(declared.name, "", is_many=True, in_json=declared.empty_in_json)
    for item in items:
        inner = _content(item, placeholders)
        yield Node(declared.name, inner, declared.as_json, is_many=True, sorts_last=declared.sorts_last)


def _single_node(declared: Declared, item: Any, placeholders: bool) -> Node:
    inner = _content(item, placeholders)
    is_empty = inner == "" or inner == ()
    return Node(
        declared.name,
        inner,
        declared.as_json,
        in_xml=not is_empty or declared.empty_in_xml,
        in_json=not is_empty or declared.empty_in_json,
        sorts_last=declared.sorts_last,
    )


def _content(item: Any, placeholders: bool) -> Scalar | tuple[Node, ...]:
    if isinstance(item, str | bool | int | float):
        return item
    return tuple(_field_nodes(item, placeholders))


# --- writing -------------------------------------------------------------------------------------------------------


def sorted_by_name(root: Node) -> Node:
    """The same tree with siblings in ASCII order of their names, those marked `sorts_last` behind.

    Wire: "Task Callback" (OCR), XML sample; `CosHeaders` is last in the workflow samples.
    """
    if not isinstance(root.value, tuple):
        return root
    children = sorted(map(sorted_by_name, root.value), key=lambda child: (child.sorts_last, child.name))
    return Node(root.name, tuple(children), root.as_json, root.is_many, root.in_xml, root.in_json, root.sorts_last)


def xml_text(text: str) -> str:
    """`text` as XML character data: forbidden characters become U+FFFD, CR a reference, markup is escaped."""
    if text.isalnum() and text.isascii():
        return text
    return _NOT_XML.sub("\ufffd", text).translate(_XML_ESCAPES)


def scalar_text(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def to_xml(root: Node) -> bytes:
    """UTF-8, no declaration, no white space between nodes; empty elements are self-closed."""
    parts: list[str] = []
    _write_xml(root, parts.append)
    return "".join(parts).encode()


def _write_xml(item: Node, write: Callable[[str], None]) -> None:
    if not item.in_xml:
        return
    value = item.value
    if isinstance(value, tuple):
        if not value:
            write(f"<{item.name}/>")
            return
        write(f"<{item.name}>")
        for child in value:
            _write_xml(child, write)
        write(f"</{item.name}>")
        return
    text = xml_text(scalar_text(value))
    write(f"<{item.name}>{text}</{item.name}>" if text else f"<{item.name}/>")


def to_json(root: Node, *, wrapped: bool = True) -> bytes:
    r"""Compact JSON, unescaped Unicode; `{"<root>": {…}}`, or the bare inner object.

    Characters are escaped exactly where JSON or UTF-8 demand it (a lone surrogate as `\udXXX`).
    """
    value = json_value(root)
    text = json.dumps({root.name: value} if wrapped else value, ensure_ascii=False, separators=(",", ":"))
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text).encode()


def json_value(item: Node) -> Any:
    """The node's value as JSON data, in the order of its children."""
    if isinstance(item.value, bool):
        value: Any = scalar_text(item.value)  # Wire: the pages type these nodes as String.
    elif not isinstance(item.value, tuple):
        value = item.value
    else:
        value = {}
        for child in item.value:
            if not child.in_json:
                continue
            if child.is_many:
                value.setdefault(child.name, []).append(json_value(child))
            else:
                value[child.name] = json_value(child)
    return item.as_json(value) if item.as_json else value


def pretty_xml(root: Node) -> str:
    """Indented by two blanks, for people to read."""
    return "\n".join(_pretty_lines(root, 0))


def _pretty_lines(item: Node, depth: int) -> Iterable[str]:
    indent = "  " * depth
    if isinstance(item.value, tuple) and item.value:
        yield f"{indent}<{item.name}>"
        for child in item.value:
            if child.in_xml:
                yield from _pretty_lines(child, depth + 1)
        yield f"{indent}</{item.name}>"
    elif item.in_xml:
        yield indent + to_xml(item).decode()
