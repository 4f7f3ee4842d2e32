"""One exception tree: every refusal carries its ``CKR_*`` (PKCS#11 3.2, "Function return values").

Raise the class that names the refusal; the message is for the log and the command line and never
holds a PIN, a key or a plaintext. The ABI turns an `HsmError` into its `rv`; any other exception
becomes ``CKR_FUNCTION_FAILED`` there, in one place (`ferrohsm.translation`).
"""

from __future__ import annotations

from ferrohsm import constants as ck

_BY_RV: dict[int, type[HsmError]] = {}


class HsmError(Exception):
    """A refusal or a failure with its return value."""

    rv: int = ck.CKR_GENERAL_ERROR

    def __init_subclass__(cls, *, rv: int | None = None) -> None:
        if rv is None:  # a finer kind of one that is here: an adapter's own
            return
        if rv in _BY_RV:
            raise TypeError(f"two error classes for {ck.name('CKR', rv)}")
        cls.rv = rv
        _BY_RV[rv] = cls

    def __str__(self) -> str:
        return super().__str__() or ck.name("CKR", self.rv)


class HostMemory(HsmError, rv=ck.CKR_HOST_MEMORY):
    """``CKR_HOST_MEMORY``."""


class SlotIdInvalid(HsmError, rv=ck.CKR_SLOT_ID_INVALID):
    """``CKR_SLOT_ID_INVALID``."""


class GeneralError(HsmError, rv=ck.CKR_GENERAL_ERROR):
    """``CKR_GENERAL_ERROR``."""


class FunctionFailed(HsmError, rv=ck.CKR_FUNCTION_FAILED):
    """``CKR_FUNCTION_FAILED``."""


class ArgumentsBad(HsmError, rv=ck.CKR_ARGUMENTS_BAD):
    """``CKR_ARGUMENTS_BAD``."""


class NoEvent(HsmError, rv=ck.CKR_NO_EVENT):
    """``CKR_NO_EVENT``."""


class NeedToCreateThreads(HsmError, rv=ck.CKR_NEED_TO_CREATE_THREADS):
    """``CKR_NEED_TO_CREATE_THREADS``."""


class CantLock(HsmError, rv=ck.CKR_CANT_LOCK):
    """``CKR_CANT_LOCK``."""


class AttributeReadOnly(HsmError, rv=ck.CKR_ATTRIBUTE_READ_ONLY):
    """``CKR_ATTRIBUTE_READ_ONLY``."""


class AttributeSensitive(HsmError, rv=ck.CKR_ATTRIBUTE_SENSITIVE):
    """``CKR_ATTRIBUTE_SENSITIVE``."""


class AttributeTypeInvalid(HsmError, rv=ck.CKR_ATTRIBUTE_TYPE_INVALID):
    """``CKR_ATTRIBUTE_TYPE_INVALID``."""


class AttributeValueInvalid(HsmError, rv=ck.CKR_ATTRIBUTE_VALUE_INVALID):
    """``CKR_ATTRIBUTE_VALUE_INVALID``."""


class ActionProhibited(HsmError, rv=ck.CKR_ACTION_PROHIBITED):
    """``CKR_ACTION_PROHIBITED``."""


class DataInvalid(HsmError, rv=ck.CKR_DATA_INVALID):
    """``CKR_DATA_INVALID``."""


class DataLenRange(HsmError, rv=ck.CKR_DATA_LEN_RANGE):
    """``CKR_DATA_LEN_RANGE``."""


class DeviceError(HsmError, rv=ck.CKR_DEVICE_ERROR):
    """``CKR_DEVICE_ERROR``."""


class DeviceMemory(HsmError, rv=ck.CKR_DEVICE_MEMORY):
    """``CKR_DEVICE_MEMORY``."""


class DeviceRemoved(HsmError, rv=ck.CKR_DEVICE_REMOVED):
    """``CKR_DEVICE_REMOVED``."""


