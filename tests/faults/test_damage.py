"""A byte that is not what was written is noticed and refused, wherever it stands."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator

import pytest
from store_support import PIN, Token, data, secret_key

from ferrohsm import constants as ck
from ferrohsm.errors import DeviceError, HsmError
from ferrohsm.runtime import step


def use(token: Token) -> None:
    """Do all that reads every record: log in as both, list, read, find by label, and write."""
    step(token.store.status())
    token.login(b"87654321", ck.CKU_SO)
    token.login(PIN)
    assert sorted(token.labels()) == ["private", "public", "with secret"]
    for label in ("private", "public", "with secret"):
        (oid,) = token.find((ck.CKA_LABEL, label.encode()))
        attributes = token.read(oid)
        assert attributes[ck.CKA_LABEL] == label.encode()
        for number in (ck.CKA_ID, ck.CKA_CLASS, ck.CKA_KEY_TYPE, ck.CKA_PRIVATE):
            assert number not in attributes or oid in token.find((number, attributes[number]))
        step(token.store.replace(oid, token.read(oid)))


def cells(token: Token) -> Iterator[tuple[str, str, str, object, object]]:
    """Yield every cell of every table with the row that it stands in."""
    db = sqlite3.connect(token.file)
    for table, key in (("meta", "name"), ("object", "oid"), ("entry", "key")):
        cursor = db.execute(f"SELECT * FROM {table}")
        columns = [column[0] for column in cursor.description]
        for row in cursor.fetchall():
            identity = row[columns.index(key)]
            for column, value in zip(columns, row, strict=True):
                yield table, key, column, identity, value
    db.close()


def flipped(value: object, at: int) -> object:
    """Return a value with one bit turned over."""
    if isinstance(value, bytes):
        return value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]
    if isinstance(value, str):
        return value[:at] + chr(ord(value[at]) ^ 1) + value[at + 1 :]
    assert isinstance(value, int)
    return value ^ 1 << at


@pytest.fixture
def filled(token: Token) -> Token:
    token.create(secret_key("private"))
    token.create(data("public", private=False))
    token.create(secret_key("with secret", private=False))
    use(token)
    return token


def test_a_flipped_bit_in_any_cell_is_refused(filled: Token) -> None:
    filled.close()
    whole = filled.file.read_bytes()
    tried = 0
    for table, key, column, identity, value in list(cells(filled)):
        length = len(value) if isinstance(value, bytes | str) else 1
        for at in sorted({0, length // 2, length - 1} if length else set()):
            filled.file.write_bytes(whole)
            changed = flipped(value, at)
            try:
                filled.edit((f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (changed, identity)))
            except sqlite3.IntegrityError:
                continue  # there is such a row already: this cannot happen to a file
            if (table, identity) == ("entry", b"\xff" * 18) and column == "mac":
                continue  # what follows the last entry is looked at by the check of a backup alone
            damaged = filled.another()
            with pytest.raises(DeviceError):
                use(damaged)
                pytest.fail(f"{table}.{column} of {identity!r}: byte {at} was not looked at")
            damaged.close()
            tried += 1
    assert tried > 100


@pytest.mark.parametrize("table", ["meta", "object", "entry"])
def test_a_missing_row_is_refused(filled: Token, table: str) -> None:
    filled.close()
    whole = filled.file.read_bytes()
    key = {"meta": "name", "object": "oid", "entry": "key"}[table]
    for identity in {cell[3] for cell in cells(filled) if cell[0] == table}:
        filled.file.write_bytes(whole)
        filled.edit((f"DELETE FROM {table} WHERE {key} = ?", (identity,)))
        # A PIN's record that is not there reads as a PIN that was never set, which gives nobody anything.
        with pytest.raises(HsmError):
            use(filled.another())


def test_a_swapped_record_is_refused(filled: Token) -> None:
    """What is bound to one object does not open as another's, nor an old state as the new one."""
    (oid,) = filled.find((ck.CKA_LABEL, b"public"))
    other = filled.create(data("public too", private=False))
    filled.edit(
        (
            "UPDATE object SET (version, attributes, secrets) = "
            "(SELECT version, attributes, secrets FROM object WHERE oid = ?) WHERE oid = ?",
            (other, oid),
        )
    )
    with pytest.raises(DeviceError):
        filled.another().read(oid)


