"""What is advertised works, with its sizes and for its functions, and nothing else does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from ferrohsm import constants as ck
from ferrohsm.adapters import Function
from ferrohsm.attribute_kinds import TRUE, ulong
from ferrohsm.errors import HsmError
from ferrohsm.mechanisms import ROWS, Row
from ferrohsm.parameters import Ecdh1, Mechanism
from ferrohsm.testing import material
from ferrohsm.testing.subject import Running, label, object_class

__all__ = [
    "test_agreement_gives_both_sides_one_secret",
    "test_digests_are_right",
    "test_encryption_mechanisms_work",
    "test_keys_are_made_in_every_advertised_size",
    "test_mechanisms_are_ones_that_the_core_knows",
    "test_nothing_beyond_what_is_advertised",
    "test_random_bytes_are_random",
    "test_signature_mechanisms_work",
    "test_wrapping_mechanisms_work",
]

GENERATE = Function.GENERATE | Function.GENERATE_KEY_PAIR


class Keys:
    """A key for each way of making one, made when it is first needed."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.session = running.session()
        self._keys: dict[tuple[int, int, int | None], tuple[int, int]] = {}

    def for_row(self, row: Row, function: int) -> tuple[int, int] | None:
        """Return public and private key for a use, None where the slot makes none of the mechanism's type."""
        generate = material.generation_for(row, self.running.mechanisms())
        if generate is None:
            return None
        size = material.size_for(row, generate, self.running.mechanisms())
        chosen = (generate, function, size)
        if chosen not in self._keys:
            self._keys[chosen] = self.running.generate(
                self.session, generate, size, label(b"capability"), function=function
            )
        return self._keys[chosen]

    def modulus_length(self, oid: int) -> int:
        """Return the length of an RSA key's modulus in bytes, 0 for another key."""
        value = self.running.get(self.session, oid, ck.CKA_MODULUS)[0]
        return len(value) if isinstance(value, bytes) else 0


def _offered(running: Running, function: int) -> list[tuple[int, Row]]:
    return [
        (type, ROWS[type])
        for type, (_, _, flags) in running.mechanisms().items()
        if flags & function and type in ROWS
    ]


def _try(running: Running, function: int, attempt: Callable[[Keys, int, Row, bytes], None]) -> None:
    """Try every mechanism of a function and report all that fail, each with its name."""
    keys, failures, tried = Keys(running), [], 0
    for type, row in _offered(running, function):
        pair = keys.for_row(row, function)
        if pair is None:
            continue
        data = material.data_for(row, function, keys.modulus_length(pair[0]))
        try:
            running.mechanism(type, data)
        except LookupError:
            continue
        tried += 1
        try:
            attempt(keys, type, row, data)
        except Exception as error:
            failures.append(f"{ck.name('CKM', type)}: {type_name(error)}: {error}")
    assert not failures, "\n".join(failures)
    if not tried:
        pytest.skip("the slot has no such mechanism, or makes no key for it")


def type_name(error: BaseException) -> str:
    """Return what an exception is called."""
    return type(error).__name__


def test_mechanisms_are_ones_that_the_core_knows(running: Running) -> None:
    """Each is in the core's table, with no function that it cannot have, and sizes in order."""
    functions = 0
    for name, value in vars(Function).items():  # from Python 3.13 on a class has other numbers too
        functions |= value if name.isupper() and isinstance(value, int) else 0
    offered = running.signer.mechanisms()
    assert offered, "no mechanism is offered"
    for type, (smallest, largest, flags) in offered.items():
        name = ck.name("CKM", type)
        assert type in ROWS, f"{name} is unknown to the core"
        assert smallest <= largest, f"{name}: the sizes are {smallest} to {largest}"
        beyond = flags & functions & ~ROWS[type].functions
        assert not beyond, f"{name} is advertised for functions that it does not have: {beyond:#x}"
        assert flags & functions, f"{name} is advertised for nothing"


def test_keys_are_made_in_every_advertised_size(running: Running) -> None:
    """The ends of each generation mechanism's sizes give keys of that size; below the smallest is refused."""
    session, failures = running.session(), []
    for type, row in _offered(running, GENERATE):
        if not material.can_make(row):
            continue
        smallest, largest, _ = running.mechanisms()[type]
        for size in material.sizes(type, smallest, largest):
            try:
                pair = running.generate(session, type, size, label(b"size"))
                _check_made(running, session, pair, type, size)
            except Exception as error:
                failures.append(f"{ck.name('CKM', type)}, size {size}: {type_name(error)}: {error}")
        below = material.too_small(type, smallest)
        if below is not None and not _refuses(running, session, type, below):
            failures.append(f"{ck.name('CKM', type)} makes a key of {below}, below the advertised {smallest}")
    assert not failures, "\n".join(failures)


