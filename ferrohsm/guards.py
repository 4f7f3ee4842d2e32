"""What stands between the core and a dispatched adapter's slots, stores, engines and operations.

Every call goes through: what the adapter raises is translated (`ferrohsm.translation`), what it returns is
looked at before the core believes it, and something of the wrong type or size is ``CKR_DEVICE_ERROR`` and a
line in the log. Methods that the core does not know yet pass with their errors translated.
"""

from __future__ import annotations

from ferrohsm import log
from ferrohsm.adapter_info import checked_mechanisms
from ferrohsm.errors import DeviceError, HsmError, MechanismInvalid
from ferrohsm.translation import from_adapter
from ferrohsm.typed import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from ferrohsm.loops import LoopThread

Check = Callable[[Any, tuple[Any, ...]], bool]

_BYTES = (bytes, bytearray)
_LARGEST = 2**31  # bytes that any one answer may have
_STATUS = (
    ("initialized", bool),
    ("label", str),
    ("serial", str),
    ("user_pin_set", bool),
    ("so_tries_left", int),
    ("user_tries_left", int),
    ("tries_allowed", int),
    ("so_locked", bool),
    ("user_locked", bool),
    ("write_protected", bool),
)


def _any(_: Any, __: tuple[Any, ...]) -> bool:
    return True


def _none(value: Any, _: tuple[Any, ...]) -> bool:
    return value is None


def _bool(value: Any, _: tuple[Any, ...]) -> bool:
    return isinstance(value, bool)


def _length(value: Any, _: tuple[Any, ...]) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST


def _number(value: Any, _: tuple[Any, ...]) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _data(value: Any, _: tuple[Any, ...]) -> bool:
    return isinstance(value, _BYTES) and len(value) <= _LARGEST


def _exactly(value: Any, arguments: tuple[Any, ...]) -> bool:
    return isinstance(value, bytes) and len(value) == arguments[0]


def _identity(value: Any, _: tuple[Any, ...]) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63


def _value(value: Any, depth: int = 0) -> bool:
    if isinstance(value, tuple):
        return depth < 4 and all(
            isinstance(pair, tuple)
            and len(pair) == 2
            and isinstance(pair[0], int)
            and _value(pair[1], depth + 1)
            for pair in value
        )
    return isinstance(value, _BYTES)


def _attributes(value: Any, _: tuple[Any, ...] = ()) -> bool:
    return isinstance(value, dict) and all(
        isinstance(attribute, int) and 0 <= attribute < 2**64 and _value(inner)
        for attribute, inner in value.items()
    )


def _all_attributes(value: Any, arguments: tuple[Any, ...]) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == len(arguments[2])
        and all(_attributes(one, arguments) for one in value)
    )


def _object(value: Any, _: tuple[Any, ...]) -> bool:
    from ferrohsm import constants as ck

    return _attributes(value) and len(value.get(ck.CKA_CLASS, b"")) == 8


def _pair(check: Check) -> Check:
    def both(value: Any, arguments: tuple[Any, ...]) -> bool:
        return isinstance(value, tuple) and len(value) == 2 and all(check(half, arguments) for half in value)

    return both


def _identities(value: Any, arguments: tuple[Any, ...]) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == len(arguments[0])
        and len(set(value)) == len(value)
        and all(_identity(one, arguments) for one in value)
    )


def _found(value: Any, arguments: tuple[Any, ...]) -> bool:
    _, after, limit = arguments
    if not isinstance(value, list) or len(value) > limit:
        return False
    for oid in value:
        if not _identity(oid, ()) or oid <= after:
            return False
        after = oid
    return True


def _status(value: Any, _: tuple[Any, ...]) -> bool:
    return all(
        isinstance(getattr(value, field, None), kind)
        and (kind is bool or not isinstance(getattr(value, field), bool))
        for field, kind in _STATUS
    )


def _ciphertext(value: Any, _: tuple[Any, ...]) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and _data(value[0], ()) and _attributes(value[1])


def _wrapping(value: Any, _: tuple[Any, ...]) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and all(_data(part, ()) for part in value)


def _messages(value: Any, _: tuple[Any, ...]) -> bool:
    return all(callable(getattr(value, name, None)) for name in (*_MESSAGES, "close"))


def _operation(value: Any, _: tuple[Any, ...]) -> bool:
    return isinstance(getattr(value, "multi_part", None), bool) and callable(getattr(value, "close", None))


