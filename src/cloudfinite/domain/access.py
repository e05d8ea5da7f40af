"""Who may do what: actions, the policies of access keys, and what several of them together allow.

A policy is a list of rules, each of which allows something and none of which takes anything away. Where several
policies apply (a key's own and that of credentials derived from it), only what all of them allow is allowed.

Wire: COS documentation, "Working with COS API Authorization Policies", and Cloud Infinite documentation, "Working with
API Authorization Policies" (names of actions, key prefixes as resources); names marked "ours" stand on neither page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from functools import lru_cache
from typing import Any

ANY = "*"
READ_ONLY = "read-only"
"""Short for all actions that change nothing and run nothing."""

_SHORT_FORMS = {READ_ONLY: ("cos:Get*", "cos:Head*", "cos:List*", "ci:Describe*")}
_OPTIONAL_HEAD = "name/"  # Wire: policies in the vendor's documentation write `name/cos:PutObject`.
_MAX_RULES = 20
_MAX_ENTRIES = 50
_MAX_CHARS = 850


class Scope(Enum):
    """What an action is about, and so which prefixes of a rule let it through."""

    ACCOUNT = auto()
    """No single bucket: allowed if any rule has the action. Lists leave out what the key may not see."""
    BUCKET = auto()
    """The bucket as a whole and what all of it shares: only rules without a prefix."""
    LISTING = auto()
    """The names that begin with the prefix asked for."""
    OBJECT = auto()
    """The object in the path."""
    EACH = auto()
    """Several objects, or jobs by their inputs: who serves the call asks for each of them."""


class Action(Enum):
    """Everything a key can be allowed to do: the name that policies use, and what it is about."""

    GET_SERVICE = "cos:GetService", Scope.ACCOUNT
    PUT_BUCKET = "cos:PutBucket", Scope.BUCKET
    HEAD_BUCKET = "cos:HeadBucket", Scope.BUCKET
    DELETE_BUCKET = "cos:DeleteBucket", Scope.BUCKET
    GET_BUCKET = "cos:GetBucket", Scope.LISTING
    GET_BUCKET_LOCATION = "cos:GetBucketLocation", Scope.BUCKET
    GET_BUCKET_ACL = "cos:GetBucketACL", Scope.BUCKET
    PUT_BUCKET_ACL = "cos:PutBucketACL", Scope.BUCKET
    GET_BUCKET_CORS = "cos:GetBucketCORS", Scope.BUCKET
    PUT_BUCKET_CORS = "cos:PutBucketCORS", Scope.BUCKET
    DELETE_BUCKET_CORS = "cos:DeleteBucketCORS", Scope.BUCKET
    PUT_OBJECT = "cos:PutObject", Scope.OBJECT
    POST_OBJECT = "cos:PostObject", Scope.OBJECT
    APPEND_OBJECT = "cos:AppendObject", Scope.OBJECT
    GET_OBJECT = "cos:GetObject", Scope.OBJECT
    HEAD_OBJECT = "cos:HeadObject", Scope.OBJECT
    DELETE_OBJECT = "cos:DeleteObject", Scope.OBJECT
    # Wire: "Deleting multiple objects": the same name as for one.
    DELETE_OBJECTS = "cos:DeleteObject", Scope.EACH
    LIST_MULTIPART_UPLOADS = "cos:ListMultipartUploads", Scope.LISTING
    INITIATE_MULTIPART_UPLOAD = "cos:InitiateMultipartUpload", Scope.OBJECT
    UPLOAD_PART = "cos:UploadPart", Scope.OBJECT
    LIST_PARTS = "cos:ListParts", Scope.OBJECT
    COMPLETE_MULTIPART_UPLOAD = "cos:CompleteMultipartUpload", Scope.OBJECT
    ABORT_MULTIPART_UPLOAD = "cos:AbortMultipartUpload", Scope.OBJECT

    # Wire: our choice – one name for the paths of all services, which are doors to the same jobs and queues.
    CREATE_JOBS = "ci:CreateMediaJobs", Scope.EACH
    DESCRIBE_JOB = "ci:DescribeMediaJob", Scope.EACH
    DESCRIBE_JOBS = "ci:DescribeMediaJobs", Scope.EACH
    CANCEL_JOB = "ci:CancelMediaJob", Scope.EACH  # ours
    PROCESS_OBJECT = "ci:ProcessObject", Scope.OBJECT  # ours: `ci-process`
    DESCRIBE_QUEUES = "ci:DescribeMediaQueues", Scope.BUCKET  # ours
    UPDATE_QUEUE = "ci:UpdateMediaQueue", Scope.BUCKET  # ours
    CREATE_TEMPLATE = "ci:CreateMediaTemplate", Scope.BUCKET
    UPDATE_TEMPLATE = "ci:UpdateMediaTemplate", Scope.BUCKET  # ours
    DESCRIBE_TEMPLATES = "ci:DescribeMediaTemplates", Scope.BUCKET  # ours
    DELETE_TEMPLATE = "ci:DeleteMediaTemplate", Scope.BUCKET  # ours
    CREATE_WORKFLOW = "ci:CreateWorkflow", Scope.BUCKET  # this and the following: ours
    UPDATE_WORKFLOW = "ci:UpdateWorkflow", Scope.BUCKET
    DESCRIBE_WORKFLOWS = "ci:DescribeWorkflows", Scope.BUCKET
    DELETE_WORKFLOW = "ci:DeleteWorkflow", Scope.BUCKET
    TRIGGER_WORKFLOW = "ci:TriggerWorkflow", Scope.EACH
    DESCRIBE_EXECUTION = "ci:DescribeWorkflowExecution", Scope.EACH
    DESCRIBE_EXECUTIONS = "ci:DescribeWorkflowExecutions", Scope.EACH
    CANCEL_EXECUTION = "ci:CancelWorkflowExecution", Scope.EACH
    CREATE_BATCH = "ci:CreateInventoryTriggerJob", Scope.BUCKET
    DESCRIBE_BATCH = "ci:DescribeInventoryTriggerJob", Scope.BUCKET
    DESCRIBE_BATCHES = "ci:DescribeInventoryTriggerJobs", Scope.BUCKET
    CANCEL_BATCH = "ci:CancelInventoryTriggerJob", Scope.BUCKET
    DELETE_BATCH = "ci:DeleteInventoryTriggerJob", Scope.BUCKET  # ours
    OPEN_SERVICE = "ci:CreateMediaBucket", Scope.BUCKET
    CLOSE_SERVICE = "ci:DeleteMediaBucket", Scope.BUCKET
    DESCRIBE_SERVICES = "ci:DescribeMediaBuckets", Scope.ACCOUNT
    BIND_BUCKET = "ci:CreateCIBucket", Scope.BUCKET
    UNBIND_BUCKET = "ci:DeleteCIBucket", Scope.BUCKET
    DESCRIBE_BINDING = "ci:DescribeCIBuckets", Scope.BUCKET

    def __init__(self, wire: str, scope: Scope) -> None:
        self.wire = wire
        self.scope = scope


@dataclass(frozen=True, slots=True)
class Rule:
    """Allows the actions on keys that begin with one of the prefixes, in the buckets. Actions may hold `*`."""

    buckets: tuple[str, ...] = (ANY,)
    prefixes: tuple[str, ...] = ("",)
    actions: tuple[str, ...] = (ANY,)

    def names(self, bucket: str) -> bool:
        return ANY in self.buckets or bucket in self.buckets

    def has(self, action: Action) -> bool:
        return any(_matches(pattern, action.wire) for pattern in self.actions)


@dataclass(frozen=True, slots=True)
class Policy:
    """What one key may do: whatever one of its rules allows."""

    rules: tuple[Rule, ...]

    def prefixes(self, action: Action, bucket: str) -> tuple[str, ...]:
        """How the keys begin that the action is allowed on; none when it is not allowed at all."""
        fitting = [rule for rule in self.rules if rule.names(bucket) and rule.has(action)]
        return _shortest(prefix for rule in fitting for prefix in rule.prefixes)


EVERYTHING = Policy((Rule(),))


@dataclass(frozen=True, slots=True)
class Grant:
    """What all of these policies allow; without any, nothing."""

    policies: tuple[Policy, ...] = ()

    def prefixes(self, action: Action, bucket: str) -> tuple[str, ...]:
        """How the keys begin that the action is allowed on: `("",)` is every key, `()` none."""
        found: tuple[str, ...] = ("",) if self.policies else ()
        for policy in self.policies:
            found = _common(found, policy.prefixes(action, bucket))
        return found

    def allows(self, action: Action, bucket: str, key: str = "") -> bool:
        """Whether the action is allowed on the key; without one, on the bucket as a whole."""
        return key.startswith(self.prefixes(action, bucket))

    def allows_somewhere(self, action: Action) -> bool:
        """Whether the action is allowed on anything."""
        return bool(self.policies) and all(any(rule.has(action) for rule in one.rules) for one in self.policies)

    def sees(self, bucket: str) -> bool:
        """Whether the bucket exists for whoever has this grant."""
        return bool(self.policies) and all(any(rule.names(bucket) for rule in one.rules) for one in self.policies)


NOTHING = Grant()


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A key pair without its secret."""

    secret_id: str
    policy: Policy
    created_at: datetime
    is_enabled: bool = True


