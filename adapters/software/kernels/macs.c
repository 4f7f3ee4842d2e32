/* HMAC and AES-CMAC (PKCS#11 3.2, "HMAC mechanisms", "AES CMAC"). */
#include "variants.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <string.h>

enum { AES_BLOCK = 16 };

static const char *const cmac_ciphers[] = {"AES-128-CBC", "AES-192-CBC", "AES-256-CBC"};

static int is_cmac(const ferro_kernel_op *op)
{
    return op->row->variant == FERRO_CMAC || op->row->variant == FERRO_CMAC_GENERAL;
}

/* The length of the MAC: whole, or what the parameter of a _GENERAL mechanism says. */
static CK_RV set_size(ferro_kernel_op *op, const CK_MECHANISM *mechanism)
{
    size_t whole = is_cmac(op) ? AES_BLOCK : ferro_digest_size((ferro_digest)op->row->digest);
    CK_ULONG wanted;

    op->size = whole;
    if (op->row->variant == FERRO_HMAC || op->row->variant == FERRO_CMAC)
        return mechanism->ulParameterLen == 0 ? CKR_OK : CKR_MECHANISM_PARAM_INVALID;
    if (mechanism->pParameter == NULL || mechanism->ulParameterLen != sizeof(wanted))
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(&wanted, mechanism->pParameter, sizeof(wanted));
    if (wanted == 0 || wanted > whole)
        return CKR_MECHANISM_PARAM_INVALID;
    op->size = wanted;
    return CKR_OK;
}

static CK_RV begin(ferro_kernel_op *op, const CK_MECHANISM *mechanism)
{
    OSSL_PARAM params[2] = {OSSL_PARAM_END, OSSL_PARAM_END};
    const ferro_kernel_key *key = op->key;
    EVP_MAC *mac;
    CK_RV rv = set_size(op, mechanism);

    if (rv != CKR_OK)
        return rv;
    if (op->primed && op->mac != NULL)
        return EVP_MAC_init(op->mac, NULL, 0, NULL) ? CKR_OK : ferro_failed(CKR_FUNCTION_FAILED);
    if (is_cmac(op)) {
        if (key->type != CKK_AES)
            return CKR_KEY_TYPE_INCONSISTENT;
        if (key->length != 16 && key->length != 24 && key->length != 32)
            return CKR_KEY_SIZE_RANGE;
        params[0] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_CIPHER,
                                                     (char *)cmac_ciphers[key->length / 8 - 2], 0);
    } else {
        params[0] = OSSL_PARAM_construct_utf8_string(
            OSSL_MAC_PARAM_DIGEST, (char *)ferro_digest_name((ferro_digest)op->row->digest), 0);
    }
    if ((mac = ferro_evp_mac(is_cmac(op) ? MAC_CMAC : MAC_HMAC)) == NULL)
        return CKR_FUNCTION_NOT_SUPPORTED;
    if (op->mac == NULL && (op->mac = EVP_MAC_CTX_new(mac)) == NULL)
        return ferro_failed(CKR_HOST_MEMORY);
    if (!EVP_MAC_init(op->mac, key->value, key->length, params))
        return ferro_failed(CKR_FUNCTION_FAILED);
    return CKR_OK;
}

static CK_RV update(ferro_kernel_op *op, const uint8_t *in, size_t length, uint8_t *out, size_t *out_length)
{
    (void)out;
    *out_length = 0;
    return EVP_MAC_update(op->mac, in, length) ? CKR_OK : ferro_failed(CKR_FUNCTION_FAILED);
}

static CK_RV finish(ferro_kernel_op *op, uint8_t *out, size_t *out_length)
{
    uint8_t whole[EVP_MAX_MD_SIZE];
    size_t made;

    if (!EVP_MAC_final(op->mac, whole, &made, sizeof(whole)))
        return ferro_failed(CKR_FUNCTION_FAILED);
    memcpy(out, whole, op->size);
    ferro_wipe(whole, sizeof(whole));
    *out_length = op->size;
    return CKR_OK;
}

static CK_RV finish_verify(ferro_kernel_op *op, const uint8_t *signature, size_t signature_length)
{
    uint8_t right[EVP_MAX_MD_SIZE];
    size_t made;
    CK_RV rv;

    if (signature_length != op->size)
        return CKR_SIGNATURE_LEN_RANGE;
    if ((rv = finish(op, right, &made)) != CKR_OK)
        return rv;
    rv = CRYPTO_memcmp(right, signature, made) == 0 ? CKR_OK : CKR_SIGNATURE_INVALID;
    ferro_wipe(right, sizeof(right));
    return rv;
}

static CK_RV once(ferro_kernel_op *op, const uint8_t *in, size_t length, uint8_t *out, size_t *out_length)
{
    size_t none;
    CK_RV rv = length == 0 ? CKR_OK : update(op, in, length, NULL, &none);

    return rv != CKR_OK ? rv : finish(op, out, out_length);
}

static CK_RV verify(ferro_kernel_op *op, const uint8_t *in, size_t length, const uint8_t *signature,
                    size_t signature_length)
{
    size_t none;
    CK_RV rv = length == 0 ? CKR_OK : update(op, in, length, NULL, &none);

    return rv != CKR_OK ? rv : finish_verify(op, signature, signature_length);
}

const ferro_family ferro_macs = {
    .begin = begin,
    .once_length = ferro_size_at_once,
    .update_length = ferro_no_length,
    .finish_length = ferro_size_at_end,
    .once = once,
    .update = update,
    .finish = finish,
    .verify = verify,
    .finish_verify = finish_verify,
};
