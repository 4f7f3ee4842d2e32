# Message-based encryption, decryption, signing and verifying functions (Sections 5.9, 5.11, 5.14 and 5.16). The
# mechanism list offers no CKF_MESSAGE_… flag, so no operation can be begun.


cdef CK_RV C_MessageEncryptInit(
    CK_SESSION_HANDLE hSession, CK_MECHANISM_PTR pMechanism, CK_OBJECT_HANDLE hKey
) noexcept nogil:
    return refuse(hSession)


cdef CK_RV C_EncryptMessage(
    CK_SESSION_HANDLE hSession, CK_VOID_PTR pParameter, CK_ULONG ulParameterLen, CK_BYTE_PTR pAssociatedData,
    CK_ULONG ulAssociatedDataLen, CK_BYTE_PTR pPlaintext, CK_ULONG ulPlaintextLen, CK_BYTE_PTR pCiphertext,
    CK_ULONG_PTR pulCiphertextLen
) noexcept nogil:
    return refuse(hSession)


cdef CK_RV C_EncryptMessageBegin(
    CK_SESSION_HANDLE hSession, CK_VOID_PTR pParameter, CK_ULONG ulParameterLen, CK_BYTE_PTR pAssociatedData,
    CK_ULONG ulAssociatedDataLen
) noexcept nogil:
    return refuse(hSession)


cdef CK_RV C_EncryptMessageNext(
    CK_SESSION_HANDLE hSession, CK_VOID_PTR pParameter, CK_ULONG ulParameterLen, CK_BYTE_PTR pPlaintextPart,
    CK_ULONG ulPlaintextPartLen, CK_BYTE_PTR pCiphertextPart, CK_ULONG_PTR pulCiphertextPartLen, CK_FLAGS
    flags
) noexcept nogil:
    return refuse(hSession)


cdef CK_RV C_MessageEncryptFinal(CK_SESSION_HANDLE hSession) noexcept nogil:
    return refuse(hSession)


cdef CK_RV C_MessageDecryptInit(
    CK_SESSION_HANDLE hSession, CK_MECHANISM_PTR pMechanism, CK_OBJECT_HANDLE hKey
) noexcept nogil:
    return refuse(hSession)


cdef CK_RV C_DecryptMessage(
    CK_SESSION_HANDLE hSession, CK_VOID_PTR pParameter, CK_ULONG ulParameterLen, CK_BYTE_PTR pAssociatedData,
    CK_ULONG ulAssociatedDataLen, CK_BYTE_PTR pCiphertext, CK_ULONG ulCiphertextLen, CK_BYTE_PTR pPlaintext,
    CK_ULONG_PTR pulPlaintextLen
) noexcept nogil:
    return refuse(hSession)


cdef CK_RV C_DecryptMessageBegin(
    CK_SESSION_HANDLE hSession, CK_VOID_PTR pParameter, CK_ULONG ulParameterLen, CK_BYTE_PTR pAssociatedData,
    CK_ULONG ulAssociatedDataLen
) noexcept nogil:
    return refuse(hSession)


cdef CK_RV C_DecryptMessageNext(
    CK_SESSION_HANDLE hSession, CK_VOID_PTR pParameter, CK_ULONG ulParameterLen, CK_BYTE_PTR pCiphertextPart,
    CK_ULONG ulCiphertextPartLen, CK_BYTE_PTR pPlaintextPart, CK_ULONG_PTR pulPlaintextPartLen, CK_FLAGS flags
) noexcept nogil:
    return refuse(hSession)


cdef CK_RV C_MessageDecryptFinal(CK_SESSION_HANDLE hSession) noexcept nogil:
    return refuse(hSession)


cdef CK_RV C_MessageSignInit(
    CK_SESSION_HANDLE hSession, CK_MECHANISM_PTR pMechanism, CK_OBJECT_HANDLE hKey
) noexcept nogil:
    return refuse(hSession)


cdef CK_RV C_SignMessage(
    CK_SESSION_HANDLE hSession, CK_VOID_PTR pParameter, CK_ULONG ulParameterLen, CK_BYTE_PTR pData, CK_ULONG
    ulDataLen, CK_BYTE_PTR pSignature, CK_ULONG_PTR pulSignatureLen
) noexcept nogil:
    return refuse(hSession)


cdef CK_RV C_SignMessageBegin(
    CK_SESSION_HANDLE hSession, CK_VOID_PTR pParameter, CK_ULONG ulParameterLen
) noexcept nogil:
    return refuse(hSession)


cdef CK_RV C_SignMessageNext(
    CK_SESSION_HANDLE hSession, CK_VOID_PTR pParameter, CK_ULONG ulParameterLen, CK_BYTE_PTR pData, CK_ULONG
    ulDataLen, CK_BYTE_PTR pSignature, CK_ULONG_PTR pulSignatureLen
) noexcept nogil:
    return refuse(hSession)


cdef CK_RV C_MessageSignFinal(CK_SESSION_HANDLE hSession) noexcept nogil:
    return refuse(hSession)


cdef CK_RV C_MessageVerifyInit(
    CK_SESSION_HANDLE hSession, CK_MECHANISM_PTR pMechanism, CK_OBJECT_HANDLE hKey
) noexcept nogil:
    return refuse(hSession)


cdef CK_RV C_VerifyMessage(
    CK_SESSION_HANDLE hSession, CK_VOID_PTR pParameter, CK_ULONG ulParameterLen, CK_BYTE_PTR pData, CK_ULONG
    ulDataLen, CK_BYTE_PTR pSignature, CK_ULONG ulSignatureLen
) noexcept nogil:
    return refuse(hSession)


cdef CK_RV C_VerifyMessageBegin(
    CK_SESSION_HANDLE hSession, CK_VOID_PTR pParameter, CK_ULONG ulParameterLen
) noexcept nogil:
    return refuse(hSession)


cdef CK_RV C_VerifyMessageNext(
    CK_SESSION_HANDLE hSession, CK_VOID_PTR pParameter, CK_ULONG ulParameterLen, CK_BYTE_PTR pData, CK_ULONG
    ulDataLen, CK_BYTE_PTR pSignature, CK_ULONG ulSignatureLen
) noexcept nogil:
    return refuse(hSession)


cdef CK_RV C_MessageVerifyFinal(CK_SESSION_HANDLE hSession) noexcept nogil:
    return refuse(hSession)
