"""EC, Edwards and Montgomery keys as attributes (PKCS#11 3.2, "Elliptic Curve").

``CKA_EC_PARAMS`` is an object identifier or a curve's name. ``CKA_EC_POINT`` is kept as a DER octet
string for all three; raw bytes are understood too. The private value of an EC key is padded to
the length of the order; those of RFC 8032 and RFC 7748 have one length only.
"""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Key
from ferrohsm.errors import (
    AttributeValueInvalid,
    CurveNotSupported,
    DomainParamsInvalid,
    TemplateIncomplete,
    WrappedKeyInvalid,
)
from ferrohsm.typed import Any, Callable, NamedTuple, cast
from ferrohsm_adapters.software import der
from ferrohsm_adapters.software.material import Bytes, number, octets, public_info
from ferrohsm_adapters.software.small_order import has_small_order

_OBJECT_IDENTIFIER = 0x06
_PRINTABLE_STRING = 0x13
_ANY_STRING = (_PRINTABLE_STRING, 0x0C)  # some write the name as UTF8String


class Curve(NamedTuple):
    """A curve: the engine's class for it, and the length of values in bytes (of the order, for EC)."""

    key_type: int
    engine: str
    length: int
    bits: int
    names: tuple[str, ...]
    identifiers: tuple[str, ...]  # contents of the DER object identifier, hexadecimal


CURVES = (
    Curve(ck.CKK_EC, "SECP256R1", 32, 256, ("secp256r1", "prime256v1", "P-256"), ("2a8648ce3d030107",)),
    Curve(ck.CKK_EC, "SECP384R1", 48, 384, ("secp384r1", "P-384"), ("2b81040022",)),
    Curve(ck.CKK_EC, "SECP521R1", 66, 521, ("secp521r1", "P-521"), ("2b81040023",)),
    Curve(ck.CKK_EC, "SECP256K1", 32, 256, ("secp256k1",), ("2b8104000a",)),
    Curve(ck.CKK_EC, "BrainpoolP256R1", 32, 256, ("brainpoolP256r1",), ("2b2403030208010107",)),
    Curve(ck.CKK_EC, "BrainpoolP384R1", 48, 384, ("brainpoolP384r1",), ("2b240303020801010b",)),
    Curve(ck.CKK_EC, "BrainpoolP512R1", 64, 512, ("brainpoolP512r1",), ("2b240303020801010d",)),
    # The first identifier is RFC 8410's, the second the one that older clients use.
    Curve(
        ck.CKK_EC_EDWARDS,
        "Ed25519",
        32,
        255,
        ("edwards25519", "id-Ed25519", "Ed25519"),
        ("2b6570", "2b06010401da470f01"),
    ),
    Curve(ck.CKK_EC_EDWARDS, "Ed448", 57, 448, ("edwards448", "id-Ed448", "Ed448"), ("2b6571",)),
    Curve(
        ck.CKK_EC_MONTGOMERY,
        "X25519",
        32,
        255,
        ("curve25519", "id-X25519", "X25519"),
        ("2b656e", "2b060104019755010501"),
    ),
    Curve(ck.CKK_EC_MONTGOMERY, "X448", 56, 448, ("curve448", "id-X448", "X448"), ("2b656f",)),
)
_BY_IDENTIFIER = {bytes.fromhex(text): curve for curve in CURVES for text in curve.identifiers}
_BY_NAME = {name.lower(): curve for curve in CURVES for name in curve.names}
_BY_ENGINE = {curve.engine: curve for curve in CURVES}


def curve_of(key_type: int, parameters: Bytes) -> Curve:
    """Return the curve that ``CKA_EC_PARAMS`` names.

    Raises `DomainParamsInvalid` for what is neither an object identifier nor a name (explicit
    parameters are not taken), `CurveNotSupported` for another curve or one of another key type.
    """
    try:
        tag, start, end = der.element(parameters, 0)
    except der.Malformed:
        raise DomainParamsInvalid("CKA_EC_PARAMS is not DER") from None
    if end != len(parameters):
        raise DomainParamsInvalid("CKA_EC_PARAMS has bytes after its end")
    contents = bytes(parameters[start:end])
    if tag == _OBJECT_IDENTIFIER:
        curve = _BY_IDENTIFIER.get(contents)
    elif tag in _ANY_STRING:
        curve = _BY_NAME.get(contents.decode("ascii", "replace").lower())
    else:
        raise DomainParamsInvalid("CKA_EC_PARAMS must name a curve")
    if curve is None or curve.key_type != key_type:
        raise CurveNotSupported
    return curve


