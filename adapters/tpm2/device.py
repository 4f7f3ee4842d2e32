"""The TPM itself: one connection, used by one thread, through tpm2-pytss (TSS 2.0 ESAPI).

Keys live as blobs that only this TPM can open, under a storage key that it derives from its owner seed at
each start; a key is loaded for one command and flushed after it, because a TPM has room for three.
Authorizations go through a salted session with parameter encryption: neither they nor a decrypted text are
readable on the bus.

What a TPM answers becomes an `HsmError` in `refusal`, the one place for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import tpm2_pytss as tss
from tpm2_pytss import constants as tpm

from ferrohsm.errors import (
    DeviceError,
    DeviceMemory,
    DeviceRemoved,
    EncryptedDataInvalid,
    FunctionFailed,
    HsmError,
    PinIncorrect,
    PinLocked,
)

T = TypeVar("T")

_KEY = (
    tpm.TPMA_OBJECT.FIXEDTPM
    | tpm.TPMA_OBJECT.FIXEDPARENT
    | tpm.TPMA_OBJECT.SENSITIVEDATAORIGIN
    | tpm.TPMA_OBJECT.USERWITHAUTH
    | tpm.TPMA_OBJECT.NODA
    | tpm.TPMA_OBJECT.SIGN_ENCRYPT
    | tpm.TPMA_OBJECT.DECRYPT
)
# A PIN guards this one, so wrong tries count towards the TPM's dictionary attack lockout (no NODA).
_SEALED = tpm.TPMA_OBJECT.FIXEDTPM | tpm.TPMA_OBJECT.FIXEDPARENT | tpm.TPMA_OBJECT.USERWITHAUTH
_STORAGE = (
    tpm.TPMA_OBJECT.FIXEDTPM
    | tpm.TPMA_OBJECT.FIXEDPARENT
    | tpm.TPMA_OBJECT.SENSITIVEDATAORIGIN
    | tpm.TPMA_OBJECT.USERWITHAUTH
    | tpm.TPMA_OBJECT.NODA
    | tpm.TPMA_OBJECT.RESTRICTED
    | tpm.TPMA_OBJECT.DECRYPT
)
_SESSION = tpm.TPMA_SESSION.CONTINUESESSION | tpm.TPMA_SESSION.DECRYPT | tpm.TPMA_SESSION.ENCRYPT
_FIRST_SESSION = 0x02000000  # that is loaded
_FIRST_TRANSIENT = 0x80000000

# The curves by their name in the software engine, and RSA by its bits, as a TPM calls them.
CURVES = {
    "secp256r1": (tpm.TPM2_ECC.NIST_P256, "ecc256"),
    "secp384r1": (tpm.TPM2_ECC.NIST_P384, "ecc384"),
    "secp521r1": (tpm.TPM2_ECC.NIST_P521, "ecc521"),
}
RSA_SIZES = (2048, 3072, 4096)

HASHES = {
    "sha1": tpm.TPM2_ALG.SHA1,
    "sha256": tpm.TPM2_ALG.SHA256,
    "sha384": tpm.TPM2_ALG.SHA384,
    "sha512": tpm.TPM2_ALG.SHA512,
}

# The connection is gone, as the TCTI layer says it: input/output error, not connected.
_BROKEN = (tpm.TSS2_RC.TCTI_RC_IO_ERROR, tpm.TSS2_RC.TCTI_RC_NO_CONNECTION)
_WRONG_AUTH = (tpm.TPM2_RC.AUTH_FAIL, tpm.TPM2_RC.BAD_AUTH)
_FULL = (tpm.TPM2_RC.OBJECT_MEMORY, tpm.TPM2_RC.SESSION_MEMORY, tpm.TPM2_RC.MEMORY)


def refusal(error: tss.TSS2_Exception) -> HsmError:
    """Return the `HsmError` of an answer of the TPM or of the way to it."""
    code = error.rc & 0xFFF if not error.rc & 0xFF0000 else error.rc
    base = code & (0x0BF if code & 0x080 else 0xFFF)  # without the number of the parameter or session
    if base in _WRONG_AUTH:
        return PinIncorrect("the TPM refuses the authorization")
    if base == tpm.TPM2_RC.LOCKOUT:
        return PinLocked("the TPM's dictionary attack lockout is on")
    if base in _FULL:
        return DeviceMemory("the TPM's memory is full: use a resource manager, or say exclusive = true")
    if error.rc in _BROKEN:
        return DeviceRemoved("the connection to the TPM is broken")
    if base in (tpm.TPM2_RC.INTEGRITY, tpm.TPM2_RC.HANDLE):
        return DeviceError("this TPM did not make that key, or was cleared since")
    return FunctionFailed(f"the TPM answers 0x{error.rc:x}")


class Device:
    """The connection. Every method is called on the one thread that it belongs to."""

    def __init__(self, tcti: str, *, exclusive: bool) -> None:
        self._tcti = tcti
        self._exclusive = exclusive
        self._esapi: Any = None
        self._storage: Any = None
        self._session: Any = None

    def open(self) -> None:
        """Connect. Raises `DeviceError` when there is no TPM."""
        self.close()
        try:
            self._esapi = tss.ESAPI(self._tcti)
            if self._exclusive:
                self._flush_everything()
            template = tss.TPM2B_PUBLIC.parse("ecc256:aes128cfb", objectAttributes=_STORAGE)
            self._storage = self._esapi.create_primary(
                tss.TPM2B_SENSITIVE_CREATE(), template, tss.ESYS_TR.OWNER
            )[0]
        except tss.TSS2_Exception as error:
            self.close()
            raise DeviceError(f"no TPM at {self._tcti}: {refusal(error)}") from None

    def close(self) -> None:
        """Leave the TPM's memory as it was and disconnect; may be called twice."""
        esapi, self._esapi = self._esapi, None
        session, self._session = self._session, None
        storage, self._storage = self._storage, None
        if esapi is None:
            return
        for handle in (session, storage):
            if handle is not None:
                try:
                    esapi.flush_context(handle)
                except tss.TSS2_Exception:
                    pass  # a TPM that is gone has forgotten them
        esapi.close()

    def _flush_everything(self) -> None:
        """Flush what processes that were killed have left in a TPM that nobody shares with us."""
        for first in (_FIRST_SESSION, _FIRST_TRANSIENT):
            _, data = self._esapi.get_capability(tpm.TPM2_CAP.HANDLES, first, 64)
            handles = data.data.handles
            for handle in [handles.handle[place] for place in range(handles.count)]:
                self._esapi.flush_context(self._esapi.tr_from_tpmpublic(handle))

    def _command(self, work: Callable[[], T]) -> T:
        """Do some commands, once more after a new connection if the old one is broken."""
        if self._esapi is None:
            self.open()
        try:
            return work()
        except tss.TSS2_Exception as error:
            refused = refusal(error)
            if not isinstance(refused, DeviceRemoved) and error.rc & 0xFFF not in _SESSION_GONE:
                raise refused from None
        self.open()
        try:
            return work()
        except tss.TSS2_Exception as error:
            raise refusal(error) from None

    def _authorization(self) -> Any:
        """Return the session that authorizations and secrets go through."""
        if self._session is None:
            symmetric = tss.TPMT_SYM_DEF(
                algorithm=tpm.TPM2_ALG.AES,
                keyBits=tss.TPMU_SYM_KEY_BITS(aes=128),
                mode=tss.TPMU_SYM_MODE(aes=tpm.TPM2_ALG.CFB),
            )
            self._session = self._esapi.start_auth_session(
                self._storage, tss.ESYS_TR.NONE, tpm.TPM2_SE.HMAC, symmetric, tpm.TPM2_ALG.SHA256
            )
            self._esapi.trsess_set_attributes(self._session, _SESSION)
        return self._session

    # What it can

    def capabilities(self) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Return the sizes of RSA keys and the curves that it has."""
        return self._command(self._capabilities)

    def _capabilities(self) -> tuple[tuple[int, ...], tuple[str, ...]]:
        _, data = self._esapi.get_capability(tpm.TPM2_CAP.ECC_CURVES, 0, 64)
        there = {data.data.eccCurves.eccCurves[place] for place in range(data.data.eccCurves.count)}
        curves = tuple(name for name, (number, _) in CURVES.items() if number in there)
        return tuple(bits for bits in RSA_SIZES if self._has_rsa(bits)), curves

    def _has_rsa(self, bits: int) -> bool:
        template = tss.TPM2B_PUBLIC.parse(f"rsa{bits}")
        asked = tss.TPMT_PUBLIC_PARMS(
            type=template.publicArea.type, parameters=template.publicArea.parameters
        )
        try:
            self._esapi.test_parms(asked)
        except tss.TSS2_Exception:
            return False
        return True

    def random(self, length: int) -> bytes:
        """Return random bytes of the TPM's generator."""

        def work() -> bytes:
            made = b""
            while len(made) < length:
                made += bytes(
                    self._esapi.get_random(min(length - len(made), 32), session1=self._authorization())
                )
            return made

        return self._command(work)

    # Keys

    def create(self, kind: str, auth: bytes) -> tuple[bytes, bytes]:
        """Make a key (``rsa2048``, ``ecc256`` …) and return its blob and its DER SubjectPublicKeyInfo."""

        def work() -> tuple[bytes, bytes]:
            template = tss.TPM2B_PUBLIC.parse(kind, objectAttributes=_KEY)
            sensitive = tss.TPM2B_SENSITIVE_CREATE(tss.TPMS_SENSITIVE_CREATE(userAuth=auth))
            private, public, *_ = self._esapi.create(
                self._storage, sensitive, template, session1=self._authorization()
            )
            return _blob(private, public), public.to_der()

        return self._command(work)

    def raw_rsa(self, blob: bytes, auth: bytes, block: bytes) -> bytes:
        """Return the private key's power of a block as long as the modulus, and less than it."""
        scheme = tss.TPMT_RSA_DECRYPT(scheme=tpm.TPM2_ALG.NULL)
        return self._with(
            blob, auth, lambda key, session: self._esapi.rsa_decrypt(key, block, scheme, session1=session)
        )

    def decrypt_oaep(self, blob: bytes, auth: bytes, block: bytes, hash_name: str) -> bytes:
        """Return the text of a block. Raises `EncryptedDataInvalid`, whatever is wrong with it."""
        scheme = tss.TPMT_RSA_DECRYPT(
            scheme=tpm.TPM2_ALG.OAEP,
            details=tss.TPMU_ASYM_SCHEME(oaep=tss.TPMS_SCHEME_HASH(hashAlg=HASHES[hash_name])),
        )
        try:
            return self._with(
                blob, auth, lambda key, session: self._esapi.rsa_decrypt(key, block, scheme, session1=session)
            )
        except FunctionFailed:
            raise EncryptedDataInvalid from None

    def sign_ecdsa(self, blob: bytes, auth: bytes, digest: bytes, hash_name: str) -> tuple[bytes, bytes]:
        """Return r and s of a signature; `digest` is as long as that hash's."""
        scheme = tss.TPMT_SIG_SCHEME(
            scheme=tpm.TPM2_ALG.ECDSA,
            details=tss.TPMU_SIG_SCHEME(ecdsa=tss.TPMS_SCHEME_HASH(hashAlg=HASHES[hash_name])),
        )
        ticket = tss.TPMT_TK_HASHCHECK(tag=tpm.TPM2_ST.HASHCHECK, hierarchy=tpm.TPM2_RH.OWNER)

        def work(key: Any, session: Any) -> tuple[bytes, bytes]:
            made = self._esapi.sign(key, digest, scheme, ticket, session1=session)
            # What is inside lives as long as the whole, which therefore has a name here.
            return bytes(made.signature.ecdsa.signatureR), bytes(made.signature.ecdsa.signatureS)

        return self._loaded(blob, auth, work)

    def agree(self, blob: bytes, auth: bytes, x: bytes, y: bytes) -> bytearray:
        """Return the x coordinate of the point that an ECDH with another's point gives."""
        point = tss.TPM2B_ECC_POINT(tss.TPMS_ECC_POINT(x=x, y=y))

        def work(key: Any, session: Any) -> bytearray:
            shared = self._esapi.ecdh_zgen(key, point, session1=session)
            return bytearray(bytes(shared.point.x))

        return self._loaded(blob, auth, work)

    # Secrets behind a PIN

    def seal(self, auth: bytes, secret: bytes) -> bytes:
        """Return a blob that opens with `auth` only."""

        def work() -> bytes:
            template = tss.TPM2B_PUBLIC(
                tss.TPMT_PUBLIC(
                    type=tpm.TPM2_ALG.KEYEDHASH,
                    nameAlg=tpm.TPM2_ALG.SHA256,
                    objectAttributes=_SEALED,
                    parameters=tss.TPMU_PUBLIC_PARMS(
                        keyedHashDetail=tss.TPMS_KEYEDHASH_PARMS(
                            scheme=tss.TPMT_KEYEDHASH_SCHEME(scheme=tpm.TPM2_ALG.NULL)
                        )
                    ),
                )
            )
            sensitive = tss.TPM2B_SENSITIVE_CREATE(
                tss.TPMS_SENSITIVE_CREATE(userAuth=auth, data=tss.TPM2B_SENSITIVE_DATA(secret))
            )
            private, public, *_ = self._esapi.create(
                self._storage, sensitive, template, session1=self._authorization()
            )
            return _blob(private, public)

        return self._command(work)

    def unseal(self, blob: bytes, auth: bytes) -> bytearray:
        """Return what was sealed. Raises `PinIncorrect`; `PinLocked` while the TPM's lockout is on."""
        return bytearray(
            self._with(blob, auth, lambda key, session: self._esapi.unseal(key, session1=session))
        )

    def reseal(self, blob: bytes, auth: bytes, new: bytes) -> bytes:
        """Return a blob of the same secret that opens with `new`."""

        def work(key: Any, session: Any) -> bytes:
            private = self._esapi.object_change_auth(key, self._storage, new, session1=session)
            return _blob(private, _parts(blob)[1])

        return self._loaded(blob, auth, work)

    def _with(self, blob: bytes, auth: bytes, work: Callable[[Any, Any], Any]) -> bytes:
        return self._loaded(blob, auth, lambda key, session: bytes(work(key, session)))

    def _loaded(self, blob: bytes, auth: bytes, work: Callable[[Any, Any], T]) -> T:
        def command() -> T:
            with self._key(blob, auth) as key:
                return work(key, self._authorization())

        return self._command(command)

    @contextmanager
    def _key(self, blob: bytes, auth: bytes) -> Iterator[Any]:
        private, public = _parts(blob)
        handle = self._esapi.load(self._storage, private, public)
        try:
            self._esapi.tr_set_auth(handle, auth)
            yield handle
        finally:
            try:
                self._esapi.flush_context(handle)
            except tss.TSS2_Exception:
                pass  # the connection broke, and with it went the key


# A TPM that was reset has forgotten session and storage key: reference errors, as the specification has them.
_SESSION_GONE = (
    *range(tpm.TPM2_RC.REFERENCE_H0, tpm.TPM2_RC.REFERENCE_H0 + 7),
    *range(tpm.TPM2_RC.REFERENCE_S0, tpm.TPM2_RC.REFERENCE_S0 + 7),
)


def _blob(private: Any, public: Any) -> bytes:
    """Return both halves of an object, each with its length before it, as a TPM writes them."""
    return bytes(private.marshal()) + bytes(public.marshal())


def _parts(blob: bytes) -> tuple[Any, Any]:
    try:
        private, used = tss.TPM2B_PRIVATE.unmarshal(blob)
        public, rest = tss.TPM2B_PUBLIC.unmarshal(blob[used:])
    except (tss.TSS2_Exception, ValueError):
        raise DeviceError("that is no key of a TPM") from None
    if used + rest != len(blob):
        raise DeviceError("that is no key of a TPM")
    return private, public
