"""Templates: saved parameters of an operation, under a name unique in their bucket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Template:
    """`params` in the operation's JSON form. `is_official` ones come with the server and cannot be changed."""

    id: str
    bucket: str
    tag: str
    name: str
    params: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime
    is_official: bool = False