@lru_cache(maxsize=1024)
def _matches(pattern: str, name: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split(ANY))), name) is not None


def _shortest(prefixes: Iterable[str]) -> tuple[str, ...]:
    """Without those that another one covers."""
    kept: list[str] = []
    for prefix in sorted(set(prefixes)):
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return tuple(kept)


def _common(left: Sequence[str], right: Sequence[str]) -> tuple[str, ...]:
    """What begins with a prefix of each: of two prefixes the longer one, where it begins with the other."""
    return _shortest(
        max(one, other, key=len) for one in left for other in right if one.startswith(other) or other.startswith(one)
    )


# --- policies as data ----------------------------------------------------------------------------------------------


def policy_data(policy: Policy) -> list[dict[str, list[str]]]:
    """The policy as JSON data."""
    return [
        {"buckets": list(rule.buckets), "prefixes": list(rule.prefixes), "actions": list(rule.actions)}
        for rule in policy.rules
    ]


def read_policy(data: Any) -> Policy:
    """A policy from JSON data. Raises ValueError naming what is wrong, and what would be right."""
    if not isinstance(data, list) or not 0 < len(data) <= _MAX_RULES:
        raise ValueError(f"a policy is a list of 1 to {_MAX_RULES} rules")
    return Policy(tuple(_read_rule(item) for item in data))


