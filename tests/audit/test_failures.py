"""When nothing can be recorded, nothing is done that the log must hold, unless it is configured so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.audit.conftest import World

TRY = """
from cryptoki import RefusedError

def tried(work, *arguments):
    try:
        work(*arguments)
        return "CKR_OK"
    except RefusedError as error:
        return str(error).split()[-1]
"""


def test_a_place_that_is_none_refuses_logins_and_keys(token: World) -> None:
    (token.directory / "file").write_text("no directory")
    token.configure(f'directory = "{token.directory}/file/audit"')
    out = token.run(TRY + "print(tried(ready), p11.find(p11.open(slot), (ck.CKA_LABEL, b'x')))")
    assert out.split() == ["CKR_DEVICE_ERROR", "[]"]
    assert "the audit cannot be written" in token.log.read_text()
    token.configure(f'directory = "{token.directory}/file/audit"\non_failure = "open"')
    assert token.run(TRY + "s, k = ready()\nfor _ in range(9): sign(s, k)\nprint('worked')") == "worked\n"


FILL = """
session, key = ready()
sign(session, key)
with open({filler!r}, "wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        pass
made, rv = 0, "CKR_OK"
while rv == "CKR_OK" and made < 100_000:
    rv = tried(sign, session, key)
    made += rv == "CKR_OK"
print(rv, tried(p11, "C_Logout", session), tried(p11.login, session))
os.unlink({filler!r})
print(tried(p11.login, session), tried(sign, *ready_again(session)), made)
p11("C_Finalize", None)
"""

AGAIN = """
def ready_again(session):
    return session, p11.generic_secret(session, bytes(32), (ck.CKA_SIGN, True))
"""


@pytest.mark.parametrize("durability", ["batch", "sync"])
def test_a_full_disk(token: World, full_disk: Callable[[], Path], durability: str) -> None:
    place = full_disk()
    token.configure(f'directory = "{place}"\nkey_use = "each"\ndurability = "{durability}"')
    out = token.run(TRY + AGAIN + FILL.format(filler=str(place / "filler"))).split()
    assert out[:5] == ["CKR_DEVICE_ERROR", "CKR_OK", "CKR_DEVICE_ERROR", "CKR_OK", "CKR_OK"], out
    report = token.audit("verify")
    assert report["sound"], report
    signed = token.records("--event", "sign")
    # What was refused because its record was not on disk in time was computed, and may be recorded.
    extra = len([record for record in signed if record["result"] == "CKR_OK"]) - int(out[5]) - 2
    assert extra == 0 or (extra == 1 and durability == "sync")


def test_the_limit_of_a_file_s_size_kills_nobody(token: World) -> None:
    token.configure('key_use = "each"\ndurability = "sync"')
    out = token.run(
        TRY
        + """
import resource
session, key = ready()
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
made = 0
while (rv := tried(sign, session, key)) == "CKR_OK":
    made += 1
print(rv, made, flush=True)
os._exit(0)
"""
    )
    assert out.startswith("CKR_DEVICE_ERROR") and int(out.split()[1]) > 5
    assert token.audit("verify")["sound"]


def test_a_log_that_was_taken_away_is_noticed(token: World) -> None:
    token.run("session, key = ready()\nsign(session, key)")
    before = token.audit("verify")["logs"][0]["last"]
    for file in (token.data / "audit").glob("*/*.jsonl"):
        file.unlink()
    token.run("session, key = ready()\nsign(session, key)")
    report = token.audit("verify", code=1)
    assert report["logs"][0]["findings"][0]["kind"] == "removed"
    assert report["logs"][0]["last"] > before


def test_what_cannot_be_recorded_is_not_destroyed(token: World) -> None:
    token.configure('durability = "sync"')
    out = token.run(
        TRY
        + f"""
session, _ = ready()
for _ in range(5):
    key = p11.aes(session)  # the last ones are the kernel's
os.rename({str(token.data / "audit")!r}, {str(token.data / "away")!r})
open({str(token.data / "audit")!r}, "w").close()
print(tried(p11, "C_DestroyObject", session, key))
os.unlink({str(token.data / "audit")!r})
os.rename({str(token.data / "away")!r}, {str(token.data / "audit")!r})
print(tried(p11, "C_DestroyObject", session, key), tried(p11, "C_DestroyObject", session, key))
"""
    )
    assert out.split() == ["CKR_DEVICE_ERROR", "CKR_OK", "CKR_OBJECT_HANDLE_INVALID"]


def test_uses_are_recorded_again_when_the_audit_can_be_written_again(token: World) -> None:
    """What was decided while nothing could be recorded is not remembered as what nobody records."""
    place = token.directory / "kept"
    place.write_text("no directory")
    token.configure(f'directory = "{place}"\nkey_use = "each"\non_failure = "open"')
    token.run(
        TRY
        + f"""
session, key = ready()
for _ in range(3):
    sign(session, key)
os.unlink({str(place)!r})
time.sleep(1.2)  # longer than until the next try
for _ in range(5):
    sign(session, key)
p11("C_Finalize", None)
"""
    )
    assert len(token.records("--event", "sign")) >= 4  # the first one finds out


def test_the_error_says_what_to_set(token: World) -> None:
    (token.directory / "file").write_text("no directory")
    token.configure(f'directory = "{token.directory}/file/audit"')
    token.run(TRY + "print(tried(ready))")
    assert "set directory in [audit]" in token.log.read_text()