def test_extractable_cannot_be_flipped(filled: Token) -> None:
    """The readable attributes of a public object are bound: its secret does not open with others."""
    (oid,) = filled.find((ck.CKA_LABEL, b"with secret"))
    filled.close()
    db = sqlite3.connect(filled.file)
    (stored,) = db.execute("SELECT attributes FROM object WHERE oid = ?", (oid,)).fetchone()
    db.close()
    needle = ck.CKA_EXTRACTABLE.to_bytes(8, "little") + b"\0" + (1).to_bytes(4, "little") + b"\0"
    assert needle in stored
    changed = stored.replace(needle, needle[:-1] + b"\1")
    filled.edit(("UPDATE object SET attributes = ? WHERE oid = ?", (changed, oid)))
    with pytest.raises(DeviceError):
        filled.another().read(oid)


def test_a_flipped_byte_anywhere_in_the_file_never_gives_something_wrong(filled: Token) -> None:
    """Whatever is hit: the use fails with a refusal of ours, or everything reads as it was written."""
    filled.close()
    whole = filled.file.read_bytes()
    refused = 0
    for at in range(0, len(whole), 97):
        filled.file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        (filled.folder / "generation").unlink(missing_ok=True)
        damaged = filled.another()
        try:
            use(damaged)
        except HsmError:
            refused += 1
        damaged.close()
        for suffix in ("-wal", "-shm"):
            (filled.folder / f"token.db{suffix}").unlink(missing_ok=True)
    assert refused >= 10


@pytest.mark.parametrize("at", [0, 8, 24, -1])
def test_a_damaged_public_key_is_refused(filled: Token, at: int) -> None:
    filled.close()
    file = filled.folder / "public.key"
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)
    with pytest.raises(DeviceError):
        use(filled.another())


@pytest.mark.parametrize("name", ["public.key", "token.db"])
def test_a_missing_file_is_refused(filled: Token, name: str) -> None:
    filled.close()
    (filled.folder / name).unlink()
    with pytest.raises(HsmError):
        use(filled.another())


@pytest.mark.parametrize(
    "content", [b"", b"x" * 64, b"FerroGen" + bytes(8) + b"\7" * 48, b"FerroGen" + b"\7" * 56]
)
def test_a_damaged_generation_is_healed_by_the_next_writer(filled: Token, content: bytes) -> None:
    filled.close()
    (filled.folder / "generation").write_bytes(content)
    token = filled.another().login()
    reader = filled.another().login()
    before = reader.store.generation()
    token.create(data("more"))
    assert reader.store.generation() != before
    assert "more" in reader.labels()


def test_a_linked_generation_is_not_followed(filled: Token) -> None:
    filled.close()
    target = filled.path / "elsewhere"
    target.write_bytes(b"y" * 64)
    (filled.folder / "generation").unlink()
    os.symlink(target, filled.folder / "generation")
    token = filled.another().login()
    token.create(data("more"))
    assert target.read_bytes() == b"y" * 64
    assert "more" in filled.another().login().labels()


def test_old_files_beside_new_ones(filled: Token) -> None:
    """An older file put back under a running store is another file: nothing of the newer one is trusted."""
    filled.close()
    whole = filled.file.read_bytes()
    running = filled.another().login()
    running.create(data("later"))
    before = running.store.generation()
    temporary = filled.folder / "older"
    temporary.write_bytes(whole)
    for suffix in ("-wal", "-shm"):
        (filled.folder / f"token.db{suffix}").unlink(missing_ok=True)
    os.replace(temporary, filled.file)
    assert running.store.generation() != before
    assert "later" not in running.labels()
    running.create(data("again"))
    assert "again" in filled.another().login().labels()


@pytest.mark.parametrize("marks", [(1, 1), (1, 0), (3, 3), (2, 1)])
def test_a_number_that_was_announced_is_not_given_to_another_commit(
    token: Token, marks: tuple[int, int]
) -> None:
    """After a power failure the generation may be ahead of the database by a commit that was taken back."""
    oid = token.create(data("x", private=False))
    number = token.store.generation()
    token.close()
    file = token.folder / "generation"
    content = file.read_bytes()
    ahead = b"".join((number + mark).to_bytes(8, sys.byteorder) for mark in marks)
    file.write_bytes(content[:8] + ahead + content[24:])
    reader, writer = token.another(), token.another()
    seen = {reader.store.generation()}
    for change in (lambda: step(writer.store.delete(oid)), lambda: writer.create(data("y", private=False))):
        change()
        now = reader.store.generation()
        assert now not in seen
        seen.add(now)
    reader.close()
    writer.close()
