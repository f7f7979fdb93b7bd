"""A report as lines and tables, and how they are laid out for a screen: nothing is cut off, and no name is broken."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from schema_migrator.terminal import Screen, Tone, printable, wrapped

_GAP = 2
_LONG_HEAD = 12
_NO_BREAK = "\u00a0"


@dataclass(frozen=True, slots=True)
class Toned:
    """A line in a tone; with `before`, only its last words are in that tone, and they stay together."""

    text: str
    tone: Tone
    before: str = ""


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Text that is never wrapped: SQL to copy, and definitions to compare."""

    text: str


Line = str | Toned
Cell = Line | tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table, shown as a list if its longest words do not fit next to each other."""

    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


Report = tuple[Line | Verbatim | Table, ...]


def joined(reports: Iterable[Report]) -> Report:
    """Return several reports as one, with an empty line between them."""
    pieces = [piece for report in reports for piece in ("", *report)]
    return tuple(pieces[1:])


def rendered(report: Report, screen: Screen) -> str:
    """Return the report as text for a screen, with an empty line between a table and other text."""
    blocks: list[str] = []
    for before, piece in zip((None, *report), report, strict=False):
        apart = isinstance(piece, Table) or isinstance(before, Table)
        if apart and before not in (None, "") and piece != "":
            blocks.append("")
        blocks.append(_rendered(piece, screen))
    return "\n".join(blocks)


def _rendered(piece: Line | Verbatim | Table, screen: Screen) -> str:
    match piece:
        case Table():
            return _table(piece, screen)
        case Verbatim():
            return printable(piece.text)
        case _:
            return _line(piece, screen, screen.columns if screen.terminal else None)


def _line(line: Line, screen: Screen, columns: int | None) -> str:
    """Return a line, wrapped at blanks to so many columns; None: not wrapped."""
    made = Toned(line, Tone.FAINT) if isinstance(line, str) else line
    text, before = printable(made.text), printable(made.before)
    lines = f"{before}{text.replace(' ', _NO_BREAK) if before else text}".split("\n")
    if columns is not None:
        lines = [part for whole in lines for part in wrapped(whole, columns)]
    if isinstance(line, str):
        return "\n".join(lines)
    if not before:
        return "\n".join(screen.painted(part, line.tone) for part in lines)
    return "\n".join(lines).replace(_NO_BREAK, " ").removesuffix(text) + screen.painted(text, line.tone)


def _lines(cell: Cell) -> tuple[Line, ...]:
    return cell if isinstance(cell, tuple) else (cell,)


def _plain(cell: Cell) -> list[str]:
    texts = [line if isinstance(line, str) else line.before + line.text for line in _lines(cell)]
    return [part for text in texts for part in printable(text).split("\n")]


def _table(table: Table, screen: Screen) -> str:
    from rich.cells import cell_len  # noqa: PLC0415 - slow to load, and JSON does without it

    columns = list(zip(table.heads, *table.rows, strict=True))
    texts = [[text for cell in column for text in _plain(cell)] for column in columns]
    least = [max((cell_len(word) for text in column for word in text.split()), default=1) for column in texts]
    natural = [max(map(cell_len, column), default=1) for column in texts]
    room = screen.columns - _GAP * (len(columns) - 1)
    return _listed(table, screen) if sum(least) > room else _drawn(table, widths(least, natural, room), screen)


def widths(least: Sequence[int], natural: Sequence[int], room: int) -> list[int]:
    """Return the widths of the columns; if they do not fit, the widest are narrowed, at most to their longest word."""
    found = list(natural)
    while sum(found) > room:
        widest = max((i for i, width in enumerate(found) if width > least[i]), key=found.__getitem__)
        found[widest] -= 1
    return found


def _drawn(table: Table, columns: Sequence[int], screen: Screen) -> str:
    from rich.box import SIMPLE  # noqa: PLC0415 - see _table
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table as Grid  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    grid = Grid(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, border_style="dim")
    for head, width in zip(table.heads, columns, strict=True):
        grid.add_column(head, width=width)
    for row in table.rows:
        grid.add_row(*(Text.from_ansi(_cell(cell, screen)) for cell in row))
    out = io.StringIO()
    console = Console(
        file=out,
        width=screen.columns,
        color_system="standard" if screen.colours else None,
        force_terminal=True,
        _environ={},  # terminal.screen has read it
    )
    console.print(grid)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _cell(cell: Cell, screen: Screen) -> str:
    return "\n".join(_line(line, screen, None) for line in _lines(cell))


def _listed(table: Table, screen: Screen) -> str:
    """Return one row below the other, each cell on lines of its own beside its column's name, or below a long one."""
    indent = max((len(head) for head in table.heads if len(head) <= _LONG_HEAD), default=0) + _GAP
    return "\n\n".join("\n".join(_item(table.heads, row, indent, screen)) for row in table.rows)


def _item(heads: Sequence[str], row: Sequence[Cell], indent: int, screen: Screen) -> Iterable[str]:
    for head, cell in zip(heads, row, strict=True):
        lines = "\n".join(_line(line, screen, screen.columns - indent) for line in _lines(cell))
        beside = f"{head:<{indent}}" if len(head) < indent else f"{head}\n{' ' * indent}"
        yield beside + lines.replace("\n", "\n" + " " * indent)
