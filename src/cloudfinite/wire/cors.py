"""The CORS document of a bucket.

Wire: COS documentation, "PUT Bucket cors" and "GET Bucket cors"; cos-nodejs-sdk-v5 base.js (`putBucketCors`).
"""

from __future__ import annotations

from collections.abc import Sequence

from cloudfinite.domain.cors import CorsRule
from cloudfinite.errors import InvalidArgument, InvalidContent, MalformedXml, MissingContent
from cloudfinite.wire.documents import Element, parse_body, read_integer
from cloudfinite.wire.nodes import Node

MAX_RULES = 100
_METHODS = frozenset({"GET", "PUT", "POST", "DELETE", "HEAD"})


def read_cors(body: bytes) -> tuple[CorsRule, ...]:
    """The rules of a `CORSConfiguration`. Raises MalformedXml, InvalidArgument."""
    try:
        root = parse_body(body, "CORSConfiguration")
    except (InvalidContent, MissingContent) as exc:
        raise MalformedXml(exc.message) from exc
    rules = root.all("CORSRule")
    if not 1 <= len(rules) <= MAX_RULES:
        raise MalformedXml(f"CORSConfiguration has {len(rules)} rules; it must have from 1 to {MAX_RULES}")
    return tuple(map(_read_rule, rules))


def _read_rule(item: Element) -> CorsRule:
    rule = CorsRule(
        origins=_texts(item, "AllowedOrigin"),
        methods=_texts(item, "AllowedMethod"),
        headers=_texts(item, "AllowedHeader"),
        exposed=_texts(item, "ExposeHeader"),
        max_age_s=read_integer(age, "MaxAgeSeconds", 0, 999_999_999) if (age := item.get("MaxAgeSeconds")) else None,
        id=item.get("ID"),
    )
    if not rule.origins or not rule.methods:
        raise MalformedXml("a CORSRule needs an AllowedOrigin and an AllowedMethod")
    if unknown := set(rule.methods) - _METHODS:
        raise InvalidArgument(f"AllowedMethod is {unknown.pop()!r}; it must be one of {', '.join(sorted(_METHODS))}")
    for pattern in rule.origins + rule.headers + rule.exposed:
        # They come back in headers of answers.
        if pattern.count("*") > 1 or not pattern.isascii() or not pattern.isprintable() or "," in pattern:
            raise InvalidArgument(f"a CORSRule has {pattern!r}; write a name with at most one *")
    return rule


def _texts(item: Element, name: str) -> tuple[str, ...]:
    return tuple(child.text for child in item.all(name) if child.text)


def cors_document(rules: Sequence[CorsRule]) -> Node:
    return Node("CORSConfiguration", tuple(_rule(rule) for rule in rules))


def _rule(rule: CorsRule) -> Node:
    lists = (
        ("AllowedOrigin", rule.origins),
        ("AllowedMethod", rule.methods),
        ("AllowedHeader", rule.headers),
        ("ExposeHeader", rule.exposed),
    )
    nodes = [Node("ID", rule.id)] if rule.id else []
    nodes += [Node(name, text, is_many=True) for name, texts in lists for text in texts]
    if rule.max_age_s is not None:
        nodes.append(Node("MaxAgeSeconds", rule.max_age_s))
    return Node("CORSRule", tuple(nodes), is_many=True)
