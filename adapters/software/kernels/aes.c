/* AES in ECB, CBC, CBC with padding and counter mode (PKCS#11 3.2, "AES", "AES with Counter"). */
#include <openssl/evp.h>
#include <string.h>

#include "variants.h"

enum { BLOCK = 16, PIECE = 1 << 30 /* libcrypto counts in int */ };

static int encrypting(const ferro_kernel_op *op)
{
    return op->function == CKF_ENCRYPT;
}

static ferro_cipher mode_of(const ferro_kernel_op *op)
{
    switch (op->row->variant) {
    case FERRO_AES_ECB:
        return CIPHER_ECB;
    case FERRO_AES_CTR:
        return CIPHER_CTR;
    default:
        return CIPHER_CBC;
    }
}

/*
 * Bytes until the counter's bits would overflow. Counters that cannot overflow within 2^64 bytes
 * count as endless.
 */
static uint64_t counter_room(const uint8_t block[BLOCK], unsigned bits)
{
    uint64_t low = 0, left;
    unsigned i;

    for (i = 8; i < BLOCK; i++)
        low = low << 8 | block[i];
    if (bits > 64) {
        /* Endless unless every bit of the counter above the low 64 is set. */
        for (i = 64; i < bits; i++)
            if (!(block[BLOCK - 1 - i / 8] >> (i % 8) & 1))
                return UINT64_MAX;
        left = 0 - low;
        return low == 0 || left > UINT64_MAX / BLOCK ? UINT64_MAX : left * BLOCK;
    }
    if (bits == 64)
        left = 0 - low;
    else
        left = ((uint64_t)1 << bits) - (low & (((uint64_t)1 << bits) - 1));
    return left == 0 || left > UINT64_MAX / BLOCK ? UINT64_MAX : left * BLOCK;
}

static CK_RV read_parameter(ferro_kernel_op *op, const CK_MECHANISM *mechanism)
{
    CK_AES_CTR_PARAMS ctr;

    op->iv_length = 0;
    op->room = UINT64_MAX;
    switch (op->row->variant) {
    case FERRO_AES_ECB:
        return mechanism->ulParameterLen == 0 ? CKR_OK : CKR_MECHANISM_PARAM_INVALID;
    case FERRO_AES_CTR:
        if (mechanism->pParameter == NULL || mechanism->ulParameterLen != sizeof(ctr))
            return CKR_MECHANISM_PARAM_INVALID;
        memcpy(&ctr, mechanism->pParameter, sizeof(ctr));
        if (ctr.ulCounterBits == 0 || ctr.ulCounterBits > 128)
            return CKR_MECHANISM_PARAM_INVALID;
        memcpy(op->iv, ctr.cb, BLOCK);
        op->room = counter_room(op->iv, (unsigned)ctr.ulCounterBits);
        break;
    default:
        if (mechanism->pParameter == NULL || mechanism->ulParameterLen != BLOCK)
            return CKR_MECHANISM_PARAM_INVALID;
        memcpy(op->iv, mechanism->pParameter, BLOCK);
    }
    op->iv_length = BLOCK;
    return CKR_OK;
}

static CK_RV restart(ferro_kernel_op *op)
{
    op->held = 0;
    if (!EVP_CipherInit_ex2(op->cipher, NULL, NULL, op->iv_length != 0 ? op->iv : NULL, -1, NULL))
        return ferro_failed(CKR_FUNCTION_FAILED);
    return CKR_OK;
}

static CK_RV begin(ferro_kernel_op *op, const CK_MECHANISM *mechanism)
{
    const ferro_kernel_key *key = op->key;
    EVP_CIPHER *cipher;
    CK_RV rv = read_parameter(op, mechanism);

    if (rv != CKR_OK)
        return rv;
    op->held = 0;
    if (op->primed && op->cipher != NULL)
        return restart(op);
    if (key->type != CKK_AES)
        return CKR_KEY_TYPE_INCONSISTENT;
    if (key->length != 16 && key->length != 24 && key->length != 32)
        return CKR_KEY_SIZE_RANGE;
    if ((cipher = ferro_evp_cipher(mode_of(op), key->length)) == NULL)
        return CKR_FUNCTION_NOT_SUPPORTED;
    if (op->cipher == NULL && (op->cipher = EVP_CIPHER_CTX_new()) == NULL)
        return ferro_failed(CKR_HOST_MEMORY);
    if (!EVP_CipherInit_ex2(op->cipher, cipher, key->value, op->iv_length != 0 ? op->iv : NULL, encrypting(op), NULL)
        || !EVP_CIPHER_CTX_set_padding(op->cipher, op->row->variant == FERRO_AES_CBC_PAD))
        return ferro_failed(CKR_FUNCTION_FAILED);
    return CKR_OK;
}

