# Functions for verifying signatures and MACs (Section 5.15).


cdef CK_RV C_VerifyInit(
    CK_SESSION_HANDLE hSession, CK_MECHANISM_PTR pMechanism, CK_OBJECT_HANDLE hKey
) noexcept nogil:
    return begin(hSession, FERRO_VERIFY, pMechanism, hKey)


cdef CK_RV C_Verify(
    CK_SESSION_HANDLE hSession, CK_BYTE_PTR pData, CK_ULONG ulDataLen, CK_BYTE_PTR pSignature, CK_ULONG ulSignatureLen
) noexcept nogil:
    return verify(hSession, pData, ulDataLen, pSignature, ulSignatureLen, verify_in_one, quick_verify_in_one)


cdef CK_RV C_VerifyUpdate(CK_SESSION_HANDLE hSession, CK_BYTE_PTR pPart, CK_ULONG ulPartLen) noexcept nogil:
    cdef Call call
    clear(&call)
    call.data, call.data_length = pPart, ulPartLen
    call.bad = unreadable(pPart, ulPartLen)
    return alone(hSession, FERRO_VERIFY, &call, verify_part, quick_verify_part)


cdef CK_RV C_VerifyFinal(
    CK_SESSION_HANDLE hSession, CK_BYTE_PTR pSignature, CK_ULONG ulSignatureLen
) noexcept nogil:
    return verify(hSession, NULL, 0, pSignature, ulSignatureLen, verify_at_end, quick_verify_at_end)


cdef CK_RV C_VerifyRecoverInit(
    CK_SESSION_HANDLE hSession, CK_MECHANISM_PTR pMechanism, CK_OBJECT_HANDLE hKey
) noexcept nogil:
    return begin(hSession, FERRO_VERIFY_RECOVER, pMechanism, hKey)


cdef CK_RV C_VerifyRecover(
    CK_SESSION_HANDLE hSession, CK_BYTE_PTR pSignature, CK_ULONG ulSignatureLen, CK_BYTE_PTR pData,
    CK_ULONG_PTR pulDataLen
) noexcept nogil:
    return transform(hSession, FERRO_VERIFY_RECOVER, pSignature, ulSignatureLen, pData, pulDataLen)


cdef CK_RV C_VerifySignatureInit(
    CK_SESSION_HANDLE hSession, CK_MECHANISM_PTR pMechanism, CK_OBJECT_HANDLE hKey, CK_BYTE_PTR pSignature,
    CK_ULONG ulSignatureLen
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.mechanism, call.key = pMechanism, hKey
    call.extra, call.extra_length = pSignature, ulSignatureLen
    call.bad = pSignature == NULL or unreadable(pSignature, ulSignatureLen)
    return alone(hSession, FERRO_VERIFY, &call, begin_work, quick_begin)


cdef CK_RV C_VerifySignature(CK_SESSION_HANDLE hSession, CK_BYTE_PTR pData, CK_ULONG ulDataLen) noexcept nogil:
    return verify(hSession, pData, ulDataLen, NULL, 0, verify_given_in_one, quick_given_in_one)


cdef CK_RV C_VerifySignatureUpdate(CK_SESSION_HANDLE hSession, CK_BYTE_PTR pPart, CK_ULONG ulPartLen) noexcept nogil:
    cdef Call call
    clear(&call)
    call.data, call.data_length = pPart, ulPartLen
    call.bad = unreadable(pPart, ulPartLen)
    return alone(hSession, FERRO_VERIFY, &call, verify_given_part, quick_given_part)


cdef CK_RV C_VerifySignatureFinal(CK_SESSION_HANDLE hSession) noexcept nogil:
    return verify(hSession, NULL, 0, NULL, 0, verify_given_at_end, quick_given_at_end)


# The two families share a place in the session, but not their operations: a signature that was given at the beginning
# belongs to the second.


cdef CK_RV verify_in_one(Call *call) except *:
    return check(call, False, True)


cdef CK_RV verify_at_end(Call *call) except *:
    return check(call, False, False)


cdef CK_RV verify_given_in_one(Call *call) except *:
    return check(call, True, True)


cdef CK_RV verify_given_at_end(Call *call) except *:
    return check(call, True, False)


cdef CK_RV verify_part(Call *call) except *:
    if call.session.operations[FERRO_VERIFY].signature != NULL:
        return CKR_OPERATION_NOT_INITIALIZED
    return absorb_work(call)


cdef CK_RV verify_given_part(Call *call) except *:
    if call.session.operations[FERRO_VERIFY].signature == NULL:
        return CKR_OPERATION_NOT_INITIALIZED
    return absorb_work(call)
