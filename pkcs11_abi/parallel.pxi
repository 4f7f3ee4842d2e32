# Parallel function management functions (Section 5.20), legacy: no function runs in parallel with the caller.


cdef CK_RV C_GetFunctionStatus(CK_SESSION_HANDLE hSession) noexcept nogil:
    return not_parallel(hSession)


cdef CK_RV C_CancelFunction(CK_SESSION_HANDLE hSession) noexcept nogil:
    return not_parallel(hSession)


cdef CK_RV not_parallel(CK_SESSION_HANDLE handle) noexcept nogil:
    cdef CK_RV rv = known_session(handle)
    return CKR_FUNCTION_NOT_PARALLEL if rv == CKR_OK else rv
