"""Versions of the file: older ones are migrated, newer ones and strangers refused."""

from __future__ import annotations

import sqlite3

import pytest
from store_support import Token, data

from ferrohsm import constants as ck
from ferrohsm.errors import DeviceError, TokenNotRecognized
from ferrohsm.store import schema


def downgrade(token: Token) -> None:
    """Turn the file into one of version 1, whose index has no chain of MACs."""
    token.close()
    db = sqlite3.connect(token.file)
    keys = [key for (key,) in db.execute("SELECT key FROM entry ORDER BY key")][1:-1]
    db.execute("DROP TABLE entry")
    db.execute(schema.TABLES_1["entry"])
    db.executemany("INSERT INTO entry VALUES (?)", [(key,) for key in keys])
    db.execute("PRAGMA user_version=1")
    db.commit()
    db.close()


def test_an_older_file_is_migrated_and_everything_is_there(token: Token) -> None:
    oids = [token.create(data(f"object {number}", private=bool(number % 2))) for number in range(20)]
    downgrade(token)
    again = token.another().login()
    assert again.find((ck.CKA_LABEL, b"object 7")) == [oids[7]]
    assert again.labels() == [f"object {number}" for number in range(20)]
    again.close()
    db = sqlite3.connect(token.file)
    assert db.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
    db.close()


def test_a_damaged_older_file_is_not_migrated(token: Token) -> None:
    token.create(data("one"))
    downgrade(token)
    token.edit(("INSERT INTO entry VALUES (?)", (b"short",)))
    with pytest.raises(DeviceError):
        token.another().login()
    db = sqlite3.connect(token.file)
    assert db.execute("PRAGMA user_version").fetchone() == (1,)
    db.close()


def test_a_newer_file_is_refused_with_the_remedy(token: Token) -> None:
    token.edit((f"PRAGMA user_version={schema.VERSION + 1}", ()))
    with pytest.raises(TokenNotRecognized, match="upgrade"):
        token.another().login()


@pytest.mark.parametrize(
    "change",
    [
        "PRAGMA application_id=1",
        "PRAGMA user_version=0",
        "CREATE TABLE more (x)",
        "CREATE TRIGGER t AFTER INSERT ON object BEGIN DELETE FROM entry; END",
        "CREATE VIEW v AS SELECT * FROM object",
        "DROP TABLE entry",
    ],
)
def test_a_file_that_is_not_ours_is_refused(token: Token, change: str) -> None:
    token.edit((change, ()))
    with pytest.raises(DeviceError):
        token.another().login()
