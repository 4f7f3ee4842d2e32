"""ECDH on the EC and Montgomery curves (PKCS#11 3.2, "Elliptic Curve Diffie-Hellman key derivation")."""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Attributes, Key
from ferrohsm.errors import MechanismParamInvalid
from ferrohsm.mechanisms import HASHES, Row, hash_of_kdf
from ferrohsm.parameters import Ecdh1, Mechanism
from ferrohsm.typed import TYPE_CHECKING, Any
from ferrohsm_adapters.software import ec_material
from ferrohsm_adapters.software.derive import derived_key, wanted_length
from ferrohsm_adapters.software.operation import wipe

if TYPE_CHECKING:
    from ferrohsm_adapters.software.engine import Kernels


def derive(
    row: Row, mechanism: Mechanism, base: Key, attributes: Attributes, kernels: Kernels | None
) -> Attributes:
    """Return the attributes of the key agreed with the other party's public key."""
    parameter: Ecdh1 = mechanism.parameter
    name, length = _wanted(parameter, attributes)
    if kernels is not None:
        made = kernels.derive(mechanism.type, parameter, base, length or 0)
        if made is not None:
            return derived_key(made, attributes, leading=name is not None)
    return derived(parameter, _agree(base, parameter.public_data), attributes)


def _wanted(parameter: Ecdh1, attributes: Attributes) -> tuple[str | None, int | None]:
    """Return the hash of the key derivation function, None without one, and the length of the key."""
    name, _ = checked_kdf(parameter.kdf, parameter.shared_data)
    length = wanted_length(attributes)
    return name, HASHES[name].length if name is not None and length is None else length


def derived(parameter: Ecdh1, secret: bytearray, attributes: Attributes) -> Attributes:
    """Return the attributes of the key derived from the shared `secret`, which is wiped."""
    name, length = _wanted(parameter, attributes)
    if name is None or length is None:
        # The shared secret is cut at its leading end.
        return derived_key(secret, attributes, leading=False)
    value = bytearray(length)
    try:
        kdf_context(
            name, checked_kdf(parameter.kdf, parameter.shared_data)[1], length, parameter.shared_data
        ).derive_into(secret, value)
    finally:
        wipe(secret)
    return derived_key(value, attributes, leading=True)


def checked_kdf(kdf: int, shared_data: bytes) -> tuple[str | None, bool]:
    """Return the hash of a ``CKD_*`` (None for ``CKD_NULL``) and whether it is the SP 800-56A form."""
    name, sp800 = hash_of_kdf(kdf)
    if name is None and kdf != ck.CKD_NULL:
        raise MechanismParamInvalid("unknown key derivation function")
    if name is None and shared_data:
        raise MechanismParamInvalid("CKD_NULL takes no shared data")
    return name, sp800


def _agree(base: Key, public_data: bytes) -> bytearray:
    curve = ec_material.key_curve(base)
    private = ec_material.private_key(base)
    try:
        peer = ec_material.load_point(curve, public_data)
        if curve.key_type == ck.CKK_EC:
            from cryptography.hazmat.primitives.asymmetric.ec import ECDH

            return bytearray(private.exchange(ECDH(), peer))
        return bytearray(private.exchange(peer))
    except ValueError:
        # Not a point of the curve, or one of small order that would make the secret zero.
        raise MechanismParamInvalid("the public data is no good point of the curve") from None


def kdf_context(name: str, sp800: bool, length: int, shared_data: bytes) -> Any:
    """Return the key derivation function of a hash: ANSI X9.63's, or that of SP 800-56A."""
    from ferrohsm_adapters.software.hash_functions import HASH_FUNCTIONS

    algorithm = HASH_FUNCTIONS[name]
    if sp800:
        from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

        return ConcatKDFHash(algorithm, length, shared_data or None)
    from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF

    return X963KDF(algorithm, length, shared_data or None)
