# Encryption functions (Section 5.8).


cdef CK_RV C_EncryptInit(
    CK_SESSION_HANDLE hSession, CK_MECHANISM_PTR pMechanism, CK_OBJECT_HANDLE hKey
) noexcept nogil:
    return begin(hSession, FERRO_ENCRYPT, pMechanism, hKey)


cdef CK_RV C_Encrypt(
    CK_SESSION_HANDLE hSession, CK_BYTE_PTR pData, CK_ULONG ulDataLen, CK_BYTE_PTR pEncryptedData,
    CK_ULONG_PTR pulEncryptedDataLen
) noexcept nogil:
    return transform(hSession, FERRO_ENCRYPT, pData, ulDataLen, pEncryptedData, pulEncryptedDataLen)


cdef CK_RV C_EncryptUpdate(
    CK_SESSION_HANDLE hSession, CK_BYTE_PTR pPart, CK_ULONG ulPartLen, CK_BYTE_PTR pEncryptedPart,
    CK_ULONG_PTR pulEncryptedPartLen
) noexcept nogil:
    return update(hSession, FERRO_ENCRYPT, pPart, ulPartLen, pEncryptedPart, pulEncryptedPartLen)


cdef CK_RV C_EncryptFinal(
    CK_SESSION_HANDLE hSession, CK_BYTE_PTR pLastEncryptedPart, CK_ULONG_PTR pulLastEncryptedPartLen
) noexcept nogil:
    return finish(hSession, FERRO_ENCRYPT, pLastEncryptedPart, pulLastEncryptedPartLen)
