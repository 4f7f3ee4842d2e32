"""May this session do that: with this key, with this mechanism, to this object.

`CKA_START_DATE` and `CKA_END_DATE` are not looked at: "it does not restrict usage of a key according to
the dates; doing this is up to the application" (PKCS#11 3.2, "Key objects").
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Function
from ferrohsm.attribute_kinds import FALSE, is_true, number
from ferrohsm.attributes import matches
from ferrohsm.entries import Entry
from ferrohsm.errors import (
    ActionProhibited,
    HsmError,
    KeyFunctionNotPermitted,
    KeyHandleInvalid,
    KeyNotWrappable,
    KeyTypeInconsistent,
    KeyUnextractable,
    MechanismInvalid,
    SessionReadOnly,
    TokenWriteProtected,
    UnwrappingKeyHandleInvalid,
    UnwrappingKeyTypeInconsistent,
    UserNotLoggedIn,
    WrappingKeyHandleInvalid,
    WrappingKeyTypeInconsistent,
)
from ferrohsm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from ferrohsm.mechanisms import Row
    from ferrohsm.sessions import Session
    from ferrohsm.tokens import Token

_SECRET = ck.CKO_SECRET_KEY
_PUBLIC = ck.CKO_PUBLIC_KEY
_PRIVATE = ck.CKO_PRIVATE_KEY


class Use:
    """What a function asks of its key: the flag, the classes, the errors when it is not so."""

    __slots__ = ("attribute", "classes", "no_key", "wrong_type")

    def __init__(
        self,
        attribute: int,
        *classes: int,
        wrong_type: type[HsmError] = KeyTypeInconsistent,
        no_key: type[HsmError] = KeyHandleInvalid,
    ) -> None:
        self.attribute = attribute
        self.classes = classes
        self.wrong_type = wrong_type
        self.no_key = no_key


USES: dict[int, Use] = {
    Function.MESSAGE_ENCRYPT: Use(ck.CKA_ENCRYPT, _SECRET),
    Function.MESSAGE_DECRYPT: Use(ck.CKA_DECRYPT, _SECRET),
    Function.MESSAGE_SIGN: Use(ck.CKA_SIGN, _SECRET, _PRIVATE),
    Function.MESSAGE_VERIFY: Use(ck.CKA_VERIFY, _SECRET, _PUBLIC),
    Function.ENCRYPT: Use(ck.CKA_ENCRYPT, _SECRET, _PUBLIC),
    Function.DECRYPT: Use(ck.CKA_DECRYPT, _SECRET, _PRIVATE),
    Function.SIGN: Use(ck.CKA_SIGN, _SECRET, _PRIVATE, ck.CKO_OTP_KEY),
    Function.SIGN_RECOVER: Use(ck.CKA_SIGN_RECOVER, _PRIVATE),
    Function.VERIFY: Use(ck.CKA_VERIFY, _SECRET, _PUBLIC, ck.CKO_OTP_KEY),
    Function.VERIFY_RECOVER: Use(ck.CKA_VERIFY_RECOVER, _PUBLIC),
    Function.WRAP: Use(
        ck.CKA_WRAP,
        _SECRET,
        _PUBLIC,
        wrong_type=WrappingKeyTypeInconsistent,
        no_key=WrappingKeyHandleInvalid,
    ),
    Function.UNWRAP: Use(
        ck.CKA_UNWRAP,
        _SECRET,
        _PRIVATE,
        wrong_type=UnwrappingKeyTypeInconsistent,
        no_key=UnwrappingKeyHandleInvalid,
    ),
    Function.DERIVE: Use(ck.CKA_DERIVE, _SECRET, _PRIVATE),
    Function.ENCAPSULATE: Use(ck.CKA_ENCAPSULATE, _PUBLIC),
    Function.DECAPSULATE: Use(
        ck.CKA_DECAPSULATE,
        _PRIVATE,
        wrong_type=UnwrappingKeyTypeInconsistent,
        no_key=UnwrappingKeyHandleInvalid,
    ),
}


def check_mechanism(token: Token, mechanism: int, function: int) -> Row:
    """Return the row of a mechanism that the slot offers for `function`.

    Raises `MechanismInvalid`.
    """
    from ferrohsm.mechanisms import row_of

    row = row_of(mechanism)
    info = token.mechanisms().get(mechanism)
    if row is None or info is None or not info[2] & function:
        raise MechanismInvalid(ck.name("CKM", mechanism))
    return row


def check_key(row: Row, function: int, entry: Entry, *, use: bool = True) -> None:
    """Check that a key may be used for `function` with the mechanism of `row`.

    Without `use` the attribute that allows the function is not asked.

    Raises `KeyTypeInconsistent` (or the wrapping and unwrapping ones), `KeyFunctionNotPermitted`,
    and `MechanismInvalid` when the key's ``CKA_ALLOWED_MECHANISMS`` leave it out.
    """
    rules = USES[function]
    object_class, key_type = entry.get(ck.CKA_CLASS), entry.get(ck.CKA_KEY_TYPE)
    if object_class is None or number(object_class) not in rules.classes or key_type is None:
        raise rules.wrong_type()
    if number(key_type) not in row.key_types:
        raise rules.wrong_type(f"{ck.name('CKM', row.type)} with {ck.name('CKK', number(key_type))}")
    if use and not entry.flag(rules.attribute):
        raise KeyFunctionNotPermitted(f"{ck.name('CKA', rules.attribute)} is false")
    allowed = entry.get(ck.CKA_ALLOWED_MECHANISMS)
    if allowed is not None:
        assert not isinstance(allowed, tuple)
        packed = row.type.to_bytes(8, "little")
        if packed not in (bytes(allowed[i : i + 8]) for i in range(0, len(allowed), 8)):
            raise MechanismInvalid(f"{ck.name('CKM', row.type)} is not in CKA_ALLOWED_MECHANISMS")


def check_no_login_needed(entry: Entry) -> None:
    """Refuse a key that wants the PIN at each use where there is no moment to give it.

    ``C_UnwrapKey`` and ``C_DeriveKey`` are one call each, and "omitting to re-authenticate … will result
    in CKR_USER_NOT_LOGGED_IN to be returned from calls using the key". Raises `UserNotLoggedIn`.
    """
    if entry.flag(ck.CKA_ALWAYS_AUTHENTICATE):
        raise UserNotLoggedIn("CKA_ALWAYS_AUTHENTICATE, and this function has no second step")


def check_wrap(wrapping: Entry, target: Entry) -> None:
    """Check that `target` may leave under `wrapping` (``C_WrapKey``).

    Raises `KeyNotWrappable`, `KeyUnextractable`, and `KeyHandleInvalid` when the wrapping key's
    ``CKA_WRAP_TEMPLATE`` does not match, as its section says.
    """
    object_class = target.get(ck.CKA_CLASS)
    # "OTP key objects hold secret keys", and what the standard says of secret keys is said of them.
    if object_class is None or number(object_class) not in (_SECRET, _PRIVATE, ck.CKO_OTP_KEY):
        raise KeyNotWrappable("neither a secret nor a private key")
    if not target.flag(ck.CKA_EXTRACTABLE):
        raise KeyUnextractable()
    if target.flag(ck.CKA_WRAP_WITH_TRUSTED) and not wrapping.flag(ck.CKA_TRUSTED):
        raise KeyNotWrappable("CKA_WRAP_WITH_TRUSTED, and the wrapping key is not trusted")
    template = wrapping.get(ck.CKA_WRAP_TEMPLATE)
    if isinstance(template, tuple) and not matches(target.attributes, target.rules, template):
        raise KeyHandleInvalid("CKA_WRAP_TEMPLATE does not match")


async def check_create(session: Session, attributes: Attributes) -> None:
    """Check that a session may make such an object.

    Raises `SessionReadOnly`, `UserNotLoggedIn`, `TokenWriteProtected`, and `AttributeValueInvalid` for
    what the device does not keep.
    """
    on_token = is_true(attributes.get(ck.CKA_TOKEN))
    if on_token:
        session.token.check_class(number(attributes[ck.CKA_CLASS]))
    if on_token and not session.read_write:
        raise SessionReadOnly()
    if is_true(attributes.get(ck.CKA_PRIVATE)) and not session.token.user_logged_in:
        raise UserNotLoggedIn()
    if on_token and (await session.token.store.status()).write_protected:
        raise TokenWriteProtected()


async def check_change(session: Session, entry: Entry) -> None:
    """Check that a session may change or destroy an object that it can see.

    Raises `ActionProhibited` for what the token has of itself, `SessionReadOnly`, `TokenWriteProtected`.
    """
    if entry.oid < 0 and ck.CKA_TOKEN not in entry.attributes:
        raise ActionProhibited("the token's own object")
    if entry.on_token:
        if not session.read_write:
            raise SessionReadOnly()
        if (await session.token.store.status()).write_protected:
            raise TokenWriteProtected()


def check_destroy(entry: Entry) -> None:
    """Raise `ActionProhibited` when ``CKA_DESTROYABLE`` is false."""
    if entry.get(ck.CKA_DESTROYABLE) == FALSE:
        raise ActionProhibited("CKA_DESTROYABLE is false")


def check_copy(entry: Entry) -> None:
    """Raise `ActionProhibited` when ``CKA_COPYABLE`` is false or the object is the token's own."""
    if entry.get(ck.CKA_COPYABLE) == FALSE or ck.CKA_TOKEN not in entry.attributes:
        raise ActionProhibited("CKA_COPYABLE is false")
