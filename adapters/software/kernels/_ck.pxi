# What the Python face uses of pkcs11.h, ferrohsm_kernel.h and the kernels' own headers.

cdef extern from "kernel.h" nogil:
    ctypedef unsigned char CK_BYTE
    ctypedef unsigned char CK_BBOOL
    ctypedef unsigned long CK_ULONG
    ctypedef CK_ULONG CK_RV
    ctypedef CK_ULONG CK_FLAGS
    ctypedef CK_ULONG CK_MECHANISM_TYPE
    ctypedef CK_ULONG CK_ATTRIBUTE_TYPE

    ctypedef struct CK_MECHANISM:
        CK_MECHANISM_TYPE mechanism
        void *pParameter
        CK_ULONG ulParameterLen

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

    ctypedef struct CK_RSA_PKCS_PSS_PARAMS:
        CK_ULONG hashAlg
        CK_ULONG mgf
        CK_ULONG sLen

    ctypedef struct CK_RSA_PKCS_OAEP_PARAMS:
        CK_ULONG hashAlg
        CK_ULONG mgf
        CK_ULONG source
        void *pSourceData
        CK_ULONG ulSourceDataLen

    ctypedef struct CK_EDDSA_PARAMS:
        CK_BBOOL phFlag
        CK_ULONG ulContextDataLen
        CK_BYTE *pContextData

    ctypedef struct CK_SIGN_ADDITIONAL_CONTEXT:
        CK_ULONG hedgeVariant
        CK_BYTE *pContext
        CK_ULONG ulContextLen

    ctypedef struct CK_HASH_SIGN_ADDITIONAL_CONTEXT:
        CK_ULONG hedgeVariant
        CK_BYTE *pContext
        CK_ULONG ulContextLen
        CK_ULONG hash

    ctypedef struct CK_ECDH1_DERIVE_PARAMS:
        CK_ULONG kdf
        CK_ULONG ulSharedDataLen
        CK_BYTE *pSharedData
        CK_ULONG ulPublicDataLen
        CK_BYTE *pPublicData

    CK_ULONG CKD_NULL
    CK_RV CKR_OK, CKR_FUNCTION_NOT_SUPPORTED, CKR_HOST_MEMORY
    CK_ATTRIBUTE_TYPE CKA_CLASS, CKA_KEY_TYPE, CKA_VALUE, CKA_VALUE_LEN, CKA_MODULUS, CKA_MODULUS_BITS
    CK_ATTRIBUTE_TYPE CKA_PUBLIC_EXPONENT, CKA_PRIVATE_EXPONENT, CKA_PRIME_1, CKA_PRIME_2, CKA_EXPONENT_1
    CK_ATTRIBUTE_TYPE CKA_EXPONENT_2, CKA_COEFFICIENT, CKA_EC_PARAMS, CKA_EC_POINT
    CK_ATTRIBUTE_TYPE CKA_PARAMETER_SET, CKA_SEED
    CK_RV CKR_ATTRIBUTE_VALUE_INVALID
    CK_FLAGS CKF_DECRYPT, CKF_DERIVE, CKF_SIGN
    CK_MECHANISM_TYPE CKM_SHA256_HMAC
    CK_ULONG CKO_SECRET_KEY, CKK_GENERIC_SECRET

    const char *FERRO_KERNEL_CAPSULE

    ctypedef struct ferro_parameter_set:
        uint16_t output_length
    ctypedef struct ferro_kernel_key:
        uint32_t epoch
        int kind
        const ferro_parameter_set *set
    ctypedef struct ferro_kernel_op:
        pass
    ctypedef struct ferro_kernel_attribute:
        CK_ATTRIBUTE_TYPE type
        const void *value
        size_t length
    ctypedef struct ferro_kernel_material:
        const ferro_kernel_attribute *attributes
        size_t count
    ctypedef struct ferro_kernel_generated:
        ferro_kernel_material secret
        ferro_kernel_material open
    ctypedef struct ferro_kernel:
        const char *name
        CK_RV (*serves)(CK_FLAGS, CK_MECHANISM_TYPE) noexcept nogil
        CK_RV (*key_load)(const ferro_kernel_material *, ferro_kernel_key **) noexcept nogil
        void (*key_retain)(ferro_kernel_key *) noexcept nogil
        void (*key_release)(ferro_kernel_key *) noexcept nogil
        CK_RV (*begin)(CK_FLAGS, const CK_MECHANISM *, ferro_kernel_key *, ferro_kernel_op **) noexcept nogil
        int (*multi_part)(const ferro_kernel_op *) noexcept nogil
        CK_RV (*once_length)(const ferro_kernel_op *, size_t, size_t *) noexcept nogil
        CK_RV (*update_length)(const ferro_kernel_op *, size_t, size_t *) noexcept nogil
        CK_RV (*finish_length)(const ferro_kernel_op *, size_t *) noexcept nogil
        CK_RV (*once)(ferro_kernel_op *, const void *, size_t, void *, size_t *) noexcept nogil
        CK_RV (*update)(ferro_kernel_op *, const void *, size_t, void *, size_t *) noexcept nogil
        CK_RV (*finish)(ferro_kernel_op *, void *, size_t *) noexcept nogil
        CK_RV (*verify)(ferro_kernel_op *, const void *, size_t, const void *, size_t) noexcept nogil
        CK_RV (*finish_verify)(ferro_kernel_op *, const void *, size_t) noexcept nogil
        void (*op_release)(ferro_kernel_op *) noexcept nogil
        CK_RV (*derive)(const CK_MECHANISM *, ferro_kernel_key *, void *, size_t *) noexcept nogil
        CK_RV (*generate)(const CK_MECHANISM *, const ferro_kernel_material *, ferro_kernel_generated **) noexcept nogil
        void (*generated_release)(ferro_kernel_generated *) noexcept nogil
        CK_RV (*random)(void *, size_t) noexcept nogil
        CK_RV (*seed)(const void *, size_t) noexcept nogil
        void (*stop)() noexcept nogil
        void (*fork_child)() noexcept nogil
        CK_RV (*op_copy)(const ferro_kernel_op *, ferro_kernel_op **) noexcept nogil

    const ferro_kernel *ferro_software_kernel()
    int KEY_SECRET
    uint32_t ferro_current_epoch()
    size_t ferro_objects_count()
    CK_RV ferro_enter()

    int FERRO_SHARED_SECRET
    CK_RV ferro_postquantum_value(const ferro_kernel_key *, int, uint8_t *, size_t *)
    CK_RV ferro_postquantum_check(const ferro_kernel_key *)
    CK_RV ferro_encapsulate(const ferro_kernel_key *, uint8_t *, uint8_t *)
    CK_RV ferro_decapsulate(const ferro_kernel_key *, const uint8_t *, size_t, uint8_t *)

    int ferro_lends(const char *)
    CK_RV ferro_lent_cipher(const char *, const uint8_t *, size_t, const uint8_t *, size_t, int, ferro_kernel_op **)
    CK_RV ferro_lent_update(ferro_kernel_op *, const uint8_t *, size_t, uint8_t *, size_t *)
    void ferro_lent_close(ferro_kernel_op *)
    CK_RV ferro_lent_pkcs12(const uint8_t *, size_t, const uint8_t *, size_t, int, uint64_t, uint8_t *, size_t)

    ctypedef struct ferro_arena_status:
        size_t mapped
        size_t locked
        size_t in_use
    void *ferro_secret_alloc(size_t)
    void ferro_free(void *)
    void ferro_wipe(void *, size_t)
    void ferro_arena_read_status(ferro_arena_status *)
    void ferro_arena_require_lock(int)

cdef extern from "finder.h" nogil:
    const char *FERRO_FINDER_CAPSULE
    int FERRO_FINDER_KEY, FERRO_FINDER_NAME

    ctypedef struct ferro_finder:
        pass
    ctypedef struct ferro_sqlite:
        pass

    const ferro_sqlite *ferro_sqlite_find(const char *)
    int ferro_sqlite_begin_proof()
    int ferro_sqlite_end_proof()

    ferro_finder *ferro_finder_make(const uint8_t *)
    void ferro_finder_free(ferro_finder *)
    CK_RV ferro_finder_open(
        ferro_finder *, const ferro_sqlite *, const char *, const char *, const uint8_t *, const uint8_t **
    )
    void ferro_finder_close(ferro_finder *)
    int ferro_finder_is_open(ferro_finder *)
    CK_RV ferro_finder_log_in(ferro_finder *, const uint8_t *, const uint8_t *, const uint8_t *)
    void ferro_finder_log_out(ferro_finder *)
    void ferro_finder_abandon(ferro_finder *)
