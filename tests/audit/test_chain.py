"""A chain goes on, rotates, is pruned and resumed; whatever is done behind its back is found and named."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from audit_support import append, files_of, place_in, said

from ferrohsm.audit import checkpoint, drain, events, places, record
from ferrohsm.audit import ring as rings
from ferrohsm.audit.chain import Chain, Place
from ferrohsm.audit.hashing import Key
from ferrohsm.audit.verify import Report, verify
from ferrohsm.config import Config
from ferrohsm.errors import DataInvalid
from ferrohsm.settings import AuditSettings, StoreSettings

TAMPERINGS = int(os.environ.get("FERROHSM_TAMPERINGS", "500"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return place_in(tmp_path / "audit")


def test_a_chain_goes_on_where_it_was(place: Place) -> None:
    for count in (1, 5, 3):
        append(place, count)
    report = verify(place)
    assert report.sound and (report.first, report.last, report.records) == (1, 9, 9)


def test_segments_follow_each_other_and_old_ones_go_as_configured(place: Place) -> None:
    settings = AuditSettings(segment_mib=1, keep=2)
    for _ in range(16):
        append(place, 500, settings)
    assert len(files_of(place)) == 2
    report = verify(place)
    assert report.sound, report.findings
    assert report.first > 1 and "removed as configured" in report.notices[-1]
    files_of(place)[0].unlink()
    missing = verify(place)
    assert [finding.kind for finding in missing.findings] == ["removed"]


def test_a_writer_that_was_killed_leaves_half_a_line_and_no_gap(place: Place) -> None:
    append(place, 3)
    append(place, 2, sync=False)  # whole records that the head does not know of
    with files_of(place)[0].open("ab") as file:
        file.write(b'{"seq":6,"time":"20')
    assert [finding.kind for finding in verify(place).findings] == ["torn"]
    append(place, 1)
    report = verify(place)
    assert report.sound and report.last == 6


def test_a_record_that_is_being_written_is_no_damage(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    append(place, 4)
    (file,) = files_of(place)
    data = file.read_bytes()
    file.write_bytes(data[:-50])
    monkeypatch.setattr("ferrohsm.audit.verify.sleep", lambda _: file.write_bytes(data))
    report = verify(place)
    assert report.sound and report.last == 4


def test_the_chain_goes_on_behind_a_cut_and_says_so_for_ever(place: Place) -> None:
    append(place, 10)
    file = files_of(place)[0]
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:6]))
    (found,) = verify(place).findings
    assert (found.kind, found.sequence) == ("cut", 7) and "records 7 to 10 are gone" in found.text
    append(place, 2)
    report = verify(place)
    assert [(f.kind, f.sequence, f.text) for f in report.findings] == [
        ("removed", 7, "records 7 to 10 are missing")
    ]
    assert report.last == 13 and "record 11" in report.notices[0]


def test_a_head_that_is_gone_is_a_finding_until_somebody_vouches_for_the_log(place: Place) -> None:
    """The tail is cut and the head removed: the record with which the chain goes on hides neither."""
    append(place, 8)
    file = files_of(place)[0]
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:4]))
    Path(place.head).unlink()
    assert [finding.kind for finding in verify(place).findings] == ["cut"]
    append(place, 1)
    report = verify(place)
    (found,) = report.findings
    assert (found.kind, found.sequence, report.last) == ("lost head", 5, 6) and "head was gone" in found.text
    for sequence, sound in ((4, False), (6, True)):
        digest = record.digest(file.read_bytes().splitlines()[sequence - 1])
        vouched = SimpleNamespace(sequence=sequence, digest=digest)
        report = verify(place, checkpoint=cast("checkpoint.Checkpoint", vouched))
        assert report.sound is sound
    assert "head was gone" in report.notices[0]


def test_another_key_makes_no_record(place: Place, tmp_path: Path) -> None:
    append(place, 3)
    stranger = Place(place.root, place.name, place.head, Key(b"x" * 32), b"s" * 32)
    assert len([f for f in verify(stranger).findings if f.kind == "changed"]) == 3


def test_the_log_of_one_slot_is_none_of_another(tmp_path: Path) -> None:
    config = Config(data_dir=str(tmp_path))
    root = str(tmp_path / "audit")
    first, second = (places.find(config, root, name) for name in ("one.1", "two.2"))
    append(first, 8)
    append(second, 3)
    assert verify(first).sound and verify(second).sound
    shutil.copyfile(files_of(first)[0], files_of(second)[0])
    assert len([finding for finding in verify(second).findings if finding.kind == "changed"]) == 8


def tamper(file: Path, chance: random.Random) -> tuple[str, set[int]]:
    """Do something to a segment; return what, and the numbers of the records one of which must be named."""
    lines = file.read_bytes().splitlines(keepends=True)
    at = chance.randrange(len(lines))
    what = chance.choice(
        ["flip", "flip", "flip", "bit", "remove", "swap", "repeat", "insert", "cut", "tail", "splice"]
    )
    if what in ("flip", "bit"):
        line = bytearray(lines[at])
        place = chance.randrange(len(line))
        line[place] = (
            line[place] ^ (1 << chance.randrange(8))
            if what == "bit"
            else (line[place] + 1 + chance.randrange(255)) % 256
        )
        lines[at] = bytes(line)
    elif what == "remove":
        del lines[at : at + chance.randint(1, 3)]
    elif what == "swap":
        at = chance.randrange(len(lines) - 1)
        other = chance.randrange(at + 1, len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif what == "repeat":
        lines.insert(chance.randrange(at + 1, len(lines) + 1), lines[at])
    elif what == "insert":
        forged = record.seal(at + 1, said(1)[0], "0" * 64, Key(os.urandom(32))) + b"\n"
        lines.insert(at, forged)
    elif what == "cut":
        del lines[at:]
    elif what == "tail":
        lines[-1] = lines[-1][: chance.randrange(1, len(lines[-1]))]
        at = len(lines) - 1
    else:  # the body of one record under the seal of another
        other = (at + 1 + chance.randrange(len(lines) - 1)) % len(lines)
        lines[at] = lines[at][: -record.TAIL - 1] + lines[other][-record.TAIL - 1 :]
    file.write_bytes(b"".join(lines))
    return what, set(range(at + 1, len(lines) + 8))


def test_random_tamperings_are_all_found(place: Place, tmp_path: Path) -> None:
    append(place, 60)
    original = tmp_path / "original"
    shutil.copyfile(files_of(place)[0], original)
    chance = random.Random(os.environ.get("FERROHSM_SEED", "audit"))
    found_first = 0
    for number in range(TAMPERINGS):
        shutil.copyfile(original, files_of(place)[0])
        what, numbers = tamper(files_of(place)[0], chance)
        if files_of(place)[0].read_bytes() == original.read_bytes():
            continue
        report = verify(place)
        assert report.findings, (number, what)
        found_first += report.findings[0].sequence in numbers
        assert report.findings[0].sequence in numbers, (
            number,
            what,
            report.findings[:2],
            sorted(numbers)[:2],
        )
    assert found_first > TAMPERINGS * 0.95
    shutil.copyfile(original, files_of(place)[0])
    assert verify(place).sound


@pytest.mark.parametrize("part", ["segment", "head"])
def test_every_single_byte_counts(place: Place, part: str) -> None:
    """Not one byte of two records, or of the head's place that is valid, may be another."""
    append(place, 2)
    file = files_of(place)[0] if part == "segment" else Path(place.head)
    data = file.read_bytes()
    for at in range(len(data)):
        if part == "head":
            # The two places of the head: of one that is damaged the other takes the place, an older state.
            changed = bytearray(data)
            changed[at % 128] ^= 1
            changed[at % 128 + 128] ^= 1
            if at % 128 >= 96:
                continue  # padding
        else:
            changed = bytearray(data)
            changed[at] ^= 1
        file.write_bytes(bytes(changed))
        assert verify(place).findings, at


