"""What an adapter is: the protocols that a keeper of keys implements.

An adapter offers slots. A slot has a `HardwareKeyStore` (the token: PINs and objects) and a
`HardwareSigner` (the engine). All calls are coroutines. An adapter that says `inline` never awaits
anything but inline coroutines, so the caller's own thread steps them; any other runs on an event loop
of its own, on a thread of its own: every coroutine of an adapter, its slots, stores, signers and operations
is run there, with a deadline, and plain methods that must not wait (`*_length`, `generation`,
`mechanisms`, `close` of an operation) are called there or on a caller's thread.

Values of attributes (`Value`) are bytes: ``CK_ULONG`` as 8 bytes little-endian, ``CK_BBOOL`` as one
byte, ``CK_DATE`` as its 8 characters or empty, arrays of ``CK_ULONG`` packed likewise; an attribute
that holds a template is a tuple of (type, value) pairs. Secret values travel as `bytearray`, which
the one who consumes them wipes.
"""

from __future__ import annotations

from ferrohsm.adapter_info import AdapterInfo as AdapterInfo
from ferrohsm.adapter_info import Limits as Limits
from ferrohsm.parameters import Mechanism, MessageParameter
from ferrohsm.typed import Any, Awaitable, Mapping, Protocol, Sequence, runtime_checkable

Value = bytes | bytearray | tuple[tuple[int, Any], ...]
Attributes = dict[int, Value]
Template = Sequence[tuple[int, Value]]

CKA_REFERENCE = 0xC6485231
"""The vendor's attribute (``CKA_VENDOR_DEFINED | "FHR1"``) that names a key which a device keeps.

Its value is the adapter's own (see `DeviceSigner`). It stands in `Key.attributes` at every use and is kept
with the object; no template may have it, no search asks for it, and it is never revealed.
"""


class Function:
    """What a key is used for, by the flag of ``CK_MECHANISM_INFO`` that allows it (``CKF_*``)."""

    MESSAGE_ENCRYPT = 0x2
    MESSAGE_DECRYPT = 0x4
    MESSAGE_SIGN = 0x8
    MESSAGE_VERIFY = 0x10
    ENCRYPT = 0x100
    DECRYPT = 0x200
    DIGEST = 0x400
    SIGN = 0x800
    SIGN_RECOVER = 0x1000
    VERIFY = 0x2000
    VERIFY_RECOVER = 0x4000
    GENERATE = 0x8000
    GENERATE_KEY_PAIR = 0x10000
    WRAP = 0x20000
    UNWRAP = 0x40000
    DERIVE = 0x80000
    ENCAPSULATE = 0x10000000
    DECAPSULATE = 0x20000000


class Key:
    """A key as an engine gets it: all attributes, secret ones unsealed.

    `cache` is the engine's own: a parsed key may be remembered there. It is dropped with the
    object, at logout and when the object changes. `wipe` overwrites what can be overwritten.
    """

    __slots__ = ("attributes", "cache", "oid")

    def __init__(self, oid: int, attributes: Mapping[int, Value]) -> None:
        self.oid = oid
        self.attributes = attributes
        self.cache: dict[Any, Any] = {}

    def __repr__(self) -> str:
        return f"<Key {self.oid}>"

    def wipe(self) -> None:
        """Overwrite the secret values and forget the parsed key."""
        self.cache.clear()
        for value in self.attributes.values():
            if type(value) is bytearray:
                value[:] = bytes(len(value))


@runtime_checkable
class Operation(Protocol):
    """One cryptographic operation, made by `HardwareSigner.begin`, used once.

    Lengths are in bytes. The three `*_length` methods consume nothing: `once_length` and `finish_length`
    are exact for signatures, digests and encryption and an upper bound for decryption, and for an
    encryption whose device does not tell; `update_length` is exact. They raise what the operation itself
    would (``DataLenRange``, ``EncryptedDataLenRange``). `data` is a view that is gone after the call. After
    any exception, after `once`, `finish`, `verify` and `finish_verify` the operation is over and has wiped
    itself; `close` does the same at any time and may be called twice.
    """

    multi_part: bool

    def once_length(self, length: int) -> int: ...
    def update_length(self, length: int) -> int: ...
    def finish_length(self) -> int: ...
    async def once(self, data: memoryview) -> bytes | bytearray: ...
    async def update(self, data: memoryview) -> bytes | bytearray: ...
    async def finish(self) -> bytes | bytearray: ...
    async def verify(self, data: memoryview, signature: memoryview) -> None: ...
    async def finish_verify(self, signature: memoryview) -> None: ...
    def close(self) -> None: ...