def _check_made(running: Running, session: Any, pair: tuple[int, int], type: int, size: int | None) -> None:
    public, private = pair
    local, mechanism = running.get(session, private, ck.CKA_LOCAL, ck.CKA_KEY_GEN_MECHANISM)
    assert local == TRUE, "a key that was made here is not CKA_LOCAL"
    assert mechanism == ulong(type)
    if ROWS[type].produces == ck.CKK_RSA:
        bits, modulus = running.get(session, public, ck.CKA_MODULUS_BITS, ck.CKA_MODULUS)
        assert bits == ulong(size or 2048)
        assert isinstance(modulus, bytes) and int.from_bytes(modulus, "big").bit_length() == (size or 2048)
        assert running.get(session, private, ck.CKA_MODULUS) == [modulus]
    elif pair[0] != pair[1]:
        info = running.get(session, public, ck.CKA_PUBLIC_KEY_INFO)
        if info == [b""]:
            return  # "default empty": not every device says it
        assert info == running.get(session, private, ck.CKA_PUBLIC_KEY_INFO)


def _refuses(running: Running, session: Any, type: int, size: int) -> bool:
    try:
        running.generate(session, type, size)
    except HsmError:
        return True
    return False


def test_signature_mechanisms_work(running: Running) -> None:
    """What signs gives a signature of the length it said; the right one verifies and a wrong one does not."""

    def attempt(keys: Keys, type: int, row: Row, data: bytes) -> None:
        public, private = keys.for_row(row, Function.SIGN) or (0, 0)
        mechanism = running.mechanism(type, data)
        operation = running.operation(keys.session, Function.SIGN, mechanism, private)
        expected = operation.once_length(len(data))
        signature = bytes(running.run(operation.once(memoryview(data))))
        assert len(signature) == expected, f"{len(signature)} bytes, though it said {expected}"
        assert running.mechanisms()[type][2] & Function.VERIFY, "it signs, and nothing verifies"
        running.verify(keys.session, mechanism, public, data, signature)
        if operation.multi_part:
            parts = running.operation(keys.session, Function.SIGN, mechanism, private)
            for part in (data[:5], data[5:]):
                assert running.run(parts.update(memoryview(part))) == b""
            running.verify(keys.session, mechanism, public, data, bytes(running.run(parts.finish())))
        for wrong in (signature[:-1] + bytes([signature[-1] ^ 1]), bytes([signature[0] ^ 1]) + signature[1:]):
            with pytest.raises(HsmError):
                running.verify(keys.session, mechanism, public, data, wrong)

    _try(running, Function.SIGN, attempt)


def test_encryption_mechanisms_work(running: Running) -> None:
    """What encrypts and decrypts gives back the text; what only encrypts gives another text."""

    def attempt(keys: Keys, type: int, row: Row, data: bytes) -> None:
        public, private = keys.for_row(row, Function.ENCRYPT) or (0, 0)
        mechanism = running.mechanism(type, data)
        operation = running.operation(keys.session, Function.ENCRYPT, mechanism, public)
        expected = operation.once_length(len(data))
        encrypted = bytes(running.run(operation.once(memoryview(data))))
        exact = row.family != "vendor"  # a vendor's own form may have a length that only the device knows
        assert len(encrypted) == expected or (not exact and len(encrypted) < expected), (
            f"{len(encrypted)} bytes, though it said {expected}"
        )
        assert encrypted != data
        if running.mechanisms()[type][2] & Function.DECRYPT:
            back = running.operation(keys.session, Function.DECRYPT, mechanism, private)
            assert back.once_length(len(encrypted)) >= len(data)
            assert bytes(running.run(back.once(memoryview(encrypted)))) == data, "another text comes back"

    _try(running, Function.ENCRYPT, attempt)


def test_digests_are_right(running: Running) -> None:
    """Digests are those of the standard library."""
    session, seen = running.session(), 0
    for type, row in _offered(running, Function.DIGEST):
        name = material.digest_name(type)
        if row.parameter != "none" or name is None:
            continue
        operation = running.run(running.core.begin(session, Function.DIGEST, Mechanism(type), None))
        assert bytes(running.run(operation.once(memoryview(b"data")))) == _digest(name, b"data"), name
        seen += 1
    if not seen:
        pytest.skip("the slot has no digests")


