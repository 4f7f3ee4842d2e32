"""What goes between a host and the process of its adapter: every value comes back, nothing else is read."""

from __future__ import annotations

import socket
import struct
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferrohsm import constants as ck
from ferrohsm import parameters as p
from ferrohsm.adapters import AdapterInfo, Limits, TokenStatus
from ferrohsm.isolation.frames import Frames
from ferrohsm.isolation.values import LIMIT, Reader, WireError, Writer, wipe

plain = st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.floats(allow_nan=False)
values = st.recursive(
    plain | st.builds(bytearray, st.binary()),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.integers(), inner),
    max_leaves=30,
)


def written(value: Any) -> bytearray:
    writer = Writer()
    writer.value(value)
    return writer.message()


def read(message: bytes | bytearray) -> Any:
    reader = Reader(memoryview(message)[4:])
    value = reader.value()
    reader.end()
    return value


@settings(max_examples=50, deadline=None)
@given(values)
def test_a_value_comes_back(value: Any) -> None:
    back = read(written(value))
    assert back == value
    assert type(back) is type(value)


PARAMETERS = [
    p.Gcm(b"iv", 16, b"aad", 128),
    p.RsaAesKeyWrap(256, p.RsaOaep(ck.CKM_SHA256, 2, 1, b"")),
    p.Hkdf(True, False, ck.CKM_SHA256, None, b"info"),
    p.Sp800108(ck.CKM_AES_CMAC, (p.PrfData(1, p.IntegerFormat(False, 32)), p.PrfData(2, b"x"))),
    p.Mechanism(ck.CKM_AES_CTR, p.Ctr(128, bytes(16))),
    p.MessageParameter(b"iv", 0, 1, 16, None),
]


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda value: type(value).__name__)
def test_a_parameter_comes_back(parameter: Any) -> None:
    back = read(written(parameter))
    assert back == parameter
    assert type(back) is type(parameter)


def test_records_come_back() -> None:
    status = TokenStatus()
    status.label, status.initialized = "label", True
    back = read(written(status))
    assert (back.label, back.initialized, hasattr(back, "serial")) == ("label", True, False)
    info = AdapterInfo("name", "1", mechanisms={1: (1, 2, 3)}, limits=Limits(data=5))
    back = read(written(info))
    assert (back.mechanisms, back.limits.data) == (info.mechanisms, 5)


def test_what_is_not_in_the_contract_is_not_told() -> None:
    for thing in (object(), len, Exception("text"), threading.Lock()):
        with pytest.raises(WireError):
            written(thing)
    nested: Any = None
    for _ in range(50):
        nested = [nested]
    with pytest.raises(WireError):
        written(nested)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_nonsense_is_refused(message: bytes) -> None:
    try:
        read(b"\0\0\0\0" + message)
    except WireError:
        pass


@settings(max_examples=100, deadline=None)
@given(values, st.data())
def test_a_damaged_message_is_refused_or_another(value: Any, data: st.DataObject) -> None:
    message = written(value)
    place = data.draw(st.integers(4, len(message) - 1))
    message[place] ^= data.draw(st.integers(1, 255))
    try:
        read(message)
    except WireError:
        pass


def test_secrets_are_told_to_the_reader() -> None:
    reader = Reader(memoryview(written({"pin": bytearray(b"1234"), "data": memoryview(b"5678")}))[4:])
    value = reader.value()
    wipe(reader.secrets)
    assert bytes(value["pin"]) == bytes(value["data"]) == bytes(4)


def test_messages_come_in_pieces_and_leave_nothing_behind() -> None:
    ours, theirs = socket.socketpair()
    sent = [written(bytes([n]) * size) for n, size in enumerate((1, 70_000, 3, 200_000, 65_532, 10))]
    stream = b"".join(sent)

    def send() -> None:
        for start in range(0, len(stream), 4097):
            theirs.sendall(stream[start : start + 4097])
        theirs.close()

    thread = threading.Thread(target=send)
    thread.start()
    frames = Frames(ours)
    for message in sent:
        got = frames.next()
        assert got is not None
        assert got == message[4:]
        got.release()
        frames.done()
    assert frames.next() is None
    assert not any(frames._buffer)
    thread.join()
    ours.close()


def test_a_message_that_is_too_long_is_refused() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(struct.pack("<I", LIMIT + 1) + b"x")
        with pytest.raises(WireError):
            Frames(ours).next()
