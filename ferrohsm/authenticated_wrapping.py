"""Keys wrapped by authenticated encryption (PKCS#11 3.2, ``C_WrapKeyAuthenticated`` and its counterpart).

The mechanism's parameter is that of a message: the token may make the initialization vector, and the tag
stands apart from the wrapped key. Each call is alone, so there is no counter that a vector could be made of.
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import AuthenticatedWrapSigner
from ferrohsm.errors import BufferTooSmall, MechanismInvalid, MechanismParamInvalid
from ferrohsm.keys import hold_for_wrapping, unwrapped_key
from ferrohsm.parameters import MessageParameter
from ferrohsm.typed import TYPE_CHECKING, Awaitable, cast

if TYPE_CHECKING:
    from ferrohsm.adapters import Attributes, Key, Template
    from ferrohsm.parameters import Mechanism
    from ferrohsm.sessions import Session

_GENERATORS = (ck.CKG_NO_GENERATE, ck.CKG_GENERATE, ck.CKG_GENERATE_RANDOM)


def _signer(session: Session, mechanism: Mechanism) -> AuthenticatedWrapSigner:
    if not isinstance(mechanism.parameter, MessageParameter):
        raise MechanismParamInvalid()
    signer = session.token.signer
    if not hasattr(signer, "wrap_authenticated"):
        raise MechanismInvalid("the slot does not wrap with authentication")
    return cast("AuthenticatedWrapSigner", signer)


async def authenticated_length(session: Session, mechanism: Mechanism, wrapping_oid: int, oid: int) -> int:
    """Return the length of the wrapped key, without its tag, after all checks of `wrap_authenticated`."""
    signer = _signer(session, mechanism)
    wrapping, target = await hold_for_wrapping(session, mechanism, wrapping_oid, oid)
    try:
        return await signer.authenticated_length(mechanism, wrapping.key, target.key)
    finally:
        wrapping.release()
        target.release()


async def wrap_authenticated(
    session: Session, mechanism: Mechanism, keys: tuple[int, int], associated: memoryview, limit: int
) -> tuple[bytes, bytes, bytes]:
    """Return initialization vector, wrapped key and tag; `keys` are the wrapping key and the one to wrap.

    Raises `BufferTooSmall` when the wrapped key would have more than `limit` bytes.
    """
    signer = _signer(session, mechanism)
    if mechanism.parameter.generator not in _GENERATORS:
        raise MechanismParamInvalid("a counter has no meaning for a single key")
    wrapping, target = await hold_for_wrapping(session, mechanism, *keys)
    try:
        if await signer.authenticated_length(mechanism, wrapping.key, target.key) > limit:
            raise BufferTooSmall()
        return await signer.wrap_authenticated(mechanism, wrapping.key, target.key, associated)
    finally:
        wrapping.release()
        target.release()


async def unwrap_authenticated(
    session: Session,
    mechanism: Mechanism,
    unwrapping_oid: int,
    wrapped: tuple[memoryview, bytes, memoryview],
    template: Template,
) -> int:
    """Make the key that `wrapped` holds: the wrapped key, its tag, and the associated data."""
    signer = _signer(session, mechanism)
    data, tag, associated = wrapped

    def unwrap(key: Key, attributes: Attributes) -> Awaitable[Attributes]:
        return signer.unwrap_authenticated(mechanism, key, data, tag, associated, attributes)

    return await unwrapped_key(session, mechanism, unwrapping_oid, template, unwrap)