class EncryptedDataInvalid(HsmError, rv=ck.CKR_ENCRYPTED_DATA_INVALID):
    """``CKR_ENCRYPTED_DATA_INVALID``."""


class EncryptedDataLenRange(HsmError, rv=ck.CKR_ENCRYPTED_DATA_LEN_RANGE):
    """``CKR_ENCRYPTED_DATA_LEN_RANGE``."""


class AeadDecryptFailed(HsmError, rv=ck.CKR_AEAD_DECRYPT_FAILED):
    """``CKR_AEAD_DECRYPT_FAILED``."""


class FunctionCanceled(HsmError, rv=ck.CKR_FUNCTION_CANCELED):
    """``CKR_FUNCTION_CANCELED``."""


class FunctionNotParallel(HsmError, rv=ck.CKR_FUNCTION_NOT_PARALLEL):
    """``CKR_FUNCTION_NOT_PARALLEL``."""


class FunctionNotSupported(HsmError, rv=ck.CKR_FUNCTION_NOT_SUPPORTED):
    """``CKR_FUNCTION_NOT_SUPPORTED``."""


class KeyHandleInvalid(HsmError, rv=ck.CKR_KEY_HANDLE_INVALID):
    """``CKR_KEY_HANDLE_INVALID``."""


class KeySizeRange(HsmError, rv=ck.CKR_KEY_SIZE_RANGE):
    """``CKR_KEY_SIZE_RANGE``."""


class KeyTypeInconsistent(HsmError, rv=ck.CKR_KEY_TYPE_INCONSISTENT):
    """``CKR_KEY_TYPE_INCONSISTENT``."""


class KeyNotNeeded(HsmError, rv=ck.CKR_KEY_NOT_NEEDED):
    """``CKR_KEY_NOT_NEEDED``."""


class KeyChanged(HsmError, rv=ck.CKR_KEY_CHANGED):
    """``CKR_KEY_CHANGED``."""


class KeyNeeded(HsmError, rv=ck.CKR_KEY_NEEDED):
    """``CKR_KEY_NEEDED``."""


class KeyIndigestible(HsmError, rv=ck.CKR_KEY_INDIGESTIBLE):
    """``CKR_KEY_INDIGESTIBLE``."""


class KeyFunctionNotPermitted(HsmError, rv=ck.CKR_KEY_FUNCTION_NOT_PERMITTED):
    """``CKR_KEY_FUNCTION_NOT_PERMITTED``."""


class KeyNotWrappable(HsmError, rv=ck.CKR_KEY_NOT_WRAPPABLE):
    """``CKR_KEY_NOT_WRAPPABLE``."""


class KeyUnextractable(HsmError, rv=ck.CKR_KEY_UNEXTRACTABLE):
    """``CKR_KEY_UNEXTRACTABLE``."""


class MechanismInvalid(HsmError, rv=ck.CKR_MECHANISM_INVALID):
    """``CKR_MECHANISM_INVALID``."""


class MechanismParamInvalid(HsmError, rv=ck.CKR_MECHANISM_PARAM_INVALID):
    """``CKR_MECHANISM_PARAM_INVALID``."""


class ObjectHandleInvalid(HsmError, rv=ck.CKR_OBJECT_HANDLE_INVALID):
    """``CKR_OBJECT_HANDLE_INVALID``."""


class OperationActive(HsmError, rv=ck.CKR_OPERATION_ACTIVE):
    """``CKR_OPERATION_ACTIVE``."""


class OperationNotInitialized(HsmError, rv=ck.CKR_OPERATION_NOT_INITIALIZED):
    """``CKR_OPERATION_NOT_INITIALIZED``."""


class PinIncorrect(HsmError, rv=ck.CKR_PIN_INCORRECT):
    """``CKR_PIN_INCORRECT``."""


class PinInvalid(HsmError, rv=ck.CKR_PIN_INVALID):
    """``CKR_PIN_INVALID``."""