_STORE: dict[str, Check] = {
    "status": _status,
    "initialize": _none,
    "login": _none,
    "check_pin": _none,
    "logout": _none,
    "init_pin": _none,
    "set_pin": _none,
    "generation": _number,
    "create": _identity,
    "create_pair": _pair(_identity),
    "create_together": _identities,
    "read": _object,
    "replace": _none,
    "exchange": _bool,
    "delete": _none,
    "search": _found,
    "holds_login": _bool,
    "close": _none,
}
_SIGNER: dict[str, Check] = {
    "generate_key": _attributes,
    "generate_key_pair": _pair(_attributes),
    "complete": _attributes,
    "wrap": _data,
    "wrap_length": _length,
    "unwrap": _attributes,
    "derive": _attributes,
    "check_derived": _none,
    "derive_several": _all_attributes,
    "random": _exactly,
    "seed": _none,
    "encapsulated_length": _length,
    "encapsulate": _ciphertext,
    "decapsulate": _attributes,
    "authenticated_length": _length,
    "wrap_authenticated": _wrapping,
    "unwrap_authenticated": _attributes,
    "release": _none,
    "keep": _attributes,
    "copy": _attributes,
    "change": _none,
}
_MESSAGES: dict[str, Check] = {
    "begin": _data,
    "length": _length,
    "update": _data,
    "finish": _pair(_data),
    "abandon": _none,
}
_OPERATION: dict[str, Check] = {
    "once_length": _length,
    "update_length": _length,
    "finish_length": _length,
    "once": _data,
    "update": _data,
    "finish": _data,
    "verify": _none,
    "finish_verify": _none,
    "copy": _operation,
}


class Guard:
    """An object of an adapter's behind its checks."""

    _checks: dict[str, Check] = {}
    _kind = ""

    def __init__(self, inner: Any, adapter: str, lane: LoopThread) -> None:
        self._inner = inner
        self._adapter = adapter
        self._lane = lane

    def __repr__(self) -> str:
        """Name the adapter and what this is of it."""
        return f"<{type(self).__name__} of {self._adapter}>"

    def __getattr__(self, name: str) -> Any:
        """Return one of the adapter's methods behind its check; AttributeError when it has no such."""
        inner = self.__dict__["_inner"]
        first = getattr(inner, name)
        if not callable(first):
            return first
        check, where = self._checks.get(name, _any), f"{self._kind}.{name}"

        def guarded(*arguments: Any) -> Any:
            try:
                value = getattr(inner, name)(*arguments)
            except (Exception, SystemExit) as error:
                raise self._failed(error, where) from None
            if hasattr(value, "__await__"):
                return self._awaited(value, check, where, arguments)
            return self._believed(value, check, where, arguments)

        self.__dict__[name] = guarded
        return guarded

    async def _awaited(self, coming: Any, check: Check, where: str, arguments: tuple[Any, ...]) -> Any:
        try:
            value = await coming
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            raise self._failed(error, where) from None
        return self._believed(value, check, where, arguments)

    def _believed(self, value: Any, check: Check, where: str, arguments: tuple[Any, ...]) -> Any:
        if self._sound(value, check, arguments):
            return self._wrapped(value, where)
        log.event("error", "the adapter gave nonsense", adapter=self._adapter, call=where, gave=type(value))
        raise DeviceError(f"the adapter's {where} gave nonsense")

    def _sound(self, value: Any, check: Check, arguments: tuple[Any, ...]) -> bool:
        try:
            return check(value, arguments)
        except Exception:
            return False

    def _wrapped(self, value: Any, where: str) -> Any:
        return value

    def _failed(self, error: BaseException, where: str) -> HsmError:
        return from_adapter(error, adapter=self._adapter, call=where)


class GuardedStore(Guard):
    """A store; what the core asks for without waiting is fetched on the adapter's loop (`refresh`)."""

    _checks = _STORE
    _kind = "store"

    def refresh(self) -> None:
        """Fetch where the generation stands in shared memory."""
        words = getattr(self._inner, "generation_words", None)
        try:
            view = None if words is None else words()
        except Exception as error:
            self._failed(error, "store.generation_words")
            view = None
        self.__dict__["generation_words"] = lambda: view


