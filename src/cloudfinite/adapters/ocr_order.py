"""The order in which lines are read: rows from the top, each from the left; columns of running text one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from cloudfinite.domain.ocr import Quad

_SAME_ROW = 0.5  # Of a line's height.
_LEAST_LINES = 4
# Lines of running text are much longer than high; cells of tables and receipts are not, and are read row by row.
_LEAST_LENGTH = 8.0
_MOST_CROSSING = 0.2
_MARGIN = 0.15
_STEPS = 60


@dataclass(frozen=True, slots=True)
class _Box:
    index: int
    left: float
    top: float
    right: float
    bottom: float

    @property
    def length(self) -> float:
        return (self.right - self.left) / max(self.bottom - self.top, 1.0)


def reading_order(quads: Sequence[Quad]) -> list[int]:
    """Indices of the outlines in the order they are read, on a page that is upright."""
    boxes = [
        _Box(index, min(x for x, _ in quad), min(y for _, y in quad), max(x for x, _ in quad), max(y for _, y in quad))
        for index, quad in enumerate(quads)
    ]
    return [box.index for box in _in_order(boxes)]


def _in_order(boxes: Sequence[_Box]) -> list[_Box]:
    gap = _column_gap(boxes)
    if gap is None:
        return _by_rows(boxes)
    ordered: list[_Box] = []
    left: list[_Box] = []
    right: list[_Box] = []
    for box in sorted(boxes, key=lambda box: box.top):
        if box.right <= gap:
            left.append(box)
        elif box.left >= gap:
            right.append(box)
        else:  # A heading across the columns: what is above it is read before it.
            ordered += [*_in_order(left), *_in_order(right), box]
            left, right = [], []
    return [*ordered, *_in_order(left), *_in_order(right)]


def _column_gap(boxes: Sequence[_Box]) -> float | None:
    """Where, from the left, a gap parts two columns of running text; None if none does."""
    if len(boxes) < 2 * _LEAST_LINES:
        return None
    start, end = min(box.left for box in boxes), max(box.right for box in boxes)
    best: tuple[int, float] | None = None
    for step in range(_STEPS + 1):
        place = start + (end - start) * (_MARGIN + (1 - 2 * _MARGIN) * step / _STEPS)
        crossing = sum(box.left < place < box.right for box in boxes)
        if crossing <= _MOST_CROSSING * len(boxes) and (best is None or crossing < best[0]):
            left = [box for box in boxes if box.right <= place]
            right = [box for box in boxes if box.left >= place]
            if _are_columns(left, right):
                best = crossing, place
    return best[1] if best else None


def _are_columns(left: Sequence[_Box], right: Sequence[_Box]) -> bool:
    if min(len(left), len(right)) < _LEAST_LINES:
        return False
    if any(median(box.length for box in side) < _LEAST_LENGTH for side in (left, right)):
        return False
    lowest_top = max(min(box.top for box in side) for side in (left, right))
    highest_bottom = min(max(box.bottom for box in side) for side in (left, right))
    return highest_bottom > lowest_top  # Side by side, not one below the other.


def _by_rows(boxes: Sequence[_Box]) -> list[_Box]:
    rows: list[list[_Box]] = []
    for box in sorted(boxes, key=lambda box: box.top + box.bottom):
        middle = (box.top + box.bottom) / 2
        for row in rows[-2:]:
            first = row[0]
            height = min(first.bottom - first.top, box.bottom - box.top)
            if abs((first.top + first.bottom) / 2 - middle) < _SAME_ROW * height:
                row.append(box)
                break
        else:
            rows.append([box])
    return [box for row in rows for box in sorted(row, key=lambda box: box.left)]
