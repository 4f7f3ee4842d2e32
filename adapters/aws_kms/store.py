"""The token that a KMS account is: there from the start, with the objects that its keys are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ferrohsm import constants as ck
from ferrohsm.adapters import CKA_REFERENCE, Attributes, Template, TokenStatus
from ferrohsm.attribute_kinds import TRUE, number
from ferrohsm.entries import copied
from ferrohsm.errors import (
    ActionProhibited,
    AttributeReadOnly,
    FunctionNotSupported,
    ObjectHandleInvalid,
    TemplateInconsistent,
    UserNotLoggedIn,
    UserPinNotInitialized,
)
from ferrohsm_adapters.aws_kms.keys import Keys, KmsKey, identity

if TYPE_CHECKING:
    from ferrohsm_adapters.aws_kms.pin import Gate
    from ferrohsm_adapters.kit.workers import Workers

_CHANGEABLE = (ck.CKA_LABEL, ck.CKA_ID)


class KmsStore:
    """The store (`ferrohsm.adapters.HardwareKeyStore`)."""

    def __init__(
        self, keys: Keys, workers: Workers, gate: Gate | None, label: str, window: int | None
    ) -> None:
        self._keys = keys
        self._workers = workers
        self._gate = gate
        self._label = label
        self._window = window
        self._logged_in = False

    # PINs

    async def status(self) -> TokenStatus:
        """Return the state: initialized, with the tries of the PIN on this side, if there is one."""
        status, gate = TokenStatus(), self._gate
        status.initialized = True
        status.label = self._label.encode()[:32].decode("utf-8", "ignore")
        status.serial = self._keys.serial
        status.user_pin_set = gate is not None
        status.tries_allowed = gate.tries if gate is not None else 0
        status.user_tries_left = gate.left if gate is not None else 0
        status.so_tries_left = 0
        status.so_locked = True
        status.user_locked = gate is not None and gate.left == 0
        status.write_protected = False
        return status

    async def initialize(self, so_pin: bytearray, label: str) -> None:
        """Refuse: nobody destroys all keys of an account by accident."""
        raise FunctionNotSupported("an account of KMS is not initialized from here")

    async def login(self, user: int, pin: bytearray) -> None:
        """Check the PIN and show the keys."""
        await self.check_pin(user, pin)
        self._logged_in = True

    async def check_pin(self, user: int, pin: bytearray) -> None:
        """Check the PIN."""
        if self._gate is None or user != ck.CKU_USER:
            raise UserPinNotInitialized
        await self._workers.run(self._gate.check, pin)

    async def logout(self) -> None:
        """Hide the keys again."""
        self._logged_in = False

    async def init_pin(self, pin: bytearray) -> None:
        """Refuse: the PIN is in a file."""
        raise FunctionNotSupported("the PIN is what the file of pin_file says")

    async def set_pin(self, user: int, old: bytearray, new: bytearray) -> None:
        """Refuse: the PIN is in a file."""
        raise FunctionNotSupported("the PIN is what the file of pin_file says")

    # Objects

    def generation(self) -> int:
        """Return a number that moves when the listing changes."""
        return self._keys.generation()

    async def create(self, attributes: Attributes) -> int:
        """Keep a key that the signer has just made in KMS."""
        return (await self._keep(attributes, None))[1]

    async def create_pair(self, first: Attributes, second: Attributes) -> tuple[int, int]:
        """Keep both halves of a pair: they are one key."""
        public, private = await self._keep(second, first)
        return public, private

    async def _keep(self, attributes: Attributes, public: Attributes | None) -> tuple[int, int]:
        reference = attributes.get(CKA_REFERENCE)
        if not isinstance(reference, bytes | bytearray):
            raise TemplateInconsistent("KMS keeps the keys that it makes, and nothing else")
        key_id = bytes(reference).decode()
        label, identifier = (_bytes(attributes, attribute) for attribute in _CHANGEABLE)
        await self._workers.run(self._keys.keep, key_id, label, identifier, public is not None)
        private_class = number(attributes[ck.CKA_CLASS])
        return identity(key_id, ck.CKO_PUBLIC_KEY), identity(key_id, private_class)

    async def read(self, oid: int) -> Attributes:
        """Return an object's attributes."""
        return copied((await self._entry(oid))[1])

    async def replace(self, oid: int, attributes: Attributes) -> None:
        """Change label or id, of both halves of a pair; nothing else can be changed."""
        key, before = await self._entry(oid)
        changed = {a for a in {*before, *attributes} if before.get(a) != attributes.get(a)}
        if not changed <= set(_CHANGEABLE):
            raise AttributeReadOnly("KMS decides that")
        if ck.CKA_LABEL in changed:
            await self._workers.run(self._keys.rename, key, _bytes(attributes, ck.CKA_LABEL))
        if ck.CKA_ID in changed:
            await self._workers.run(self._keys.identify, key, _bytes(attributes, ck.CKA_ID))

    async def delete(self, oid: int) -> None:
        """Hide a public key; have a private or secret key deleted when its waiting period is over."""
        key, attributes = await self._entry(oid)
        if number(attributes[ck.CKA_CLASS]) == ck.CKO_PUBLIC_KEY:
            await self._workers.run(self._keys.hide_public, key)
        elif self._window is None:
            raise ActionProhibited("keys are deleted only where the slot says delete_window = DAYS")
        else:
            await self._workers.run(self._keys.delete, key, self._window)

    async def search(self, template: Template, after: int, limit: int) -> list[int]:
        """Return up to `limit` identities above `after`."""
        objects = await self._workers.run(self._keys.objects)
        found = [
            oid
            for oid, (_, attributes) in objects.items()
            if oid > after and self._visible(attributes) and _matches(attributes, template)
        ]
        return sorted(found)[:limit]

    async def close(self) -> None:
        """Log out."""
        self._logged_in = False

    async def _entry(self, oid: int) -> tuple[KmsKey, Attributes]:
        entry = (await self._workers.run(self._keys.objects)).get(oid)
        if entry is None:
            raise ObjectHandleInvalid
        if not self._visible(entry[1]):
            raise UserNotLoggedIn
        return entry

    def _visible(self, attributes: Attributes) -> bool:
        return self._logged_in or attributes[ck.CKA_PRIVATE] != TRUE


def _matches(attributes: Attributes, template: Template) -> bool:
    return all(attributes.get(attribute) == value for attribute, value in template)


def _bytes(attributes: Attributes, attribute: int) -> bytes:
    value: Any = attributes.get(attribute, b"")
    return bytes(value)