def object_identifier(curve: Curve) -> bytes:
    """Return the DER object identifier of a curve."""
    return der.encode(_OBJECT_IDENTIFIER, bytes.fromhex(curve.identifiers[0]))


def key_curve(key: Key) -> Curve:
    """Return the curve of a key object."""
    curve = key.cache.get("curve")
    if curve is None:
        curve = key.cache["curve"] = _curve(key.attributes)
    return cast("Curve", curve)


def private_key(key: Key) -> Any:
    """Return the engine's private key, parsed at its first use."""
    parsed = key.cache.get("private")
    if parsed is None:
        value = octets(key.attributes, ck.CKA_VALUE)
        parsed = key.cache["private"] = _load_private(key_curve(key), value)
    return parsed


def public_key(key: Key) -> Any:
    """Return the engine's public key of a public key object, parsed at its first use."""
    parsed = key.cache.get("public")
    if parsed is None:
        point = octets(key.attributes, ck.CKA_EC_POINT)
        parsed = key.cache["public"] = load_point(key_curve(key), point)
    return parsed


def load_point(curve: Curve, point: Bytes) -> Any:
    """Return the engine's public key for a point, raw or in a DER octet string.

    Raises ValueError for a point that is not on the curve or not of the curve's form.
    """
    if curve.key_type == ck.CKK_EC:
        return _ec().EllipticCurvePublicKey.from_encoded_point(_engine_curve(curve), _unwrapped(curve, point))
    return _module(curve)[1].from_public_bytes(_unwrapped(curve, point))


def wanted(key_type: int, public: Attributes) -> tuple[Curve, bytes]:
    """Return the curve that the template of a new public key asks for, and the parameters as given."""
    parameters = public.get(ck.CKA_EC_PARAMS)
    if not parameters:
        raise TemplateIncomplete("CKA_EC_PARAMS is missing")
    return curve_of(key_type, cast("Bytes", parameters)), bytes(cast("Bytes", parameters))


def generate(curve: Curve) -> Any:
    """Return a new private key of the engine."""
    if curve.key_type == ck.CKK_EC:
        return _ec().generate_private_key(_engine_curve(curve))
    return _module(curve)[0].generate()


def private_value(curve: Curve, private: Any) -> bytearray:
    """Return ``CKA_VALUE`` of a private key of the engine."""
    if curve.key_type == ck.CKK_EC:
        value: int = private.private_numbers().private_value
        return bytearray(value.to_bytes(curve.length, "big"))
    return bytearray(private.private_bytes_raw())


def point_of(curve: Curve, public: Any) -> bytes:
    """Return ``CKA_EC_POINT`` of a public key of the engine: a DER octet string."""
    if curve.key_type == ck.CKK_EC:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        raw = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    else:
        raw = public.public_bytes_raw()
    return der.encode(der.OCTET_STRING, raw)


