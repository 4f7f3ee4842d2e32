/* ECDH on all curves, with the X9.63 derivations (PKCS#11 3.2, "Elliptic curve Diffie-Hellman"). */
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <string.h>

#include "kernel.h"

enum { LARGEST_SHARED = 66, LARGEST_OUTPUT = 1024 * 1024 };

/* Where the base key's last agreement has left its context, or a new one; NULL without memory. */
static ferro_kernel_op *take(ferro_kernel_key *base)
{
    ferro_kernel_op *op = ferro_op_idle(base, NULL, CKF_DERIVE);

    if (op == NULL && (op = ferro_op_make()) == NULL)
        return NULL;
    ferro_key_retain(base);
    op->key = base;
    op->function = CKF_DERIVE;
    return op;
}

/*
 * Set the other side's point. libcrypto refuses one that is not on the curve while it reads it, and lengths leave no
 * room for the one at infinity. All curves in Weierstrass form that are served have the cofactor 1: each of their points
 * is of the order that libcrypto's own check of a peer finds out by multiplying, which costs as much as the agreement.
 */
static int set_peer(ferro_kernel_op *op, const ferro_curve *curve, const uint8_t *point, size_t length)
{
    if (op->peer == NULL)
        op->peer = ferro_curve_public(curve, point, length);
    else if (EVP_PKEY_set1_encoded_public_key(op->peer, point, length) <= 0)
        return 0;
    return op->peer != NULL && EVP_PKEY_derive_set_peer_ex(op->pkey, op->peer, 0) > 0;
}

static CK_RV shared_secret(ferro_kernel_key *base, const CK_ECDH1_DERIVE_PARAMS *ecdh, uint8_t *out,
                           size_t *out_length)
{
    const uint8_t *point;
    size_t length;
    ferro_kernel_op *op;
    int ok;

    if (ferro_curve_point(base->curve, ecdh->pPublicData, ecdh->ulPublicDataLen, &point, &length) != 0)
        return CKR_MECHANISM_PARAM_INVALID;
    if ((op = take(base)) == NULL)
        return CKR_HOST_MEMORY;
    if (!op->primed) {
        op->pkey = EVP_PKEY_CTX_new_from_pkey(ferro_library(), base->pkey, NULL);
        if (op->pkey == NULL || EVP_PKEY_derive_init(op->pkey) <= 0) {
            ferro_op_release(op);
            return ferro_failed(CKR_FUNCTION_FAILED);
        }
    }
    ok = set_peer(op, base->curve, point, length) && EVP_PKEY_derive(op->pkey, out, out_length) > 0;
    op->primed = (uint8_t)ok; /* what has failed is not used again */
    ferro_op_release(op);
    /* What is left to fail is the peer's point: of small order, its secret would be zero. */
    return ok ? CKR_OK : ferro_failed(CKR_MECHANISM_PARAM_INVALID);
}

static CK_RV x963(ferro_digest digest, uint8_t *shared, size_t shared_length, const CK_ECDH1_DERIVE_PARAMS *ecdh,
                  uint8_t *out, size_t out_length)
{
    EVP_KDF *kdf = EVP_KDF_fetch(ferro_library(), "X963KDF", NULL);
    EVP_KDF_CTX *context = kdf == NULL ? NULL : EVP_KDF_CTX_new(kdf);
    OSSL_PARAM params[4], *p = params;
    int ok;

    *p++ = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)ferro_digest_name(digest), 0);
    *p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, shared, shared_length);
    if (ecdh->ulSharedDataLen != 0)
        *p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, ecdh->pSharedData, ecdh->ulSharedDataLen);
    *p = OSSL_PARAM_construct_end();
    ok = context != NULL && EVP_KDF_derive(context, out, out_length, params) > 0;
    EVP_KDF_CTX_free(context);
    EVP_KDF_free(kdf);
    return ok ? CKR_OK : ferro_failed(CKR_FUNCTION_FAILED);
}

static CK_RV read_parameter(const CK_MECHANISM *mechanism, CK_ECDH1_DERIVE_PARAMS *ecdh)
{
    if (mechanism->pParameter == NULL || mechanism->ulParameterLen != sizeof(*ecdh))
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(ecdh, mechanism->pParameter, sizeof(*ecdh));
    if (ecdh->pPublicData == NULL || (ecdh->pSharedData == NULL && ecdh->ulSharedDataLen != 0))
        return CKR_MECHANISM_PARAM_INVALID;
    if (ecdh->kdf == CKD_NULL)
        return ecdh->ulSharedDataLen == 0 ? CKR_OK : CKR_MECHANISM_PARAM_INVALID;
    return ferro_digest_of_kdf(ecdh->kdf) == DIGEST_NONE ? CKR_FUNCTION_NOT_SUPPORTED : CKR_OK;
}

CK_RV ferro_derive(const CK_MECHANISM *mechanism, ferro_kernel_key *base, void *out, size_t *out_length)
{
    CK_ECDH1_DERIVE_PARAMS ecdh;
    uint8_t shared[LARGEST_SHARED];
    size_t length = sizeof(shared), whole;
    CK_RV rv = ferro_enter();

    if (rv != CKR_OK)
        return rv;
    if (base->epoch != ferro_current_epoch())
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    if (ferro_serves(CKF_DERIVE, mechanism->mechanism) != CKR_OK)
        return CKR_FUNCTION_NOT_SUPPORTED;
    if (base->kind != KEY_EC && base->kind != KEY_MONTGOMERY)
        return CKR_KEY_TYPE_INCONSISTENT;
    if (!base->is_private)
        return CKR_KEY_FUNCTION_NOT_PERMITTED;
    if ((rv = read_parameter(mechanism, &ecdh)) != CKR_OK)
        return rv;
    whole = (base->curve->bits + 7u) / 8;
    if (ecdh.kdf == CKD_NULL) {
        if (out == NULL || *out_length < whole) {
            rv = out == NULL ? CKR_OK : CKR_BUFFER_TOO_SMALL;
            *out_length = whole;
            return rv;
        }
    } else if (out == NULL) {
        return CKR_OK;
    } else if (*out_length == 0 || *out_length > LARGEST_OUTPUT) {
        return CKR_KEY_SIZE_RANGE;
    }
    if ((rv = shared_secret(base, &ecdh, shared, &length)) == CKR_OK) {
        if (ecdh.kdf == CKD_NULL) {
            memcpy(out, shared, length);
            *out_length = length;
        } else {
            rv = x963(ferro_digest_of_kdf(ecdh.kdf), shared, length, &ecdh, out, *out_length);
            if (rv != CKR_OK)
                ferro_wipe(out, *out_length);
        }
    }
    ferro_wipe(shared, sizeof(shared));
    return rv;
}
