"""Which URLs and addresses this server may call, and what to say when it may not."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_network

from cloudfinite.adapters.addresses import (
    METADATA_NAMES,
    Address,
    AddressClass,
    TargetUrl,
    classify_address,
    is_within,
    parse_url,
    plain_address,
)
from cloudfinite.errors import InvalidArgument, SetupError

_REMEMBERED = 1_024  # URLs: most callbacks go where the one before went
INBOX_PATH = re.compile(r"/-/inbox/[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")

# Above 1023: services that take commands from whoever connects, and the ports that browsers block.
_DATA_STORES = (1433, 1521, 3306, 5432, 5984, 6379, 8500, 9042, 9200, 9300, 11211, 26379, 27017)
_MACHINE_CONTROL = (2181, 2375, 2376, 2379, 2380, 3389, 5900, 6000, 6443, 10250)
_MESSAGING = (1719, 1720, 1723, 4190, 5060, 5061, 5672, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 9092, 15672)
_FILE_SERVICES = (2049, 3659, 4045, 6566, 10080, 50070)
_CLOSED_PORTS = frozenset((*_DATA_STORES, *_MACHINE_CONTROL, *_MESSAGING, *_FILE_SERVICES))


class OutboundPolicy:
    """The rules of one profile.

    dev reaches public, loopback and private addresses; strict only public ones, and only on web ports. `allow_hosts`
    (names or literals) and `allow_cidrs` open more, but never the clouds' metadata services nor this server itself.
    """

    def __init__(self, *, is_strict: bool, allow_hosts: Iterable[str] = (), allow_cidrs: Iterable[str] = ()) -> None:
        self.is_strict = is_strict
        self._hosts = frozenset(host.lower().strip("[]") for host in allow_hosts)
        try:
            self._networks = tuple(ip_network(cidr) for cidr in allow_cidrs)
        except ValueError as exc:
            raise SetupError(f"allow_cidrs: {exc}", "write ranges such as 10.1.0.0/16, with no bits behind") from exc
        self._listeners: set[tuple[Address, int]] = set()
        self._checked = lru_cache(_REMEMBERED)(self._check)  # what may not be called is checked anew each time

    def add_listener(self, address: str, port: int) -> None:
        """Where this server itself listens; known once its socket is bound."""
        self._listeners.add((plain_address(address), port))
        self._checked.cache_clear()

    def check_url(self, text: str) -> TargetUrl:
        """Read a URL and check all that can be told without a look-up. Raises InvalidArgument naming the rule."""
        return self._checked(text)

    def _check(self, text: str) -> TargetUrl:
        url = parse_url(text)
        if url.host in METADATA_NAMES:
            raise InvalidArgument(f"{url.host} is a cloud's metadata service, which is never called")
        if url.address is not None:
            refusal = self.refusal(url, plain_address(str(url.address)), may_reach_inbox=True)
        else:
            refusal = "" if url.host in self._hosts or self._networks else self._port_refusal(url)
        if refusal:
            raise InvalidArgument(refusal)
        return url

    def refusal(self, url: TargetUrl, address: Address, *, may_reach_inbox: bool) -> str:
        """Why `address` may not be connected to for this URL; "" when it may."""
        kind = classify_address(address)
        if kind is AddressClass.METADATA:
            return f"{url.host} has the address {address} of a cloud's metadata service, which is never called"
        if self._is_own(address, url.port):
            if may_reach_inbox and INBOX_PATH.fullmatch(url.target):
                return ""
            return (
                f"{url.authority} is this server itself; only http://{url.authority}/-/inbox/<name> may be called here"
            )
        if url.host in self._hosts or is_within(address, self._networks):
            return ""
        if kind is AddressClass.PUBLIC:
            return self._port_refusal(url)
        if kind in (AddressClass.LOOPBACK, AddressClass.PRIVATE) and not self.is_strict:
            return ""
        profile = "strict" if self.is_strict else "dev"
        return (
            f"{url.host} has the {kind} address {address}, which the profile {profile} refuses; to allow it add "
            f"{url.host} to allow_hosts or {address}/{address.max_prefixlen} to allow_cidrs"
        )

    def _port_refusal(self, url: TargetUrl) -> str:
        if not self.is_strict or url.port in (80, 443) or (url.port >= 1024 and url.port not in _CLOSED_PORTS):
            return ""
        return f"the profile strict refuses port {url.port}; to allow it add {url.host} to allow_hosts"

    def _is_own(self, address: Address, port: int) -> bool:
        for own, own_port in self._listeners:
            if port == own_port and (address == own or address.is_unspecified):
                return True
            if port == own_port and own.is_unspecified and _is_local(address):
                return True
        return False


def _is_local(address: Address) -> bool:
    """Whether the address is one of this machine's: only those can be bound."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True