class LoginOperation(Operation, Protocol):
    """An operation whose device checks the PIN itself for a key that wants it at each use."""

    async def login(self, pin: bytearray) -> None:
        """Give the PIN for this one use; the caller wipes it."""


class KernelOperation(Operation, Protocol):
    """An operation on a key of the signer's kernel (``include/ferrohsm_kernel.h``).

    The next one with the same key, function and mechanism may then begin in the kernel, without Python,
    for as long as what the core decided stands.
    """

    def kernel_key(self) -> object | None:
        """Return a capsule ``ferrohsm.kernel.key`` that owns a reference to the key; None: it has none."""


class CopyableOperation(Operation, Protocol):
    """An operation whose state can be saved (``C_GetOperationState``): digests, MACs, hashed signatures.

    Encryption and decryption never are: two continuations of one message would use its vector twice.
    """

    def copy(self) -> CopyableOperation:
        """Return a second operation that is where this one is.

        Raises `FunctionNotSupported` or `StateUnsaveable` when that cannot be.
        """


class KernelSigner(Protocol):
    """What a signer offers beside `HardwareSigner` when it has a kernel."""

    def kernel(self) -> object | None:
        """Return the capsule ``ferrohsm.kernel``, None when there is none here."""


class KernelMaker(Protocol):
    """What a signer offers beside `KernelSigner` when what its kernel has made may stay there for a while.

    The core then decides once, and the next key of the same template is made without it.
    """

    def kernel_request(
        self, function: int, mechanism: Mechanism, attributes: Attributes
    ) -> Attributes | None:
        """Return what the kernel's ``generate`` is to be asked for so that `from_kernel` can go on with it.

        `attributes` are those of the secret, public or derived key. None: only this signer can make it.
        """

    def kernel_base_key(self, base: Key) -> object | None:
        """Return the base key of a derivation as a capsule ``ferrohsm.kernel.key``, None when it has none."""

    def from_kernel(
        self,
        function: int,
        mechanism: Mechanism,
        halves: tuple[Attributes, ...],
        public: Attributes,
        secret: Attributes,
    ) -> tuple[Attributes, ...]:
        """Return what `generate_key`, `generate_key_pair` or `derive` would have added to each of `halves`.

        `public` and `secret` are what the kernel has made; the values in `secret` are the signer's now.
        """


class HardwareSigner(Protocol):
    """The engine of a slot: it computes, and decides nothing about who may."""

    async def begin(self, function: int, mechanism: Mechanism, key: Key | None) -> Operation:
        """Start an operation; `key` is None for digests.

        The key type and the mechanism's flags were checked by the core; parameters, key sizes and the key
        itself are checked here (``MechanismParamInvalid``, ``KeySizeRange``).
        """

    async def generate_key(self, mechanism: Mechanism, attributes: Attributes) -> Attributes:
        """Return the attributes that a new secret key adds to the template's (value, length …)."""

    async def generate_key_pair(
        self, mechanism: Mechanism, public: Attributes, private: Attributes
    ) -> tuple[Attributes, Attributes]:
        """Return the attributes to add to the public and to the private key."""

    async def complete(self, attributes: Attributes) -> Attributes:
        """Check the material of an object that is brought in and return the attributes to add.

        Adds what follows from the material: RSA's missing parts, ``CKA_MODULUS_BITS``,
        ``CKA_VALUE_LEN``, ``CKA_PUBLIC_KEY_INFO``, a certificate's check value.
        Raises ``AttributeValueInvalid``, ``TemplateInconsistent``, ``CurveNotSupported``,
        ``KeySizeRange``.
        """

    async def wrap(self, mechanism: Mechanism, wrapping: Key, target: Key) -> bytes:
        """Return the wrapped form of `target` (a secret key's value or a private key's PKCS#8)."""

    def wrap_length(self, mechanism: Mechanism, wrapping: Key, target: Key) -> int | Awaitable[int]:
        """Return the exact length of what `wrap` would give; it may have to be awaited."""

    async def unwrap(
        self, mechanism: Mechanism, unwrapping: Key, wrapped: memoryview, attributes: Attributes
    ) -> Attributes:
        """Return the attributes of the key that `wrapped` holds (class and type are in `attributes`)."""

    async def derive(self, mechanism: Mechanism, base: Key, attributes: Attributes) -> Attributes:
        """Return the attributes to add to the derived key (length asked for in `attributes`, if any)."""

    async def random(self, length: int) -> bytes:
        """Return `length` random bytes."""

    async def seed(self, data: memoryview) -> None:
        """Mix `data` into the generator."""

    def mechanisms(self) -> Mapping[int, tuple[int, int, int]]:
        """Return what the engine can: type → (smallest key, largest key, flags)."""