def test_only_a_checkpoint_tells_that_everything_was_put_back(place: Place, tmp_path: Path) -> None:
    append(place, 5)
    shutil.copytree(place.root, tmp_path / "yesterday")
    append(place, 4)
    report = verify(place)
    kept = checkpoint.make(place, report.last, report.digest.decode())
    known = checkpoint.read(kept, place)
    append(place, 2)
    assert verify(place, checkpoint=known).sound
    shutil.rmtree(place.root)
    shutil.copytree(tmp_path / "yesterday", place.root)
    assert verify(place).sound, "that is what nobody can see here"
    (found,) = verify(place, checkpoint=known).findings
    assert (found.kind, found.sequence) == ("cut", 9)
    append(place, 10)  # another history, as long as the first
    assert [f.kind for f in verify(place, checkpoint=known).findings] == ["replaced"]


@pytest.mark.parametrize("change", ["sequence", "digest", "key", "signature", "chain"])
def test_a_checkpoint_that_was_touched_is_none(place: Place, change: str) -> None:
    append(place, 5)
    report = verify(place)
    text = checkpoint.make(place, report.last, report.digest.decode())
    assert checkpoint.read(text, place, checkpoint.public_key(place)).sequence == 5
    start = text.index(f'"{change}": ') + len(change) + 4
    at = start + 3 if text[start] == '"' else start
    other = text[:at] + ("1" if text[at] != "1" else "2") + text[at + 1 :]
    if change == "key":  # nobody believes the key that stands there
        checkpoint.read(text, place, checkpoint.public_key(place))
    with pytest.raises(DataInvalid):
        checkpoint.read(other, place)