def _read_rule(data: Any) -> Rule:
    if not isinstance(data, dict) or not data.keys() <= {"buckets", "prefixes", "actions"}:
        raise ValueError("a rule has buckets, prefixes and actions, and nothing else")
    prefixes = _read_texts(data, "prefixes", "")
    for prefix in prefixes:
        if prefix.endswith(ANY):
            raise ValueError(f"the prefix {prefix!r} ends with *; a prefix is plain text: {prefix[:-1]!r}")
    return Rule(_read_texts(data, "buckets", ANY), prefixes, _read_actions(_read_texts(data, "actions", ANY)))


def _read_texts(data: dict[str, Any], name: str, default: str) -> tuple[str, ...]:
    texts = data.get(name, [default])
    is_list = isinstance(texts, list) and 0 < len(texts) <= _MAX_ENTRIES
    if not is_list or not all(isinstance(text, str) and len(text) <= _MAX_CHARS for text in texts):
        raise ValueError(f"{name} must be a list of 1 to {_MAX_ENTRIES} texts")
    return tuple(dict.fromkeys(texts))


def _read_actions(texts: Iterable[str]) -> tuple[str, ...]:
    """Patterns, with short forms written out. A pattern that fits nothing is a slip of the pen."""
    patterns: list[str] = []
    for text in texts:
        pattern = text.removeprefix(_OPTIONAL_HEAD)
        if pattern not in _SHORT_FORMS and not any(_matches(pattern, action.wire) for action in Action):
            raise ValueError(f"{text!r} is no action of this server; docs/access.md lists them")
        patterns += _SHORT_FORMS.get(pattern, (pattern,))
    return tuple(dict.fromkeys(patterns))
