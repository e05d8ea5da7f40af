"""The main job, end to end, as a client sees it: picture > bucket > OCR job > callback, with the vendor's Python SDK.

Run by `make demo`. The server is a process of its own; this script talks to it only over HTTP.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from PIL import Image, ImageDraw, ImageFont
from qcloud_cos import CosConfig, CosS3Client
from qcloud_cos.cos_exception import CosClientError, CosServiceError

BUCKET, REGION, KEY = "examplebucket-1250000000", "ap-chongqing", "demo/demo.png"
SECRET_ID, SECRET_KEY = "AKIDdemodemodemodemodemodemodemo", "demo-secret-key-of-this-run-only"
POEM = (
    (40, 24, "Plow the fields at noon"),
    (40, 81, "Sweat drips onto the soil beneath the crops"),
    (40, 129, "Who knows the food on the plate"),
    (39, 181, "Every grain is hard-earned"),
)
OUT = Path("demo-out")
CALLBACK_WAIT_S = 120.0


class DemoFailed(Exception):
    """One sentence for the user."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", choices=("serve", "once"), default="serve")
    once = parser.parse_args().mode == "once"
    try:
        with tempfile.TemporaryDirectory(prefix="cloudfinite-demo-") as data, running_server(Path(data)) as url:
            show(url, write_files=once)
            if not once:
                print("Ctrl-C to stop", flush=True)
                signal.pause()
    except KeyboardInterrupt:
        print("stopped")
    except DemoFailed as exc:
        sys.stderr.write(f"\nthe demo failed: {exc}\n")
        return 1
    except (CosClientError, CosServiceError, OSError) as exc:
        sys.stderr.write(f"\nthe demo failed: a call to the server did not work: {exc}\n")
        return 1
    return 0


def show(url: str, *, write_files: bool) -> None:
    """Run the job and print what happened."""
    client = CosS3Client(
        CosConfig(Region=REGION, SecretId=SECRET_ID, SecretKey=SECRET_KEY, Scheme="http", Proxies={"http": url})
    )
    picture = draw_poem()
    client.put_object(Bucket=BUCKET, Key=KEY, Body=picture)
    print(f"bucket {BUCKET}: {KEY} put with the official COS Python SDK ({len(picture):,} bytes)")
    template = client.ci_create_template(
        Bucket=BUCKET, Template={"Tag": "ImageOCR", "Name": "ImageOCR-34", "ImageOCR": {"Type": "general"}}
    )
    template_id = template["Template"]["TemplateId"]
    with progress("the engine warms up"):
        jobs = {form: submit(client, template_id, form, url) for form in ("XML", "JSON")}
        received = {form: wait_for_callback(url, form, job_id) for form, job_id in jobs.items()}
    detail = client.ci_get_media_jobs(Bucket=BUCKET, JobIDs=jobs["XML"])["JobsDetail"][0]
    print(f"job {jobs['XML']}: Submitted > Running > {detail['State']}")
    if detail["State"] != "Success":
        raise DemoFailed(f"the job ended {detail['State']}: {detail['Code']}, {detail['Message']}")
    lines = read_lines(received["XML"])
    for text, confidence, _ in lines:
        print(f"  {confidence:>3} %  {text}")
    print(
        f"callback received by the built-in inbox: {len(received['XML']):,} bytes XML, {len(received['JSON']):,} JSON"
    )
    print(f"job page with boxes: {url}/-/console/jobs/{jobs['XML']}")
    print(f"inbox: {url}/-/console/inbox/demo-xml")
    if write_files:
        OUT.mkdir(exist_ok=True)
        (OUT / "callback.xml").write_bytes(received["XML"])
        (OUT / "callback.json").write_bytes(received["JSON"])
        draw_boxes(picture, lines).save(OUT / "boxes.png")
        print(f"written: {OUT}/callback.xml, {OUT}/callback.json, {OUT}/boxes.png")


# --- the server ----------------------------------------------------------------------------------------------------


