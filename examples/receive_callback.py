"""A receiver of callbacks: checks the signature, reads XML or JSON, acts once per job.

    python examples/receive_callback.py --port 8080 --secret-file cloudfinite-data/webhook.secret

Then submit jobs with CallBack http://127.0.0.1:8080/. It needs the standard library and `cloudfinite.receiver`.
"""

from __future__ import annotations

import argparse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cloudfinite.receiver import CallbackError, FinishedJob, SignatureError, parse_callback, verify

MAX_BODY_BYTES = 16 * 1024 * 1024


class Receiver(ThreadingHTTPServer):
    """Remembers the jobs it acted on; a real one keeps them in its database, in the transaction that acts."""

    def __init__(self, port: int, secret: str) -> None:
        super().__init__(("127.0.0.1", port), Request)
        self.secret = secret
        self.seen: set[str] = set()


class Request(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        size_bytes = int(self.headers.get("Content-Length", 0))
        if size_bytes > MAX_BODY_BYTES:
            self.send_error(413)
            return
        body = self.rfile.read(size_bytes)
        try:
            verify(self.headers, body, self.server.secret)
            callback = parse_callback(body)
        except SignatureError as exc:
            self.send_error(401, str(exc))
            return
        except CallbackError as exc:
            self.send_error(400, str(exc))
            return
        for job in callback.jobs:
            if job.job_id not in self.server.seen:  # the same callback may come twice
                act_on(job)
                self.server.seen.add(job.job_id)
        self.send_response(204)  # only now: any 2xx means that we have it
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of each request; act_on prints what matters."""


def act_on(job: FinishedJob) -> None:
    if job.state != "Success":
        print(f"{job.object_key}: {job.code}, {job.message}", flush=True)
        return
    lines = [line.text for line in job.detection.lines] if job.detection else []
    print(f"{job.object_key}: {' / '.join(lines) or 'no text'}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8080, help="0 picks a free one")
    parser.add_argument("--secret-file", type=Path, default=Path("cloudfinite-data/webhook.secret"))
    options = parser.parse_args()
    with Receiver(options.port, options.secret_file.read_text().strip()) as server:
        print(f"receiving on http://127.0.0.1:{server.server_port}/", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped")


if __name__ == "__main__":
    main()
