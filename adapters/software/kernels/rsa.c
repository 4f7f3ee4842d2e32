/*
 * RSA (PKCS#11 3.2, "RSA"): PKCS #1 v1.5 signatures, PSS, raw, OAEP.
 *
 * Private operations are libcrypto's: blinded, constant-time, CRT results checked before they leave.
 * PKCS #1 v1.5 decryption is offered only where libcrypto rejects bad padding implicitly (3.2 on):
 * before, its answer tells an attacker which padding was right.
 */
#include <openssl/crypto.h>
#include <openssl/opensslv.h>
#include <openssl/rsa.h>
#include <string.h>

#include "variants.h"

enum { LARGEST_MODULUS = 2048, PKCS1_PADDING = 11 };

static int hashed(const ferro_kernel_op *op)
{
    return op->row->digest != DIGEST_NONE;
}

static int padding_of(const ferro_kernel_op *op)
{
    switch (op->row->variant) {
    case FERRO_RSA_X_509:
        return RSA_NO_PADDING;
    case FERRO_RSA_PSS:
        return RSA_PKCS1_PSS_PADDING;
    case FERRO_RSA_OAEP:
        return RSA_PKCS1_OAEP_PADDING;
    default:
        return RSA_PKCS1_PADDING;
    }
}

static int init_context(ferro_kernel_op *op)
{
    switch (op->function) {
    case CKF_SIGN:
    case CKF_SIGN_RECOVER:
        return EVP_PKEY_sign_init(op->pkey);
    case CKF_VERIFY:
        return EVP_PKEY_verify_init(op->pkey);
    case CKF_VERIFY_RECOVER:
        return EVP_PKEY_verify_recover_init(op->pkey);
    case CKF_ENCRYPT:
        return EVP_PKEY_encrypt_init(op->pkey);
    default:
        return EVP_PKEY_decrypt_init(op->pkey);
    }
}

/* 1 when the context was made new, 0 when the one at hand serves again, -1 on failure. */
static int make_context(ferro_kernel_op *op)
{
    if (op->primed && op->pkey != NULL)
        return 0;
    EVP_PKEY_CTX_free(op->pkey);
    op->pkey = EVP_PKEY_CTX_new_from_pkey(ferro_library(), op->key->pkey, NULL);
    if (op->pkey == NULL || init_context(op) <= 0 || EVP_PKEY_CTX_set_rsa_padding(op->pkey, padding_of(op)) <= 0)
        return -1;
    return 1;
}

static CK_RV begin_plain(ferro_kernel_op *op, const CK_MECHANISM *mechanism)
{
    int made;
    CK_RV rv;

    if (mechanism->ulParameterLen != 0)
        return CKR_MECHANISM_PARAM_INVALID;
#if OPENSSL_VERSION_NUMBER < 0x30200000L
    if (op->row->variant == FERRO_RSA_PKCS && op->function == CKF_DECRYPT)
        return CKR_FUNCTION_NOT_SUPPORTED;
#endif
    if (hashed(op) && op->key->size < ferro_digest_size((ferro_digest)op->row->digest) + 19 + PKCS1_PADDING)
        return CKR_KEY_SIZE_RANGE;
    if (hashed(op) && (rv = ferro_hash_begin(op)) != CKR_OK)
        return rv;
    if ((made = make_context(op)) < 0)
        return ferro_failed(CKR_FUNCTION_FAILED);
    if (made && hashed(op)
        && EVP_PKEY_CTX_set_signature_md(op->pkey, ferro_md((ferro_digest)op->row->digest)) <= 0)
        return ferro_failed(CKR_FUNCTION_NOT_SUPPORTED);
    return CKR_OK;
}

