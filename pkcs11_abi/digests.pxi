# Message digesting functions (Section 5.12).


cdef CK_RV C_DigestInit(CK_SESSION_HANDLE hSession, CK_MECHANISM_PTR pMechanism) noexcept nogil:
    return begin(hSession, FERRO_DIGEST, pMechanism, 0)


cdef CK_RV C_Digest(
    CK_SESSION_HANDLE hSession, CK_BYTE_PTR pData, CK_ULONG ulDataLen, CK_BYTE_PTR pDigest, CK_ULONG_PTR pulDigestLen
) noexcept nogil:
    return transform(hSession, FERRO_DIGEST, pData, ulDataLen, pDigest, pulDigestLen)


cdef CK_RV C_DigestUpdate(CK_SESSION_HANDLE hSession, CK_BYTE_PTR pPart, CK_ULONG ulPartLen) noexcept nogil:
    return absorb(hSession, FERRO_DIGEST, pPart, ulPartLen)


cdef CK_RV C_DigestKey(CK_SESSION_HANDLE hSession, CK_OBJECT_HANDLE hKey) noexcept nogil:
    cdef Call call
    clear(&call)
    call.key = hKey
    return alone(hSession, FERRO_DIGEST, &call, digest_key, NULL)


cdef CK_RV digest_key(Call *call) except *:
    cdef ferro_operation *operation = &call.session.operations[FERRO_DIGEST]
    cdef CK_RV rv = in_parts(call, operation)
    if rv != CKR_OK:
        return rv
    try:
        key = object_id(call.session, call.key, errors.KeyHandleInvalid)
        bound = bound_of(operation)
        work = core().digest_key(core_session(call.session), bound, key)
        if operation.kind == FERRO_PYTHON and defers(call, None):
            hold_place(call, operation, job_for(call, "C_DigestKey", GIVES_NOTHING, work, inputs(None, [])), GOES_ON)
            return CKR_PENDING
        drive(call, work)
    except BaseException:
        drop_operation(operation)
        raise
    operation.phase = FERRO_PARTS
    return CKR_OK


cdef CK_RV C_DigestFinal(
    CK_SESSION_HANDLE hSession, CK_BYTE_PTR pDigest, CK_ULONG_PTR pulDigestLen
) noexcept nogil:
    return finish(hSession, FERRO_DIGEST, pDigest, pulDigestLen)
