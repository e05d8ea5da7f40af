"""Which pages of other origins may call a bucket from a browser.

Wire: COS documentation, "PUT Bucket cors" and "OPTIONS Object".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CorsRule:
    """What pages of some origins may do; origins and names of headers may hold one `*`.

    exposed: headers of answers that the page may read. max_age_s: how long a browser may remember the rule.
    """

    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()
    max_age_s: int | None = None
    id: str = ""

    def allows(self, origin: str, method: str) -> bool:
        return method in self.methods and any(_fits(pattern, origin) for pattern in self.origins)

    def allows_headers(self, names: Iterable[str]) -> bool:
        return all(any(_fits(pattern.lower(), name.lower()) for pattern in self.headers) for name in names)

    def exposed_of(self, names: Iterable[str]) -> list[str]:
        """Those of an answer's headers that the page may read."""
        return [name for name in names if any(_fits(pattern.lower(), name.lower()) for pattern in self.exposed)]


LOCAL_PAGES = CorsRule(
    origins=tuple(
        f"{scheme}://{host}{port}"
        for scheme in ("http", "https")
        for host in ("localhost", "127.0.0.1", "[::1]")
        for port in ("", ":*")
    ),
    methods=("GET", "PUT", "POST", "DELETE", "HEAD"),
    headers=("*",),
    exposed=("*",),
    max_age_s=600,
)
"""For development: pages that this machine serves, and no others."""


def find_rule(rules: Sequence[CorsRule], origin: str, method: str, headers: Sequence[str] = ()) -> CorsRule | None:
    """The first rule that lets a page of `origin` make the call with these request headers."""
    return next((rule for rule in rules if rule.allows(origin, method) and rule.allows_headers(headers)), None)


def _fits(pattern: str, text: str) -> bool:
    before, star, after = pattern.partition("*")
    if not star:
        return text == pattern
    return len(text) >= len(before) + len(after) and text.startswith(before) and text.endswith(after)