class PinLenRange(HsmError, rv=ck.CKR_PIN_LEN_RANGE):
    """``CKR_PIN_LEN_RANGE``."""


class PinExpired(HsmError, rv=ck.CKR_PIN_EXPIRED):
    """``CKR_PIN_EXPIRED``."""


class PinLocked(HsmError, rv=ck.CKR_PIN_LOCKED):
    """``CKR_PIN_LOCKED``."""


class SessionClosed(HsmError, rv=ck.CKR_SESSION_CLOSED):
    """``CKR_SESSION_CLOSED``."""


class SessionCount(HsmError, rv=ck.CKR_SESSION_COUNT):
    """``CKR_SESSION_COUNT``."""


class SessionHandleInvalid(HsmError, rv=ck.CKR_SESSION_HANDLE_INVALID):
    """``CKR_SESSION_HANDLE_INVALID``."""


class SessionParallelNotSupported(HsmError, rv=ck.CKR_SESSION_PARALLEL_NOT_SUPPORTED):
    """``CKR_SESSION_PARALLEL_NOT_SUPPORTED``."""


class SessionReadOnly(HsmError, rv=ck.CKR_SESSION_READ_ONLY):
    """``CKR_SESSION_READ_ONLY``."""


class SessionExists(HsmError, rv=ck.CKR_SESSION_EXISTS):
    """``CKR_SESSION_EXISTS``."""


class SessionReadOnlyExists(HsmError, rv=ck.CKR_SESSION_READ_ONLY_EXISTS):
    """``CKR_SESSION_READ_ONLY_EXISTS``."""


class SessionReadWriteSoExists(HsmError, rv=ck.CKR_SESSION_READ_WRITE_SO_EXISTS):
    """``CKR_SESSION_READ_WRITE_SO_EXISTS``."""


class SignatureInvalid(HsmError, rv=ck.CKR_SIGNATURE_INVALID):
    """``CKR_SIGNATURE_INVALID``."""


class SignatureLenRange(HsmError, rv=ck.CKR_SIGNATURE_LEN_RANGE):
    """``CKR_SIGNATURE_LEN_RANGE``."""


class TemplateIncomplete(HsmError, rv=ck.CKR_TEMPLATE_INCOMPLETE):
    """``CKR_TEMPLATE_INCOMPLETE``."""


class TemplateInconsistent(HsmError, rv=ck.CKR_TEMPLATE_INCONSISTENT):
    """``CKR_TEMPLATE_INCONSISTENT``."""


class TokenNotPresent(HsmError, rv=ck.CKR_TOKEN_NOT_PRESENT):
    """``CKR_TOKEN_NOT_PRESENT``."""


class TokenNotRecognized(HsmError, rv=ck.CKR_TOKEN_NOT_RECOGNIZED):
    """``CKR_TOKEN_NOT_RECOGNIZED``."""


class TokenWriteProtected(HsmError, rv=ck.CKR_TOKEN_WRITE_PROTECTED):
    """``CKR_TOKEN_WRITE_PROTECTED``."""


class UnwrappingKeyHandleInvalid(HsmError, rv=ck.CKR_UNWRAPPING_KEY_HANDLE_INVALID):
    """``CKR_UNWRAPPING_KEY_HANDLE_INVALID``."""


class UnwrappingKeySizeRange(HsmError, rv=ck.CKR_UNWRAPPING_KEY_SIZE_RANGE):
    """``CKR_UNWRAPPING_KEY_SIZE_RANGE``."""


class UnwrappingKeyTypeInconsistent(HsmError, rv=ck.CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT):
    """``CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT``."""


class UserAlreadyLoggedIn(HsmError, rv=ck.CKR_USER_ALREADY_LOGGED_IN):
    """``CKR_USER_ALREADY_LOGGED_IN``."""


class UserNotLoggedIn(HsmError, rv=ck.CKR_USER_NOT_LOGGED_IN):
    """``CKR_USER_NOT_LOGGED_IN``."""


