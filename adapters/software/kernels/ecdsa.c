/* ECDSA, raw and hashed (PKCS#11 3.2, "ECDSA"): r and s of equal length, one after the other. */
#include <string.h>

#include "kernel.h"

/* A hash, whatever it is; what is longer is taken for a mistake, as the other engine does. */
enum { LARGEST_INPUT = 128, LARGEST_HALF = 66, LARGEST_DER = 2 * (LARGEST_HALF + 4) + 4 };

static int hashed(const ferro_kernel_op *op)
{
    return op->row->digest != DIGEST_NONE;
}

static CK_RV begin(ferro_kernel_op *op, const CK_MECHANISM *mechanism)
{
    CK_RV rv;

    if (mechanism->ulParameterLen != 0)
        return CKR_MECHANISM_PARAM_INVALID;
    op->size = 2 * (size_t)op->key->curve->order_length;
    if (hashed(op) && (rv = ferro_hash_begin(op)) != CKR_OK)
        return rv;
    if (op->primed && op->pkey != NULL)
        return CKR_OK;
    EVP_PKEY_CTX_free(op->pkey);
    op->pkey = EVP_PKEY_CTX_new_from_pkey(ferro_library(), op->key->pkey, NULL);
    if (op->pkey == NULL
        || (op->function == CKF_SIGN ? EVP_PKEY_sign_init(op->pkey) : EVP_PKEY_verify_init(op->pkey)) <= 0)
        return ferro_failed(CKR_FUNCTION_FAILED);
    return CKR_OK;
}

static CK_RV once_length(const ferro_kernel_op *op, size_t length, size_t *out_length)
{
    *out_length = op->size;
    return hashed(op) || (length != 0 && length <= LARGEST_INPUT) ? CKR_OK : CKR_DATA_LEN_RANGE;
}

/* Read one DER INTEGER into `half` bytes; the place after it, or NULL. */
static const uint8_t *read_integer(const uint8_t *at, const uint8_t *end, uint8_t *out, size_t half)
{
    size_t length;

    if (end - at < 2 || at[0] != 0x02 || at[1] >= 0x80)
        return NULL;
    length = at[1];
    at += 2;
    if ((size_t)(end - at) < length)
        return NULL;
    while (length > half) {
        if (*at != 0)
            return NULL;
        at++;
        length--;
    }
    memset(out, 0, half - length);
    memcpy(out + half - length, at, length);
    return at + length;
}

static int from_der(const uint8_t *der, size_t length, uint8_t *out, size_t half)
{
    const uint8_t *at = der, *end = der + length;

    if (length < 2 || *at++ != 0x30)
        return -1;
    at += *at == 0x81 ? 2 : 1;
    if (at >= end || (at = read_integer(at, end, out, half)) == NULL)
        return -1;
    return read_integer(at, end, out + half, half) == end ? 0 : -1;
}

static uint8_t *write_integer(uint8_t *at, const uint8_t *value, size_t length)
{
    while (length > 1 && *value == 0) {
        value++;
        length--;
    }
    *at++ = 0x02;
    *at++ = (uint8_t)(length + (*value >> 7));
    if (*value >> 7)
        *at++ = 0;
    memcpy(at, value, length);
    return at + length;
}

static size_t to_der(const uint8_t *signature, size_t half, uint8_t *der)
{
    uint8_t body[LARGEST_DER], *end = write_integer(body, signature, half), *at = der;
    size_t length;

    end = write_integer(end, signature + half, half);
    length = (size_t)(end - body);
    *at++ = 0x30;
    if (length >= 0x80)
        *at++ = 0x81;
    *at++ = (uint8_t)length;
    memcpy(at, body, length);
    return (size_t)(at - der) + length;
}

static CK_RV sign_this(ferro_kernel_op *op, const uint8_t *in, size_t length, uint8_t *out, size_t *out_length)
{
    uint8_t der[LARGEST_DER];
    size_t made = sizeof(der);

    if (EVP_PKEY_sign(op->pkey, der, &made, in, length) <= 0)
        return ferro_failed(CKR_FUNCTION_FAILED);
    if (from_der(der, made, out, op->size / 2) != 0)
        return CKR_FUNCTION_FAILED;
    *out_length = op->size;
    return CKR_OK;
}

static CK_RV verify_this(ferro_kernel_op *op, const uint8_t *in, size_t length, const uint8_t *signature,
                         size_t signature_length)
{
    uint8_t der[LARGEST_DER];
    size_t made;

    /* Halves may have lost leading zeros, if both lost as many. */
    if (signature_length == 0 || signature_length % 2 != 0 || signature_length > op->size)
        return CKR_SIGNATURE_LEN_RANGE;
    made = to_der(signature, signature_length / 2, der);
    return EVP_PKEY_verify(op->pkey, der, made, in, length) == 1 ? CKR_OK : ferro_failed(CKR_SIGNATURE_INVALID);
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

static CK_RV once(ferro_kernel_op *op, const uint8_t *in, size_t length, uint8_t *out, size_t *out_length)
{
    size_t none;
    CK_RV rv;

    if (!hashed(op))
        return sign_this(op, in, length, out, out_length);
    rv = length == 0 ? CKR_OK : ferro_hash_update(op, in, length, NULL, &none);
    return rv != CKR_OK ? rv : finish(op, out, out_length);
}

static CK_RV verify(ferro_kernel_op *op, const uint8_t *in, size_t length, const uint8_t *signature,
                    size_t signature_length)
{
    size_t none;
    CK_RV rv;

    if (!hashed(op)) {
        rv = once_length(op, length, &none);
        return rv != CKR_OK ? rv : verify_this(op, in, length, signature, signature_length);
    }
    rv = length == 0 ? CKR_OK : ferro_hash_update(op, in, length, NULL, &none);
    return rv != CKR_OK ? rv : finish_verify(op, signature, signature_length);
}

const ferro_family ferro_ecdsa = {
    .begin = begin,
    .once_length = once_length,
    .update_length = ferro_no_length,
    .finish_length = ferro_size_at_end,
    .once = once,
    .update = ferro_hash_update,
    .finish = finish,
    .verify = verify,
    .finish_verify = finish_verify,
};
