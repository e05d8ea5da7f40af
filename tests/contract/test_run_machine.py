"""Runs of random graphs with random ends against a small model, in any order of events, on both databases.

The model knows no SQL and no engine: it holds what became of each step, and says from the graph what must have started.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.support.flows import AT, BUCKET, EVERY_END, LIMITS, RESULT, arrival, claim, flow, start
from tests.support.world import World, pick

from cloudfinite.adapters.store_jobs import MAX_ATTEMPTS
from cloudfinite.domain.delivery import DeliveryFilter
from cloudfinite.domain.execution import Execution, ExecutionFilter
from cloudfinite.domain.job import JobState, Lease, Outcome
from cloudfinite.domain.objects import Bucket
from cloudfinite.errors import InvalidArgument
from cloudfinite.operations import operations
from cloudfinite.ports import Transaction
from cloudfinite.service.jobs import cancel_job, finish_jobs
from cloudfinite.service.runs import cancel_run
from cloudfinite.service.triggers import trigger_events

SIZES = [
    pytest.param(15, id="short"),
    pytest.param(200, id="full", marks=[pytest.mark.full, pytest.mark.timeout(600)]),
]
which = st.integers(0, 1_000)
ends = st.sampled_from(["ok", "ok", "ok", "failed", "retryable"])


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    """Up to seven steps, each behind any of those before it."""
    names = [f"S{number}" for number in range(draw(st.integers(1, 7)))]
    return {
        name: sorted(draw(st.sets(st.sampled_from(names[:number])))) if number else []
        for number, name in enumerate(names)
    }


@dataclass
class ModelRun:
    graph: dict[str, list[str]]
    states: dict[str, JobState] = field(default_factory=dict)  # of the steps that have a job
    attempts: Counter[str] = field(default_factory=Counter)
    is_cancelled: bool = False

    def go_on(self) -> None:
        """Start what may start."""
        if self.is_cancelled:
            return
        for name, after in self.graph.items():
            if name not in self.states and all(self.states.get(one) is JobState.SUCCESS for one in after):
                self.states[name] = JobState.SUBMITTED

    @property
    def shown(self) -> str:
        if self.is_cancelled:
            return "Cancel"
        if any(state in (JobState.SUBMITTED, JobState.RUNNING) for state in self.states.values()):
            return "Running"
        return "Success" if set(self.states.values()) == {JobState.SUCCESS} else "Failed"


def machine_on(world: World) -> type[RuleBasedStateMachine]:
    class RunMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.runs: dict[str, ModelRun] = {}
            self.leases: list[Lease] = []  # those that hold
            self.stale: list[Lease] = []
            self.count = 0

        @initialize()
        def make_bucket(self) -> None:
            world.clear()
            world.do(lambda tx: tx.buckets.ensure(Bucket(BUCKET, "ap-chongqing", AT)))

        # --- start --------------------------------------------------------------------------------------------------

        @rule(graph=graphs(), by_event=st.booleans())
        def start_run(self, graph: dict[str, list[str]], by_event: bool) -> None:
            self.count += 1
            workflow = flow(graph, id=f"w{self.count}", prefix=f"{self.count}/", notify=EVERY_END)
            world.do(lambda tx: tx.workflows.insert(workflow))
            if by_event:
                event = arrival(self.count, f"{self.count}/a")
                world.do(lambda tx: tx.events.insert(event))
                for expected in (1, 0):  # a second look finds nothing
                    assert world.do(trigger_events, 10, operations(), LIMITS).events == expected
            else:
                world.do(start, workflow)
            wanted = ExecutionFilter(workflow.id)
            ((execution, _),) = world.do(lambda tx: tx.executions.select(BUCKET, wanted))
            self.runs[execution.id] = run = ModelRun(graph)
            run.go_on()

        # --- jobs ---------------------------------------------------------------------------------------------------

        @rule(limit=st.integers(1, 4))
        def claim(self, limit: int) -> None:
            waiting = sum(state is JobState.SUBMITTED for run in self.runs.values() for state in run.states.values())
            leases = world.do(claim, limit)
            assert len(leases) == min(limit, waiting)
            for lease in leases:
                run, name = self._place(lease)
                assert run.states[name] is JobState.SUBMITTED, "claimed though it may not run"
                run.states[name] = JobState.RUNNING
                run.attempts[name] += 1
            self.leases += leases

        def _place(self, lease: Lease) -> tuple[ModelRun, str]:
            assert lease.job.step_of is not None
            return self.runs[lease.job.step_of.run_id], lease.job.step_of.step

        @precondition(lambda self: self.leases)
        @rule(chosen=st.lists(st.tuples(which, ends), min_size=1, max_size=4), with_stale=st.booleans())
        def finish(self, chosen: list[tuple[int, str]], with_stale: bool) -> None:
            """Several ends in one transaction, some perhaps of leases that were lost."""
            outcomes = [_outcome(lease, "ok") for lease in self.stale] if with_stale else []
            for number, ending in chosen:
                if not self.leases:
                    break
                lease = pick(self.leases, number)
                self.leases.remove(lease)
                self.stale.append(lease)
                outcomes.append(_outcome(lease, ending))
                self._note_end(lease, ending)
            world.do(finish_jobs, outcomes, operations())
            for run in self.runs.values():
                run.go_on()

        def _note_end(self, lease: Lease, ending: str) -> None:
            run, name = self._place(lease)
            if ending == "ok":
                run.states[name] = JobState.SUCCESS
            elif ending == "failed" or run.attempts[name] >= MAX_ATTEMPTS:
                run.states[name] = JobState.FAILED
            else:
                run.states[name] = JobState.CANCEL if run.is_cancelled else JobState.SUBMITTED

        # --- cancel -------------------------------------------------------------------------------------------------

        @precondition(lambda self: self.runs)
        @rule(number=which, step=which)
        def cancel_step(self, number: int, step: int) -> None:
            run_id, run = pick(list(self.runs.items()), number)
            name = pick(list(run.states), step)
            job_id = next(one.job_id for one in world.do(lambda tx: tx.executions.steps(run_id)) if one.name == name)
            try:
                world.do(cancel_job, BUCKET, job_id, operations())
            except InvalidArgument:
                assert run.states[name] not in (JobState.SUBMITTED, JobState.CANCEL)
            else:
                assert run.states[name] in (JobState.SUBMITTED, JobState.CANCEL)
                run.states[name] = JobState.CANCEL

        @precondition(lambda self: any(run.shown == "Running" for run in self.runs.values()))
        @rule(number=which)
        def cancel_run(self, number: int) -> None:
            run_id, run = pick([(one, run) for one, run in self.runs.items() if run.shown == "Running"], number)
            world.do(_cancel, run_id)
            run.is_cancelled = True
            for name, state in run.states.items():
                if state is JobState.SUBMITTED:
                    run.states[name] = JobState.CANCEL

        # --- what must hold after each step -------------------------------------------------------------------------

        @invariant()
        def steps_stand_where_the_graph_says(self) -> None:
            for run_id, run in self.runs.items():
                states = world.do(_job_states, run_id)
                assert states == run.states, run.graph

        @invariant()
        def each_run_is_shown_and_its_end_told_once(self) -> None:
            for run_id, run in self.runs.items():
                execution, told = world.do(_shown, run_id)
                assert execution.state.value == run.shown
                assert (execution.ended_at is None) == (run.shown == "Running")
                assert told == int(run.shown in ("Success", "Failed"))

        def teardown(self) -> None:
            """Whatever happened, all comes to an end when all jobs do."""
            while leases := self.leases + world.do(claim):
                self.leases = []
                for lease in leases:
                    self._note_end(lease, "ok")
                world.do(finish_jobs, [_outcome(lease, "ok") for lease in leases], operations())
                for run in self.runs.values():
                    run.go_on()
            assert all(run.shown != "Running" for run in self.runs.values())
            self.each_run_is_shown_and_its_end_told_once()

    return RunMachine


def _outcome(lease: Lease, ending: str) -> Outcome:
    return {
        "ok": Outcome(lease, RESULT),
        "failed": Outcome(lease, None, "UnreadableInput", "no good"),
        "retryable": Outcome(lease, None, "InternalError", "died", retryable=True),
    }[ending]


def _cancel(tx: Transaction, run_id: str) -> None:
    cancel_run(tx, tx.executions.lock([run_id])[0])


def _job_states(tx: Transaction, run_id: str) -> dict[str, JobState]:
    """Of the jobs; the states that the run keeps of its steps must not differ once they are final."""
    steps = tx.executions.steps(run_id)
    jobs = {job.id: job for job in tx.jobs.get([step.job_id for step in steps])}
    assert len(jobs) == len(steps)
    for step in steps:
        state = jobs[step.job_id].state
        assert step.state is (state if state.is_final else JobState.SUBMITTED)
    return {step.name: jobs[step.job_id].state for step in steps}


def _shown(tx: Transaction, run_id: str) -> tuple[Execution, int]:
    execution = tx.executions.get(run_id)
    assert execution is not None
    told = tx.deliveries.select(DeliveryFilter(job_id=run_id))
    return execution, len(told)


@pytest.mark.parametrize("examples", SIZES)
def test_runs_do_what_their_graphs_say(world: World, examples: int) -> None:
    run_state_machine_as_test(
        machine_on(world),
        settings=settings(
            max_examples=examples, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
