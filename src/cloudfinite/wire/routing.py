"""Where a request goes: its target taken apart, and its host read as kind, bucket and region.

Wire: COS and Cloud Infinite documentation, "Regions and Domains"; cos-java-sdk-v5 CIRegionEndpointBuilder (bucket-less
hosts); cos-nodejs-sdk-v5 (tencentci.cn on retries).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from urllib.parse import unquote_to_bytes

from cloudfinite.errors import InvalidHost, InvalidUri

DEFAULT_SUFFIXES = ("myqcloud.com", "tencentcos.cn", "tencentci.cn", "localhost")

_ABSOLUTE = re.compile(r"https?://([^/?#]*)([^?#]*)(?:\?([^#]*))?", re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{0,5}))?", re.IGNORECASE | re.ASCII)
_BAD_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?-[0-9]+", re.ASCII)
_REGION = re.compile(r"[a-z0-9-]+", re.ASCII)
_LONGEST_SHOWN = 100


class HostKind(StrEnum):
    """What the host of a request asks for; OWN is a name or address without a bucket in it."""

    CI = "ci"
    COS = "cos"
    PIC = "pic"
    SERVICE = "service"
    OWN = "own"


_SERVICES = {"ci": HostKind.CI, "cos": HostKind.COS, "cos-internal": HostKind.COS, "pic": HostKind.PIC}


@dataclass(frozen=True, slots=True)
class Hosts:
    """Which hosts are answered: suffixes of the vendor's name pattern, and plain names with the bucket they mean."""

    suffixes: tuple[str, ...] = DEFAULT_SUFFIXES
    names: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Place:
    """What a host says. bucket and region are "" where it names none."""

    kind: HostKind
    bucket: str = ""
    region: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """A request target taken apart, nothing decoded. authority is "" in origin form; path starts with `/`."""

    authority: str
    path: str
    query: str


def split_target(raw: str) -> Target:
    """Take `/path?query` or `http://authority/path?query` apart. Raises InvalidUri for any other form."""
    if "#" in raw:
        raise InvalidUri("the request target holds a fragment (#…), which stays with the client")
    if raw.startswith("/"):
        path, _, query = raw.partition("?")
        return Target("", path, query)
    match = _ABSOLUTE.fullmatch(raw)
    if not match:
        raise InvalidUri(f"the request target {raw[:_LONGEST_SHOWN]!r} is neither a path nor an http:// address")
    authority, path, query = match.groups(default="")
    if not authority:
        raise InvalidUri("the request target has no host after http://")
    return Target(authority, path or "/", query)


def decode_path(raw: str) -> str:
    """Decode a path exactly once; a `+` is a plus. Raises InvalidUri for bad percent codes, non-UTF-8 and NUL."""
    return _decode(raw, "path")


def parse_query(raw: str) -> tuple[tuple[str, str], ...]:
    """The query's pairs in order, decoded once; a `+` is a blank, a `;` is no separator (Node's presigned URLs)."""
    return tuple(
        (_decode(name.replace("+", " "), "query"), _decode(value.replace("+", " "), "query"))
        for name, _, value in (part.partition("=") for part in raw.split("&") if part)
    )


def _decode(raw: str, what: str) -> str:
    if raw.isascii() and "%" not in raw:
        return raw
    if _BAD_PERCENT.search(raw):
        raise InvalidUri(f"the {what} holds a % that two hex digits do not follow")
    try:
        text = unquote_to_bytes(raw.encode("utf-8", "surrogateescape")).decode()
    except UnicodeDecodeError as exc:
        raise InvalidUri(f"the {what} is not UTF-8 after decoding") from exc
    if "\0" in text:
        raise InvalidUri(f"the {what} holds a NUL character")
    return text


def locate(authority: str, hosts: Hosts) -> Place:
    """Read `authority` (a host with or without port). Raises InvalidHost naming it and the setting that allows it."""
    match = _AUTHORITY.fullmatch(authority)
    if not match:
        raise InvalidHost(f"{authority[:_LONGEST_SHOWN]!r} is not a host name or address, with or without a port")
    name = match[1].lower().rstrip(".")
    if name in hosts.names:
        return Place(HostKind.OWN, hosts.names[name])
    if name == "localhost" or is_address(name):
        return Place(HostKind.OWN)
    for suffix in hosts.suffixes:
        if name.endswith("." + suffix):
            place = _read_labels(name.removesuffix("." + suffix).split("."))
            if place:
                return place
    raise InvalidHost(
        f"the host {name[:_LONGEST_SHOWN]!r} is not one this server answers for; it answers "
        f"<bucket>-<number>.<cos|ci|pic>.<region>.<suffix> for each suffix in the setting host_suffixes "
        f"({', '.join(hosts.suffixes)}), localhost, IP addresses, and the names in the setting hosts"
    )


def _read_labels(labels: list[str]) -> Place | None:
    match labels:
        case [bucket, service, region] if service in _SERVICES and _BUCKET.fullmatch(bucket):
            return Place(_SERVICES[service], bucket, region) if _REGION.fullmatch(region) else None
        case ["service", "ci"]:
            return Place(HostKind.CI)
        case ["service", "cos" | "cos-internal"]:
            return Place(HostKind.SERVICE)
        case ["cos" | "cos-internal", region] if _REGION.fullmatch(region):
            return Place(HostKind.SERVICE, "", region)
        case [service, region] if service in _SERVICES and _REGION.fullmatch(region):
            return Place(_SERVICES[service], "", region)
    return None


def is_address(host: str) -> bool:
    """Whether `host` is an IP literal; IPv6 in brackets, as in a URL."""
    try:
        if host.startswith("["):
            ipaddress.IPv6Address(host[1:-1])
        else:
            ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def is_loopback_host(authority: str) -> bool:
    """Whether a host with or without port is `localhost` or a loopback address."""
    match = _AUTHORITY.fullmatch(authority)
    name = match[1].lower() if match else ""
    return name == "localhost" or (is_address(name) and ipaddress.ip_address(name.strip("[]")).is_loopback)


def same_region(left: str, right: str) -> bool:
    """Whether two regions are the same; `X` and `ap-X` are.

    Wire: cos-java-sdk-v5 writes `ap-` before a region without a continent on CI hosts, and not on COS hosts.
    """
    return left.removeprefix("ap-") == right.removeprefix("ap-")
