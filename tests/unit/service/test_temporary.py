"""Temporary credentials: the token speaks for itself, and only its own secret signs for it."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfinite.domain.access import EVERYTHING, Policy, Rule
from cloudfinite.errors import InvalidArgument
from cloudfinite.service.temporary import MAX_TOKEN_CHARS, derive_secret, issue, read_token

UNTIL = datetime(2026, 1, 5, 2, 30, tzinfo=UTC)
NARROW = Policy((Rule(("a-1",), ("in/",), ("cos:Get*",)),))


def test_token_says_what_it_was_made_with() -> None:
    made = issue("AKIDparent", "secret", NARROW, UNTIL)
    claims = read_token(made.token)
    assert claims is not None
    assert (claims.secret_id, claims.parent_id, claims.policy, claims.expires_at) == (
        made.secret_id,
        "AKIDparent",
        NARROW,
        UNTIL,
    )
    assert derive_secret("secret", made.token) == made.secret_key


def test_each_is_another_pair() -> None:
    pairs = {(made.secret_id, made.secret_key) for made in (issue("AKIDp", "s", NARROW, UNTIL) for _ in range(5))}
    assert len({secret_id for secret_id, _ in pairs}) == len({secret for _, secret in pairs}) == 5


def test_wider_token_needs_another_secret() -> None:
    made = issue("AKIDparent", "secret", NARROW, UNTIL)
    data = json.loads(base64.urlsafe_b64decode(made.token + "=" * (-len(made.token) % 4)))
    data["policy"] = [{}]
    forged = base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")
    claims = read_token(forged)
    assert claims is not None and claims.policy == EVERYTHING
    assert claims.secret_id != made.secret_id
    assert derive_secret("secret", forged) != made.secret_key


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda data: base64.urlsafe_b64encode(data).decode()))
def test_anything_else_is_no_token(text: str) -> None:
    assert read_token(text) is None


json_values = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=4)


@given(json_values, json_values, json_values)
def test_odd_claims_are_no_token(key: object, until: object, policy: object) -> None:
    text = json.dumps({"key": key, "until": until, "policy": policy}).encode()
    assert read_token(base64.urlsafe_b64encode(text).decode().rstrip("=")) is None


def test_policy_that_makes_no_header_is_refused() -> None:
    long = Policy(tuple(Rule((f"bucket-{number}-1",), ("p" * 300,)) for number in range(20)))
    with pytest.raises(InvalidArgument, match=str(MAX_TOKEN_CHARS)):
        issue("AKIDparent", "secret", long, UNTIL)
