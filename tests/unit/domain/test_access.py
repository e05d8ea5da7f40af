"""What policies allow: wildcards, prefixes, and that several of them never allow more than each alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfinite.domain.access import (
    EVERYTHING,
    NOTHING,
    Action,
    Grant,
    Policy,
    Rule,
    policy_data,
    read_policy,
)

BUCKETS = ("a-1", "b-1", "c-1")
ACTIONS = ("*", "ci:*", "cos:*", "cos:Get*", "*Object", "cos:*Object", "cos:GetObject", "ci:CreateMediaJobs")

keys = st.text(alphabet="ab/", max_size=5)
rules = st.builds(
    Rule,
    buckets=st.lists(st.sampled_from(("*", *BUCKETS)), min_size=1, max_size=2).map(tuple),
    prefixes=st.lists(keys, min_size=1, max_size=3).map(tuple),
    actions=st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=2).map(tuple),
)
policies = st.builds(Policy, st.lists(rules, min_size=1, max_size=3).map(tuple))


def is_allowed_by(policy: Policy, action: Action, bucket: str, key: str) -> bool:
    """The rules' meaning, written down once more in the plainest way."""

    def fits(pattern: str) -> bool:
        head, star, tail = pattern.partition("*")
        name = action.wire
        return name.startswith(head) and name.endswith(tail) and len(name) >= len(head + tail) if star else name == head

    return any(
        (bucket in rule.buckets or "*" in rule.buckets)
        and any(fits(pattern) for pattern in rule.actions)
        and any(key[: len(prefix)] == prefix for prefix in rule.prefixes)
        for rule in policy.rules
    )


@given(st.lists(policies, min_size=1, max_size=3), st.sampled_from(list(Action)), st.sampled_from(BUCKETS), keys, keys)
def test_grant_allows_what_each_of_its_policies_allows(
    several: list[Policy], action: Action, bucket: str, key: str, more: str
) -> None:
    grant = Grant(tuple(several))
    wanted = all(is_allowed_by(policy, action, bucket, key) for policy in several)
    assert grant.allows(action, bucket, key) is wanted
    if wanted:
        assert grant.allows(action, bucket, key + more)
        assert grant.sees(bucket) and grant.allows_somewhere(action)


@given(policies, policies, st.sampled_from(list(Action)), st.sampled_from(BUCKETS))
def test_second_policy_can_only_narrow(first: Policy, second: Policy, action: Action, bucket: str) -> None:
    outer = Grant((first,)).prefixes(action, bucket)
    for prefix in Grant((first, second)).prefixes(action, bucket):
        assert prefix.startswith(outer)


@given(policies)
def test_policy_comes_back_from_its_data(policy: Policy) -> None:
    read = read_policy(json.loads(json.dumps(policy_data(policy))))
    assert all(
        read.prefixes(action, bucket) == policy.prefixes(action, bucket) for action in Action for bucket in BUCKETS
    )


def test_without_a_policy_nothing_is_allowed() -> None:
    assert not any(NOTHING.allows(action, "a-1", "k") or NOTHING.allows_somewhere(action) for action in Action)
    assert not NOTHING.sees("a-1")


def test_everything_is_everything() -> None:
    assert all(Grant((EVERYTHING,)).allows(action, "a-1", "k") for action in Action)


@pytest.mark.parametrize(
    ("key", "is_allowed"), [("in/a", True), ("in/", True), ("in", False), ("IN/a", False), ("", False)]
)
def test_prefix_is_plain_text(key: str, is_allowed: bool) -> None:
    grant = Grant((read_policy([{"prefixes": ["in/"]}]),))
    assert grant.allows(Action.GET_OBJECT, "a-1", key) is is_allowed


def test_dot_and_brackets_of_a_pattern_are_letters() -> None:
    assert Policy((Rule(actions=("cos:Ge.Object", "cos:Get[O]*")),)).prefixes(Action.GET_OBJECT, "a-1") == ()


def test_read_only_changes_nothing_and_runs_nothing() -> None:
    policy = read_policy([{"actions": ["read-only"]}])
    allowed = {action.wire for action in Action if policy.prefixes(action, "a-1")}
    verbs = {name.partition(":")[2] for name in allowed}
    assert all(verb.startswith(("Get", "Head", "List", "Describe")) for verb in verbs)
    assert {"cos:GetObject", "cos:HeadObject", "cos:GetBucket", "ci:DescribeMediaJobs"} <= allowed


def test_action_is_written_as_the_vendor_does() -> None:
    assert read_policy([{"actions": ["name/cos:PutObject"]}]).rules[0].actions == ("cos:PutObject",)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "1 to 20 rules"),
        ({}, "1 to 20 rules"),
        ([{"prefixs": ["in/"]}], "nothing else"),
        ([{"prefixes": []}], "prefixes must be"),
        ([{"buckets": "a-1"}], "buckets must be"),
        ([{"actions": [7]}], "actions must be"),
        ([{"actions": ["cos:GetObjekt"]}], "no action"),
        ([{"actions": ["cos:getobject"]}], "no action"),
        ([{"prefixes": ["in/*"]}], "plain text: 'in/'"),
        ([{"prefixes": ["k" * 851]}], "prefixes must be"),
        (["*"], "nothing else"),
    ],
)
def test_what_is_no_policy_is_refused_with_a_reason(data: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_policy(data)
