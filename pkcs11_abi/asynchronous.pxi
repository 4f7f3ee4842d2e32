# Asynchronous function management functions (Section 5.21). C_OpenSession opens no asynchronous session, so no function
# ever is pending.


cdef CK_RV C_AsyncComplete(
    CK_SESSION_HANDLE hSession, CK_UTF8CHAR_PTR pFunctionName, CK_ASYNC_DATA_PTR pResult
) noexcept nogil:
    return refuse(hSession)


cdef CK_RV C_AsyncGetID(
    CK_SESSION_HANDLE hSession, CK_UTF8CHAR_PTR pFunctionName, CK_ULONG_PTR pulID
) noexcept nogil:
    return refuse(hSession)


cdef CK_RV C_AsyncJoin(
    CK_SESSION_HANDLE hSession, CK_UTF8CHAR_PTR pFunctionName, CK_ULONG ulID, CK_BYTE_PTR pData, CK_ULONG
    ulData
) noexcept nogil:
    return refuse(hSession)