class UserPinNotInitialized(HsmError, rv=ck.CKR_USER_PIN_NOT_INITIALIZED):
    """``CKR_USER_PIN_NOT_INITIALIZED``."""


class UserTypeInvalid(HsmError, rv=ck.CKR_USER_TYPE_INVALID):
    """``CKR_USER_TYPE_INVALID``."""


class UserAnotherAlreadyLoggedIn(HsmError, rv=ck.CKR_USER_ANOTHER_ALREADY_LOGGED_IN):
    """``CKR_USER_ANOTHER_ALREADY_LOGGED_IN``."""


class UserTooManyTypes(HsmError, rv=ck.CKR_USER_TOO_MANY_TYPES):
    """``CKR_USER_TOO_MANY_TYPES``."""


class WrappedKeyInvalid(HsmError, rv=ck.CKR_WRAPPED_KEY_INVALID):
    """``CKR_WRAPPED_KEY_INVALID``."""


class WrappedKeyLenRange(HsmError, rv=ck.CKR_WRAPPED_KEY_LEN_RANGE):
    """``CKR_WRAPPED_KEY_LEN_RANGE``."""


class WrappingKeyHandleInvalid(HsmError, rv=ck.CKR_WRAPPING_KEY_HANDLE_INVALID):
    """``CKR_WRAPPING_KEY_HANDLE_INVALID``."""


class WrappingKeySizeRange(HsmError, rv=ck.CKR_WRAPPING_KEY_SIZE_RANGE):
    """``CKR_WRAPPING_KEY_SIZE_RANGE``."""


class WrappingKeyTypeInconsistent(HsmError, rv=ck.CKR_WRAPPING_KEY_TYPE_INCONSISTENT):
    """``CKR_WRAPPING_KEY_TYPE_INCONSISTENT``."""


class RandomSeedNotSupported(HsmError, rv=ck.CKR_RANDOM_SEED_NOT_SUPPORTED):
    """``CKR_RANDOM_SEED_NOT_SUPPORTED``."""


class RandomNoRng(HsmError, rv=ck.CKR_RANDOM_NO_RNG):
    """``CKR_RANDOM_NO_RNG``."""


class DomainParamsInvalid(HsmError, rv=ck.CKR_DOMAIN_PARAMS_INVALID):
    """``CKR_DOMAIN_PARAMS_INVALID``."""


class CurveNotSupported(HsmError, rv=ck.CKR_CURVE_NOT_SUPPORTED):
    """``CKR_CURVE_NOT_SUPPORTED``."""


class BufferTooSmall(HsmError, rv=ck.CKR_BUFFER_TOO_SMALL):
    """``CKR_BUFFER_TOO_SMALL``."""


class SavedStateInvalid(HsmError, rv=ck.CKR_SAVED_STATE_INVALID):
    """``CKR_SAVED_STATE_INVALID``."""


class InformationSensitive(HsmError, rv=ck.CKR_INFORMATION_SENSITIVE):
    """``CKR_INFORMATION_SENSITIVE``."""


class StateUnsaveable(HsmError, rv=ck.CKR_STATE_UNSAVEABLE):
    """``CKR_STATE_UNSAVEABLE``."""


class CryptokiNotInitialized(HsmError, rv=ck.CKR_CRYPTOKI_NOT_INITIALIZED):
    """``CKR_CRYPTOKI_NOT_INITIALIZED``."""


class CryptokiAlreadyInitialized(HsmError, rv=ck.CKR_CRYPTOKI_ALREADY_INITIALIZED):
    """``CKR_CRYPTOKI_ALREADY_INITIALIZED``."""


class MutexBad(HsmError, rv=ck.CKR_MUTEX_BAD):
    """``CKR_MUTEX_BAD``."""


class MutexNotLocked(HsmError, rv=ck.CKR_MUTEX_NOT_LOCKED):
    """``CKR_MUTEX_NOT_LOCKED``."""