@contextmanager
def running_server(data: Path) -> Iterator[str]:
    """The server as a process of its own on a free port; its log lies in the data folder until the end."""
    with (data / "server.log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "cloudfinite.cli", "serve", "--port", "0", "--data", str(data)],
            stdout=log,
            stderr=log,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("CLOUDFINITE_")},
                "CLOUDFINITE_SECRET_ID": SECRET_ID,
                "CLOUDFINITE_SECRET_KEY": SECRET_KEY,
                "CLOUDFINITE_BUCKETS": f"{BUCKET}:{REGION}",
            },
            start_new_session=True,  # Ctrl-C is ours: we stop the server when we are done.
        )
        try:
            url = wait_until_ready(process, data)
            print(f"server ready on {url}")
            yield url
        finally:
            process.terminate()
            try:
                process.wait(timeout=40)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_until_ready(process: subprocess.Popen[bytes], data: Path) -> str:
    ends_at = time.monotonic() + 30
    while time.monotonic() < ends_at and process.poll() is None:
        address = data / "address"
        if address.exists() and (url := address.read_text().strip()):
            try:
                with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:
                    if answer.status == 200:
                        return url
            except OSError:
                pass  # not yet
        time.sleep(0.05)  # another process starts; only its port tells when
    lines = (data / "server.log").read_text(errors="replace").strip().splitlines()
    raise DemoFailed(f"the server did not become ready; it said: {' / '.join(lines[-3:]) or 'nothing'}")


# --- the job -------------------------------------------------------------------------------------------------------


def submit(client: CosS3Client, template_id: str, form: str, url: str) -> str:
    answer = client.ci_create_media_jobs(
        Bucket=BUCKET,
        Jobs={
            "Tag": "ImageOCR",
            "Input": {"Object": KEY},
            "Operation": {"TemplateId": template_id},
            "CallBack": f"{url}/-/inbox/demo-{form.lower()}",
            "CallBackFormat": form,
        },
        Lst={},
    )
    return str(answer["JobsDetail"][0]["JobId"])


def wait_for_callback(url: str, form: str, job_id: str) -> bytes:
    """The bytes of the callback as the inbox received them."""
    ends_at = time.monotonic() + CALLBACK_WAIT_S
    while time.monotonic() < ends_at:
        with urllib.request.urlopen(f"{url}/-/inbox/demo-{form.lower()}", timeout=10) as answer:
            for message in json.load(answer)["messages"]:
                with urllib.request.urlopen(f"{url}/-/inbox/demo-{form.lower()}/{message['id']}", timeout=10) as raw:
                    body: bytes = raw.read()
                if job_id.encode() in body:
                    return body
        time.sleep(0.05)  # the inbox has no call that waits
    raise DemoFailed(f"no {form} callback of job {job_id} arrived within {CALLBACK_WAIT_S:.0f} s")


def read_lines(body: bytes) -> list[tuple[str, str, list[tuple[int, int]]]]:
    """(text, confidence, corners) of each line of an XML callback."""
    found = []
    for line in ElementTree.fromstring(body).iter("TextDetections"):
        corners = [
            (int(corner.findtext("X", "0")), int(corner.findtext("Y", "0"))) for corner in line.findall("Polygon")
        ]
        found.append((line.findtext("DetectedText", ""), line.findtext("Confidence", ""), corners))
    return found


# --- the picture ---------------------------------------------------------------------------------------------------


def draw_poem() -> bytes:
    image = Image.new("RGB", (560, 240), "white")
    draw = ImageDraw.Draw(image)
    font: Any = ImageFont.load_default(size=24)
    for x, y, text in POEM:
        draw.text((x, y), text, fill="black", font=font)
    data = BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def draw_boxes(picture: bytes, lines: list[tuple[str, str, list[tuple[int, int]]]]) -> Image.Image:
    image = Image.open(BytesIO(picture)).convert("RGB")
    draw = ImageDraw.Draw(image)
    for _, _, corners in lines:
        draw.polygon(corners, outline=(0, 120, 215), width=2)
    return image


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Say that something takes a moment, and take the words away when it is done."""
    is_terminal = sys.stdout.isatty()
    if is_terminal:
        print(f"{what} …", end="", flush=True)
    yield
    if is_terminal:
        print("\r\033[K", end="", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
