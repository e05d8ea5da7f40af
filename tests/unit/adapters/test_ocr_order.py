"""Rows are read from the top, columns of running text one after the other, tables row by row."""

from __future__ import annotations

from cloudfinite.adapters.ocr_order import reading_order
from cloudfinite.domain.ocr import Quad


def box(left: float, top: float, width: float, height: float = 20) -> Quad:
    right, bottom = left + width, top + height
    return (left, top), (right, top), (right, bottom), (left, bottom)


def order(*quads: Quad) -> list[Quad]:
    return [quads[index] for index in reading_order(quads)]


def test_boxes_of_a_row_are_read_from_the_left() -> None:
    rows = [box(10, 10, 50), box(100, 14, 50), box(10, 40, 50), box(100, 37, 50)]
    assert order(*reversed(rows)) == rows
    assert reading_order([]) == []


def test_columns_are_read_one_after_the_other_below_their_heading() -> None:
    heading, footer = box(50, 0, 700, 40), box(50, 500, 700)
    columns = [[box(x, 60 + 40 * row, 250 + 7 * row) for row in range(6)] for x in (0, 320, 640)]
    expected = [heading, *columns[0], *columns[1], *columns[2], footer]
    assert order(*sorted(expected, key=lambda quad: quad[0][1])) == expected


def test_cells_of_a_table_are_read_row_by_row() -> None:
    cells = [box(x, 40 * row, 60) for row in range(8) for x in (0, 200, 400)]
    assert order(*reversed(cells)) == cells


def test_items_with_their_prices_are_read_row_by_row() -> None:
    receipt = [cell for row in range(8) for cell in (box(0, 40 * row, 300), box(500, 40 * row, 50))]
    assert order(*receipt) == receipt
