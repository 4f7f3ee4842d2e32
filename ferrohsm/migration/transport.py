"""Carrying keys that must not be seen: wrapped there, unwrapped here, under keys of the session only.

The best way shows no key to this process at all: our side makes an RSA pair, the other side makes an AES
key and hands it over wrapped with the public half (RSA-OAEP), then wraps everything else with the AES key.
Where the other side cannot do that, this process makes the AES key and gives it to both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ferrohsm import constants as ck
from ferrohsm.adapters import Template
from ferrohsm.attribute_kinds import FALSE, TRUE, number, ulong
from ferrohsm.errors import HsmError, MechanismInvalid
from ferrohsm.migration.source import Source, SourceObject
from ferrohsm.migration.target import OAEP, Target
from ferrohsm.parameters import Mechanism

_LENGTH = 32
_LONGEST_OAEP = 256  # bytes, with room to spare in a modulus of 3072 bits
# What the other side calls it, and what it may be here: some modules mean RFC 5649 by the second name.
_PADDED = (
    (ck.CKM_AES_KEY_WRAP_KWP, (ck.CKM_AES_KEY_WRAP_KWP,)),
    (ck.CKM_AES_KEY_WRAP_PAD, (ck.CKM_AES_KEY_WRAP_KWP, ck.CKM_AES_KEY_WRAP_PAD)),
)


class Transport:
    """The temporary keys, made when the first key needs them."""

    def __init__(self, source: Source, target: Target) -> None:
        self._source = source
        self._target = target
        self._ready = False
        self._rsa_there: object | None = None
        self._rsa_here = 0
        self._aes_there: object | None = None
        self._aes_here = 0

    def possible(self) -> bool:
        """Say whether the other module lists a mechanism that would do."""
        offered = self._source.mechanisms
        ways = {ck.CKM_AES_KEY_WRAP_KWP, ck.CKM_AES_KEY_WRAP_PAD, ck.CKM_AES_KEY_WRAP, ck.CKM_AES_CBC_PAD}
        return bool(offered & (ways | {ck.CKM_RSA_PKCS_OAEP}))

    def carry(self, each: SourceObject, template: Template) -> tuple[int, str]:
        """Make the key on our side; return its identity and how it came.

        Raises the first refusal when no way works.
        """
        self._prepare()
        refusal: HsmError | None = None
        for there, ways in self._ways(each):
            try:
                wrapped, mechanism_names = self._wrap(each, there)
            except HsmError as error:
                refusal = refusal or error
                continue
            for key, mechanism in ways:
                how = self._with_parameter(mechanism, mechanism_names)
                try:
                    return self._target.unwrap(how, key, wrapped, template), ck.name("CKM", there)
                except HsmError as error:
                    refusal = refusal or error
        raise refusal or MechanismInvalid("the other module wraps in no way that is known here")

    def _ways(self, each: SourceObject) -> Iterator[tuple[int, list[tuple[int, Mechanism]]]]:
        """Return what to wrap with there, and what to unwrap with here: key and mechanism."""
        offered, length = self._source.mechanisms, each.values.get(ck.CKA_VALUE_LEN)
        secret = each.kind in (ck.CKO_SECRET_KEY, ck.CKO_OTP_KEY)
        size = number(length) if length and secret else None
        aligned = not secret or (size is not None and size % 8 == 0)
        if self._aes_there is not None and aligned:  # some pad a key with zeros, which become part of it
            for there, names in _PADDED:
                if there in offered:
                    yield there, [(self._aes_here, Mechanism(name)) for name in names]
            if ck.CKM_AES_KEY_WRAP in offered and secret and (size or 0) >= 16:
                yield ck.CKM_AES_KEY_WRAP, [(self._aes_here, Mechanism(ck.CKM_AES_KEY_WRAP))]
        if self._rsa_there is not None and secret and (size is None or size <= _LONGEST_OAEP):
            yield ck.CKM_RSA_PKCS_OAEP, [(self._rsa_here, OAEP)]
        if self._aes_there is not None and ck.CKM_AES_CBC_PAD in offered:
            yield ck.CKM_AES_CBC_PAD, [(self._aes_here, Mechanism(ck.CKM_AES_CBC_PAD))]

    def _wrap(self, each: SourceObject, mechanism: int) -> tuple[bytes, bytes | None]:
        """Wrap there; return the wrapped key and the parameter."""
        if mechanism == ck.CKM_RSA_PKCS_OAEP:
            return self._source.wrap_oaep(self._rsa_there, each.handle), None
        parameter = os.urandom(16) if mechanism == ck.CKM_AES_CBC_PAD else None
        return self._source.wrap(self._aes_there, each.handle, mechanism, parameter), parameter

    @staticmethod
    def _with_parameter(mechanism: Mechanism, parameter: bytes | None) -> Mechanism:
        return mechanism if parameter is None else Mechanism(mechanism.type, parameter)

    def _prepare(self) -> None:
        if self._ready:
            return
        self._ready = True
        if ck.CKM_RSA_PKCS_OAEP in self._source.mechanisms:
            try:
                self._agree_by_rsa()
            except HsmError:
                self._rsa_there = None
        if self._aes_there is None:
            self._agree_by_value()

    def _agree_by_rsa(self) -> None:
        """Have the other side make an AES key that only our side can unwrap."""
        self._rsa_here, modulus, exponent = self._target.transport_pair()
        self._rsa_there = self._source.create(
            [
                (ck.CKA_CLASS, ck.CKO_PUBLIC_KEY),
                (ck.CKA_KEY_TYPE, ck.CKK_RSA),
                (ck.CKA_MODULUS, modulus),
                (ck.CKA_PUBLIC_EXPONENT, exponent),
                (ck.CKA_WRAP, True),
                (ck.CKA_ENCRYPT, True),
            ]
        )
        try:
            made = self._source.generate(
                ck.CKM_AES_KEY_GEN,
                [
                    (ck.CKA_CLASS, ck.CKO_SECRET_KEY),
                    (ck.CKA_KEY_TYPE, ck.CKK_AES),
                    (ck.CKA_VALUE_LEN, _LENGTH),
                    (ck.CKA_SENSITIVE, True),
                    (ck.CKA_EXTRACTABLE, True),
                    (ck.CKA_WRAP, True),
                    (ck.CKA_ENCRYPT, True),
                ],
            )
            wrapped = self._source.wrap_oaep(self._rsa_there, made)
            self._aes_here = self._target.unwrap(OAEP, self._rsa_here, wrapped, _temporary())
            self._aes_there = made
        except HsmError:
            self._aes_there = None

    def _agree_by_value(self) -> None:
        value = bytearray(os.urandom(_LENGTH))
        try:
            there = self._source.create(
                [
                    (ck.CKA_CLASS, ck.CKO_SECRET_KEY),
                    (ck.CKA_KEY_TYPE, ck.CKK_AES),
                    (ck.CKA_VALUE, bytes(value)),
                    (ck.CKA_WRAP, True),
                    (ck.CKA_ENCRYPT, True),
                ]
            )
            self._aes_here = self._target.create([*_temporary(), (ck.CKA_VALUE, value)])
            self._aes_there = there
        except HsmError:
            self._aes_there = None
        finally:
            value[:] = bytes(len(value))


def _temporary() -> list[tuple[int, bytes | bytearray]]:
    return [
        (ck.CKA_CLASS, ulong(ck.CKO_SECRET_KEY)),
        (ck.CKA_KEY_TYPE, ulong(ck.CKK_AES)),
        (ck.CKA_TOKEN, FALSE),
        (ck.CKA_SENSITIVE, TRUE),
        (ck.CKA_EXTRACTABLE, FALSE),
        (ck.CKA_UNWRAP, TRUE),
    ]
