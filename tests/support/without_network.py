"""Run inside an empty network namespace: a server with the real engine reads a page there; prints its lines."""

from __future__ import annotations

import fcntl
import io
import socket
import struct
import sys

from qcloud_cos import CosConfig, CosS3Client
from tests.operations.pages import draw_page

from cloudfinite.receiver import parse_callback
from cloudfinite.testing import Server

_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1


def main() -> None:
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
    if [name for _, name in socket.if_nameindex()] != ["lo"]:
        sys.exit("there is more than the loopback interface")
    buffer = io.BytesIO()
    draw_page().image.save(buffer, "PNG")
    with Server(workers=1, start_wait_s=60) as server:
        keys = {"SecretId": server.secret_id, "SecretKey": server.secret_key}
        client = CosS3Client(CosConfig(Region=server.region, Scheme="http", Proxies={"http": server.url}, **keys))
        client.put_object(Bucket=server.bucket, Body=buffer.getvalue(), Key="a.png")
        jobs = {
            "Tag": "ImageOCR",
            "Input": {"Object": "a.png"},
            "Operation": {"ImageOCR": {"Type": "general"}},
            "CallBack": server.inbox("here"),
        }
        client.ci_create_media_jobs(Bucket=server.bucket, Jobs=jobs, Lst={})
        (callback,) = server.wait_for_callbacks("here", 1, wait_s=60)
    (job,) = parse_callback(callback.body).jobs
    print(*(line.text for line in job.detection.lines), sep="\n")


if __name__ == "__main__":
    main()
