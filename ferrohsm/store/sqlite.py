"""SQLite as the interpreter has it, without what its Python half adds: dates and their import."""

from __future__ import annotations

from ferrohsm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
else:
    try:
        import _sqlite3 as sqlite3
    except ImportError:  # an interpreter that is made in another way
        import sqlite3

__all__ = ["sqlite3"]