def public_key_info(public: Any) -> bytes:
    """Return the SubjectPublicKeyInfo of a public key of the engine."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return cast("bytes", public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def pair_attributes(curve: Curve, private: Any, parameters: Bytes) -> tuple[Attributes, Attributes]:
    """Return the attributes that a generated pair adds to its public and its private key."""
    public = private.public_key()
    info = public_key_info(public)
    return (
        {ck.CKA_EC_POINT: point_of(curve, public), ck.CKA_PUBLIC_KEY_INFO: info},
        {
            ck.CKA_EC_PARAMS: bytes(parameters),
            ck.CKA_VALUE: private_value(curve, private),
            ck.CKA_PUBLIC_KEY_INFO: info,
        },
    )


def private_attributes(key_type: int | None, private: Any, attributes: Attributes) -> Attributes:
    """Return the attributes of an unwrapped private key; curve and type must be those asked for."""
    engine = type(private).__name__.removesuffix("PrivateKey")
    if engine == "EC":
        engine = type(private.curve).__name__
    curve = _BY_ENGINE.get(engine)
    if curve is None:
        raise CurveNotSupported
    if curve.key_type != key_type:
        raise WrappedKeyInvalid("the wrapped key is of another type")
    given = attributes.get(ck.CKA_EC_PARAMS)
    parameters = cast("bytes", given) if given else object_identifier(curve)
    if given and curve_of(curve.key_type, parameters) is not curve:
        raise WrappedKeyInvalid("the wrapped key is of another curve")
    return pair_attributes(curve, private, parameters)[1]


def complete_public(key_type: int, attributes: Attributes) -> Attributes:
    """Check a public key that is brought in and return what it lacks."""
    curve = _curve(attributes)
    point = octets(attributes, ck.CKA_EC_POINT)
    try:
        public = load_point(curve, point)
    except ValueError:
        raise AttributeValueInvalid("CKA_EC_POINT is no point of the curve") from None
    if has_small_order(curve.engine, _unwrapped(curve, point)):
        raise AttributeValueInvalid("CKA_EC_POINT is a point of small order")
    added = public_info(attributes, public_key_info(public))
    encoded = point_of(curve, public)
    return added if encoded == point else {**added, ck.CKA_EC_POINT: encoded}


def complete_private(key_type: int, attributes: Attributes) -> Attributes:
    """Check a private key that is brought in and return what it lacks."""
    curve = _curve(attributes)
    value = octets(attributes, ck.CKA_VALUE)
    try:
        private = _load_private(curve, value)
    except ValueError:
        raise AttributeValueInvalid("CKA_VALUE is no private value of the curve") from None
    added = public_info(attributes, public_key_info(private.public_key()))
    stored = private_value(curve, private)
    return added if stored == value else {**added, ck.CKA_VALUE: stored}


def _curve(attributes: Any) -> Curve:
    key_type = number(attributes, ck.CKA_KEY_TYPE)
    assert key_type is not None
    return curve_of(key_type, octets(attributes, ck.CKA_EC_PARAMS))


def _load_private(curve: Curve, value: Bytes) -> Any:
    if curve.key_type != ck.CKK_EC:
        return _module(curve)[0].from_private_bytes(value)
    if len(value) > curve.length + 1:
        raise ValueError("longer than the order")
    return _ec().derive_private_key(int.from_bytes(value, "big"), _engine_curve(curve))


def _unwrapped(curve: Curve, point: Bytes) -> bytes:
    """Return the raw point. Its length decides: a raw point may well look like an octet string."""
    lengths: tuple[int, ...] = (curve.length,)
    if curve.key_type == ck.CKK_EC:
        # Field and order of each of these curves have the same number of bytes.
        lengths = (1 + 2 * curve.length, 1 + curve.length)
    if len(point) not in lengths:
        inner = der.octet_string(point)
        if inner is not None and len(inner) in lengths:
            return inner
    return bytes(point)


def _ec() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec


def _engine_curve(curve: Curve) -> Any:
    return getattr(_ec(), curve.engine)()


def _ed25519() -> tuple[Any, Any]:
    from cryptography.hazmat.primitives.asymmetric import ed25519

    return ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey


def _ed448() -> tuple[Any, Any]:
    from cryptography.hazmat.primitives.asymmetric import ed448

    return ed448.Ed448PrivateKey, ed448.Ed448PublicKey


def _x25519() -> tuple[Any, Any]:
    from cryptography.hazmat.primitives.asymmetric import x25519

    return x25519.X25519PrivateKey, x25519.X25519PublicKey


def _x448() -> tuple[Any, Any]:
    from cryptography.hazmat.primitives.asymmetric import x448

    return x448.X448PrivateKey, x448.X448PublicKey


_MODULES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "Ed25519": _ed25519,
    "Ed448": _ed448,
    "X25519": _x25519,
    "X448": _x448,
}


def _module(curve: Curve) -> tuple[Any, Any]:
    """Return the engine's private and public key class of an RFC 8032 or RFC 7748 curve."""
    return _MODULES[curve.engine]()