static CK_RV begin_pss(ferro_kernel_op *op, const CK_MECHANISM *mechanism)
{
    CK_RSA_PKCS_PSS_PARAMS pss;
    ferro_digest hash, mgf;
    int made;
    CK_RV rv;

    if (mechanism->pParameter == NULL || mechanism->ulParameterLen != sizeof(pss))
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(&pss, mechanism->pParameter, sizeof(pss));
    hash = ferro_digest_of_mechanism(pss.hashAlg);
    mgf = ferro_digest_of_mgf(pss.mgf);
    if (hash == DIGEST_NONE || mgf == DIGEST_NONE || (hashed(op) && hash != (ferro_digest)op->row->digest))
        return CKR_MECHANISM_PARAM_INVALID;
    /* EMSA-PSS needs room for hash, salt and two bytes in one bit less than the modulus has. */
    if (pss.sLen > LARGEST_MODULUS || ferro_digest_size(hash) + pss.sLen + 2 > (op->key->bits + 6) / 8)
        return CKR_MECHANISM_PARAM_INVALID;
    if (hashed(op) && (rv = ferro_hash_begin(op)) != CKR_OK)
        return rv;
    if ((made = make_context(op)) < 0)
        return ferro_failed(CKR_FUNCTION_FAILED);
    if (made || op->hash != hash || op->mgf != mgf || op->salt != pss.sLen) {
        EVP_MD *md = ferro_md(hash), *mgf_md = ferro_md(mgf);
        if (md == NULL || mgf_md == NULL)
            return CKR_FUNCTION_NOT_SUPPORTED;
        if (EVP_PKEY_CTX_set_signature_md(op->pkey, md) <= 0 || EVP_PKEY_CTX_set_rsa_mgf1_md(op->pkey, mgf_md) <= 0
            || EVP_PKEY_CTX_set_rsa_pss_saltlen(op->pkey, (int)pss.sLen) <= 0)
            return ferro_failed(CKR_MECHANISM_PARAM_INVALID);
        op->hash = (int8_t)hash;
        op->mgf = (int8_t)mgf;
        op->salt = pss.sLen;
    }
    return CKR_OK;
}

static CK_RV begin_oaep(ferro_kernel_op *op, const CK_MECHANISM *mechanism)
{
    CK_RSA_PKCS_OAEP_PARAMS oaep;
    ferro_digest hash, mgf;
    EVP_MD *md, *mgf_md;
    void *label = NULL;

    if (mechanism->pParameter == NULL || mechanism->ulParameterLen != sizeof(oaep))
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(&oaep, mechanism->pParameter, sizeof(oaep));
    hash = ferro_digest_of_mechanism(oaep.hashAlg);
    mgf = ferro_digest_of_mgf(oaep.mgf);
    if (hash == DIGEST_NONE || mgf == DIGEST_NONE || oaep.ulSourceDataLen > INT32_MAX
        || (oaep.ulSourceDataLen != 0 && (oaep.source != CKZ_DATA_SPECIFIED || oaep.pSourceData == NULL))
        || (oaep.source != 0 && oaep.source != CKZ_DATA_SPECIFIED))
        return CKR_MECHANISM_PARAM_INVALID;
    if (op->key->size < 2 * ferro_digest_size(hash) + 2)
        return CKR_KEY_SIZE_RANGE;
    if ((md = ferro_md(hash)) == NULL || (mgf_md = ferro_md(mgf)) == NULL)
        return CKR_FUNCTION_NOT_SUPPORTED;
    /* A label cannot be taken out of a context again, so this one is made new each time. */
    op->primed = 0;
    if (make_context(op) < 0 || EVP_PKEY_CTX_set_rsa_oaep_md(op->pkey, md) <= 0
        || EVP_PKEY_CTX_set_rsa_mgf1_md(op->pkey, mgf_md) <= 0)
        return ferro_failed(CKR_FUNCTION_FAILED);
    op->hash = (int8_t)hash;
    if (oaep.ulSourceDataLen == 0)
        return CKR_OK;
    if ((label = OPENSSL_memdup(oaep.pSourceData, oaep.ulSourceDataLen)) == NULL)
        return ferro_failed(CKR_HOST_MEMORY);
    if (EVP_PKEY_CTX_set0_rsa_oaep_label(op->pkey, label, (int)oaep.ulSourceDataLen) <= 0) {
        OPENSSL_free(label);
        return ferro_failed(CKR_FUNCTION_FAILED);
    }
    return CKR_OK;
}

