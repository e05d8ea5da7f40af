"""TLS of the guarded way out (R-15): whom it trusts, what it shows, and that nothing is downgraded in silence."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.support.fault_server import Behaviour, FaultServer, Peer, fault_server, never_answer

from cloudfinite.adapters.names import NameLookup
from cloudfinite.adapters.outbound import OutboundClient, OutboundLimits
from cloudfinite.adapters.policy import OutboundPolicy
from cloudfinite.errors import DeliveryFailed, SetupError

LIMITS = OutboundLimits(connect_s=0.3, total_s=5)
LIVE = (timedelta(days=-1), timedelta(days=1))
EXPIRED = (timedelta(days=-2), timedelta(days=-1))


def make_certificate(folder: Path, name: str, span: tuple[timedelta, timedelta] = LIVE) -> Path:
    """A self-signed certificate with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(random.getrandbits(64))
        .not_valid_before(now + span[0])
        .not_valid_after(now + span[1])
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}-{span[1].days}.pem"
    path.write_bytes(
        built.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def certificate(folder: Path) -> Path:
    return make_certificate(folder, "tls.example")


def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@asynccontextmanager
async def client_with(**options: Any) -> AsyncIterator[OutboundClient]:
    """Every name is this machine."""
    names = NameLookup(1.0, lambda host: ["127.0.0.1"])
    client = OutboundClient(OutboundPolicy(is_strict=False), names, limits=LIMITS, **options)
    try:
        yield client
    finally:
        await client.close()


async def post(client: OutboundClient, server: FaultServer, host: str = "tls.example") -> int:
    return (await client.post(f"https://{host}:{server.port}/", {}, b"x")).status


async def failure(client: OutboundClient, server: FaultServer, host: str = "tls.example") -> DeliveryFailed:
    with pytest.raises(DeliveryFailed) as caught:
        await post(client, server, host)
    assert server.requests == []
    return caught.value


async def test_own_certificates_are_trusted_when_set(certificate: Path) -> None:
    async with fault_server(ssl=server_tls(certificate)) as server, client_with(ca_file=certificate) as client:
        assert await post(client, server) == 200


async def test_unknown_certificate_is_refused_with_the_reason(certificate: Path) -> None:
    async with fault_server(ssl=server_tls(certificate)) as server, client_with() as client:
        failed = await failure(client, server)
        assert failed.reason == "tls" and failed.retryable and "CERTIFICATE_VERIFY_FAILED" in failed.message


async def test_certificate_of_another_name_is_refused(certificate: Path) -> None:
    async with fault_server(ssl=server_tls(certificate)) as server, client_with(ca_file=certificate) as client:
        failed = await failure(client, server, "other.example")
        assert failed.reason == "tls" and "other.example" in failed.message


async def test_expired_certificate_is_refused(folder: Path) -> None:
    expired = make_certificate(folder, "tls.example", EXPIRED)
    async with fault_server(ssl=server_tls(expired)) as server, client_with(ca_file=expired) as client:
        failed = await failure(client, server)
        assert failed.reason == "tls" and "expired" in failed.message


async def test_old_tls_is_refused(certificate: Path) -> None:
    old = server_tls(certificate)
    with pytest.warns(DeprecationWarning):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1
    old.set_ciphers("ALL:@SECLEVEL=0")
    async with fault_server(ssl=old) as server, client_with(ca_file=certificate) as client:
        assert (await failure(client, server)).reason == "tls"


async def test_stalled_tls_handshake_ends_at_the_connect_limit() -> None:
    async with fault_server(never_answer) as server, client_with() as client:
        started = time.monotonic()
        assert (await failure(client, server)).reason == "tls"
        assert time.monotonic() - started < 2 * LIMITS.connect_s + 0.5


async def test_plain_port_is_not_spoken_to_without_tls() -> None:
    async with fault_server() as server, client_with() as client:
        assert (await failure(client, server)).reason in ("tls", "reset")


async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        sink.write(data)
    sink.close()


def tunnel_to(server: FaultServer) -> Behaviour:
    """A proxy for the user a:b, which connects everybody to the server."""

    async def behave(peer: Peer) -> None:
        if peer.headers.get("proxy-authorization") != "Basic YTpi":
            await peer.answer(407)
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            await asyncio.gather(pipe(peer.reader, writer), pipe(reader, peer.writer))
        finally:
            writer.close()
            await writer.wait_closed()

    return behave


async def test_receiver_behind_a_proxy_is_checked_by_its_own_name(certificate: Path) -> None:
    async with (
        fault_server(ssl=server_tls(certificate)) as server,
        fault_server(tunnel_to(server)) as proxy,
        client_with(ca_file=certificate, proxy=f"http://a:b@127.0.0.1:{proxy.port}") as client,
    ):
        assert await post(client, server) == 200
        assert proxy.requests[0].head.startswith(f"CONNECT 127.0.0.1:{server.port} HTTP/1.1\r\n".encode())
        assert server.requests[0].headers["host"] == f"tls.example:{server.port}"
        server.requests.clear()
        assert (await failure(client, server, "other.example")).reason == "tls"


async def test_proxy_that_refuses_is_a_connect_failure(certificate: Path) -> None:
    async with (
        fault_server(ssl=server_tls(certificate)) as server,
        fault_server(tunnel_to(server)) as proxy,
        client_with(ca_file=certificate, proxy=proxy.url) as client,
    ):
        failed = await failure(client, server)
        assert (failed.reason, failed.retryable) == ("connect", True) and "407" in failed.message


async def test_client_certificate_is_shown_to_its_host_only(certificate: Path, folder: Path) -> None:
    ours = make_certificate(folder, "sender.example")
    demanding = server_tls(certificate)
    demanding.verify_mode = ssl.CERT_REQUIRED
    demanding.load_verify_locations(ours)
    async with fault_server(ssl=demanding) as server:
        async with client_with(ca_file=certificate, client_certificates={"TLS.example": ours}) as client:
            assert await post(client, server) == 200
        server.requests.clear()
        async with client_with(ca_file=certificate, client_certificates={"else.example": ours}) as client:
            # TLS 1.3 tells only after the handshake, when the request may be on its way.
            assert (await failure(client, server)).reason in ("tls", "reset")


async def test_client_certificate_that_cannot_be_used_stops_the_start(folder: Path) -> None:
    bad = folder / "bad.pem"
    bad.write_text("no certificate")
    for file in (bad, folder / "absent.pem"):
        with pytest.raises(SetupError, match="client_certificates"):
            async with client_with(client_certificates={"tls.example": file}):
                pass
