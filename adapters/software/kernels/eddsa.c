/*
 * EdDSA in its pure form (PKCS#11 3.2, "EdDSA"). The message is processed twice, so a signature in
 * parts gathers it. Pre-hashed forms and contexts are not offered here.
 */
#include <string.h>

#include "kernel.h"

enum { LARGEST_SIGNATURE = 114 }; /* Ed448's */

static CK_RV read_parameter(const ferro_kernel_op *op, const CK_MECHANISM *mechanism)
{
    CK_EDDSA_PARAMS eddsa;

    if (mechanism->ulParameterLen == 0)
        return CKR_OK;
    if (mechanism->pParameter == NULL || mechanism->ulParameterLen != sizeof(eddsa))
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(&eddsa, mechanism->pParameter, sizeof(eddsa));
    /* With a parameter Ed25519 becomes Ed25519ctx, while Ed448 has an empty context anyway. */
    if (eddsa.phFlag || eddsa.ulContextDataLen != 0 || op->key->curve->bits != 448)
        return CKR_FUNCTION_NOT_SUPPORTED;
    return CKR_OK;
}

static CK_RV begin(ferro_kernel_op *op, const CK_MECHANISM *mechanism)
{
    CK_RV rv = read_parameter(op, mechanism);
    int ok;

    if (rv != CKR_OK)
        return rv;
    op->size = 2 * (size_t)op->key->curve->order_length;
    /* Newer libcryptos want a context begun again after each signature; this form is cheap. */
    if (op->primed && op->md != NULL) {
        if (op->function == CKF_SIGN)
            ok = EVP_DigestSignInit_ex(op->md, NULL, NULL, ferro_library(), NULL, NULL, NULL);
        else
            ok = EVP_DigestVerifyInit_ex(op->md, NULL, NULL, ferro_library(), NULL, NULL, NULL);
        return ok > 0 ? CKR_OK : ferro_failed(CKR_FUNCTION_FAILED);
    }
    EVP_MD_CTX_free(op->md);
    if ((op->md = EVP_MD_CTX_new()) == NULL)
        return ferro_failed(CKR_HOST_MEMORY);
    if (op->function == CKF_SIGN)
        ok = EVP_DigestSignInit_ex(op->md, NULL, NULL, ferro_library(), NULL, op->key->pkey, NULL);
    else
        ok = EVP_DigestVerifyInit_ex(op->md, NULL, NULL, ferro_library(), NULL, op->key->pkey, NULL);
    return ok > 0 ? CKR_OK : ferro_failed(CKR_FUNCTION_FAILED);
}

/* libcrypto takes a NULL message for "tell me the size". */
static const uint8_t *message(const uint8_t *in, size_t length)
{
    return length == 0 ? (const uint8_t *)"" : in;
}

static CK_RV once(ferro_kernel_op *op, const uint8_t *in, size_t length, uint8_t *out, size_t *out_length)
{
    /*
     * Never straight into `out`, which may be where the message stands: libcrypto writes R before it reads the
     * message again. One nonce would answer two challenges, and such a signature beside a right one gives the
     * private key away.
     */
    uint8_t signature[LARGEST_SIGNATURE];
    size_t made = sizeof(signature);

    if (EVP_DigestSign(op->md, signature, &made, message(in, length), length) <= 0)
        return ferro_failed(CKR_FUNCTION_FAILED);
    if (made != op->size)
        return CKR_FUNCTION_FAILED;
    memcpy(out, signature, made);
    *out_length = made;
    return CKR_OK;
}

static CK_RV verify(ferro_kernel_op *op, const uint8_t *in, size_t length, const uint8_t *signature,
                    size_t signature_length)
{
    if (signature_length != op->size)
        return CKR_SIGNATURE_LEN_RANGE;
    return EVP_DigestVerify(op->md, signature, signature_length, message(in, length), length) == 1
               ? CKR_OK : ferro_failed(CKR_SIGNATURE_INVALID);
}

static CK_RV update(ferro_kernel_op *op, const uint8_t *in, size_t length, uint8_t *out, size_t *out_length)
{
    (void)out;
    *out_length = 0;
    return ferro_gather(op, in, length);
}

static CK_RV finish(ferro_kernel_op *op, uint8_t *out, size_t *out_length)
{
    return once(op, op->gathered, op->gathered_length, out, out_length);
}

static CK_RV finish_verify(ferro_kernel_op *op, const uint8_t *signature, size_t signature_length)
{
    return verify(op, op->gathered, op->gathered_length, signature, signature_length);
}

const ferro_family ferro_eddsa = {
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