class NewPinMode(HsmError, rv=ck.CKR_NEW_PIN_MODE):
    """``CKR_NEW_PIN_MODE``."""


class NextOtp(HsmError, rv=ck.CKR_NEXT_OTP):
    """``CKR_NEXT_OTP``."""


class ExceededMaxIterations(HsmError, rv=ck.CKR_EXCEEDED_MAX_ITERATIONS):
    """``CKR_EXCEEDED_MAX_ITERATIONS``."""


class FipsSelfTestFailed(HsmError, rv=ck.CKR_FIPS_SELF_TEST_FAILED):
    """``CKR_FIPS_SELF_TEST_FAILED``."""


class LibraryLoadFailed(HsmError, rv=ck.CKR_LIBRARY_LOAD_FAILED):
    """``CKR_LIBRARY_LOAD_FAILED``."""


class PinTooWeak(HsmError, rv=ck.CKR_PIN_TOO_WEAK):
    """``CKR_PIN_TOO_WEAK``."""


class PublicKeyInvalid(HsmError, rv=ck.CKR_PUBLIC_KEY_INVALID):
    """``CKR_PUBLIC_KEY_INVALID``."""


class FunctionRejected(HsmError, rv=ck.CKR_FUNCTION_REJECTED):
    """``CKR_FUNCTION_REJECTED``."""


class TokenResourceExceeded(HsmError, rv=ck.CKR_TOKEN_RESOURCE_EXCEEDED):
    """``CKR_TOKEN_RESOURCE_EXCEEDED``."""


class OperationCancelFailed(HsmError, rv=ck.CKR_OPERATION_CANCEL_FAILED):
    """``CKR_OPERATION_CANCEL_FAILED``."""


class KeyExhausted(HsmError, rv=ck.CKR_KEY_EXHAUSTED):
    """``CKR_KEY_EXHAUSTED``."""


class Pending(HsmError, rv=ck.CKR_PENDING):
    """``CKR_PENDING``."""


class SessionAsyncNotSupported(HsmError, rv=ck.CKR_SESSION_ASYNC_NOT_SUPPORTED):
    """``CKR_SESSION_ASYNC_NOT_SUPPORTED``."""


class SeedRandomRequired(HsmError, rv=ck.CKR_SEED_RANDOM_REQUIRED):
    """``CKR_SEED_RANDOM_REQUIRED``."""


class OperationNotValidated(HsmError, rv=ck.CKR_OPERATION_NOT_VALIDATED):
    """``CKR_OPERATION_NOT_VALIDATED``."""


class TokenNotInitialized(HsmError, rv=ck.CKR_TOKEN_NOT_INITIALIZED):
    """``CKR_TOKEN_NOT_INITIALIZED``."""


class ParameterSetNotSupported(HsmError, rv=ck.CKR_PARAMETER_SET_NOT_SUPPORTED):
    """``CKR_PARAMETER_SET_NOT_SUPPORTED``."""


class VendorError(HsmError, rv=ck.CKR_VENDOR_DEFINED):
    """A return value of a vendor's own, passed through as it is."""

    def __init__(self, rv: int, message: str = "") -> None:
        super().__init__(message)
        self.rv = rv


def from_rv(rv: int, message: str = "") -> HsmError:
    """Return the exception that carries `rv`."""
    cls = _BY_RV.get(rv)
    if cls is None or cls is VendorError:
        return VendorError(rv, message)
    return cls(message)


def return_value(error: BaseException) -> int:
    """Return the ``CKR_*`` of any exception: its own, or the one for what Python itself reports."""
    if isinstance(error, HsmError):
        rv = error.rv
        # CKR_OK is no error: one that says so must not become success.
        return rv if isinstance(rv, int) and 0 < rv < 2**64 else ck.CKR_FUNCTION_FAILED
    if isinstance(error, MemoryError):
        return ck.CKR_HOST_MEMORY
    return ck.CKR_FUNCTION_FAILED
