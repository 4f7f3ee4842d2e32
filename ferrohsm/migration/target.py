"""Our token, as the migration uses it: through the core, in a session of the command's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ferrohsm import constants as ck
from ferrohsm.adapters import Function, Template, Value
from ferrohsm.attribute_kinds import FALSE, TRUE, ulong
from ferrohsm.parameters import Mechanism, RsaOaep

if TYPE_CHECKING:
    from ferrohsm.cli.service import Work

OAEP = Mechanism(ck.CKM_RSA_PKCS_OAEP, RsaOaep(ck.CKM_SHA_1, ck.CKG_MGF1_SHA1, ck.CKZ_DATA_SPECIFIED, b""))
_BITS = 3072


class Target:
    """What is done on our side."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def find(self, template: list[tuple[int, bytes]]) -> list[int]:
        """Return the token objects that match."""
        run, wanted = self._work.run, [(ck.CKA_TOKEN, TRUE), *template]
        cursor = run(self._work.core.find(self._work.session, wanted))
        found: list[int] = []
        try:
            while more := run(cursor.take(1000)):
                found += more
        finally:
            cursor.close()
        return sorted(found)

    def values(self, oid: int, types: list[int]) -> dict[int, bytes | bytearray]:
        """Return the values that may be seen; a `bytearray` is a secret and the caller's to wipe."""
        answers = self._work.run(self._work.core.get_attributes(self._work.session, oid, types))
        return {
            attribute: answer
            for attribute, answer in zip(types, answers, strict=True)
            if isinstance(answer, (bytes, bytearray))
        }

    def create(self, template: Template) -> int:
        """Make an object."""
        return self._work.run(self._work.core.create_object(self._work.session, template))

    def destroy(self, oid: int) -> None:
        """Destroy an object."""
        self._work.run(self._work.core.destroy_object(self._work.session, oid))

    def unwrap(self, mechanism: Mechanism, key: int, wrapped: bytes, template: Template) -> int:
        """Unwrap a key."""
        core, session = self._work.core, self._work.session
        return self._work.run(core.unwrap_key(session, mechanism, key, memoryview(wrapped), template))

    def transport_pair(self) -> tuple[int, bytes, bytes]:
        """Make a key pair for this session; return the private key, the modulus and the public exponent."""
        core, session = self._work.core, self._work.session
        public: list[tuple[int, Value]] = [
            (ck.CKA_TOKEN, FALSE),
            (ck.CKA_MODULUS_BITS, ulong(_BITS)),
            (ck.CKA_PUBLIC_EXPONENT, b"\x01\x00\x01"),
            (ck.CKA_WRAP, TRUE),
        ]
        private: list[tuple[int, Value]] = [
            (ck.CKA_TOKEN, FALSE),
            (ck.CKA_UNWRAP, TRUE),
            (ck.CKA_SENSITIVE, TRUE),
            (ck.CKA_EXTRACTABLE, FALSE),
        ]
        mechanism = Mechanism(ck.CKM_RSA_PKCS_KEY_PAIR_GEN)
        first, second = self._work.run(core.generate_key_pair(session, mechanism, public, private))
        values = self.values(first, [ck.CKA_MODULUS, ck.CKA_PUBLIC_EXPONENT])
        return second, bytes(values[ck.CKA_MODULUS]), bytes(values[ck.CKA_PUBLIC_EXPONENT])

    def sign(self, oid: int, data: bytes, mechanism: int) -> bytes:
        """Sign, or make a MAC."""
        return self._once(Function.SIGN, mechanism, oid, data)

    def encrypt(self, oid: int, data: bytes, mechanism: int) -> bytes:
        """Encrypt."""
        return self._once(Function.ENCRYPT, mechanism, oid, data)

    def _once(self, function: int, mechanism: int, oid: int, data: bytes) -> bytes:
        run, core, session = self._work.run, self._work.core, self._work.session
        operation: Any = run(core.begin(session, function, Mechanism(mechanism), oid))
        return bytes(run(operation.once(memoryview(data))))
