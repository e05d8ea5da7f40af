"""The grammar of URLs that this server calls, and the classes of the addresses behind them.

Both are stricter than the libraries below: one normal form per URL, and an own list of address ranges, because
`ipaddress.is_global` says True for relay, metadata and translated addresses (measured on CPython 3.11).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from cloudfinite.errors import InvalidArgument

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

MAX_URL_CHARS = 2_048  # What common servers and proxies take.
_CACHED = 1_024  # URLs, addresses: most callbacks go where the one before went

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<target>[^#]*)(?P<fragment>#.*)?")
_TARGET = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")  # RFC 3986, path and query
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[1-9][0-9]{0,4}))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class TargetUrl:
    """A URL taken apart: lower-case scheme and host, the port that counts, path and query as they were written.

    `address` is the literal that the host is, None for a name.
    """

    scheme: str
    host: str
    port: int
    target: str
    address: Address | None = None
    authority: str = field(init=False, compare=False)
    """As the Host header has it."""

    def __post_init__(self) -> None:
        host = f"[{self.host}]" if isinstance(self.address, IPv6Address) else self.host
        is_default = self.port == _DEFAULT_PORTS[self.scheme]
        object.__setattr__(self, "authority", host if is_default else f"{host}:{self.port}")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


@lru_cache(_CACHED)
def parse_url(text: str) -> TargetUrl:
    """Read an http or https URL. Raises InvalidArgument saying what is wrong with it."""
    if len(text) > MAX_URL_CHARS:
        raise InvalidArgument(f"the URL has {len(text)} characters; at most {MAX_URL_CHARS} are allowed")
    match = _URL.fullmatch(text)
    if not match:
        raise InvalidArgument(f"{text[:200]!r} is not a URL like http://host/path")
    scheme = match["scheme"].lower()
    if scheme not in _DEFAULT_PORTS:
        raise InvalidArgument(f"the URL's scheme is {scheme!r}; it must be http or https")
    if match["fragment"]:
        raise InvalidArgument("the URL has a #fragment, which no server would see; leave it out")
    if "@" in match["authority"]:
        raise InvalidArgument("the URL carries a user name; put a token into its path or query")
    authority = _AUTHORITY.fullmatch(match["authority"])
    if not authority or int(authority["port"] or 1) > 65_535:
        raise InvalidArgument(f"{match['authority'][:200]!r} is not host or host:port in plain ASCII")
    if not _TARGET.fullmatch(match["target"]):
        raise InvalidArgument("the URL's path or query holds a character that must be written as %XX")
    host, address = _read_host(authority["host"])
    target = match["target"] if match["target"].startswith("/") else "/" + match["target"]
    return TargetUrl(scheme, host, int(authority["port"] or _DEFAULT_PORTS[scheme]), target, address)


def _read_host(text: str) -> tuple[str, Address | None]:
    if text.startswith("["):
        try:
            v6 = IPv6Address(text[1:-1])
        except ValueError as exc:
            raise InvalidArgument(f"{text} is not an IPv6 address") from exc
        return str(v6), v6
    host = text.lower()
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # The C library would read 127.1, 0x7f000001 and 0177.0.0.1 as addresses too; only one spelling is ours.
        try:
            v4 = IPv4Address(host)
        except ValueError as exc:
            raise InvalidArgument(f"{text} is not an IPv4 address of four decimal numbers") from exc
        return host, v4
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidArgument(
            f"{text[:260]!r} is not a host name; write others than ASCII ones as xn--…, without end dot"
        )
    return host, None


# --- address classes -----------------------------------------------------------------------------------------------


class AddressClass(StrEnum):
    """What an address is to us. METADATA is never reachable, SPECIAL only where its range is allowed by name."""

    PUBLIC = "public"
    LOOPBACK = "loopback"
    PRIVATE = "private"
    SPECIAL = "special-purpose"
    METADATA = "cloud metadata"


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(map(ip_network, text.split()))


# All of link-local: every cloud keeps a credential service in it (Tencent 169.254.0.23, AWS 169.254.169.254 and
# 169.254.170.2). Beside it: Alibaba, Azure's wire server, Oracle, and the IPv6 ones of AWS and Google.
_METADATA = _networks(
    "169.254.0.0/16 100.100.100.200/32 168.63.129.16/32 192.0.0.192/32 fd00:ec2::/32 fd20:ce::254/128"
)
_LOOPBACK = _networks("127.0.0.0/8 ::1/128")
_PRIVATE = _networks("10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7")
# IANA's special-purpose registries, multicast, and what was reserved once (fec0::/10, 192.88.99.0/24).
_SPECIAL = _networks(
    "0.0.0.0/8 100.64.0.0/10 192.0.0.0/24 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.175.48.0/24 "
    "198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 "
    "2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20"
)
_GLOBAL_V6 = IPv6Network("2000::/3")
_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")

METADATA_NAMES = frozenset(
    {
        "metadata",
        "metadata.google.internal",
        "metadata.goog",
        "metadata.tencentyun.com",
        "instance-data",
        "instance-data.ec2.internal",
    }
)


def plain_address(text: str) -> Address:
    """The address as the kernel would reach it: an IPv4 one mapped into IPv6 is the IPv4 one."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address in _MAPPED:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


@lru_cache(_CACHED)
def classify_address(address: Address) -> AddressClass:
    """The class of an address as `plain_address` gives it."""
    if is_within(address, _METADATA):
        return AddressClass.METADATA
    if is_within(address, _LOOPBACK):
        return AddressClass.LOOPBACK
    if is_within(address, _PRIVATE):
        return AddressClass.PRIVATE
    if is_within(address, _SPECIAL):
        return AddressClass.SPECIAL
    if isinstance(address, IPv6Address):
        return _classify_v6(address)
    return AddressClass.PUBLIC


def _classify_v6(address: IPv6Address) -> AddressClass:
    if address in _NAT64:
        # What an IPv6-only machine uses for public IPv4 receivers; nothing but those.
        inner = classify_address(IPv4Address(int(address) & 0xFFFF_FFFF))
        return inner if inner in (AddressClass.PUBLIC, AddressClass.METADATA) else AddressClass.SPECIAL
    if address not in _GLOBAL_V6:
        return AddressClass.SPECIAL
    # An interface id of the form 0:5efe:a.b.c.d (ISATAP) names an IPv4 address that a router may unpack.
    is_isatap = (int(address) >> 32) & 0xFDFF_FFFF == 0x0000_5EFE
    return AddressClass.SPECIAL if is_isatap else AddressClass.PUBLIC


def is_within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