class Messages(Protocol):
    """Messages encrypted, or decrypted, one after the other with one key, made by `MessageSigner`.

    `begin` returns the initialization vector, which the engine may have made; `length` and `update` are about
    the text, the tag stands apart. After any exception the message is over; the next may begin.
    """

    multi_part: bool

    def begin(self, parameter: MessageParameter, associated: memoryview) -> bytes: ...
    def length(self, length: int, last: bool) -> int:
        """Return the bytes that `update` gives for `length` bytes; it changes nothing."""
        ...

    def update(self, data: memoryview) -> bytes | bytearray: ...
    def finish(self, data: memoryview, tag: bytes) -> tuple[bytes | bytearray, bytes]:
        """Take the last part. Encrypting gives the tag, decrypting checks the one that is given."""
        ...

    def abandon(self) -> None:
        """Give up the message that has begun, if one has."""
        ...

    def close(self) -> None: ...


class MessageSigner(Protocol):
    """What a signer offers beside `HardwareSigner` when some of its mechanisms work on messages."""

    async def begin_messages(self, function: int, mechanism: Mechanism, key: Key) -> Messages:
        """Start a process (``MESSAGE_ENCRYPT`` or ``MESSAGE_DECRYPT``)."""


class AuthenticatedWrapSigner(Protocol):
    """What a signer offers beside `HardwareSigner` when it wraps keys by authenticated encryption.

    The mechanism's parameter is a `MessageParameter`; its generator is one that needs no counter.
    """

    async def authenticated_length(self, mechanism: Mechanism, wrapping: Key, target: Key) -> int:
        """Return the exact length of the wrapped key, without its tag."""

    async def wrap_authenticated(
        self, mechanism: Mechanism, wrapping: Key, target: Key, associated: memoryview
    ) -> tuple[bytes, bytes, bytes]:
        """Return initialization vector, wrapped key and tag."""

    async def unwrap_authenticated(
        self,
        mechanism: Mechanism,
        unwrapping: Key,
        wrapped: memoryview,
        tag: bytes,
        associated: memoryview,
        attributes: Attributes,
    ) -> Attributes:
        """Return the attributes of the key that `wrapped` holds (class and type are in `attributes`)."""


class SeveralKeysSigner(Protocol):
    """What a signer offers beside `HardwareSigner` when it derives several keys at once (SP 800-108).

    The error of a device that knows which of the keys beside the first one has the wrong template says so
    in ``wrong_template``, their number from 0 on.
    """

    async def check_derived(self, mechanism: Mechanism, attributes: Attributes) -> None:
        """Raise what a single derivation would for this key's template; so the core learns whose is wrong.

        A device that can only tell when it derives raises nothing here.
        """

    async def derive_several(
        self, mechanism: Mechanism, base: Key, wanted: tuple[Attributes, ...]
    ) -> tuple[Attributes, ...]:
        """Return, for each of the keys in their order, the attributes to add; or none of them is made."""