def _digest(name: str, data: bytes) -> bytes:
    if name.startswith("blake2b"):
        return hashlib.blake2b(data, digest_size=int(name[8:]) // 8).digest()
    return hashlib.new(name, data).digest()


def test_wrapping_mechanisms_work(running: Running) -> None:
    """A key that was wrapped is the same when it is unwrapped."""
    session = running.session()
    if running.makes(ck.CKK_GENERIC_SECRET) is None and running.makes(ck.CKK_AES) is None:
        pytest.skip("the slot makes no secret key that could be wrapped")
    key_type = ck.CKK_GENERIC_SECRET if running.makes(ck.CKK_GENERIC_SECRET) is not None else ck.CKK_AES
    _, target = running.generate(session, running.makes(key_type) or 0, None, *material.OPEN)
    value = running.get(session, target, ck.CKA_VALUE)[0]
    template = [object_class(ck.CKO_SECRET_KEY), (ck.CKA_KEY_TYPE, ulong(key_type)), *material.OPEN]

    def attempt(keys: Keys, type: int, row: Row, data: bytes) -> None:
        public, private = keys.for_row(row, Function.WRAP) or (0, 0)
        mechanism = running.mechanism(type, bytes(value) if isinstance(value, bytes | bytearray) else b"")
        core = running.core
        expected = running.run(core.wrap_length(keys.session, mechanism, public, target))
        wrapped = running.run(core.wrap_key(keys.session, mechanism, public, target, None))
        assert len(wrapped) == expected
        if running.mechanisms()[type][2] & Function.UNWRAP:
            oid = running.run(
                core.unwrap_key(keys.session, mechanism, private, memoryview(wrapped), template)
            )
            assert running.get(keys.session, oid, ck.CKA_VALUE) == [value], "another key comes back"

    _try(running, Function.WRAP, attempt)


def test_agreement_gives_both_sides_one_secret(running: Running) -> None:
    """ECDH of two keys of the slot gives one secret, whoever's private key is used."""
    if not running.mechanisms().get(ck.CKM_ECDH1_DERIVE, (0, 0, 0))[2] & Function.DERIVE:
        pytest.skip("the slot has no ECDH")
    generate = material.generation_for(ROWS[ck.CKM_ECDH1_DERIVE], running.mechanisms())
    if generate is None:
        raise pytest.skip.Exception("the slot makes no key for ECDH")
    session = running.session()
    ours, theirs = (
        running.generate(session, generate, None, label(b"agreement"), function=Function.DERIVE)
        for _ in range(2)
    )
    template = [
        object_class(ck.CKO_SECRET_KEY), (ck.CKA_KEY_TYPE, ulong(ck.CKK_GENERIC_SECRET)),
        (ck.CKA_VALUE_LEN, ulong(16)), *material.OPEN,
    ]  # fmt: skip
    secrets = []
    for private, public in ((ours[1], theirs[0]), (theirs[1], ours[0])):
        point = running.get(session, public, ck.CKA_EC_POINT)[0]
        assert isinstance(point, bytes)
        mechanism = Mechanism(ck.CKM_ECDH1_DERIVE, Ecdh1(ck.CKD_NULL, b"", point))
        oid = running.run(running.core.derive_key(session, mechanism, private, template))
        secrets.append(running.get(session, oid, ck.CKA_VALUE)[0])
    assert secrets[0] == secrets[1]
    assert isinstance(secrets[0], bytes | bytearray) and any(secrets[0])


def test_random_bytes_are_random(running: Running) -> None:
    """Two answers differ, and have the length that was asked for."""
    first, second = (running.run(running.signer.random(1000)) for _ in range(2))
    assert len(first) == len(second) == 1000
    assert first != second and len(set(first)) > 128


def test_nothing_beyond_what_is_advertised(running: Running) -> None:
    """The signer itself refuses the functions and the mechanisms that it does not advertise."""
    keys, offered, done = Keys(running), running.signer.mechanisms(), []
    for row in ROWS.values():
        flags = offered.get(row.type, (0, 0, 0))[2]
        for function in (Function.SIGN, Function.DECRYPT):
            use = Function.ENCRYPT if function == Function.DECRYPT else function
            pair = keys.for_row(row, use) if row.functions & function & ~flags else None
            if pair is None:
                continue
            key = running.run(running.core.token(running.slot_id).objects.hold(pair[1]))
            try:
                mechanism = running.mechanism(row.type, material.DATA)
                error = running.refused(running.signer.begin(function, mechanism, key.key))
            except LookupError:
                continue
            finally:
                key.release()
            if not isinstance(error, HsmError):
                done.append(f"{ck.name('CKM', row.type)} for {function:#x}: {error!r}")
    assert not done, "begun though it is not advertised:\n" + "\n".join(done)
