"""How `cloudfinite ocr` prints what it read: lines of text, JSON or XML."""

from __future__ import annotations

from enum import StrEnum
from typing import TextIO

from cloudfinite.cli.ocr_run import PageResult
from cloudfinite.wire.nodes import Node, sorted_by_name, to_json, to_xml, tree


class Form(StrEnum):
    TEXT = "text"
    JSON = "json"
    XML = "xml"


class Printer:
    """Writes one document as results come: the Detection of a single picture, else a list of pages with their files."""

    def __init__(self, out: TextIO, form: Form, *, is_many: bool) -> None:
        self._out, self._form, self._is_many, self._count = out, form, is_many, 0
        brackets = {Form.JSON: ("[", "]"), Form.XML: ("<Pages>", "</Pages>")}
        self._open, self._close = brackets.get(form, ("", "")) if is_many else ("", "")

    def start(self) -> None:
        self._out.write(self._open)

    def show(self, result: PageResult) -> None:
        match self._form:
            case Form.TEXT:
                self._show_text(result)
            case Form.JSON:
                self._out.write((",\n" if self._count else "") + _json(result, is_many=self._is_many))
            case Form.XML:
                self._out.write(to_xml(sorted_by_name(_node(result, is_many=self._is_many))).decode())
        self._count += 1
        self._out.flush()

    def end(self) -> None:
        self._out.write(self._close + ("" if self._form is Form.TEXT else "\n"))

    def _show_text(self, result: PageResult) -> None:
        if self._is_many:
            self._out.write(("\n" if self._count else "") + f"==> {_printable(result.title)} <==\n")
        for line in result.detection.lines if result.detection else ():
            self._out.write(_printable(line.text) + "\n")


def _node(result: PageResult, *, is_many: bool) -> Node:
    found = tree("Detection", result.detection) if result.detection else Node("Message", result.failure)
    if not is_many:
        return found
    return Node("Page", (Node("File", result.source.name), Node("Number", result.page), found))


def _json(result: PageResult, *, is_many: bool) -> str:
    text = to_json(_node(result, is_many=is_many)).decode()
    # A page of a list stands there without its own name: {"Page":{…}} is written {…}.
    return text.removeprefix('{"Page":').removesuffix("}") if is_many else text


def _printable(text: str) -> str:
    """Without what a terminal would obey; joiners of Arabic and Indic scripts stay."""
    return "".join(letter if letter.isprintable() or letter in "\u200c\u200d" else "\ufffd" for letter in text)