class EncapsulatingSigner(Protocol):
    """What a signer offers beside `HardwareSigner` when some of its mechanisms encapsulate keys."""

    def encapsulated_length(self, mechanism: Mechanism, public: Key) -> int:
        """Return the exact length of the ciphertext that `encapsulate` would give."""

    async def encapsulate(
        self, mechanism: Mechanism, public: Key, attributes: Attributes
    ) -> tuple[bytes, Attributes]:
        """Return the ciphertext, and the attributes that the new key adds to the template's."""

    async def decapsulate(
        self, mechanism: Mechanism, private: Key, ciphertext: memoryview, attributes: Attributes
    ) -> Attributes:
        """Return the attributes to add to the key that `ciphertext` holds."""


class DeviceSigner(Protocol):
    """What a signer offers beside `HardwareSigner` when its keys never leave a device.

    `generate_key`, `generate_key_pair`, `unwrap` and `derive` then make the key in the device
    (``CKA_TOKEN`` is among the attributes that they are given) and return `CKA_REFERENCE` among the
    attributes to add, and no secret. `HardwareKeyStore.create` gets it with the others and keeps it, or
    knows by it that the device has the object already.

    From the moment that a reference is returned the core answers for it. It calls `release` when the
    object is destroyed, when its session is closed, at logout for private session objects, at the end,
    and when anything fails between making and keeping it. Making a token anew is told to the store only,
    which releases what it had. All methods but `release` are optional.
    """

    async def release(self, reference: bytes) -> None:
        """Let the device forget a key. One that is gone, or that the store has deleted, is no error."""

    async def keep(self, attributes: Attributes) -> Attributes:
        """Take a key that is brought in (``C_CreateObject``) and return the attributes to add.

        With a reference among them the core forgets the secrets that it has; what is returned replaces
        what was asked for. Without one (an empty mapping) the key stays with the core and its store.
        Raises what the device has against it; a device that takes none raises ``TemplateInconsistent``.
        """

    async def copy(self, key: Key, changed: Attributes) -> Attributes:
        """Copy a key in the device and return the copy's attributes, its own reference among them.

        Without this method ``C_CopyObject`` of such a key is ``CKR_FUNCTION_NOT_SUPPORTED``.
        """

    async def change(self, key: Key, changed: Mapping[int, Value | None]) -> None:
        """Change a session object in the device, before it changes in the core; None removes.

        Token objects are changed by the store.
        """


class PlacedSigner(Protocol):
    """What a signer offers beside `HardwareSigner` when not everything runs in the same place."""

    def engines(self, mechanism: int) -> dict[str, int]:
        """Return where a mechanism's functions run, for people: an engine's name → ``CKF_*`` flags."""
        ...


class TokenStatus:
    """The state of a token as its store keeps it."""

    __slots__ = (
        "initialized",
        "label",
        "serial",
        "so_locked",
        "so_tries_left",
        "user_locked",
        "user_pin_set",
        "user_tries_left",
        "tries_allowed",
        "write_protected",
    )

    initialized: bool
    label: str
    serial: str
    user_pin_set: bool
    so_tries_left: int
    user_tries_left: int
    tries_allowed: int
    so_locked: bool
    user_locked: bool
    write_protected: bool


class HardwareKeyStore(Protocol):
    """A token: PINs and objects. The core checks attributes and rights; the store keeps and seals.

    `oid` is a positive number that names an object for the life of the token and is never used
    again. PINs are `bytearray`s of the caller, who wipes them.
    """

    async def status(self) -> TokenStatus: ...
    async def initialize(self, so_pin: bytearray, label: str) -> None:
        """Make the token, or destroy what is on it and log out, when `so_pin` is the SO's.

        A wrong PIN counts as a try and changes nothing else (``PinIncorrect``, ``PinLocked``);
        ``DeviceRemoved`` when the token is no longer the one that was listed.
        """
        ...

    async def login(self, user: int, pin: bytearray) -> None: ...
    async def check_pin(self, user: int, pin: bytearray) -> None: ...
    async def logout(self) -> None: ...
    async def init_pin(self, pin: bytearray) -> None: ...
    async def set_pin(self, user: int, old: bytearray, new: bytearray) -> None: ...

    def generation(self) -> int:
        """Return a number that changes with every commit of any process."""

    async def create(self, attributes: Attributes) -> int: ...
    async def read(self, oid: int) -> Attributes: ...
    async def replace(self, oid: int, attributes: Attributes) -> None: ...
    async def delete(self, oid: int) -> None: ...
    async def search(self, template: Template, after: int, limit: int) -> list[int]:
        """Return up to `limit` identities above `after`, ascending, of objects that match `template`."""

    async def close(self) -> None: ...


