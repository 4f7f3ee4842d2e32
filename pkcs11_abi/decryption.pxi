# Decryption functions (Section 5.10).


cdef CK_RV C_DecryptInit(
    CK_SESSION_HANDLE hSession, CK_MECHANISM_PTR pMechanism, CK_OBJECT_HANDLE hKey
) noexcept nogil:
    return begin(hSession, FERRO_DECRYPT, pMechanism, hKey)


cdef CK_RV C_Decrypt(
    CK_SESSION_HANDLE hSession, CK_BYTE_PTR pEncryptedData, CK_ULONG ulEncryptedDataLen, CK_BYTE_PTR pData,
    CK_ULONG_PTR pulDataLen
) noexcept nogil:
    return transform(hSession, FERRO_DECRYPT, pEncryptedData, ulEncryptedDataLen, pData, pulDataLen)


cdef CK_RV C_DecryptUpdate(
    CK_SESSION_HANDLE hSession, CK_BYTE_PTR pEncryptedPart, CK_ULONG ulEncryptedPartLen, CK_BYTE_PTR pPart,
    CK_ULONG_PTR pulPartLen
) noexcept nogil:
    return update(hSession, FERRO_DECRYPT, pEncryptedPart, ulEncryptedPartLen, pPart, pulPartLen)


cdef CK_RV C_DecryptFinal(
    CK_SESSION_HANDLE hSession, CK_BYTE_PTR pLastPart, CK_ULONG_PTR pulLastPartLen
) noexcept nogil:
    return finish(hSession, FERRO_DECRYPT, pLastPart, pulLastPartLen)