static CK_RV wrong_length(const ferro_kernel_op *op)
{
    return encrypting(op) ? CKR_DATA_LEN_RANGE : CKR_ENCRYPTED_DATA_LEN_RANGE;
}

static CK_RV once_length(const ferro_kernel_op *op, size_t length, size_t *out_length)
{
    *out_length = length;
    switch (op->row->variant) {
    case FERRO_AES_CTR:
        return length > op->room ? CKR_DATA_LEN_RANGE : CKR_OK;
    case FERRO_AES_CBC_PAD:
        if (encrypting(op)) {
            if (length > SIZE_MAX - BLOCK)
                return CKR_DATA_LEN_RANGE;
            *out_length = (length / BLOCK + 1) * BLOCK;
            return CKR_OK;
        }
        return length == 0 || length % BLOCK != 0 ? CKR_ENCRYPTED_DATA_LEN_RANGE : CKR_OK;
    default:
        return length % BLOCK != 0 ? wrong_length(op) : CKR_OK;
    }
}

static CK_RV update_length(const ferro_kernel_op *op, size_t length, size_t *out_length)
{
    size_t total;

    *out_length = length;
    if (op->row->variant == FERRO_AES_CTR)
        return length > op->room ? CKR_DATA_LEN_RANGE : CKR_OK;
    if (length > SIZE_MAX - BLOCK)
        return wrong_length(op);
    total = op->held + length;
    /* A padded decryption keeps the last block: it may be the one with the padding. */
    if (op->row->variant == FERRO_AES_CBC_PAD && !encrypting(op))
        *out_length = total == 0 ? 0 : (total - 1) / BLOCK * BLOCK;
    else
        *out_length = total / BLOCK * BLOCK;
    return CKR_OK;
}

static CK_RV finish_length(const ferro_kernel_op *op, size_t *out_length)
{
    *out_length = 0;
    if (op->row->variant == FERRO_AES_CBC_PAD) {
        *out_length = BLOCK;
        return !encrypting(op) && op->held != BLOCK ? CKR_ENCRYPTED_DATA_LEN_RANGE : CKR_OK;
    }
    return op->held != 0 ? wrong_length(op) : CKR_OK;
}

static CK_RV update(ferro_kernel_op *op, const uint8_t *in, size_t length, uint8_t *out, size_t *out_length)
{
    size_t expected, made = 0;
    uint8_t spare[2 * BLOCK];
    int n;
    CK_RV rv = update_length(op, length, &expected);

    if (rv != CKR_OK)
        return rv;
    while (length > 0) {
        int piece = length > PIECE ? PIECE : (int)length;
        /* Nothing comes out of less than a block, and then `out` may be NULL. */
        if (!EVP_CipherUpdate(op->cipher, expected != 0 ? out + made : spare, &n, in, piece))
            return ferro_failed(wrong_length(op));
        made += (size_t)n;
        in += piece;
        length -= (size_t)piece;
        if (op->row->variant == FERRO_AES_CTR)
            op->room -= (uint64_t)piece;
        else
            op->held += (size_t)piece;
    }
    if (op->row->variant != FERRO_AES_CTR)
        op->held -= made;
    *out_length = made;
    return made == expected ? CKR_OK : CKR_FUNCTION_FAILED;
}

static CK_RV finish(ferro_kernel_op *op, uint8_t *out, size_t *out_length)
{
    uint8_t last[2 * BLOCK];
    int n = 0;

    if (!EVP_CipherFinal_ex(op->cipher, last, &n))
        return ferro_failed(encrypting(op) ? CKR_DATA_LEN_RANGE : CKR_ENCRYPTED_DATA_INVALID);
    if (n > 0)
        memcpy(out, last, (size_t)n);
    ferro_wipe(last, sizeof(last));
    *out_length = (size_t)n;
    op->held = 0;
    return CKR_OK;
}

static CK_RV once(ferro_kernel_op *op, const uint8_t *in, size_t length, uint8_t *out, size_t *out_length)
{
    size_t made = 0, last = 0;
    CK_RV rv = length == 0 ? CKR_OK : update(op, in, length, out, &made);

    if (rv == CKR_OK)
        rv = finish(op, out + made, &last);
    *out_length = made + last;
    return rv;
}

const ferro_family ferro_ciphers = {
    .begin = begin,
    .once_length = once_length,
    .update_length = update_length,
    .finish_length = finish_length,
    .once = once,
    .update = update,
    .finish = finish,
    .again = restart,
};