def measured(place: Place, count: int, per_batch: int = 5000) -> tuple[float, Report]:
    for _ in range(0, count, per_batch):
        append(place, per_batch, sync=False)
    append(place, 0)
    started = time.process_time()
    report = verify(place)
    return report.records / (time.process_time() - started), report


def test_a_long_chain_is_verified_fast(place: Place) -> None:
    rate, report = measured(place, 50_000)
    assert report.sound and report.records == 50_000
    assert rate > 40_000, f"{rate:.0f} records a second of processor time"


@pytest.mark.soak
def test_a_million_records(place: Place, record_property: Callable[[str, object], None]) -> None:
    rate, report = measured(place, 1_000_000)
    record_property("records a second", round(rate))
    assert report.sound and report.records == 1_000_000 and len(files_of(place)) > 1
    file = files_of(place)[1]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(bytes(data))
    assert verify(place).findings


def test_a_directory_is_one_however_it_is_spelled(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    spelled = (f"{tmp_path}//data", f"{tmp_path}/link", f"{tmp_path}/data/../link/")
    sections = [SimpleNamespace(adapter="software", options={"data_dir": path}) for path in spelled]
    facts = {"data_dir": f"{tmp_path}/data", "slots": sections, "audit": AuditSettings()}
    assert places.roots(cast("Config", SimpleNamespace(**facts))) == [f"{tmp_path.resolve()}/data/audit"]


def test_the_log_is_looked_through_once_for_all_that_a_process_left(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = rings.create(place.root, StoreSettings())
    words = ring.memory.cast("Q")
    for number in range(1500):
        raw = bytearray(events.pack(events.SIGN, b"chain", 7))
        raw[:16] = (number + 1).to_bytes(8, "little") + (1 | events.CLOSED).to_bytes(8, "little")
        start = rings.HEADER + number * events.ENTRY_SIZE
        ring.memory[start : start + events.ENTRY_SIZE] = raw
    words[128 // 8] = 1500
    looked: list[bytes] = []
    monkeypatch.setattr(Chain, "lines_with", lambda self, wanted, since: looked.append(wanted) or [])
    chain = Chain(place, AuditSettings(), StoreSettings())
    assert drain.move(ring, lambda name: chain, dead=True, durable=True) == 1500
    chain.close()
    words.release()
    ring.forsake()
    assert len(looked) == 1 and verify(place).sound
