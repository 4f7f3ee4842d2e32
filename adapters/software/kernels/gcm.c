/*
 * AES-GCM (PKCS#11 3.2, "Additional AES Mechanisms"). Ciphertext is followed by the tag.
 *
 * A decryption in parts gathers its input and gives the plaintext only after the tag was found
 * right: nothing unauthenticated leaves the kernel. Lengths of IVs are limited as in the other
 * engine, so that what is accepted does not depend on which one computes.
 */
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <string.h>

#include "variants.h"

enum { PIECE = 1 << 30, SMALLEST_TAG = 4, LARGEST_TAG = 16, SMALLEST_IV = 8, LARGEST_IV = 128 };

static int encrypting(const ferro_kernel_op *op)
{
    return op->function == CKF_ENCRYPT;
}

static int right_tag(CK_ULONG bits)
{
    return bits >= 8 * SMALLEST_TAG && bits <= 8 * LARGEST_TAG && bits % 8 == 0;
}

static CK_RV feed_aad(ferro_kernel_op *op, const uint8_t *aad, size_t length)
{
    int n;

    while (length > 0) {
        int piece = length > PIECE ? PIECE : (int)length;
        if (!EVP_CipherUpdate(op->cipher, NULL, &n, aad, piece))
            return ferro_failed(CKR_FUNCTION_FAILED);
        aad += piece;
        length -= (size_t)piece;
    }
    return CKR_OK;
}

static CK_RV begin(ferro_kernel_op *op, const CK_MECHANISM *mechanism)
{
    OSSL_PARAM params[2] = {OSSL_PARAM_END, OSSL_PARAM_END};
    const ferro_kernel_key *key = op->key;
    EVP_CIPHER *cipher = NULL;
    CK_GCM_PARAMS gcm;
    size_t iv_length;

    if (mechanism->pParameter == NULL || mechanism->ulParameterLen != sizeof(gcm))
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(&gcm, mechanism->pParameter, sizeof(gcm));
    if (gcm.pIv == NULL || gcm.ulIvLen < SMALLEST_IV || gcm.ulIvLen > LARGEST_IV || (gcm.pAAD == NULL && gcm.ulAADLen != 0)
        || !right_tag(gcm.ulTagBits))
        return CKR_MECHANISM_PARAM_INVALID;
    iv_length = gcm.ulIvLen;
    op->size = gcm.ulTagBits / 8;
    if (!op->primed || op->cipher == NULL) {
        if (key->type != CKK_AES)
            return CKR_KEY_TYPE_INCONSISTENT;
        if (key->length != 16 && key->length != 24 && key->length != 32)
            return CKR_KEY_SIZE_RANGE;
        if ((cipher = ferro_evp_cipher(CIPHER_GCM, key->length)) == NULL)
            return CKR_FUNCTION_NOT_SUPPORTED;
        if (op->cipher == NULL && (op->cipher = EVP_CIPHER_CTX_new()) == NULL)
            return ferro_failed(CKR_HOST_MEMORY);
        op->iv_length = 12;
        if (!EVP_CipherInit_ex2(op->cipher, cipher, key->value, NULL, encrypting(op), NULL))
            return ferro_failed(CKR_FUNCTION_FAILED);
    }
    if (iv_length != op->iv_length) {
        params[0] = OSSL_PARAM_construct_size_t(OSSL_CIPHER_PARAM_AEAD_IVLEN, &iv_length);
        if (!EVP_CIPHER_CTX_set_params(op->cipher, params))
            return ferro_failed(CKR_MECHANISM_PARAM_INVALID);
        op->iv_length = iv_length;
    }
    if (!EVP_CipherInit_ex2(op->cipher, NULL, NULL, gcm.pIv, -1, NULL))
        return ferro_failed(CKR_FUNCTION_FAILED);
    return feed_aad(op, gcm.pAAD, gcm.ulAADLen);
}