class GuardedSigner(Guard):
    """An engine; its mechanisms are read once."""

    _checks = _SIGNER
    _kind = "signer"

    def refresh(self) -> None:
        """Read the mechanisms and the kernel. Raises `DeviceError` when they make no sense."""
        try:
            mechanisms = checked_mechanisms(self._inner.mechanisms())
            kernel = getattr(self._inner, "kernel", None)
            capsule = None if kernel is None else kernel()
        except (TypeError, ValueError) as error:
            log.event("error", "the adapter gave nonsense", adapter=self._adapter, why=str(error))
            raise DeviceError(f"the adapter's mechanisms make no sense: {error}") from None
        except Exception as error:
            raise self._failed(error, "signer.mechanisms") from None
        self.__dict__["mechanisms"] = lambda: mechanisms
        self.__dict__["kernel"] = lambda: capsule

    async def begin(self, function: int, mechanism: Any, key: Any) -> GuardedOperation:
        """Start an operation, guarded as this engine is."""
        operation = await self._begun("begin", _operation, function, mechanism, key)
        return GuardedOperation(operation, self._adapter, self._lane)

    async def begin_messages(self, function: int, mechanism: Any, key: Any) -> GuardedMessages:
        """Start a process of messages, guarded as this engine is. Raises `MechanismInvalid`."""
        if not hasattr(self._inner, "begin_messages"):
            raise MechanismInvalid("the slot has no messages")
        messages = await self._begun("begin_messages", _messages, function, mechanism, key)
        return GuardedMessages(messages, self._adapter, self._lane)

    async def _begun(self, method: str, check: Check, *arguments: Any) -> Any:
        where = f"signer.{method}"
        try:
            begun = await getattr(self._inner, method)(*arguments)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            raise self._failed(error, where) from None
        if not self._sound(begun, check, ()):
            self._believed(begun, lambda *_: False, where, ())
        return begun


class _Begun(Guard):
    """What lasts for several calls. It is closed on the adapter's own thread; nobody waits for that."""

    def close(self) -> None:
        """End it."""
        self._there("close")

    def _there(self, method: str) -> None:
        """Call a method that gives nothing where the adapter runs, now or as soon as that can be."""
        if self._lane.here():
            self._do(method)
        else:
            self._lane.post(lambda: self._do(method))

    def _do(self, method: str) -> None:
        try:
            getattr(self._inner, method)()
        except (Exception, SystemExit) as error:
            self._failed(error, f"{self._kind}.{method}")


class GuardedOperation(_Begun):
    """An operation. Lengths are asked for on the adapter's loop, like all else."""

    _checks = _OPERATION
    _kind = "operation"

    def __init__(self, inner: Any, adapter: str, lane: LoopThread) -> None:
        super().__init__(inner, adapter, lane)
        self.multi_part: bool = inner.multi_part

    def _wrapped(self, value: Any, where: str) -> Any:
        if where == "operation.copy":
            return GuardedOperation(value, self._adapter, self._lane)
        return value


class GuardedMessages(_Begun):
    """A process of messages."""

    _checks = _MESSAGES
    _kind = "messages"
    multi_part = True

    def abandon(self) -> None:
        """Give up the message in hand, on the adapter's own thread; nobody waits for that."""
        self._there("abandon")


class GuardedSlot:
    """A slot as the core sees it: its description checked once, store and engine behind their guards.

    `store` is None when there is no token in the slot. It stays the same object as long as the adapter's
    slot is the same and has the same store.
    """

    def __init__(self, inner: Any, adapter: str, lane: LoopThread) -> None:
        self.inner = inner
        self.id = _checked(inner, "id", int)
        if isinstance(self.id, bool) or not 0 <= self.id < 2**63:
            raise DeviceError(f"a slot's id {self.id} is none")
        self.description: str = _checked(inner, "description", str)
        self.manufacturer: str = _checked(inner, "manufacturer", str)
        self.free: bool = _checked(inner, "free", bool)
        self.raw_store = inner.store
        self.store = None if inner.store is None else GuardedStore(inner.store, adapter, lane)
        self.signer = GuardedSigner(inner.signer, adapter, lane)
        self.signer.refresh()

    def follows(self, inner: Any) -> bool:
        """Take over what may change of the adapter's slot; False when it is another one now."""
        if self.inner is not inner or self.raw_store is not inner.store or self.id != inner.id:
            return False
        self.free = bool(inner.free)
        return True


def _checked(slot: Any, field: str, kind: type) -> Any:
    value = getattr(slot, field, None)
    if not isinstance(value, kind):
        raise DeviceError(f"a slot's {field} is missing or of the wrong type")
    return value
