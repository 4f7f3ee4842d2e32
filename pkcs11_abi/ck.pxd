"""What the ABI uses of pkcs11.h: types, the fields it reads or writes, and a few constants."""

cdef extern from "pkcs11.h" nogil:
    ctypedef unsigned char CK_BYTE
    ctypedef unsigned char CK_CHAR
    ctypedef unsigned char CK_UTF8CHAR
    ctypedef unsigned char CK_BBOOL
    ctypedef unsigned long CK_ULONG
    ctypedef unsigned long CK_RV
    ctypedef unsigned long CK_FLAGS
    ctypedef unsigned long CK_SLOT_ID
    ctypedef unsigned long CK_STATE
    ctypedef unsigned long CK_USER_TYPE
    ctypedef unsigned long CK_SESSION_HANDLE
    ctypedef unsigned long CK_OBJECT_HANDLE
    ctypedef unsigned long CK_MECHANISM_TYPE
    ctypedef unsigned long CK_ATTRIBUTE_TYPE
    ctypedef unsigned long CK_SESSION_VALIDATION_FLAGS_TYPE

    ctypedef CK_BYTE *CK_BYTE_PTR
    ctypedef CK_UTF8CHAR *CK_UTF8CHAR_PTR
    ctypedef CK_ULONG *CK_ULONG_PTR
    ctypedef CK_FLAGS *CK_FLAGS_PTR
    ctypedef CK_SLOT_ID *CK_SLOT_ID_PTR
    ctypedef CK_SESSION_HANDLE *CK_SESSION_HANDLE_PTR
    ctypedef CK_OBJECT_HANDLE *CK_OBJECT_HANDLE_PTR
    ctypedef CK_MECHANISM_TYPE *CK_MECHANISM_TYPE_PTR
    ctypedef void *CK_VOID_PTR
    ctypedef void *CK_NOTIFY

    ctypedef struct CK_VERSION:
        CK_BYTE major
        CK_BYTE minor

    ctypedef struct CK_INFO:
        CK_VERSION cryptokiVersion
        CK_UTF8CHAR manufacturerID[32]
        CK_FLAGS flags
        CK_UTF8CHAR libraryDescription[32]
        CK_VERSION libraryVersion

    ctypedef struct CK_SLOT_INFO:
        CK_UTF8CHAR slotDescription[64]
        CK_UTF8CHAR manufacturerID[32]
        CK_FLAGS flags
        CK_VERSION hardwareVersion
        CK_VERSION firmwareVersion

    ctypedef struct CK_TOKEN_INFO:
        CK_UTF8CHAR label[32]
        CK_UTF8CHAR manufacturerID[32]
        CK_UTF8CHAR model[16]
        CK_CHAR serialNumber[16]
        CK_FLAGS flags
        CK_ULONG ulMaxSessionCount
        CK_ULONG ulSessionCount
        CK_ULONG ulMaxRwSessionCount
        CK_ULONG ulRwSessionCount
        CK_ULONG ulMaxPinLen
        CK_ULONG ulMinPinLen
        CK_ULONG ulTotalPublicMemory
        CK_ULONG ulFreePublicMemory
        CK_ULONG ulTotalPrivateMemory
        CK_ULONG ulFreePrivateMemory
        CK_VERSION hardwareVersion
        CK_VERSION firmwareVersion
        CK_CHAR utcTime[16]

    ctypedef struct CK_SESSION_INFO:
        pass

    ctypedef struct CK_ASYNC_DATA:
        CK_ULONG ulVersion
        CK_BYTE *pValue
        CK_ULONG ulValue
        CK_OBJECT_HANDLE hObject
        CK_OBJECT_HANDLE hAdditionalObject

    ctypedef struct CK_ATTRIBUTE:
        CK_ATTRIBUTE_TYPE type
        void *pValue
        CK_ULONG ulValueLen

    ctypedef struct CK_MECHANISM:
        CK_MECHANISM_TYPE mechanism
        void *pParameter
        CK_ULONG ulParameterLen

    ctypedef struct CK_MECHANISM_INFO:
        CK_ULONG ulMinKeySize
        CK_ULONG ulMaxKeySize
        CK_FLAGS flags

    ctypedef struct CK_C_INITIALIZE_ARGS:
        CK_FLAGS flags
        void *pReserved

    ctypedef CK_INFO *CK_INFO_PTR
    ctypedef CK_SLOT_INFO *CK_SLOT_INFO_PTR
    ctypedef CK_TOKEN_INFO *CK_TOKEN_INFO_PTR
    ctypedef CK_SESSION_INFO *CK_SESSION_INFO_PTR
    ctypedef CK_ASYNC_DATA *CK_ASYNC_DATA_PTR
    ctypedef CK_ATTRIBUTE *CK_ATTRIBUTE_PTR
    ctypedef CK_MECHANISM *CK_MECHANISM_PTR
    ctypedef CK_MECHANISM_INFO *CK_MECHANISM_INFO_PTR

    # Parameters of mechanisms.
    ctypedef struct CK_AES_CTR_PARAMS:
        CK_ULONG ulCounterBits
        CK_BYTE cb[16]

    ctypedef struct CK_GCM_PARAMS:
        CK_BYTE *pIv
        CK_ULONG ulIvLen
        CK_ULONG ulIvBits
        CK_BYTE *pAAD
        CK_ULONG ulAADLen
        CK_ULONG ulTagBits

    ctypedef struct CK_CCM_PARAMS:
        CK_ULONG ulDataLen
        CK_BYTE *pNonce
        CK_ULONG ulNonceLen
        CK_BYTE *pAAD
        CK_ULONG ulAADLen
        CK_ULONG ulMACLen

    ctypedef struct CK_RSA_PKCS_PSS_PARAMS:
        CK_MECHANISM_TYPE hashAlg
        CK_ULONG mgf
        CK_ULONG sLen

    ctypedef struct CK_RSA_PKCS_OAEP_PARAMS:
        CK_MECHANISM_TYPE hashAlg
        CK_ULONG mgf
        CK_ULONG source
        void *pSourceData
        CK_ULONG ulSourceDataLen

    ctypedef struct CK_ECDH1_DERIVE_PARAMS:
        CK_ULONG kdf
        CK_ULONG ulSharedDataLen
        CK_BYTE *pSharedData
        CK_ULONG ulPublicDataLen
        CK_BYTE *pPublicData

    ctypedef struct CK_EDDSA_PARAMS:
        CK_BBOOL phFlag
        CK_ULONG ulContextDataLen
        CK_BYTE *pContextData

    ctypedef struct CK_KEY_DERIVATION_STRING_DATA:
        CK_BYTE *pData
        CK_ULONG ulLen

    ctypedef struct CK_AES_CBC_ENCRYPT_DATA_PARAMS:
        CK_BYTE iv[16]
        CK_BYTE *pData
        CK_ULONG length

    ctypedef struct CK_RSA_AES_KEY_WRAP_PARAMS:
        CK_ULONG ulAESKeyBits
        CK_RSA_PKCS_OAEP_PARAMS *pOAEPParams

    ctypedef struct CK_DES_CBC_ENCRYPT_DATA_PARAMS:
        CK_BYTE iv[8]
        CK_BYTE *pData
        CK_ULONG length

    ctypedef struct CK_CHACHA20_PARAMS:
        CK_BYTE *pBlockCounter
        CK_ULONG blockCounterBits
        CK_BYTE *pNonce
        CK_ULONG ulNonceBits

    ctypedef struct CK_SALSA20_CHACHA20_POLY1305_PARAMS:
        CK_BYTE *pNonce
        CK_ULONG ulNonceLen
        CK_BYTE *pAAD
        CK_ULONG ulAADLen

    ctypedef struct CK_HKDF_PARAMS:
        CK_BBOOL bExtract
        CK_BBOOL bExpand
        CK_MECHANISM_TYPE prfHashMechanism
        CK_ULONG ulSaltType
        CK_BYTE *pSalt
        CK_ULONG ulSaltLen
        CK_OBJECT_HANDLE hSaltKey
        CK_BYTE *pInfo
        CK_ULONG ulInfoLen

    ctypedef struct CK_PRF_DATA_PARAM:
        CK_ULONG type
        void *pValue
        CK_ULONG ulValueLen

    ctypedef struct CK_SP800_108_COUNTER_FORMAT:
        CK_BBOOL bLittleEndian
        CK_ULONG ulWidthInBits

    ctypedef struct CK_SP800_108_DKM_LENGTH_FORMAT:
        CK_ULONG dkmLengthMethod
        CK_BBOOL bLittleEndian
        CK_ULONG ulWidthInBits

    ctypedef struct CK_DERIVED_KEY:
        CK_ATTRIBUTE *pTemplate
        CK_ULONG ulAttributeCount
        CK_OBJECT_HANDLE *phKey

    ctypedef struct CK_SP800_108_KDF_PARAMS:
        CK_MECHANISM_TYPE prfType
        CK_ULONG ulNumberOfDataParams
        CK_PRF_DATA_PARAM *pDataParams
        CK_ULONG ulAdditionalDerivedKeys
        CK_DERIVED_KEY *pAdditionalDerivedKeys

    ctypedef struct CK_SP800_108_FEEDBACK_KDF_PARAMS:
        CK_MECHANISM_TYPE prfType
        CK_ULONG ulNumberOfDataParams
        CK_PRF_DATA_PARAM *pDataParams
        CK_ULONG ulIVLen
        CK_BYTE *pIV
        CK_ULONG ulAdditionalDerivedKeys
        CK_DERIVED_KEY *pAdditionalDerivedKeys

    ctypedef struct CK_PBE_PARAMS:
        CK_BYTE *pInitVector
        CK_BYTE *pPassword
        CK_ULONG ulPasswordLen
        CK_BYTE *pSalt
        CK_ULONG ulSaltLen
        CK_ULONG ulIteration

    CK_ULONG CKM_PBA_SHA1_WITH_SHA1_HMAC

    ctypedef struct CK_PKCS5_PBKD2_PARAMS2:
        CK_ULONG saltSource
        void *pSaltSourceData
        CK_ULONG ulSaltSourceDataLen
        CK_ULONG iterations
        CK_ULONG prf
        void *pPrfData
        CK_ULONG ulPrfDataLen
        CK_BYTE *pPassword
        CK_ULONG ulPasswordLen

    ctypedef struct CK_ECDH_AES_KEY_WRAP_PARAMS:
        CK_ULONG ulAESKeyBits
        CK_ULONG kdf
        CK_ULONG ulSharedDataLen
        CK_BYTE *pSharedData

    ctypedef struct CK_SIGN_ADDITIONAL_CONTEXT:
        CK_ULONG hedgeVariant
        CK_BYTE *pContext
        CK_ULONG ulContextLen

    ctypedef struct CK_HASH_SIGN_ADDITIONAL_CONTEXT:
        CK_ULONG hedgeVariant
        CK_BYTE *pContext
        CK_ULONG ulContextLen
        CK_MECHANISM_TYPE hash

    ctypedef struct CK_X9_42_DH1_DERIVE_PARAMS:
        CK_ULONG kdf
        CK_ULONG ulOtherInfoLen
        CK_BYTE *pOtherInfo
        CK_ULONG ulPublicDataLen
        CK_BYTE *pPublicData

    ctypedef struct CK_SSL3_RANDOM_DATA:
        CK_BYTE *pClientRandom
        CK_ULONG ulClientRandomLen
        CK_BYTE *pServerRandom
        CK_ULONG ulServerRandomLen

    ctypedef struct CK_SSL3_KEY_MAT_OUT:
        CK_OBJECT_HANDLE hClientMacSecret
        CK_OBJECT_HANDLE hServerMacSecret
        CK_OBJECT_HANDLE hClientKey
        CK_OBJECT_HANDLE hServerKey
        CK_BYTE *pIVClient
        CK_BYTE *pIVServer

    ctypedef struct CK_TLS12_MASTER_KEY_DERIVE_PARAMS:
        CK_SSL3_RANDOM_DATA RandomInfo
        CK_VERSION *pVersion
        CK_MECHANISM_TYPE prfHashMechanism

    ctypedef struct CK_TLS12_EXTENDED_MASTER_KEY_DERIVE_PARAMS:
        CK_MECHANISM_TYPE prfHashMechanism
        CK_BYTE *pSessionHash
        CK_ULONG ulSessionHashLen
        CK_VERSION *pVersion

    ctypedef struct CK_TLS12_KEY_MAT_PARAMS:
        CK_ULONG ulMacSizeInBits
        CK_ULONG ulKeySizeInBits
        CK_ULONG ulIVSizeInBits
        CK_BBOOL bIsExport
        CK_SSL3_RANDOM_DATA RandomInfo
        CK_SSL3_KEY_MAT_OUT *pReturnedKeyMaterial
        CK_MECHANISM_TYPE prfHashMechanism

    ctypedef struct CK_TLS_KDF_PARAMS:
        CK_MECHANISM_TYPE prfMechanism
        CK_BYTE *pLabel
        CK_ULONG ulLabelLength
        CK_SSL3_RANDOM_DATA RandomInfo
        CK_BYTE *pContextData
        CK_ULONG ulContextDataLength

    ctypedef struct CK_TLS_MAC_PARAMS:
        CK_MECHANISM_TYPE prfHashMechanism
        CK_ULONG ulMacLength
        CK_ULONG ulServerOrClient

    ctypedef struct CK_OTP_PARAM:
        CK_ULONG type
        void *pValue
        CK_ULONG ulValueLen

    ctypedef struct CK_OTP_PARAMS:
        CK_OTP_PARAM *pParams
        CK_ULONG ulCount

    ctypedef struct CK_OTP_SIGNATURE_INFO:
        CK_OTP_PARAM *pParams
        CK_ULONG ulCount

    CK_ULONG CK_OTP_PIN, CK_OTP_FLAGS, CK_OTP_OUTPUT_LENGTH, CK_OTP_OUTPUT_FORMAT

    ctypedef struct CK_IKE_PRF_DERIVE_PARAMS:
        CK_MECHANISM_TYPE prfMechanism
        CK_BBOOL bDataAsKey
        CK_BBOOL bRekey
        CK_BYTE *pNi
        CK_ULONG ulNiLen
        CK_BYTE *pNr
        CK_ULONG ulNrLen
        CK_OBJECT_HANDLE hNewKey

    ctypedef struct CK_IKE1_PRF_DERIVE_PARAMS:
        CK_MECHANISM_TYPE prfMechanism
        CK_BBOOL bHasPrevKey
        CK_OBJECT_HANDLE hKeygxy
        CK_OBJECT_HANDLE hPrevKey
        CK_BYTE *pCKYi
        CK_ULONG ulCKYiLen
        CK_BYTE *pCKYr
        CK_ULONG ulCKYrLen
        CK_BYTE keyNumber

    ctypedef struct CK_IKE1_EXTENDED_DERIVE_PARAMS:
        CK_MECHANISM_TYPE prfMechanism
        CK_BBOOL bHasKeygxy
        CK_OBJECT_HANDLE hKeygxy
        CK_BYTE *pExtraData
        CK_ULONG ulExtraDataLen

    ctypedef struct CK_IKE2_PRF_PLUS_DERIVE_PARAMS:
        CK_MECHANISM_TYPE prfMechanism
        CK_BBOOL bHasSeedKey
        CK_OBJECT_HANDLE hSeedKey
        CK_BYTE *pSeedData
        CK_ULONG ulSeedDataLen

    ctypedef struct CK_KRYOPTIC_SSHKDF_PARAMS:
        CK_MECHANISM_TYPE prfHashMechanism
        CK_BYTE derivedKeyType
        CK_BYTE *pExchangeHash
        CK_ULONG ulExchangeHashLen
        CK_BYTE *pSessionId
        CK_ULONG ulSessionIdLen

    # Parameters of messages.
    ctypedef struct CK_GCM_MESSAGE_PARAMS:
        CK_BYTE *pIv
        CK_ULONG ulIvLen
        CK_ULONG ulIvFixedBits
        CK_ULONG ivGenerator
        CK_BYTE *pTag
        CK_ULONG ulTagBits

    ctypedef struct CK_CCM_MESSAGE_PARAMS:
        CK_ULONG ulDataLen
        CK_BYTE *pNonce
        CK_ULONG ulNonceLen
        CK_ULONG ulNonceFixedBits
        CK_ULONG nonceGenerator
        CK_BYTE *pMAC
        CK_ULONG ulMACLen

    ctypedef struct CK_GCM_WRAP_PARAMS:
        CK_BYTE *pIv
        CK_ULONG ulIvLen
        CK_ULONG ulIvFixedBits
        CK_ULONG ivGenerator
        CK_BYTE *pAAD
        CK_ULONG ulAADLen
        CK_ULONG ulTagBits

    ctypedef struct CK_CCM_WRAP_PARAMS:
        CK_ULONG ulDataLen
        CK_BYTE *pNonce
        CK_ULONG ulNonceLen
        CK_ULONG ulNonceFixedBits
        CK_ULONG nonceGenerator
        CK_BYTE *pAAD
        CK_ULONG ulAADLen
        CK_ULONG ulMACLen

    ctypedef struct CK_SALSA20_CHACHA20_POLY1305_MSG_PARAMS:
        CK_BYTE *pNonce
        CK_ULONG ulNonceLen
        CK_BYTE *pTag

    # Constants.
    const CK_FLAGS CKF_END_OF_MESSAGE
    const CK_ULONG CKG_NO_GENERATE
    const CK_MECHANISM_TYPE CKM_AES_GCM
    const CK_MECHANISM_TYPE CKM_AES_CCM
    const CK_ULONG CK_UNAVAILABLE_INFORMATION
    const CK_MECHANISM_TYPE CKM_TLS12_MASTER_KEY_DERIVE
    const CK_MECHANISM_TYPE CKM_TLS12_KEY_AND_MAC_DERIVE
    const CK_MECHANISM_TYPE CKM_TLS12_KEY_SAFE_DERIVE
    const CK_MECHANISM_TYPE CKM_SP800_108_COUNTER_KDF
    const CK_MECHANISM_TYPE CKM_SP800_108_FEEDBACK_KDF
    const CK_MECHANISM_TYPE CKM_SP800_108_DOUBLE_PIPELINE_KDF
    const CK_ULONG CKF_HKDF_SALT_NULL
    const CK_ULONG CKF_HKDF_SALT_DATA
    const CK_ULONG CKF_HKDF_SALT_KEY
    const CK_ULONG CKZ_SALT_SPECIFIED
    const CK_ULONG CK_SP800_108_ITERATION_VARIABLE
    const CK_ULONG CK_SP800_108_COUNTER
    const CK_ULONG CK_SP800_108_DKM_LENGTH
    const CK_ULONG CK_SP800_108_BYTE_ARRAY
    const CK_ULONG CK_SP800_108_KEY_HANDLE
    const CK_FLAGS CKF_DONT_BLOCK
    const CK_FLAGS CKF_RW_SESSION
    const CK_FLAGS CKF_SERIAL_SESSION
    const CK_FLAGS CKF_GENERATE
    const CK_FLAGS CKF_GENERATE_KEY_PAIR
    const CK_FLAGS CKF_DERIVE
    const CK_ULONG CKD_NULL
    const CK_FLAGS CKF_ASYNC_SESSION
    const CK_FLAGS CKF_GENERATE
    const CK_FLAGS CKF_GENERATE_KEY_PAIR
    const CK_FLAGS CKF_WRAP
    const CK_FLAGS CKF_UNWRAP
    const CK_FLAGS CKF_DIGEST
    const CK_FLAGS CKF_VERIFY
    const CK_FLAGS CKF_ENCAPSULATE
    const CK_FLAGS CKF_DECAPSULATE
    const CK_FLAGS CKF_DERIVE
    const CK_ATTRIBUTE_TYPE CKA_TOKEN
    const CK_FLAGS CKF_ARRAY_ATTRIBUTE
    const CK_FLAGS CKF_TOKEN_PRESENT
    const CK_FLAGS CKF_LIBRARY_CANT_CREATE_OS_THREADS
    const CK_ATTRIBUTE_TYPE CKA_PRIVATE
    const CK_ATTRIBUTE_TYPE CKA_LABEL
    const CK_ATTRIBUTE_TYPE CKA_ID
    const CK_ATTRIBUTE_TYPE CKA_VALUE
    const CK_ATTRIBUTE_TYPE CKA_ALLOWED_MECHANISMS
    const CK_ATTRIBUTE_TYPE CKA_ENCAPSULATE_TEMPLATE
    const CK_ATTRIBUTE_TYPE CKA_DECAPSULATE_TEMPLATE
    const CK_ATTRIBUTE_TYPE CKA_VENDOR_DEFINED
    const CK_USER_TYPE CKU_SO
    const CK_USER_TYPE CKU_USER
    const CK_USER_TYPE CKU_CONTEXT_SPECIFIC
    const CK_STATE CKS_RO_PUBLIC_SESSION
    const CK_STATE CKS_RW_PUBLIC_SESSION
    const CK_STATE CKS_RW_SO_FUNCTIONS
    const CK_SESSION_VALIDATION_FLAGS_TYPE CKS_LAST_VALIDATION_OK

    const CK_RV CKR_OK
    const CK_RV CKR_HOST_MEMORY
    const CK_RV CKR_GENERAL_ERROR
    const CK_RV CKR_FUNCTION_FAILED
    const CK_RV CKR_ARGUMENTS_BAD
    const CK_RV CKR_NO_EVENT
    const CK_RV CKR_BUFFER_TOO_SMALL
    const CK_RV CKR_ATTRIBUTE_SENSITIVE
    const CK_RV CKR_ATTRIBUTE_TYPE_INVALID
    const CK_RV CKR_CRYPTOKI_NOT_INITIALIZED
    const CK_RV CKR_FUNCTION_CANCELED
    const CK_RV CKR_FUNCTION_NOT_PARALLEL
    const CK_RV CKR_FUNCTION_NOT_SUPPORTED
    const CK_RV CKR_OBJECT_HANDLE_INVALID
    const CK_RV CKR_OPERATION_ACTIVE
    const CK_RV CKR_PENDING
    const CK_RV CKR_OPERATION_CANCEL_FAILED
    const CK_RV CKR_OPERATION_NOT_INITIALIZED
    const CK_RV CKR_SAVED_STATE_INVALID
    const CK_RV CKR_STATE_UNSAVEABLE
    const CK_RV CKR_SESSION_ASYNC_NOT_SUPPORTED
    const CK_RV CKR_SESSION_HANDLE_INVALID
    const CK_RV CKR_SESSION_PARALLEL_NOT_SUPPORTED
    const CK_RV CKR_SESSION_READ_ONLY
    const CK_RV CKR_SLOT_ID_INVALID
    const CK_RV CKR_TOKEN_NOT_PRESENT
    const CK_RV CKR_TOKEN_NOT_RECOGNIZED
    const CK_RV CKR_USER_NOT_LOGGED_IN
    const CK_RV CKR_USER_TYPE_INVALID