static CK_RV once_length(const ferro_kernel_op *op, size_t length, size_t *out_length)
{
    if (encrypting(op)) {
        *out_length = length + op->size;
        return length > SIZE_MAX - op->size ? CKR_DATA_LEN_RANGE : CKR_OK;
    }
    if (length < op->size)
        return CKR_ENCRYPTED_DATA_LEN_RANGE;
    *out_length = length - op->size;
    return CKR_OK;
}

static CK_RV update_length(const ferro_kernel_op *op, size_t length, size_t *out_length)
{
    *out_length = encrypting(op) ? length : 0;
    return CKR_OK;
}

static CK_RV finish_length(const ferro_kernel_op *op, size_t *out_length)
{
    if (encrypting(op)) {
        *out_length = op->size;
        return CKR_OK;
    }
    return once_length(op, op->gathered_length, out_length);
}

static CK_RV crypt(ferro_kernel_op *op, const uint8_t *in, size_t length, uint8_t *out)
{
    int n;

    while (length > 0) {
        int piece = length > PIECE ? PIECE : (int)length;
        if (!EVP_CipherUpdate(op->cipher, out, &n, in, piece))
            return ferro_failed(encrypting(op) ? CKR_DATA_LEN_RANGE : CKR_ENCRYPTED_DATA_LEN_RANGE);
        in += piece;
        out += piece;
        length -= (size_t)piece;
    }
    return CKR_OK;
}

static CK_RV seal(ferro_kernel_op *op, uint8_t *tag)
{
    uint8_t none[16];
    int n;

    if (!EVP_EncryptFinal_ex(op->cipher, none, &n)
        || !EVP_CIPHER_CTX_ctrl(op->cipher, EVP_CTRL_AEAD_GET_TAG, (int)op->size, tag))
        return ferro_failed(CKR_FUNCTION_FAILED);
    return CKR_OK;
}

static CK_RV unseal(ferro_kernel_op *op, const uint8_t *in, size_t length, uint8_t *out, size_t *out_length)
{
    uint8_t none[16], tag[LARGEST_TAG];
    int n;
    CK_RV rv;

    /* Copied first: in place, the plaintext may be written over it. */
    memcpy(tag, in + length - op->size, op->size);
    length -= op->size;
    if ((rv = crypt(op, in, length, out)) != CKR_OK)
        return rv;
    if (!EVP_CIPHER_CTX_ctrl(op->cipher, EVP_CTRL_AEAD_SET_TAG, (int)op->size, tag)
        || !EVP_DecryptFinal_ex(op->cipher, none, &n)) {
        ferro_wipe(out, length);
        return ferro_failed(CKR_ENCRYPTED_DATA_INVALID);
    }
    *out_length = length;
    return CKR_OK;
}

static CK_RV once(ferro_kernel_op *op, const uint8_t *in, size_t length, uint8_t *out, size_t *out_length)
{
    CK_RV rv;

    if (!encrypting(op))
        return unseal(op, in, length, out, out_length);
    if ((rv = crypt(op, in, length, out)) != CKR_OK)
        return rv;
    *out_length = length + op->size;
    return seal(op, out + length);
}

static CK_RV update(ferro_kernel_op *op, const uint8_t *in, size_t length, uint8_t *out, size_t *out_length)
{
    *out_length = 0;
    if (!encrypting(op))
        return ferro_gather(op, in, length);
    *out_length = length;
    return crypt(op, in, length, out);
}

static CK_RV finish(ferro_kernel_op *op, uint8_t *out, size_t *out_length)
{
    if (!encrypting(op))
        return unseal(op, op->gathered, op->gathered_length, out, out_length);
    *out_length = op->size;
    return seal(op, out);
}

const ferro_family ferro_gcm = {
    .begin = begin,
    .once_length = once_length,
    .update_length = update_length,
    .finish_length = finish_length,
    .once = once,
    .update = update,
    .finish = finish,
};