class ExchangingKeyStore(Protocol):
    """What a store offers beside `HardwareKeyStore` when other processes may change its objects too.

    Without it the core uses `replace`, and of two processes that change one object at the same moment
    the later one wins with all its attributes.
    """

    async def exchange(self, oid: int, before: Attributes, after: Attributes) -> bool:
        """Replace the attributes if they still are `before`; False, and nothing done, when they are not."""


class PairingKeyStore(Protocol):
    """What a store offers beside `HardwareKeyStore` when it can make two objects at once.

    Without it a process that is killed between the two leaves half a key pair.
    """

    async def create_pair(self, first: Attributes, second: Attributes) -> tuple[int, int]:
        """Make both objects or none."""


class TogetherKeyStore(Protocol):
    """What a store offers beside `HardwareKeyStore` when it can make any number of objects at once.

    Without it a process that is killed between two keys of one derivation (SP 800-108) leaves the first ones.
    """

    async def create_together(self, objects: tuple[Attributes, ...]) -> tuple[int, ...]:
        """Make all the objects or none; return their identities in the same order."""


class DescribedToken(Protocol):
    """What a store offers beside `HardwareKeyStore` when its device describes the token itself."""

    async def describe(self) -> Mapping[str, Any]:
        """Return fields of ``CK_TOKEN_INFO`` by the names of `ferrohsm.tokens.TokenInfo`.

        The PIN lengths among them are the ones that new PINs must have.
        """


class SharedGeneration(Protocol):
    """What a store offers beside `HardwareKeyStore` when its generation stands in shared memory."""

    def generation_words(self) -> memoryview | None:
        """Return three 64-bit words: the commit that was begun, the one that is done, and whether it is over.

        When the first two are equal and the third is 0, no commit of any process has begun since that
        number, and what was read then is still so. The same object as long as it is the same memory, which
        stays readable while the view exists. None: every call has to ask.
        """


class NativeSearch(Protocol):
    """What a store offers beside `SharedGeneration` when objects are found in it without Python."""

    def finder(self) -> object | None:
        """Return a capsule of ``ferrohsm_finder.h``, the same one for the same finder; None: not now."""

    def look(self) -> None:
        """Notice that the token's files were replaced; called from time to time."""


class SharedLogin(Protocol):
    """What a store offers beside `HardwareKeyStore` when others may make its token anew."""

    def holds_login(self) -> bool:
        """Say whether the keys of the last login are still held; `status` notices when they are of no use."""


class AdapterSlot(Protocol):
    """A slot of an adapter: identity, description, token and engine."""

    id: int
    description: str
    manufacturer: str
    free: bool
    store: HardwareKeyStore
    signer: HardwareSigner


class Adapter(Protocol):
    """What the entry point of group ``ferrohsm.adapters`` gives when it is called with its section.

    The entry point may be called again, for a new adapter in place of one that hung: it keeps no state
    outside of the object it returns that a second could fall over.
    """

    name: str
    version: str
    inline: bool

    async def open(self) -> None: ...
    async def slots(self) -> Sequence[AdapterSlot]:
        """Return the slots as they are now; a slot that stays is the same object at every call."""

    async def close(self) -> None: ...


class DescribedAdapter(Adapter, Protocol):
    """What an adapter offers beside `Adapter` to say more about itself than its three attributes.

    Without it: login by PIN, mechanisms as each slot's signer says, the default deadline and concurrency.
    """

    def info(self) -> AdapterInfo:
        """Describe the adapter. Called after `open`, before `slots`; it does not wait."""
