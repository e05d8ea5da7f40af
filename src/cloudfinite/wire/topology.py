"""The graph of a workflow as a client sends it: steps and what follows what, read and checked; kept as it was sent.

Wire: Cloud Infinite API documentation, "Create workflow", nodes Topology.Dependencies and Topology.Nodes;
cos-go-sdk-v5 `Topology` (names sorted, so `Start` may come last); cos-python-sdk-v5 demo/ci_media.py (a name need not
have an underscore behind its Type).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cloudfinite.errors import InvalidArgument, NotImplementedHere
from cloudfinite.wire.documents import Element, parse_body
from cloudfinite.wire.nodes import Node, to_xml
from cloudfinite.wire.operation import Operation
from cloudfinite.wire.tags import KNOWN_TAGS

START, END = "Start", "End"
MAX_STEPS = 100
MAX_STEP_NAME = 128
# Names become elements of our answers, so they must be names in XML also when they came as JSON keys.
_XML_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")

# Wire: inferred – no page names the node of OCR; AIRecognition is the only AI node of the table "Create workflow".
_ALIASES = {"AIRecognition": "ImageOCR"}
# Wire: "Create workflow": node types that are no job tags.
_OTHER_TYPES = frozenset({"SCF", "Condition", "StreamPackConfig", "VideoStream", "StreamPack"})


@dataclass(frozen=True, slots=True)
class Vertex:
    """One node of the graph: its name, what it runs (None for Start), its body, and the names behind it."""

    name: str
    operation: Operation | None
    body: Element
    successors: tuple[str, ...]


def read_graph(topology: Element, operations: Mapping[str, Operation]) -> list[Vertex]:
    """The graph in an order in which everything comes behind what it follows; Start is first.

    Raises InvalidArgument naming the node and what would be right; NotImplementedHere for a type of the vendor's that
    is not built.
    """
    nodes, dependencies = topology.find("Nodes"), topology.find("Dependencies")
    if nodes is None or dependencies is None:
        raise InvalidArgument("Topology needs the nodes Dependencies and Nodes")
    check_names(topology)
    bodies = _unique(nodes)
    _check_bodies(bodies)
    edges = _read_edges(dependencies, bodies)
    found = {
        name: Vertex(name, None if name == START else _find_operation(body, operations), body, edges[name])
        for name, body in bodies.items()
    }
    ordered = _sort(found)
    _check_links(ordered, found)
    return ordered


def check_names(element: Element) -> None:
    for child in element.children:
        if not _XML_NAME.fullmatch(child.name) or len(child.name) > MAX_STEP_NAME:
            raise InvalidArgument(
                f"{element.name} has a node called {child.name[:MAX_STEP_NAME]!r}; a name has at most "
                f"{MAX_STEP_NAME} ASCII letters, digits, _, - or ., and starts with a letter or _"
            )
        check_names(child)


def _unique(element: Element) -> dict[str, Element]:
    found = {child.name: child for child in element.children}
    if len(found) != len(element.children):
        names = [child.name for child in element.children]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidArgument(f"{element.name} has the node {twice} twice; send it once")
    return found


def _check_bodies(bodies: Mapping[str, Element]) -> None:
    starts = [name for name, body in bodies.items() if body.get("Type") == START]
    if starts != [START]:
        told = f"has {', '.join(starts)}" if starts else "has none"
        raise InvalidArgument(f"Nodes needs exactly one node of the Type Start, called Start; it {told}")
    if END in bodies:
        raise InvalidArgument("Nodes has a node End; End stands only behind a node in Dependencies")
    if not 2 <= len(bodies) <= MAX_STEPS + 1:
        raise InvalidArgument(f"Nodes has {len(bodies) - 1} nodes beside Start; it must have 1 to {MAX_STEPS}")


def _find_operation(body: Element, operations: Mapping[str, Operation]) -> Operation:
    kind = body.get("Type")
    if not kind:
        raise InvalidArgument(f"Nodes.{body.name} needs a Type; the types that run here are {', '.join(operations)}")
    if not body.name.startswith(kind):
        raise InvalidArgument(f"Nodes.{body.name} has the Type {kind}; its name must start with it, as {kind}_1 does")
    tag = _ALIASES.get(kind, kind)
    if tag in operations:
        return operations[tag]
    if kind in KNOWN_TAGS or kind in _OTHER_TYPES:
        raise NotImplementedHere(
            f"Nodes.{body.name} has the Type {kind}, which is not built yet; docs/coverage.md lists what is"
        )
    raise InvalidArgument(
        f"Nodes.{body.name} has the Type {kind!r}; the types that run here are {', '.join(operations)}"
    )


def _read_edges(dependencies: Element, bodies: Mapping[str, Element]) -> dict[str, tuple[str, ...]]:
    """The successors of each node, without End."""
    entries = _unique(dependencies)
    for name in entries:
        if name not in bodies:
            raise InvalidArgument(f"Dependencies.{name} has no node of its name under Nodes")
    found = {}
    for name in bodies:
        entry = entries.get(name)
        names = [part.strip() for part in entry.text.split(",")] if entry else []
        names = list(dict.fromkeys(part for part in names if part))
        if not names:
            raise InvalidArgument(f"Dependencies needs a node {name} naming what follows it: other nodes, or End")
        for successor in names:
            if successor != END and successor not in bodies:
                raise InvalidArgument(
                    f"Dependencies.{name} names {successor!r}, which is not under Nodes; name one of "
                    f"{', '.join(other for other in bodies if other not in (START, name))} or End"
                )
            if successor == START:
                raise InvalidArgument(f"Dependencies.{name} names Start; nothing comes before Start")
        found[name] = tuple(successor for successor in names if successor != END)
    return found


def _sort(found: Mapping[str, Vertex]) -> list[Vertex]:
    """Topological order from Start. Raises InvalidArgument for what Start does not lead to, and for a cycle."""
    reached = {START}
    waiting = [START]
    while waiting:
        behind = [name for name in found[waiting.pop()].successors if name not in reached]
        reached.update(behind)
        waiting += behind
    for name in found:
        if name not in reached:
            raise InvalidArgument(f"Nodes.{name} is not reached from Start; name it in Dependencies behind another")
    open_links = dict.fromkeys(found, 0)
    for vertex in found.values():
        for successor in vertex.successors:
            open_links[successor] += 1
    ordered = [found[START]]
    for vertex in ordered:  # grows while it is walked
        for successor in vertex.successors:
            open_links[successor] -= 1
            if not open_links[successor]:
                ordered.append(found[successor])
    if len(ordered) < len(found):
        cycle = _cycle(found, {name for name, count in open_links.items() if count})
        raise InvalidArgument(f"Dependencies leads in a circle: {' > '.join(cycle)}; a workflow has an end")
    return ordered


def _cycle(found: Mapping[str, Vertex], names: set[str]) -> list[str]:
    """One circle among these nodes, each of which is on one or behind one."""
    before = {successor: name for name in names for successor in found[name].successors if successor in names}
    path = [next(iter(before))]
    while before[path[-1]] not in path:
        path.append(before[path[-1]])
    start = path.index(before[path[-1]])
    circle = path[start:][::-1]
    return [*circle, circle[0]]


def _check_links(ordered: Sequence[Vertex], found: Mapping[str, Vertex]) -> None:
    """Raises InvalidArgument for a step that cannot work on what the step before it produces."""
    for vertex in ordered:
        for successor in vertex.successors:
            follower = found[successor].operation
            assert follower is not None, "nothing leads to Start"
            if vertex.operation is not None and not follower.can_follow(vertex.operation):
                fitting = [other.name for other in ordered if _fits(other, follower) and other.name != successor]
                raise InvalidArgument(
                    f"Dependencies.{vertex.name} names {successor}, but {_product(vertex.operation)}; "
                    f"{successor} may follow {' or '.join(fitting)}"
                )


def _fits(vertex: Vertex, follower: Operation) -> bool:
    return vertex.operation is None or follower.can_follow(vertex.operation)


def _product(operation: Operation) -> str:
    return f"{operation.tag} produces {operation.produces or 'no object'}"


# --- as it was sent ------------------------------------------------------------------------------------------------


def write_topology(topology: Element) -> str:
    """The text that is kept of a topology: its XML, with everything a client sent in it."""
    return to_xml(as_node(topology, "Topology")).decode()


def topology_node(text: str, *, without: Sequence[str] = ()) -> Node:
    """The kept topology for an answer; `without` names nodes that this answer leaves out."""
    return as_node(parse_body(text.encode(), "Topology"), "Topology", frozenset(without))


def as_node(element: Element, name: str, without: frozenset[str] = frozenset(), *, is_many: bool = False) -> Node:
    if not element.children:
        return Node(name, element.text, is_many=is_many)
    return Node(name, tuple(_children(element, without)), is_many=is_many)


def _children(element: Element, without: frozenset[str]) -> Iterator[Node]:
    names = [child.name for child in element.children]
    for child in element.children:
        if child.name not in without:
            yield as_node(child, child.name, without, is_many=names.count(child.name) > 1)
