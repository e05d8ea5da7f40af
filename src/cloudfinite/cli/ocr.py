"""`cloudfinite ocr`: read files and print their text, as lines, JSON or XML. Needs no server."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cloudfinite.domain.ocr import OcrMode, TextLanguage
from cloudfinite.errors import CloudfiniteError
from cloudfinite.settings import read_settings

if TYPE_CHECKING:
    from cloudfinite.cli.ocr_print import Form
    from cloudfinite.cli.ocr_run import Input, Reader


class PagesFailed(CloudfiniteError):
    """some pages could not be read."""


def ocr(
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="Pictures, PDFs, folders; - is standard input")],
    mode: Annotated[OcrMode, typer.Option("--type", help="How to read")] = OcrMode.GENERAL,
    language: Annotated[TextLanguage, typer.Option(help="Language of the text; auto finds it")] = TextLanguage.CHINESE,
    pages: Annotated[str, typer.Option(metavar="RANGE", help="Pages of PDFs: 2, 1-3, 4- or 1,3-5")] = "1-",
    as_json: Annotated[bool, typer.Option("--json", help="Print the Detection as JSON")] = False,
    as_xml: Annotated[bool, typer.Option("--xml", help="Print the Detection as XML")] = False,
    words: Annotated[bool, typer.Option(help="With --json and --xml: each character, too")] = False,
    boxes: Annotated[Path | None, typer.Option(metavar="OUT.PNG", help="Draw the outlines; a PNG a page")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings")] = None,
) -> None:
    """Read files and print their text; no server needed."""
    from cloudfinite.cli.ocr_print import Form
    from cloudfinite.cli.ocr_run import Reader, find_inputs, parse_pages
    from cloudfinite.operations.image_ocr import OcrParams
    from cloudfinite.ports import EngineSpec

    if as_json and as_xml:
        raise typer.BadParameter("choose one of --json and --xml")
    try:
        ranges = parse_pages(pages)
    except ValueError as exc:
        raise typer.BadParameter(str(exc), param_hint="--pages") from exc
    settings = read_settings(config)
    engine = EngineSpec(settings.ocr_engine, settings.ocr_options)
    params = OcrParams(mode, language, is_word=words, enable_word_polygon=words)
    form = Form.JSON if as_json else Form.XML if as_xml else Form.TEXT
    with tempfile.TemporaryDirectory(prefix="cloudfinite-ocr-") as scratch:
        inputs = find_inputs(files, sys.stdin.buffer, Path(scratch))
        with _progress(len(inputs)) as on_input:
            reader = Reader(engine, params, pages=ranges, boxes=boxes, on_input=on_input)
            failed = asyncio.run(_print_all(reader, inputs, form))
    if failed:
        raise PagesFailed(f"{failed} page{'s' if failed > 1 else ''} could not be read")


async def _print_all(reader: Reader, inputs: Sequence[Input], form: Form) -> int:
    """Print as results come in; returns how many pages failed."""
    from cloudfinite.cli.ocr_print import Printer

    printer = Printer(sys.stdout, form, is_many=len(inputs) != 1 or inputs[0].is_pdf)
    failed = 0
    printer.start()
    async for results in reader.read(inputs):
        for result in results:
            if result.failure:
                failed += 1
                sys.stderr.write(f"cloudfinite: {result.title}: {result.failure}\n")
            printer.show(result)
    printer.end()
    return failed


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar on the terminal for more than one input; nothing where a program reads."""
    if total < 2 or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # What is printed goes above the bar if it is the same terminal, else where it was sent.
    with Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()
    ) as progress:
        task = progress.add_task("files", total=total)
        yield lambda: progress.advance(task)