static CK_RV begin(ferro_kernel_op *op, const CK_MECHANISM *mechanism)
{
    op->size = op->key->size;
    if (op->size > LARGEST_MODULUS)
        return CKR_KEY_SIZE_RANGE;
    switch (op->row->variant) {
    case FERRO_RSA_PSS:
        return begin_pss(op, mechanism);
    case FERRO_RSA_OAEP:
        return begin_oaep(op, mechanism);
    default:
        return begin_plain(op, mechanism);
    }
}

/* The most that the padding leaves room for. */
static size_t largest_input(const ferro_kernel_op *op)
{
    switch (op->row->variant) {
    case FERRO_RSA_X_509:
        return op->size;
    case FERRO_RSA_OAEP:
        return op->size - 2 * ferro_digest_size((ferro_digest)op->hash) - 2;
    default:
        return op->size - PKCS1_PADDING;
    }
}

static CK_RV check_input(const ferro_kernel_op *op, size_t length)
{
    if (op->function == CKF_DECRYPT)
        return length == op->size ? CKR_OK : CKR_ENCRYPTED_DATA_LEN_RANGE;
    if (op->function == CKF_VERIFY_RECOVER)
        return length == op->size ? CKR_OK : CKR_SIGNATURE_LEN_RANGE;
    if (hashed(op))
        return CKR_OK;
    if (op->row->variant == FERRO_RSA_PSS)
        return length == ferro_digest_size((ferro_digest)op->hash) ? CKR_OK : CKR_DATA_LEN_RANGE;
    return length <= largest_input(op) ? CKR_OK : CKR_DATA_LEN_RANGE;
}

static CK_RV once_length(const ferro_kernel_op *op, size_t length, size_t *out_length)
{
    if (op->function == CKF_DECRYPT || op->function == CKF_VERIFY_RECOVER)
        *out_length = largest_input(op);
    else
        *out_length = op->size;
    return check_input(op, length);
}

/* Raw RSA takes a whole block: a shorter input has zeros in front. */
static const uint8_t *whole_block(const ferro_kernel_op *op, const uint8_t *in, size_t *length, uint8_t *block)
{
    if (op->row->variant != FERRO_RSA_X_509 || *length == op->size)
        return in;
    memset(block, 0, op->size - *length);
    if (*length != 0)
        memcpy(block + op->size - *length, in, *length);
    *length = op->size;
    return block;
}

static CK_RV sign_this(ferro_kernel_op *op, const uint8_t *in, size_t length, uint8_t *out, size_t *out_length)
{
    *out_length = op->size;
    if (EVP_PKEY_sign(op->pkey, out, out_length, in, length) <= 0)
        return ferro_failed(op->row->variant == FERRO_RSA_X_509 ? CKR_DATA_INVALID : CKR_FUNCTION_FAILED);
    return *out_length == op->size ? CKR_OK : CKR_FUNCTION_FAILED;
}

static CK_RV verify_this(ferro_kernel_op *op, const uint8_t *in, size_t length, const uint8_t *signature,
                         size_t signature_length)
{
    if (signature_length != op->size)
        return CKR_SIGNATURE_LEN_RANGE;
    return EVP_PKEY_verify(op->pkey, signature, signature_length, in, length) == 1
               ? CKR_OK : ferro_failed(CKR_SIGNATURE_INVALID);
}

static CK_RV recover(ferro_kernel_op *op, const uint8_t *in, size_t length, uint8_t *out, size_t *out_length)
{
    uint8_t block[LARGEST_MODULUS];
    size_t made = sizeof(block);
    CK_RV rv = CKR_OK;
    int ok;

    if (op->function == CKF_VERIFY_RECOVER)
        ok = EVP_PKEY_verify_recover(op->pkey, block, &made, in, length);
    else
        ok = EVP_PKEY_decrypt(op->pkey, block, &made, in, length);
    if (ok <= 0 || made > largest_input(op))
        rv = ferro_failed(op->function == CKF_DECRYPT ? CKR_ENCRYPTED_DATA_INVALID : CKR_SIGNATURE_INVALID);
    else if (made != 0)
        memcpy(out, block, made);
    ferro_wipe(block, sizeof(block));
    *out_length = made;
    return rv;
}

