"""URL forms and address classes, against the attack table of callback delivery (T1-T6)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfinite.adapters.addresses import AddressClass, classify_address, parse_url, plain_address
from cloudfinite.adapters.policy import OutboundPolicy
from cloudfinite.errors import InvalidArgument, SetupError

NORMAL_FORMS = [
    ("http://example.com", "http://example.com/"),
    ("HTTP://EXAMPLE.com/A%2Fb?x=1&y=%20", "http://example.com/A%2Fb?x=1&y=%20"),
    ("https://example.com:443/", "https://example.com/"),
    ("http://example.com:80/a", "http://example.com/a"),
    ("http://example.com:8080?q", "http://example.com:8080/?q"),
    ("http://my_service:9000/cb", "http://my_service:9000/cb"),
    ("http://xn--bcher-kva.example/", "http://xn--bcher-kva.example/"),
    ("http://127.0.0.1:9/x", "http://127.0.0.1:9/x"),
    ("http://[::1]:9/x", "http://[::1]:9/x"),
    ("http://[0:0:0:0:0:0:0:1]/", "http://[::1]/"),
    ("http://[2606:4700::1111]/", "http://[2606:4700::1111]/"),
    ("http://a.b.c.d.e/;p=1,2/(x)/@y:z", "http://a.b.c.d.e/;p=1,2/(x)/@y:z"),
]

# T5, T6: forms that some parser reads as another host than we would, and forms that are no callback URL at all.
MALFORMED = [
    "http://2130706433/", "http://0x7f000001/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1/", "http://0/",
    "http://0x7f.0.0.1/", "http://127.0.0.01/", "http://127.0.0.1./", "http://127.0.0/", "http://1.2.3.4.5/",
    "http://256.1.1.1/", "http://017700000001/", "http://１２７.0.0.1/", "http://①②⑦.⓪.⓪.①/", "http://127。0。0。1/",
    "http://127.0.0.１/", "http://bücher.example/", "http://example.com./", "http://.example.com/",
    "http://exa..mple.com/", "http://-a.example/", "http://a-.example/", "http://%31%32%37.0.0.1/",
    "http://127.0.0.1%2f@example.com/", "http://[::1%25lo]/", "http://[::1%lo]/", "http://[fe80::1%eth0]/",
    "http://[::1/", "http://::1/", "http://[127.0.0.1]/", "http://[::g]/", "http://[]/", "http://[v1.x]/",
    "http://user@example.com/", "http://user:pass@example.com/", "http://example.com@127.0.0.1/", "http://@example.com/",
    "http://example.com\\@127.0.0.1/", "http://example.com\\.evil/", "http:\\\\example.com/", "http:///path",
    "http://", "http:example.com", "//example.com/", "example.com", "", " http://example.com/", "http://example.com/ ",
    "http://exa mple.com/", "http://example.com/a b", "http://exam\tple.com/", "http://example.com/\n", "http://a\r\nb/",
    "http://example.com/\x00", "http://example.com:0/", "http://example.com:65536/", "http://example.com:/",
    "http://example.com:080/", "http://example.com:8a/", "http://example.com:-1/", "http://example.com:80:80/",
    "http://example.com/#frag", "http://example.com#@127.0.0.1/", "http://example.com/é", "http://example.com/%zz",
    "http://example.com/%", "http://example.com/{id}", "http://example.com/a|b", "http://example.com/<x>",
    "http://example.com/" + "a" * 2_100, "http://" + "a" * 64 + ".example/", "http://" + "a." * 130 + "b/",
    "file:///etc/passwd", "gopher://example.com/", "ftp://example.com/", "data:text/plain,x", "unix:///var/run/x.sock",
    "javascript:alert(1)", "ws://example.com/", "dict://127.0.0.1:6379/", "http+unix://x/", "jar:http://x!/",
]  # fmt: skip


@pytest.mark.parametrize(("text", "normal"), NORMAL_FORMS)
def test_urls_have_one_normal_form(text: str, normal: str) -> None:
    assert str(parse_url(text)) == normal
    assert str(parse_url(normal)) == normal


@pytest.mark.parametrize("text", MALFORMED)
def test_unclear_urls_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_url(text)


def test_url_table_is_large_enough() -> None:
    assert len(set(MALFORMED)) >= 80


@given(st.text(max_size=40))
def test_whatever_is_accepted_is_ascii_and_stable(text: str) -> None:
    for candidate in (text, "http://" + text, f"http://{text}/", f"http://example.com/{text}"):
        try:
            url = parse_url(candidate)
        except InvalidArgument:
            continue
        assert str(url).isascii() and str(url).isprintable()
        assert parse_url(str(url)) == url


@given(st.ip_addresses(v=4))
def test_every_ipv4_literal_is_read_as_itself(address: IPv4Address) -> None:
    assert parse_url(f"http://{address}/").address == address


METADATA = [
    "169.254.169.254", "169.254.170.2", "169.254.0.23", "100.100.100.200", "168.63.129.16", "192.0.0.192",
    "fd00:ec2::254", "fd20:ce::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
]  # fmt: skip
# T3, T4, and the addresses for which `ipaddress.is_global` says True.
SPECIAL = [
    "0.0.0.0", "0.1.2.3", "100.64.0.1", "192.0.0.1", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255",
    "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "::",
    "::127.0.0.1", "::7f00:1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1",
    "2001:0:7f00:1::", "2002:7f00:1::", "2002:808:808::1", "3fff::1", "5f00::1", "fe80::1", "fec0::1", "ff02::1",
    "2606:4700::5efe:7f00:1", "2606:4700::200:5efe:7f00:1", "4000::1", "e000::1",
]  # fmt: skip
PRIVATE = ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd12::1", "::ffff:10.0.0.1"]
LOOPBACK = ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1"]
PUBLIC = ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (METADATA, AddressClass.METADATA),
        (SPECIAL, AddressClass.SPECIAL),
        (PRIVATE, AddressClass.PRIVATE),
        (LOOPBACK, AddressClass.LOOPBACK),
        (PUBLIC, AddressClass.PUBLIC),
    ],
)
def test_addresses_have_their_class(addresses: list[str], expected: AddressClass) -> None:
    assert {text: classify_address(plain_address(text)) for text in addresses} == dict.fromkeys(addresses, expected)


@given(st.ip_addresses(v=6))
def test_no_address_that_python_calls_local_is_public(address: IPv6Address) -> None:
    if not ip_address(address).is_global and address.ipv4_mapped is None and address.sixtofour is None:
        assert classify_address(plain_address(str(address))) is not AddressClass.PUBLIC or address in IPv6Network(
            "64:ff9b::/96"
        )


def literal(address: str) -> str:
    return f"http://[{address}]/" if ":" in address else f"http://{address}/"


@pytest.mark.parametrize("address", METADATA)
@pytest.mark.parametrize("is_strict", [True, False])
def test_metadata_is_refused_in_every_profile_and_cannot_be_allowed(address: str, is_strict: bool) -> None:
    policy = OutboundPolicy(is_strict=is_strict, allow_hosts=[address], allow_cidrs=["0.0.0.0/0", "::/0"])
    with pytest.raises(InvalidArgument, match="metadata"):
        policy.check_url(literal(address))


@pytest.mark.parametrize("name", ["metadata.google.internal", "METADATA", "metadata.tencentyun.com"])
def test_metadata_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="metadata"):
        OutboundPolicy(is_strict=False, allow_hosts=[name]).check_url(f"http://{name}/")


@pytest.mark.parametrize("address", [*SPECIAL, *PRIVATE, *LOOPBACK])
def test_strict_refuses_all_that_is_not_public_and_names_the_setting(address: str) -> None:
    with pytest.raises(InvalidArgument, match=r"allow_hosts or .* to allow_cidrs"):
        OutboundPolicy(is_strict=True).check_url(literal(address))


@pytest.mark.parametrize("address", [*PRIVATE, *LOOPBACK, *PUBLIC])
def test_dev_allows_loopback_and_private(address: str) -> None:
    OutboundPolicy(is_strict=False).check_url(literal(address))


@pytest.mark.parametrize("address", SPECIAL)
def test_dev_refuses_special_purpose_addresses(address: str) -> None:
    with pytest.raises(InvalidArgument, match="special-purpose"):
        OutboundPolicy(is_strict=False).check_url(literal(address))


@pytest.mark.parametrize("port", [22, 25, 1, 6379, 11211, 5432, 2375])
def test_strict_refuses_ports_that_are_no_web_ports(port: int) -> None:
    with pytest.raises(InvalidArgument, match=f"port {port}"):
        OutboundPolicy(is_strict=True).check_url(f"http://example.com:{port}/")
    OutboundPolicy(is_strict=True, allow_hosts=["example.com"]).check_url(f"http://example.com:{port}/")
    OutboundPolicy(is_strict=False).check_url(f"http://example.com:{port}/")


@pytest.mark.parametrize("port", [80, 443, 8080, 8443, 9000])
def test_strict_allows_web_ports(port: int) -> None:
    OutboundPolicy(is_strict=True).check_url(f"http://example.com:{port}/")


def test_allow_lists_open_one_host_or_range_only() -> None:
    policy = OutboundPolicy(is_strict=True, allow_hosts=["10.0.0.5"], allow_cidrs=["192.168.7.0/24", "100.64.0.0/10"])
    for allowed in ("10.0.0.5", "192.168.7.9", "100.100.1.1"):
        policy.check_url(f"http://{allowed}/")
    for refused in ("10.0.0.6", "192.168.8.1", "127.0.0.1"):
        with pytest.raises(InvalidArgument):
            policy.check_url(f"http://{refused}/")


def test_unreadable_range_stops_the_start() -> None:
    with pytest.raises(SetupError, match="allow_cidrs"):
        OutboundPolicy(is_strict=True, allow_cidrs=["10.0.0.1/8"])


@pytest.mark.parametrize("is_strict", [True, False])
def test_own_listener_is_refused_but_for_the_inbox(is_strict: bool) -> None:
    policy = OutboundPolicy(is_strict=is_strict, allow_hosts=["127.0.0.1"])
    policy.add_listener("127.0.0.1", 9000)
    policy.check_url("http://127.0.0.1:9000/-/inbox/demo")
    for path in ("", "/", "/jobs", "/-/api/v1/keys", "/-/inbox/", "/-/inbox/a/faults", "/-/inbox/a?x", "/-/inbox/..",
                 "/-/inbox/a/../../jobs", "/-/inbox/%2e%2e", "//-/inbox/a", "/-/inbox/a%2Fb"):  # fmt: skip
        with pytest.raises(InvalidArgument, match="this server itself"):
            policy.check_url(f"http://127.0.0.1:9000{path}")
    policy.check_url("http://127.0.0.1:9001/jobs")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "[::ffff:127.0.0.1]", "[::ffff:0:0]"])
def test_own_listener_on_all_addresses_is_known_by_each_of_them(host: str) -> None:
    policy = OutboundPolicy(is_strict=False, allow_cidrs=["0.0.0.0/8", "::/64"])
    policy.add_listener("0.0.0.0", 9000)
    with pytest.raises(InvalidArgument, match="this server itself"):
        policy.check_url(f"http://{host}:9000/jobs")
