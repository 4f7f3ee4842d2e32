/* Copies of operations under way, for C_GetOperationState: what has been hashed or authenticated so far. */
#include <string.h>

#include "kernel.h"

/*
 * Ciphers are not copied: two continuations of one encryption would spend the same keystream or vector twice.
 * An operation that only gathers its input has no state that would be worth it.
 */
static int copyable(const ferro_kernel_op *op)
{
    return op->row != NULL && op->row->multi_part && op->state != OP_OVER && op->cipher == NULL && op->gathered == NULL
           && (op->function & (CKF_DIGEST | CKF_SIGN | CKF_VERIFY)) && (op->md != NULL || op->sha != NULL || op->mac != NULL);
}

static CK_RV copy_contexts(const ferro_kernel_op *op, ferro_kernel_op *made)
{
    if (op->sha != NULL && !ferro_hash_copy(made, op))
        return CKR_HOST_MEMORY;
    if (op->md != NULL
        && ((made->md = EVP_MD_CTX_new()) == NULL || !EVP_MD_CTX_copy_ex(made->md, op->md)))
        return ferro_failed(CKR_FUNCTION_NOT_SUPPORTED);
    if (op->mac != NULL && (made->mac = EVP_MAC_CTX_dup(op->mac)) == NULL)
        return ferro_failed(CKR_FUNCTION_NOT_SUPPORTED);
    if (op->pkey != NULL && (made->pkey = EVP_PKEY_CTX_dup(op->pkey)) == NULL)
        return ferro_failed(CKR_FUNCTION_NOT_SUPPORTED);
    return CKR_OK;
}

CK_RV ferro_op_copy(const ferro_kernel_op *op, ferro_kernel_op **copy)
{
    ferro_kernel_op *made;
    CK_RV rv = ferro_enter();

    *copy = NULL;
    if (rv != CKR_OK || op->epoch != ferro_current_epoch())
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    if (!copyable(op))
        return CKR_FUNCTION_NOT_SUPPORTED;
    if ((made = ferro_op_make()) == NULL)
        return CKR_HOST_MEMORY;
    made->row = op->row;
    made->function = op->function;
    made->size = op->size;
    made->salt = op->salt;
    made->hash = op->hash;
    made->mgf = op->mgf;
    made->deterministic = op->deterministic;
    if (op->key != NULL) {
        ferro_key_retain(op->key);
        made->key = op->key;
    }
    if ((rv = copy_contexts(op, made)) != CKR_OK) {
        ferro_op_release(made); /* not primed, so that it is destroyed */
        return rv;
    }
    made->primed = op->primed;
    made->state = op->state;
    *copy = made;
    return CKR_OK;
}