static CK_RV once(ferro_kernel_op *op, const uint8_t *in, size_t length, uint8_t *out, size_t *out_length)
{
    uint8_t block[LARGEST_MODULUS];
    size_t none;
    CK_RV rv;

    if (op->function == CKF_DECRYPT || op->function == CKF_VERIFY_RECOVER)
        return recover(op, in, length, out, out_length);
    if (hashed(op)) {
        rv = length == 0 ? CKR_OK : ferro_hash_update(op, in, length, NULL, &none);
        if (rv == CKR_OK)
            rv = ferro_hash_finish(op, block, &length);
        return rv != CKR_OK ? rv : sign_this(op, block, length, out, out_length);
    }
    in = whole_block(op, in, &length, block);
    if (op->function == CKF_ENCRYPT) {
        *out_length = op->size;
        rv = EVP_PKEY_encrypt(op->pkey, out, out_length, in, length) > 0 ? CKR_OK : ferro_failed(CKR_DATA_INVALID);
    } else {
        rv = sign_this(op, in, length, out, out_length);
    }
    ferro_wipe(block, op->size);
    return rv;
}

static CK_RV finish(ferro_kernel_op *op, uint8_t *out, size_t *out_length)
{
    uint8_t hash[EVP_MAX_MD_SIZE];
    size_t length;
    CK_RV rv = ferro_hash_finish(op, hash, &length);

    return rv != CKR_OK ? rv : sign_this(op, hash, length, out, out_length);
}

static CK_RV finish_verify(ferro_kernel_op *op, const uint8_t *signature, size_t signature_length)
{
    uint8_t hash[EVP_MAX_MD_SIZE];
    size_t length;
    CK_RV rv = ferro_hash_finish(op, hash, &length);

    return rv != CKR_OK ? rv : verify_this(op, hash, length, signature, signature_length);
}

/*
 * An empty message: libcrypto takes the zero bytes that its own check finds for a failure, so the
 * whole padded block, which is known, is what the signature must give.
 */
static CK_RV verify_empty(const ferro_kernel_op *op, const uint8_t *signature, size_t signature_length)
{
    uint8_t block[LARGEST_MODULUS];
    EVP_PKEY_CTX *context;
    int ok;

    if (signature_length != op->size)
        return CKR_SIGNATURE_LEN_RANGE;
    memset(block, 0xff, op->size);
    block[0] = block[op->size - 1] = 0;
    block[1] = 1;
    context = EVP_PKEY_CTX_new_from_pkey(ferro_library(), op->key->pkey, NULL);
    ok = context != NULL && EVP_PKEY_verify_init(context) > 0
         && EVP_PKEY_CTX_set_rsa_padding(context, RSA_NO_PADDING) > 0
         && EVP_PKEY_verify(context, signature, signature_length, block, op->size) == 1;
    EVP_PKEY_CTX_free(context);
    return ok ? CKR_OK : ferro_failed(CKR_SIGNATURE_INVALID);
}

static CK_RV verify(ferro_kernel_op *op, const uint8_t *in, size_t length, const uint8_t *signature,
                    size_t signature_length)
{
    uint8_t block[LARGEST_MODULUS];
    size_t none;
    CK_RV rv;

    if (hashed(op)) {
        rv = length == 0 ? CKR_OK : ferro_hash_update(op, in, length, NULL, &none);
        return rv != CKR_OK ? rv : finish_verify(op, signature, signature_length);
    }
    if ((rv = check_input(op, length)) != CKR_OK)
        return rv;
    if (length == 0 && op->row->variant == FERRO_RSA_PKCS)
        return verify_empty(op, signature, signature_length);
    in = whole_block(op, in, &length, block);
    return verify_this(op, in, length, signature, signature_length);
}

static CK_RV again(ferro_kernel_op *op)
{
    /* Nothing of a decryption stays in its context. */
    (void)op;
    return CKR_OK;
}

const ferro_family ferro_rsa = {
    .begin = begin,
    .once_length = once_length,
    .update_length = ferro_no_length,
    .finish_length = ferro_size_at_end,
    .once = once,
    .update = ferro_hash_update,
    .finish = finish,
    .verify = verify,
    .finish_verify = finish_verify,
    .again = again,
};
