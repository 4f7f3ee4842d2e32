"""A log that is gone together with its head: the token itself knows how far it went."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from audit_support import append, files_of, place_in
from store_support import PIN, Token, config

from ferrohsm.audit import checkpoint
from ferrohsm.audit.chain import Place
from ferrohsm.audit.verify import LOST_HEAD, verify
from ferrohsm.audit.witness import Witness
from ferrohsm.errors import DeviceError, PinIncorrect
from ferrohsm.runtime import step
from ferrohsm.store import remembered
from tests.audit.conftest import World

MARK = bytes(8)


class Knowing:
    """A token that knows a number."""

    def __init__(self, known: int) -> None:
        self.known = known

    def recall(self) -> int:
        return self.known


def knowing(place: Place, known: int) -> Place:
    place.witness = cast("Witness", Knowing(known))
    return place


def vouched(place: Place) -> checkpoint.Checkpoint:
    """Return what somebody would have signed who takes the log for what it is now."""
    report = verify(place)
    named = SimpleNamespace(sequence=report.last, digest=report.digest.decode())
    return cast("checkpoint.Checkpoint", named)


def all_gone(place: Place) -> None:
    shutil.rmtree(place.path)
    Path(place.head).unlink()


def all_older(place: Place) -> None:
    """Put log and head back as they were three records before."""
    (file,) = files_of(place)
    lines = file.read_bytes().splitlines(keepends=True)
    all_gone(place)
    append(place, 0)
    files_of(place)[0].write_bytes(b"".join(lines[:5]))
    append(place_in(Path(place.root)), 0)


def tail_and_head(place: Place) -> None:
    (file,) = files_of(place)
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:5]))
    Path(place.head).unlink()


@pytest.mark.parametrize(("lose", "left"), [(all_gone, 0), (all_older, 5), (tail_and_head, 5)])
def test_what_is_gone_with_its_head_is_missed(
    tmp_path: Path, lose: Callable[[Place], None], left: int
) -> None:
    append(place_in(tmp_path / "audit"), 8)
    lose(place_in(tmp_path / "audit"))
    place = knowing(place_in(tmp_path / "audit"), 8)
    assert {f.sequence for f in verify(place).findings if f.kind == "cut"} == {left + 1}
    append(place, 2)
    report = verify(place)
    ((kind, number, _, said),) = report.findings
    assert (kind, number, report.last, report.records) == (LOST_HEAD, 9, 11, left + 3) and "up to 8" in said
    known = vouched(place)
    append(place, 2)
    report = verify(place, checkpoint=known)
    assert report.sound and "up to 8" in report.notices[0]
    if left:  # what somebody has vouched for hides no more than it did then
        file = files_of(place)[0]
        lines = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(b"".join([*lines[: left - 1], *lines[left:]]))
        kinds = [finding.kind for finding in verify(place, checkpoint=known).findings]
        assert kinds == ["removed"]


def test_a_process_misses_what_it_has_written_itself(tmp_path: Path) -> None:
    from ferrohsm.audit.chain import Chain
    from ferrohsm.settings import AuditSettings, StoreSettings

    place = place_in(tmp_path / "audit")
    chain = Chain(place, AuditSettings(), StoreSettings())
    append(place, 4)
    with chain:
        chain.catch_up()
    all_gone(place)
    with chain:
        chain.catch_up()
    chain.close()
    assert chain.end[0] == 5 and [f.kind for f in verify(place).findings] == [LOST_HEAD]


def test_a_writer_killed_before_it_could_say_that_all_was_gone(tmp_path: Path) -> None:
    place = knowing(place_in(tmp_path / "audit"), 8)
    Path(place.path).mkdir()
    (Path(place.path) / f"{9:020d}.jsonl").touch()
    append(place, 1)
    assert [finding.kind for finding in verify(place).findings] == [LOST_HEAD]


def test_what_a_token_remembers_never_goes_back_and_is_bounded() -> None:
    raw = b""
    for number in range(12):
        raw = remembered.noted(raw, bytes([number]) * 8, 100 + number)
    assert remembered.sound(raw) and not remembered.sound(raw + b"x")
    assert [remembered.last(raw, bytes([number]) * 8) for number in (3, 4, 11)] == [0, 104, 111]
    assert remembered.last(remembered.noted(raw, b"\4" * 8, 7), b"\4" * 8) == 104
    assert remembered.noted(b"", MARK, 0) == b""


def test_a_login_writes_it_and_every_commit_keeps_it(tmp_path: Path) -> None:
    token = Token(tmp_path / "data", config()).make()
    database, _ = token.store.database()
    number = database.generation()
    told: list[bytes] = []

    def witness(raw: bytes) -> bytes:
        told.append(raw)
        return remembered.noted(raw, MARK, 41 + len(told))

    token.store.witness = witness
    with pytest.raises(PinIncorrect):
        token.login(b"wrong-pin")
    token.login(PIN)
    assert told == [b"", remembered.noted(b"", MARK, 42)]
    assert remembered.recall(token.store, MARK) == 43
    assert database.generation() == number, "nobody has to look at the objects again"
    remembered.note(token.store, MARK, 50)
    remembered.note(token.store, MARK, 49)
    token.store.witness = None
    from store_support import data

    token.create(data("one"))
    step(token.store.logout())
    assert remembered.recall(token.another().store, MARK) == 50
    with database.write(), pytest.raises(DeviceError):  # a writer is not waited for
        remembered.note(token.store, MARK, 60)
    token.make("anew", pin=None)  # C_InitToken: the log goes on
    assert remembered.recall(token.store, MARK) == 50
    token.edit(("UPDATE meta SET value = substr(value, 1, 16) WHERE name = 'counter'", ()))
    with pytest.raises(DeviceError, match="damaged"):
        remembered.recall(token.another().store, MARK)
    token.close()


def test_the_store_is_told_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = Token(tmp_path / "data", config()).make()
    written: list[int] = []
    note = remembered.note

    def counted(store: object, mark: bytes, sequence: int) -> None:
        written.append(sequence)
        note(token.store, mark, sequence)

    monkeypatch.setattr(remembered, "note", counted)
    witness = Witness(token.config, str(token.folder), MARK)
    witness.tell(7)
    assert not written, "it was never asked what it knows"
    assert witness.recall() == 0
    for sequence in (0, 7, 8, 1000, 1031, 1032, 2000):
        witness.tell(sequence)
    assert written == [7, 1031]
    token.close()
    assert Witness(token.config, str(token.folder), MARK).recall() == 1031
    assert Witness(token.config, str(token.folder), b"another1").recall() == 0


def test_from_login_to_the_operator_s_word(token: World) -> None:
    """Programs sign, everything is deleted, programs go on, verify tells, the operator vouches."""
    for _ in range(2):
        token.run("session, key = ready()\nsign(session, key)")
    before = token.audit("verify")["logs"]
    (log,) = [log for log in before if log["chain"] != "module"]
    serial, last = log["chain"], log["last"]
    backup = token.directory / "backup"
    shutil.copytree(token.data / "tokens", backup)
    shutil.rmtree(token.data / "audit" / serial)
    (token.data / "tokens" / serial / "audit.head").unlink()
    (log,) = [log for log in token.audit("verify", code=1)["logs"] if log["chain"] == serial]
    assert log["records"] == 0 and [finding["kind"] for finding in log["findings"]] == ["cut"]
    assert last - 8 < int(log["findings"][0]["text"].split("up to ")[1].split(":")[0]) <= last
    token.run("session, key = ready()\nsign(session, key)\np11('C_Finalize', None)")
    assert "audit: the head was gone" in token.log.read_text()
    (log,) = [log for log in token.audit("verify", code=1)["logs"] if log["chain"] == serial]
    assert [finding["kind"] for finding in log["findings"]] == [LOST_HEAD]
    file = token.directory / "checkpoint"
    refused = ["checkpoint", "--token", serial, "--output", str(file)]
    token.audit(*refused, code=1)
    token.audit(*refused, "--accept-lost-head")
    token.run("session, key = ready()\nsign(session, key)")
    assert token.audit("verify", "--token", serial, "--checkpoint", str(file))["sound"]
    # An older token in its place knows less, and the log that is there more: it is used as before.
    shutil.rmtree(token.data / "tokens")
    shutil.copytree(backup, token.data / "tokens")
    token.run("session, key = ready()\nsign(session, key)")
    kinds = [f["kind"] for log in token.audit("verify", code=1)["logs"] for f in log["findings"]]
    assert LOST_HEAD in kinds and json.loads(file.read_text())["chain"] == serial
