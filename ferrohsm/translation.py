"""From an exception to a ``CKR_*``: the one place, for the core, the adapters and the interface in C.

- An `HsmError` carries its return value; one that a vendor's device gave passes through as it is.
- Python's own `MemoryError` is ``CKR_HOST_MEMORY``.
- Anything else is a fault of ours or of an adapter's: it is written to the log (its kind and its places, no
  words and no values) and becomes ``CKR_FUNCTION_FAILED``, from a dispatched adapter ``CKR_DEVICE_ERROR``.

Whoever has to hear of errors (the audit) joins `observers`.
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm import log
from ferrohsm.errors import DeviceError, HsmError, return_value
from ferrohsm.typed import Any, Callable

Observer = Callable[[BaseException, int, dict[str, Any]], None]

observers: list[Observer] = []
"""Called with the error, its return value and where it happened (``adapter``, ``call``, or nothing).

An observer must not raise; one that does is logged, and the answer to the caller stays what it is.
"""


def translate(error: BaseException, **where: Any) -> int:
    """Return the ``CKR_*`` of any exception, after it was logged and told to the observers."""
    rv = return_value(error)
    report(error, rv, **where)
    return rv


def report(error: BaseException, rv: int | None = None, **where: Any) -> None:
    """Log an error that nobody expected, and tell the observers of any."""
    if not isinstance(error, HsmError):
        log.failure("an error that nobody expected", error, **where)
    for observer in observers:
        try:
            observer(error, return_value(error) if rv is None else rv, where)
        except Exception as fault:
            log.failure("an observer of errors failed", fault)


def from_adapter(error: BaseException, **where: Any) -> HsmError:
    """Return what the caller of a dispatched adapter is told: the adapter's refusal, or `DeviceError`."""
    if isinstance(error, HsmError):
        rv = error.rv
        if isinstance(rv, int) and 0 < rv <= ck.CK_UNAVAILABLE_INFORMATION:
            return error
        log.event("error", "the adapter has raised an error that is none", rv=repr(rv)[:40], **where)
    elif isinstance(error, MemoryError):
        report(error, ck.CKR_HOST_MEMORY, **where)
        return DeviceError()
    else:
        report(error, ck.CKR_DEVICE_ERROR, **where)
    return DeviceError("the adapter has failed")
