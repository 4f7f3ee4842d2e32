/* SHA-1, SHA-2 and SHA-3 (PKCS#11 3.2, "Digests"). */
#include "kernel.h"

CK_RV ferro_hash_begin(ferro_kernel_op *op)
{
    EVP_MD *md = ferro_md((ferro_digest)op->row->digest);

    if (md == NULL)
        return CKR_FUNCTION_NOT_SUPPORTED;
    if (op->md == NULL && (op->md = EVP_MD_CTX_new()) == NULL)
        return ferro_failed(CKR_HOST_MEMORY);
    if (!EVP_DigestInit_ex2(op->md, md, NULL))
        return ferro_failed(CKR_FUNCTION_FAILED);
    return CKR_OK;
}

CK_RV ferro_hash_update(ferro_kernel_op *op, const uint8_t *in, size_t length, uint8_t *out, size_t *out_length)
{
    (void)out;
    *out_length = 0;
    return EVP_DigestUpdate(op->md, in, length) ? CKR_OK : ferro_failed(CKR_FUNCTION_FAILED);
}

CK_RV ferro_hash_finish(ferro_kernel_op *op, uint8_t *out, size_t *out_length)
{
    unsigned int made = 0;

    if (!EVP_DigestFinal_ex(op->md, out, &made))
        return ferro_failed(CKR_FUNCTION_FAILED);
    *out_length = made;
    return CKR_OK;
}

static CK_RV begin(ferro_kernel_op *op, const CK_MECHANISM *mechanism)
{
    if (mechanism->ulParameterLen != 0)
        return CKR_MECHANISM_PARAM_INVALID;
    op->size = ferro_digest_size((ferro_digest)op->row->digest);
    return ferro_hash_begin(op);
}

static CK_RV once_length(const ferro_kernel_op *op, size_t length, size_t *out_length)
{
    (void)length;
    *out_length = op->size;
    return CKR_OK;
}

static CK_RV update_length(const ferro_kernel_op *op, size_t length, size_t *out_length)
{
    (void)op;
    (void)length;
    *out_length = 0;
    return CKR_OK;
}

static CK_RV finish_length(const ferro_kernel_op *op, size_t *out_length)
{
    *out_length = op->size;
    return CKR_OK;
}

static CK_RV once(ferro_kernel_op *op, const uint8_t *in, size_t length, uint8_t *out, size_t *out_length)
{
    size_t none;
    CK_RV rv = length == 0 ? CKR_OK : ferro_hash_update(op, in, length, NULL, &none);

    return rv != CKR_OK ? rv : ferro_hash_finish(op, out, out_length);
}

const ferro_family ferro_digests = {
    .begin = begin,
    .once_length = once_length,
    .update_length = update_length,
    .finish_length = finish_length,
    .once = once,
    .update = ferro_hash_update,
    .finish = ferro_hash_finish,
};
