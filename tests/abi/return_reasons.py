"""Why a return value that the specification lists for a function is not provoked by a test.

A reason stands for a value (`CODES`), for values of a group of functions (`GROUPS`), or for a pair (`PAIRS`).
"""

from __future__ import annotations

CODES: dict[str, str] = {
    "CKR_SESSION_CLOSED": "only while another thread closes the session during the call; all leave by one "
    "way (shapes.pxi, leave), which is provoked with C_Digest",
    "CKR_PENDING": "the function is always done at once (ADR 15 lists those that are not)",
    "CKR_OPERATION_CANCEL_FAILED": "an operation ends when it is told to; C_SessionCancel has its test",
    "CKR_CANT_LOCK": "the module locks by itself, whatever the host's functions are",
    "CKR_SESSION_COUNT": "there is no limit but that of handles, 2^64 (2^32 on Windows)",
    "CKR_INFORMATION_SENSITIVE": "an object's size is that of its attributes, which is no secret",
}

# Answered from what the module itself holds: no adapter is asked.
_LOCAL = frozenset(
    (
        *("C_GetInfo", "C_GetFunctionList", "C_GetInterfaceList", "C_GetInterface", "C_GetFunctionStatus"),
        *("C_CancelFunction", "C_GetSessionInfo", "C_GetSessionValidationFlags", "C_CloseSession"),
        *("C_CloseAllSessions", "C_SessionCancel", "C_WaitForSlotEvent", "C_GetSlotList", "C_GetSlotInfo"),
        *("C_MessageEncryptFinal", "C_MessageDecryptFinal", "C_MessageSignFinal", "C_MessageVerifyFinal"),
        *("C_FindObjects", "C_FindObjectsFinal", "C_Logout", "C_OpenSession", "C_Initialize", "C_Finalize"),
        *("C_GetOperationState", "C_SetOperationState", "C_AsyncGetID", "C_AsyncJoin"),
        *("C_GetMechanismList", "C_GetMechanismInfo"),
        # The operation of the message was made, and checked, when the process began.
        *("C_SignMessageBegin", "C_VerifyMessageBegin"),
    )
)
_DEVICE = frozenset(
    (
        *("CKR_GENERAL_ERROR", "CKR_FUNCTION_FAILED", "CKR_HOST_MEMORY", "CKR_DEVICE_ERROR"),
        *("CKR_DEVICE_MEMORY", "CKR_DEVICE_REMOVED", "CKR_FUNCTION_CANCELED", "CKR_TOKEN_RESOURCE_EXCEEDED"),
        *("CKR_FUNCTION_REJECTED", "CKR_PIN_EXPIRED", "CKR_TOKEN_WRITE_PROTECTED"),
    )
)
# Functions that share a session with others instead of having it alone.
_BESIDE = frozenset(
    (
        *(
            "C_InitPIN",
            "C_SetPIN",
            "C_CloseSession",
            "C_GetSessionInfo",
            "C_Login",
            "C_LoginUser",
            "C_Logout",
        ),
        *("C_CreateObject", "C_CopyObject", "C_DestroyObject", "C_GetObjectSize", "C_GetAttributeValue"),
        *("C_SetAttributeValue", "C_GenerateKey", "C_WrapKey", "C_UnwrapKey", "C_DeriveKey", "C_SeedRandom"),
        *("C_GenerateRandom", "C_GetFunctionStatus", "C_CancelFunction", "C_SessionCancel"),
        *("C_EncapsulateKey", "C_DecapsulateKey", "C_WrapKeyAuthenticated", "C_UnwrapKeyAuthenticated"),
        *("C_GetSessionValidationFlags", "C_FindObjects", "C_FindObjectsFinal"),
    )
)
GROUPS: list[tuple[frozenset[str], frozenset[str], str]] = [
    (_DEVICE, _LOCAL, "no adapter is asked: there is nothing that could fail so"),
    (frozenset(("CKR_OPERATION_ACTIVE",)), _BESIDE, "it works beside whatever goes on in the session"),
    (
        frozenset(("CKR_TOKEN_NOT_RECOGNIZED",)),
        frozenset(("C_GetTokenInfo", "C_GetMechanismList", "C_GetMechanismInfo", "C_InitToken")),
        "a token that was not initialized is described, and initialized",
    ),
    (
        frozenset(("CKR_TOKEN_NOT_PRESENT",)),
        frozenset(("C_CloseAllSessions", "C_SessionCancel", "C_AsyncGetID", "C_AsyncJoin")),
        "with a token that was taken out its sessions answer CKR_DEVICE_REMOVED, or are closed",
    ),
    (
        frozenset(("CKR_ARGUMENTS_BAD", "CKR_USER_NOT_LOGGED_IN", "CKR_DATA_LEN_RANGE")),
        frozenset(f"C_Message{family}Final" for family in ("Encrypt", "Decrypt", "Sign", "Verify")),
        "the function has a session for its only argument, and ends the process whoever is logged in",
    ),
    (
        frozenset(("CKR_BUFFER_TOO_SMALL",)),
        frozenset(("C_UnwrapKey", "C_DecapsulateKey", "C_UnwrapKeyAuthenticated", "C_GetInterface")),
        "the function has no output of variable length",
    ),
]
PAIRS: dict[tuple[str, str], str] = {
    ("C_DecryptMessageBegin", "CKR_ARGUMENTS_BAD"): "as C_EncryptMessageBegin, which shares its way",
    ("C_SignMessageBegin", "CKR_ARGUMENTS_BAD"): "it has no pointer that is looked at",
    ("C_VerifyMessageBegin", "CKR_ARGUMENTS_BAD"): "it has no pointer that is looked at",
    ("C_VerifySignatureFinal", "CKR_ARGUMENTS_BAD"): "a session is its only argument",
    ("C_GetFunctionStatus", "CKR_OK"): "it is always CKR_FUNCTION_NOT_PARALLEL",
    ("C_CancelFunction", "CKR_OK"): "it is always CKR_FUNCTION_NOT_PARALLEL",
    ("C_SetAttributeValue", "CKR_USER_NOT_LOGGED_IN"): "what a session may not see has no handle in it",
    (
        "C_DecapsulateKey",
        "CKR_USER_NOT_LOGGED_IN",
    ): "a private key has no handle without a login; one that wants "
    "its PIN at each use is provoked with C_UnwrapKey and C_DeriveKey",
    ("C_VerifyMessageBegin", "CKR_USER_NOT_LOGGED_IN"): "no key that verifies asks for a PIN",
    ("C_InitPIN", "CKR_SESSION_READ_ONLY"): "a security officer's sessions are all read/write",
}


def why(function: str, value: str) -> str | None:
    """Return the reason, None when there is none."""
    for values, functions, reason in GROUPS:
        if value in values and function in functions:
            return reason
    return PAIRS.get((function, value)) or CODES.get(value)
