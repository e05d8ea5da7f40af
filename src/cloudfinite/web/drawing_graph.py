"""Server-made SVG of a workflow: its steps from left to right as they follow one another, each with its state.

Only numbers and escaped texts get into the markup. No `style` attribute: the CSP forbids it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from unicodedata import east_asian_width

from markupsafe import Markup

_WIDTH, _HEIGHT = 196, 52
_APART_X, _APART_Y = 56, 18
_MARGIN = 4
_LINE_CHARS = 19  # of bold 13 px in DejaVu Sans, the widest of usual fonts: 21 have 182 px there

Place = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Box:
    """One step: how it stands as a word (a job state's name colours it) and as a note; url: where a click leads."""

    name: str
    state: str
    note: str
    successors: tuple[str, ...] = ()
    url: str = ""


@dataclass(frozen=True, slots=True)
class _Link:
    """One arrow: its ends, and the free slots it passes in the columns between them."""

    stops: tuple[str, ...]


def draw_graph(boxes: Sequence[Box]) -> Markup:
    """The graph of `boxes`, each behind all that lead to it."""
    columns, links = _arrange(boxes)
    places = _place(columns)
    height = _MARGIN * 2 + max(len(column) for column in columns) * (_HEIGHT + _APART_Y) - _APART_Y
    width = _MARGIN * 2 + len(columns) * (_WIDTH + _APART_X) - _APART_X
    return Markup(
        '<svg class="graph" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="group" aria-label="{label}">'
        "{links}{boxes}</svg>"
    ).format(
        w=width,
        h=height,
        label=f"{len(boxes)} steps: " + ", ".join(f"{box.name} {box.note}" for box in boxes),
        links=Markup("").join(_draw_link([places[stop] for stop in link.stops]) for link in links),
        boxes=Markup("").join(_draw_box(box, places[box.name]) for box in boxes),
    )


# --- where everything goes -----------------------------------------------------------------------------------------


def _arrange(boxes: Sequence[Box]) -> tuple[list[list[str]], list[_Link]]:
    """Columns of slots, and the links between them; a slot holds a step, or an arrow on its way past."""
    column_of: dict[str, int] = {}
    for box in boxes:
        column_of.setdefault(box.name, 0)
        for successor in box.successors:
            column_of[successor] = max(column_of.get(successor, 0), column_of[box.name] + 1)
    columns: list[list[str]] = [[] for _ in range(max(column_of.values()) + 1)]
    for name, column in column_of.items():
        columns[column].append(name)
    links = []
    for box in boxes:
        for successor in box.successors:
            passed = [f"{box.name} > {successor} {n}" for n in range(column_of[box.name] + 1, column_of[successor])]
            for column, slot in enumerate(passed, start=column_of[box.name] + 1):
                columns[column].append(slot)
            links.append(_Link((box.name, *passed, successor)))
    _untangle(columns, links)
    return columns, links


def _untangle(columns: Sequence[list[str]], links: Iterable[_Link]) -> None:
    """Order each column by the middle of what leads there, so that few arrows cross."""
    before: dict[str, list[str]] = {}
    for link in links:
        for stop, following in pairwise(link.stops):
            before.setdefault(following, []).append(stop)
    rank: dict[str, float] = {}
    for column in columns:
        middles = {slot: fmean([rank[one] for one in before.get(slot, ())] or [0.0]) for slot in column}
        column.sort(key=middles.__getitem__)
        rank.update({slot: (number + 0.5) / len(column) for number, slot in enumerate(column)})


def _place(columns: Sequence[Sequence[str]]) -> Mapping[str, Place]:
    """The top left corner of each slot; columns are centred on one another."""
    tallest = max(map(len, columns))
    return {
        slot: (
            _MARGIN + x * (_WIDTH + _APART_X),
            _MARGIN + (y + (tallest - len(column)) / 2) * (_HEIGHT + _APART_Y),
        )
        for x, column in enumerate(columns)
        for y, slot in enumerate(column)
    }


# --- drawing -------------------------------------------------------------------------------------------------------


def _draw_link(places: Sequence[Place]) -> Markup:
    """A line from the right of the first place to the left of the last, with an arrow's head at its end."""
    x, y = places[0][0] + _WIDTH, places[0][1] + _HEIGHT / 2
    path = f"M{x:g} {y:g}"
    for number, place in enumerate(places[1:], start=1):
        to_x, to_y = place[0], place[1] + _HEIGHT / 2
        middle = (x + to_x) / 2
        path += f"C{middle:g} {y:g} {middle:g} {to_y:g} {to_x:g} {to_y:g}"
        if number < len(places) - 1:
            path += f"h{_WIDTH}"
        x, y = to_x + _WIDTH, to_y
    end_x, end_y = places[-1][0], places[-1][1] + _HEIGHT / 2
    head = f"M{end_x - 7:g} {end_y - 4:g}L{end_x:g} {end_y:g}l-7 4"
    return Markup('<path class="link" d="{path}{head}"/>').format(path=path, head=head)


def _draw_box(box: Box, place: Place) -> Markup:
    x, y = place
    body = Markup(
        '<g class="step s-{state}"><title>{title}</title><rect x="{x:g}" y="{y:g}" width="{w}" height="{h}" rx="7"/>'
        '<text class="name" x="{tx:g}" y="{name_y:g}">{name}</text>'
        '<circle cx="{cx:g}" cy="{cy:g}" r="4"/><text class="note" x="{nx:g}" y="{note_y:g}">{note}</text></g>'
    ).format(
        state=box.state.lower(),
        title=f"{box.name}: {box.note}",
        x=x,
        y=y,
        w=_WIDTH,
        h=_HEIGHT,
        tx=x + 12,
        name_y=y + 21,
        name=_cut(box.name),
        cx=x + 16,
        cy=y + 36,
        nx=x + 26,
        note_y=y + 40,
        note=_cut(box.note),
    )
    return Markup('<a href="{url}">{body}</a>').format(url=box.url, body=body) if box.url else body


def _cut(text: str) -> str:
    """As much of a text as fits; Chinese characters are twice as wide as Latin ones."""
    width = 0
    for number, character in enumerate(text):
        width += 2 if east_asian_width(character) in "WF" else 1
        if width > _LINE_CHARS:
            return text[: number - 1] + "…"
    return text
