# Signing and MACing functions (Section 5.13).


cdef CK_RV C_SignInit(
    CK_SESSION_HANDLE hSession, CK_MECHANISM_PTR pMechanism, CK_OBJECT_HANDLE hKey
) noexcept nogil:
    return begin(hSession, FERRO_SIGN, pMechanism, hKey)


cdef CK_RV C_Sign(
    CK_SESSION_HANDLE hSession, CK_BYTE_PTR pData, CK_ULONG ulDataLen, CK_BYTE_PTR pSignature,
    CK_ULONG_PTR pulSignatureLen
) noexcept nogil:
    return transform(hSession, FERRO_SIGN, pData, ulDataLen, pSignature, pulSignatureLen)


cdef CK_RV C_SignUpdate(CK_SESSION_HANDLE hSession, CK_BYTE_PTR pPart, CK_ULONG ulPartLen) noexcept nogil:
    return absorb(hSession, FERRO_SIGN, pPart, ulPartLen)


cdef CK_RV C_SignFinal(
    CK_SESSION_HANDLE hSession, CK_BYTE_PTR pSignature, CK_ULONG_PTR pulSignatureLen
) noexcept nogil:
    return finish(hSession, FERRO_SIGN, pSignature, pulSignatureLen)


cdef CK_RV C_SignRecoverInit(
    CK_SESSION_HANDLE hSession, CK_MECHANISM_PTR pMechanism, CK_OBJECT_HANDLE hKey
) noexcept nogil:
    return begin(hSession, FERRO_SIGN_RECOVER, pMechanism, hKey)


cdef CK_RV C_SignRecover(
    CK_SESSION_HANDLE hSession, CK_BYTE_PTR pData, CK_ULONG ulDataLen, CK_BYTE_PTR pSignature,
    CK_ULONG_PTR pulSignatureLen
) noexcept nogil:
    return transform(hSession, FERRO_SIGN_RECOVER, pData, ulDataLen, pSignature, pulSignatureLen)
