# Dual-function cryptographic functions (Section 5.17): an update of two operations at once. When the cipher gives no
# output (an error, a length query, a buffer too small), the other operation gets no data.


cdef CK_RV C_DigestEncryptUpdate(
    CK_SESSION_HANDLE hSession, CK_BYTE_PTR pPart, CK_ULONG ulPartLen, CK_BYTE_PTR pEncryptedPart,
    CK_ULONG_PTR pulEncryptedPartLen
) noexcept nogil:
    return both(hSession, FERRO_ENCRYPT, FERRO_DIGEST, pPart, ulPartLen, pEncryptedPart, pulEncryptedPartLen)


cdef CK_RV C_DecryptDigestUpdate(
    CK_SESSION_HANDLE hSession, CK_BYTE_PTR pEncryptedPart, CK_ULONG ulEncryptedPartLen, CK_BYTE_PTR pPart,
    CK_ULONG_PTR pulPartLen
) noexcept nogil:
    return both(hSession, FERRO_DECRYPT, FERRO_DIGEST, pEncryptedPart, ulEncryptedPartLen, pPart, pulPartLen)


cdef CK_RV C_SignEncryptUpdate(
    CK_SESSION_HANDLE hSession, CK_BYTE_PTR pPart, CK_ULONG ulPartLen, CK_BYTE_PTR pEncryptedPart,
    CK_ULONG_PTR pulEncryptedPartLen
) noexcept nogil:
    return both(hSession, FERRO_ENCRYPT, FERRO_SIGN, pPart, ulPartLen, pEncryptedPart, pulEncryptedPartLen)


cdef CK_RV C_DecryptVerifyUpdate(
    CK_SESSION_HANDLE hSession, CK_BYTE_PTR pEncryptedPart, CK_ULONG ulEncryptedPartLen, CK_BYTE_PTR pPart,
    CK_ULONG_PTR pulPartLen
) noexcept nogil:
    return both(hSession, FERRO_DECRYPT, FERRO_VERIFY, pEncryptedPart, ulEncryptedPartLen, pPart, pulPartLen)


cdef CK_RV both(
    CK_SESSION_HANDLE handle, int cipher, int reader, CK_BYTE *data, CK_ULONG length, CK_BYTE *out,
    CK_ULONG *out_length
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.data, call.data_length = data, length
    call.out, call.out_length = out, out_length
    call.bad = unreadable(data, length) or out_length == NULL
    call.number = reader
    return alone(handle, cipher, &call, both_work, quick_both)


cdef CK_RV both_work(Call *call) except *:
    cdef ferro_operation *cipher = &call.session.operations[call.operation]
    cdef ferro_operation *reader = &call.session.operations[call.number]
    cdef CK_RV rv
    if cipher.kind == FERRO_IDLE or reader.kind == FERRO_IDLE or reader.signature != NULL:
        return CKR_OPERATION_NOT_INITIALIZED
    rv = in_parts(call, cipher)
    if rv == CKR_OK:
        rv = in_parts(call, reader)
    if rv != CKR_OK:
        return rv
    bound, other = bound_of(cipher), bound_of(reader)
    try:
        rv = fits_exactly(call, length_of(call, bound.update_length, (call.data_length,)))
        if rv != CKR_OK or call.out == NULL:
            return rv
        result = with_input(call, bound.update)
        if cipher.kind == FERRO_KERNEL and cipher.phase == FERRO_FRESH:
            rv = noted(call, memo_of(cipher), CKR_OK, FERRO_USE_FIRST, 0)
            if rv != CKR_OK:
                drop_operation(cipher)
                return rv
        cipher.phase = FERRO_PARTS
    except BaseException:
        drop_operation(cipher)
        raise
    try:  # before anything is put out: input and output may be the same memory
        if call.operation == FERRO_ENCRYPT:
            with_input(call, other.update)
        else:
            with memoryview(result) as plain:
                drive(call, other.update(plain))
        reader.phase = FERRO_PARTS
        return put_checked(call, result)
    except BaseException:
        drop_operation(cipher)
        drop_operation(reader)
        raise
