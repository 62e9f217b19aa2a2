"""What both forms of a report are made of: titled tables and sentences."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells of text; a line with fewer cells than the head lets its last one span the rest."""

    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A title, sentences, points, and a table if there is one."""

    title: str
    said: tuple[str, ...] = ()
    points: tuple[tuple[str, str], ...] = ()
    """a name, and what is said of it"""
    table: Table | None = None
