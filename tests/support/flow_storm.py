"""Workflows that uploads start, run and told while servers and their children are killed."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tests.support.flow_operations import is_fated_to_fail
from tests.support.storm import kill_something
from tests.support.waiting import until
from tests.support.wire_client import RefusedError, WireClient

from cloudfinite.testing import Server

Graph = dict[str, list[str]]
Query = Callable[[str], Iterable[Sequence[Any]]]
WORKFLOWS = 3
INBOX = "runs"
_GIVEN_UP = "given up after 3 attempts"


def random_graph(dice: random.Random) -> Graph:
    """Each step's predecessors; each comes behind those it follows."""
    names = [f"Fated_{number}" for number in range(dice.randrange(2, 7))]
    return {
        name: sorted(dice.sample(names[:number], dice.randrange(min(number, 2) + 1)))
        for number, name in enumerate(names)
    }


def workflow_body(name: str, prefix: str, graph: Graph, hook: str) -> bytes:
    """Wire: "Create workflow"."""
    behind = {one: [other for other, after in graph.items() if one in after] for one in graph}
    first = [one for one, after in graph.items() if not after]
    links = "".join(
        f"<{one}>{','.join(followers or ['End'])}</{one}>" for one, followers in {"Start": first, **behind}.items()
    )
    nodes = "".join(
        f"<{one}><Type>Fated</Type><Operation><Params><Step>{one}</Step><Ms>5</Ms></Params></Operation></{one}>"
        for one in graph
    )
    return (
        f"<Request><MediaWorkflow><Name>{name}</Name><State>Active</State><Topology>"
        f"<Dependencies>{links}</Dependencies><Nodes><Start><Type>Start</Type><Input>"
        f"<ObjectPrefix>{prefix}</ObjectPrefix><NotifyConfig><State>On</State><Url>{hook}</Url>"
        f"<Event>TaskFinish,WorkflowFinish</Event></NotifyConfig></Input></Start>{nodes}</Nodes>"
        "</Topology></MediaWorkflow></Request>"
    ).encode()


@dataclass
class FlowStorm:
    """`servers` share one store; what ends is told to `receiver`, which nobody kills."""

    servers: Sequence[Server]
    receiver: Server
    uploads: int
    kills: int
    seed: int
    graphs: dict[str, Graph] = field(default_factory=dict)  # by workflow id
    stored: dict[str, str] = field(default_factory=dict)  # the workflow id of each key that was answered

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)

    def make_workflows(self) -> None:
        client = WireClient(self.servers[0])
        for number in range(WORKFLOWS):
            graph = random_graph(self._dice)
            body = workflow_body(f"flow-{number}", f"in{number}/", graph, self.receiver.inbox(self._inbox))
            answer = client.call("POST", "/workflow", body)
            self.graphs[re.findall(r"<WorkflowId>(\w+)", answer)[0]] = graph

    def run(self) -> None:
        """Upload and kill until all is done."""
        self.make_workflows()
        turns = [*["upload"] * self.uploads, *["kill"] * self.kills]
        self._dice.shuffle(turns)
        for turn in turns:
            if turn == "kill":
                kill_something(self._dice.choice(self.servers), self._dice)
            else:
                until(self.upload, "an upload is answered", wait_s=60)

    @property
    def _inbox(self) -> str:
        return f"{INBOX}-{self.seed}"

    def upload(self) -> bool:
        """Whether it was answered; a new key each time, as one without an answer may be stored all the same."""
        workflow_id = self._dice.choice(list(self.graphs))
        number = list(self.graphs).index(workflow_id)
        key = f"in{number}/{self._dice.getrandbits(64):016x}"
        with suppress(OSError, RefusedError):
            WireClient(self._dice.choice(self.servers)).put(key)
            self.stored[key] = workflow_id
            return True
        return False

    # --- what came of it --------------------------------------------------------------------------------------------

    def check(self, query: Query) -> None:
        """Each upload started its workflow once, each step ran as the graph says, and all was told once."""
        until(lambda: self._is_quiet(query), "all runs ended and told", wait_s=120, poll_s=0.2)
        runs = list(query("SELECT id, workflow_id, object_key, state FROM execution"))
        keys = [key for _, _, key, _ in runs]
        assert len(keys) == len(set(keys)) and set(self.stored) <= set(keys)
        steps: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for run_id, name, state in query("SELECT run_id, name, state FROM step"):
            assert name not in steps[run_id]
            steps[run_id][name] = state
        given_up = {
            (run_id, name)
            for run_id, name, message in query("SELECT run_id, step, message FROM job WHERE run_id IS NOT NULL")
            if _GIVEN_UP in message
        }
        jobs = list(query("SELECT count(*), count(DISTINCT run_id || step) FROM job WHERE run_id IS NOT NULL"))
        assert jobs == [(sum(map(len, steps.values())),) * 2]
        for run_id, workflow_id, key, state in runs:
            lost = {name for one, name in given_up if one == run_id}
            expected = model(self.graphs[workflow_id], key, lost)
            assert steps[run_id] == expected
            assert state == ("Success" if set(expected.values()) == {"Success"} else "Failed")
        self._check_told(query, {run_id for run_id, *_ in runs})

    def _is_quiet(self, query: Query) -> bool:
        ((events, running, waiting),) = query(
            "SELECT (SELECT count(*) FROM event WHERE done_us IS NULL), "
            "(SELECT count(*) FROM execution WHERE state = 'Running'), "
            "(SELECT count(*) FROM delivery WHERE state = 'waiting')"
        )
        return (events, running, waiting) == (0, 0, 0)

    def _check_told(self, query: Query, run_ids: set[str]) -> None:
        planned = list(query("SELECT job_id FROM delivery WHERE event = 'WorkflowFinish'"))
        assert len(planned) == len(run_ids) and {run_id for (run_id,) in planned} == run_ids
        received: defaultdict[str, set[tuple[str, bytes]]] = defaultdict(set)
        for callback in self.receiver.callbacks(self._inbox):
            if b"<EventName>WorkflowFinish</EventName>" in callback.body:
                (run_id,) = re.findall(rb"<RunId>(\w+)</RunId>", callback.body)
                received[run_id.decode()].add((callback.headers["webhook-id"], callback.body))
        assert {run_id: len(told) for run_id, told in received.items()} == dict.fromkeys(run_ids, 1)


def model(graph: Graph, key: str, lost: set[str]) -> dict[str, str]:
    """How each step that runs must end; `lost` are those that died three times."""
    states: dict[str, str] = {}
    for name, after in graph.items():
        if all(states.get(one) == "Success" for one in after):
            states[name] = "Failed" if name in lost or is_fated_to_fail(key, name) else "Success"
    return states
