"""The quick reader of plain configuration files reads what `tomllib` reads, or leaves it to it."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferrohsm import plain_toml

PLAIN = """\
# A comment, with ümlauts.
data_dir = "/srv/tokens #1"   # another
free_slot = false
path = 'C:\\tokens'

[pin]
tries = 10
[slots.one]
adapter = "pkcs11_bridge"
a-b_3 = 0
\t[slots.two.x] # nested
empty = ""
"""
NOT_PLAIN = (
    'a = "\\u00e9"',
    'a = """x"""',
    "a = [1, 2]",
    "a = {b = 1}",
    "a.b = 1",
    '"a" = 1',
    "a = 0x10",
    "a = 1_000",
    "a = 1.5",
    "a = -1",
    "a = 1979-05-27",
    "[[a]]",
    "[ a ]",
)
WRONG = (
    "a",
    "a =",
    "= 1",
    "a = 01",
    'a = "x" y',
    'a = "x',
    "a = 1\na = 2",
    "[a]\n[a]",
    "[a.b]\nc = 1\n[a]\nb = 2",
    "a = 1\n[a]",
    "a = 1\n[a.b]",
    "[a",
    "[a]]",
    "[]",
    "[a.]",
    "a = \x01",
    '# \x7f\na = "b"',
    "a = 1\rb = 2",
    "a = True",
    "a = ²",
    "ä = 1",
)


def test_a_plain_file() -> None:
    found = plain_toml.parse(PLAIN)
    assert found == tomllib.loads(PLAIN)
    assert plain_toml.parse(PLAIN.replace("\n", "\r\n")) == found


def test_what_is_not_plain_or_wrong_is_left_to_tomllib() -> None:
    for text in NOT_PLAIN:
        tomllib.loads(text)
        assert plain_toml.parse(text) is None, text
    for text in WRONG:
        with pytest.raises(tomllib.TOMLDecodeError):
            tomllib.loads(text)
        assert plain_toml.parse(text) is None, text


PIECES = st.sampled_from(
    [
        *"ab01._-[]\"'#=\\\t\r\n \x00é ",
        "\n",
        " = ",
        "true",
        "[a]\n",
        "[b.a]\n",
        'a = "x"\n',
        "b = 7\n",
        "a.b = 1",
        "''",
    ]
)


@settings(max_examples=1500, deadline=None)
@given(st.lists(PIECES, max_size=14).map("".join))
def test_what_both_read_both_read_alike(text: str) -> None:
    found = plain_toml.parse(text)
    if found is not None:
        assert found == tomllib.loads(text)
