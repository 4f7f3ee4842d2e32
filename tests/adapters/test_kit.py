"""The conformance suite notices what is wrong: each test fails for an adapter with its flaw."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flawed
import pytest

from ferrohsm.testing import conformance
from ferrohsm.testing.subject import Subject

HERE = Path(__file__).parent

# The flaw, the test that notices it, and the option `inline` where it matters.
FLAWS = {
    "no version": "test_it_says_what_it_is",
    "texts that do not fit": "test_slots_tell_who_they_are",
    "new slots each time": "test_slots_stay_the_same_objects",
    "no serial": "test_the_tokens_status_is_whole",
    "forgets": "test_objects_survive_a_restart",
    "renumbers": "test_identities_survive_a_restart",
    "closes once": "test_close_may_be_called_twice",
    "claims a function": "test_mechanisms_are_ones_that_the_core_knows",
    "claims sizes": "test_keys_are_made_in_every_advertised_size",
    "claims a mechanism": "test_encryption_mechanisms_work",
    "signs nonsense": "test_signature_mechanisms_work",
    "believes everything": "test_signature_mechanisms_work",
    "miscounts": "test_signature_mechanisms_work",
    "wrong digests": "test_digests_are_right",
    "is predictable": "test_random_bytes_are_random",
    "does more than it says": "test_nothing_beyond_what_is_advertised",
    "strange errors": "test_unknown_objects_are_refused",
    "vague PIN errors": "test_a_wrong_pin_is_counted",
    "tries are free": "test_a_wrong_pin_is_counted",
    "one error for all": "test_bad_signatures_are_told_apart",
    "can be used again": "test_an_operation_is_used_once",
    "any parameter": "test_a_wrong_parameter_is_refused",
    "generation stands still": "test_the_generation_moves",
    "deletes nothing": "test_a_destroyed_object_is_gone",
    "identities again": "test_identities_are_never_used_again",
    "searches backwards": "test_searching_gives_pages_in_order",
    "lists private objects": "test_private_objects_need_the_login",
    "reads without login": "test_private_objects_need_the_login",
    "leaves keys open": "test_sensitive_values_never_come_out",
    "tells the PIN": "test_what_is_said_holds_no_pin",
    "mixes callers up": "test_many_threads_sign_with_one_key",
    "one identity for two": "test_many_threads_make_and_destroy_objects",
    "keeps its lock": "test_a_call_that_was_given_up_harms_nobody",
}


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offer the flawed adapters as installed packages would, in this process and in those it starts."""
    folder = tmp_path / "site" / "flawed_adapter-1.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: flawed-adapter\nVersion: 1\n")
    entries = "flawed = flawed:Flawed\nlate = flawed:late\n"
    (folder / "entry_points.txt").write_text(f"[ferrohsm.adapters]\n{entries}")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site")])
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}:{HERE}")


@pytest.fixture
def run(plugin: None) -> Iterator[Callable[[str, Subject], None]]:
    """Run one test of the suite on a subject; what it raises comes out."""

    def running(name: str, subject: Subject) -> None:
        test = getattr(conformance, name)
        wanted = test.__code__.co_varnames[: test.__code__.co_argcount]
        if "running" not in wanted:
            test(subject)
            return
        with subject.open() as started:
            given: dict[str, Any] = {"running": started, "adapter_under_test": subject}
            test(**{name: given[name] for name in wanted})

    yield running
    flawed.TOKENS.clear()


def subject(flaw: str) -> Subject:
    return Subject("flawed", {"flaw": flaw, "token": "token"}, deadline=0.5)


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flaw_is_noticed(flaw: str, run: Callable[[str, Subject], None]) -> None:
    with pytest.raises((Exception, pytest.fail.Exception)) as raised:
        run(FLAWS[flaw], subject(flaw))
    assert not isinstance(raised.value, pytest.skip.Exception)


@pytest.mark.parametrize("name", sorted(set(FLAWS.values())))
def test_what_is_right_passes(name: str, run: Callable[[str, Subject], None]) -> None:
    run(name, subject(""))


def test_every_test_can_fail() -> None:
    """Each test of the suite stands in the list above, or is tried below or by the adapters that pass it."""
    others = {
        "test_a_killed_process_leaves_the_token_whole",  # below
        "test_a_label_can_be_changed",  # both answers are right; the two searches are what it checks
        "test_a_key_cannot_be_used_after_the_logout",  # the core sees to it, whatever an adapter does
        "test_agreement_gives_both_sides_one_secret",
        "test_broken_ciphertexts_are_refused",
        "test_it_opens_again_with_the_same_slots",
        "test_wrapping_mechanisms_work",
    }
    tests = {
        name
        for name in vars(conformance)
        if name.startswith("test_") and callable(getattr(conformance, name))
    }
    assert tests == set(FLAWS.values()) | others


def test_slots_that_change_are_noticed(run: Callable[[str, Subject], None]) -> None:
    changing = Subject("flawed", {"flaw": "other slots later", "token": "token"})
    count = iter(range(100))
    original = flawed.FlawedStore.__init__

    def numbered(self: Any, *arguments: Any, **named: Any) -> None:
        original(self, f"{next(count):016x}", *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flawed.FlawedStore, "__init__", numbered)
        with pytest.raises(AssertionError):
            run("test_it_opens_again_with_the_same_slots", changing)


def test_what_a_killed_process_lost_is_noticed(run: Callable[[str, Subject], None], tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        run("test_a_killed_process_leaves_the_token_whole", Subject("late", data_dir=tmp_path / "tokens"))
