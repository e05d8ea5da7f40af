"""The checks of a workflow's graph: what is wrong is named, with what would be right."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfinite.errors import InvalidArgument, NotImplementedHere
from cloudfinite.operations import operations
from cloudfinite.wire.documents import parse_body
from cloudfinite.wire.nodes import to_json, to_xml
from cloudfinite.wire.operation import Operation
from cloudfinite.wire.topology import START, Vertex, read_graph, topology_node, write_topology


def known() -> Mapping[str, Operation]:
    """The registered operations, and three that exist for their links."""
    place: dict[str, Any] = {
        "service": "file",
        "params": dict,
        "result": dict,
        "params_node": "P",
        "result_node": "R",
        "run": print,
        "area": "Tests",
    }
    made = [
        Operation("Cut", **place, produces="picture", takes=frozenset({"picture"})),
        Operation("Frame", **place, produces="picture"),
        Operation("Say", **place, produces="sound"),
    ]
    return {**operations(), **{one.tag: one for one in made}}


def topology(dependencies: Mapping[str, str], **types: str) -> str:
    """The XML of a graph; nodes have the type that their name starts with, unless it is given."""
    names = [name for name in dependencies if name != START]
    nodes = {START: "Start", **{name: name.partition("_")[0] for name in names}, **types}
    return (
        "<Topology><Dependencies>"
        + "".join(f"<{name}>{text}</{name}>" for name, text in dependencies.items())
        + "</Dependencies><Nodes>"
        + "".join(f"<{name}><Type>{kind}</Type></{name}>" for name, kind in nodes.items() if kind)
        + "</Nodes></Topology>"
    )


def read(dependencies: Mapping[str, str], **types: str) -> list[Vertex]:
    return read_graph(parse_body(topology(dependencies, **types).encode(), "Topology"), known())


def names(vertices: list[Vertex]) -> list[str]:
    return [vertex.name for vertex in vertices]


def test_every_step_comes_behind_all_that_lead_to_it() -> None:
    found = read(
        {
            "ImageOCR_1": "End",
            "Cut_b": "ImageOCR_1",
            "Cut_a": "ImageOCR_1, Cut_b,End",
            "Start": "Cut_a,Cut_b",
        }
    )
    assert names(found) == ["Start", "Cut_a", "Cut_b", "ImageOCR_1"]
    assert found[1].successors == ("ImageOCR_1", "Cut_b")


def test_other_spelling_of_the_ocr_node_is_known() -> None:
    [_, step] = read({"Start": "AIRecognition_1", "AIRecognition_1": "End"})
    assert step.operation is not None and step.operation.tag == "ImageOCR"


def test_a_name_needs_no_underscore_behind_its_type() -> None:
    assert names(read({"Start": "CutNode", "CutNode": "End"}, CutNode="Cut")) == ["Start", "CutNode"]


WRONG = {
    "no start": ({"Cut_1": "End"}, {"Start": ""}, "Nodes needs exactly one node of the Type Start, called Start"),
    "two starts": ({"Start": "Cut_1", "Cut_1": "End", "Start_2": "End"}, {}, "it has Start, Start_2"),
    "nothing to do": ({"Start": "End"}, {}, "Nodes has 0 nodes beside Start; it must have 1 to 100"),
    "end is a node": ({"Start": "Cut_1", "Cut_1": "End", "End": "End"}, {}, "Nodes has a node End"),
    "no type": ({"Start": "Cut_1", "Cut_1": "End"}, {"Cut_1": " "}, "Nodes.Cut_1 needs a Type"),
    "type is no prefix": (
        {"Start": "Cut_1", "Cut_1": "End"},
        {"Cut_1": "Frame"},
        "Nodes.Cut_1 has the Type Frame; its name must start with it, as Frame_1 does",
    ),
    "unknown type": ({"Start": "Fly_1", "Fly_1": "End"}, {}, "Nodes.Fly_1 has the Type 'Fly'; the types that run"),
    "no node": ({"Start": "Cut_1", "Cut_1": "End", "Cut_2": "End"}, {"Cut_2": ""}, "Dependencies.Cut_2 has no node"),
    "unknown successor": (
        {"Start": "Cut_2", "Cut_1": "End"},
        {},
        "Dependencies.Start names 'Cut_2', which is not under Nodes; name one of Cut_1 or End",
    ),
    "back to start": ({"Start": "Cut_1", "Cut_1": "Start"}, {}, "Dependencies.Cut_1 names Start"),
    "no successor": ({"Start": "Cut_1", "Cut_1": ""}, {}, "Dependencies needs a node Cut_1 naming what follows it"),
    "not reached": (
        {"Start": "Cut_1", "Cut_1": "End", "Cut_2": "Cut_1"},
        {},
        "Nodes.Cut_2 is not reached from Start",
    ),
    "itself": ({"Start": "Cut_1", "Cut_1": "Cut_1"}, {}, "in a circle: Cut_1 > Cut_1;"),
    "circle": (
        {"Start": "Cut_1", "Cut_1": "Cut_2", "Cut_2": "Cut_3,ImageOCR_1", "Cut_3": "Cut_1", "ImageOCR_1": "End"},
        {},
        "Cut_1 > Cut_2 > Cut_3 > Cut_1|Cut_2 > Cut_3 > Cut_1 > Cut_2|Cut_3 > Cut_1 > Cut_2 > Cut_3",
    ),
    "produces nothing": (
        {"Start": "ImageOCR_1,Frame_1", "ImageOCR_1": "Cut_1", "Frame_1": "End", "Cut_1": "End"},
        {},
        "Dependencies.ImageOCR_1 names Cut_1, but ImageOCR produces no object; Cut_1 may follow Start or Frame_1",
    ),
    "produces another kind": (
        {"Start": "Say_1", "Say_1": "ImageOCR_1", "ImageOCR_1": "End"},
        {},
        "Dependencies.Say_1 names ImageOCR_1, but Say produces sound; ImageOCR_1 may follow Start",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_graph_is_refused_naming_the_node(case: str) -> None:
    dependencies, types, message = WRONG[case]
    with pytest.raises(InvalidArgument) as caught:
        read(dependencies, **types)
    assert any(part in caught.value.message for part in message.split("|")), caught.value.message


@pytest.mark.parametrize("kind", ["Transcode", "SCF", "Condition"])
def test_type_of_the_vendors_that_is_not_built_says_so(kind: str) -> None:
    with pytest.raises(NotImplementedHere, match=f"Nodes.{kind}_1 has the Type {kind}, which is not built yet"):
        read({"Start": f"{kind}_1", f"{kind}_1": "End"})


def test_a_node_that_is_there_twice_is_refused() -> None:
    text = topology({"Start": "Cut_1", "Cut_1": "End"}).replace("</Nodes>", "<Cut_1><Type>Cut</Type></Cut_1></Nodes>")
    with pytest.raises(InvalidArgument, match="Nodes has the node Cut_1 twice"):
        read_graph(parse_body(text.encode(), "Topology"), known())


@pytest.mark.parametrize("name", ["a b", "<b>", "1", "", "中", "x" * 129])
def test_json_key_that_is_no_element_name_is_refused(name: str) -> None:
    body = parse_body(b'{"Nodes": {}, "Dependencies": {"Start": {"KEY": "x"}}}'.replace(b"KEY", name.encode()), "T")
    with pytest.raises(InvalidArgument, match="Start has a node called"):
        read_graph(body, known())


@given(st.integers(1, 12), st.data())
def test_circle_is_found_wherever_it_is(count: int, data: st.DataObject) -> None:
    steps = [f"Frame_{number}" for number in range(count)]
    edges = {
        name: set(data.draw(st.lists(st.sampled_from(steps[number + 1 :] or ["End"]), max_size=3)))
        for number, name in enumerate(steps)
    }
    upper = data.draw(st.integers(0, count - 1))
    lower = data.draw(st.integers(upper, count - 1))
    for number in range(upper, lower):
        edges[steps[number]].add(steps[number + 1])
    dependencies = {"Start": ",".join(steps), **{name: ",".join(sorted(to)) or "End" for name, to in edges.items()}}
    assert len(read(dependencies)) == count + 1
    edges[steps[lower]].add(steps[upper])
    dependencies[steps[lower]] = ",".join(sorted(edges[steps[lower]]))
    with pytest.raises(InvalidArgument, match="in a circle") as caught:
        read(dependencies)
    circle = caught.value.message.split(": ")[1].split(";")[0].split(" > ")
    assert circle[0] == circle[-1]
    assert all(to in edges[name] for name, to in pairwise(circle))


def test_topology_comes_back_as_it_was_sent() -> None:
    text = topology({"Start": "Cut_1", "Cut_1": "End"}).replace(
        "<Type>Cut</Type>", "<Type>Cut</Type><Mine>a &amp; b</Mine><Mine/><Deep><Er>1</Er></Deep>"
    )
    kept = write_topology(parse_body(text.encode(), "Topology"))
    assert to_xml(topology_node(kept)).decode() == text
    assert b'"Mine":["a & b",""]' in to_json(topology_node(kept))


def test_parts_can_be_left_out_of_an_answer() -> None:
    kept = (
        "<Topology><Nodes><Start><Type>Start</Type><NotifyConfig><Url>u</Url></NotifyConfig></Start></Nodes></Topology>"
    )
    assert to_xml(topology_node(kept, without=["NotifyConfig"])) == (
        b"<Topology><Nodes><Start><Type>Start</Type></Start></Nodes></Topology>"
    )
