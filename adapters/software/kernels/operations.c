/*
 * The shape of every operation: begin, the length rule, input and output, and its end. What a
 * mechanism computes stands in its family's file.
 */
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <string.h>

#include "kernel.h"

void ferro_op_strip(ferro_kernel_op *op)
{
    EVP_MD_CTX_free(op->md);
    ferro_free(op->sha);
    EVP_CIPHER_CTX_free(op->cipher);
    EVP_MAC_CTX_free(op->mac);
    EVP_PKEY_CTX_free(op->pkey);
    EVP_PKEY_free(op->peer);
    op->md = NULL;
    op->sha = NULL;
    op->cipher = NULL;
    op->mac = NULL;
    op->pkey = NULL;
    op->peer = NULL;
    ferro_free(op->gathered);
    op->gathered = NULL;
    op->gathered_length = op->gathered_room = 0;
    ferro_wipe(op->iv, sizeof(op->iv));
    op->primed = 0;
    op->state = OP_OVER;
}

void ferro_op_destroy(ferro_kernel_op *op)
{
    ferro_op_strip(op);
    ferro_objects_remove_op(op);
    ferro_free(op);
}

ferro_kernel_op *ferro_op_make(void)
{
    ferro_kernel_op *op = ferro_alloc(sizeof(*op));

    if (op == NULL)
        return NULL;
    memset(op, 0, sizeof(*op));
    op->epoch = ferro_current_epoch();
    ferro_objects_add_op(op);
    return op;
}

ferro_kernel_op *ferro_op_idle(ferro_kernel_key *key, const ferro_row *row, CK_FLAGS function)
{
    ferro_kernel_op **link, *op;

    ferro_mutex_lock(&key->lock);
    for (link = &key->idle; (op = *link) != NULL; link = &op->idle_next)
        if (op->row == row && op->function == function) {
            *link = op->idle_next;
            op->idle_next = NULL;
            key->idle_count--;
            break;
        }
    ferro_mutex_unlock(&key->lock);
    return op;
}

/* Leave an operation that is over with its key; 0 when the key keeps enough of them. */
static int op_to_key(ferro_kernel_op *op)
{
    ferro_kernel_key *key = op->key;
    int taken = 0;

    ferro_mutex_lock(&key->lock);
    if (key->idle_count < IDLE_OPS) {
        op->idle_next = key->idle;
        key->idle = op;
        key->idle_count++;
        taken = 1;
    }
    ferro_mutex_unlock(&key->lock);
    return taken;
}

static int usable(const ferro_kernel_op *op)
{
    return op->epoch == ferro_current_epoch();
}

static void over(ferro_kernel_op *op)
{
    op->state = OP_OVER;
    op->held = 0;
    if (op->gathered != NULL) {
        ferro_free(op->gathered);
        op->gathered = NULL;
        op->gathered_length = op->gathered_room = 0;
    }
}

/* The end of an operation that failed: what its contexts hold is wiped with them. */
static CK_RV broken(ferro_kernel_op *op, CK_RV rv)
{
    over(op);
    ferro_op_strip(op);
    ERR_clear_error();
    return rv;
}

static CK_RV key_fits(const ferro_row *row, const ferro_kernel_key *key, CK_FLAGS function)
{
    if (row->kind == KEY_NONE)
        return key == NULL ? CKR_OK : CKR_KEY_NOT_NEEDED;
    if (key == NULL)
        return CKR_KEY_NEEDED;
    if (key->epoch != ferro_current_epoch())
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    if (key->kind != (ferro_key_kind)row->kind)
        return CKR_KEY_TYPE_INCONSISTENT;
    if ((function & (CKF_SIGN | CKF_SIGN_RECOVER | CKF_DECRYPT)) && !key->is_private)
        return CKR_KEY_FUNCTION_NOT_PERMITTED;
    return CKR_OK;
}

CK_RV ferro_begin(CK_FLAGS function, const CK_MECHANISM *mechanism, ferro_kernel_key *key, ferro_kernel_op **given)
{
    ferro_kernel_op *op = *given;
    const ferro_row *row;
    CK_RV rv;

    if ((rv = ferro_enter()) != CKR_OK)
        return rv;
    if (op != NULL && !usable(op))
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    row = op != NULL && op->row != NULL && op->row->mechanism == mechanism->mechanism
              ? op->row : ferro_row_find(mechanism->mechanism);
    if (op != NULL)
        over(op);
    if (row == NULL || !(row->functions & function) || (function & (function - 1)))
        return CKR_FUNCTION_NOT_SUPPORTED;
    if ((rv = key_fits(row, key, function)) != CKR_OK)
        return rv;
    if (op == NULL && key != NULL && (op = ferro_op_idle(key, row, function)) != NULL)
        ferro_key_retain(key);
    if (op == NULL) {
        if ((op = ferro_op_make()) == NULL)
            return CKR_HOST_MEMORY;
    }
    if (op->row != row || op->function != function || op->key != key) {
        if (op->row != row || op->key != NULL)
            ferro_op_strip(op);
        op->primed = 0;
        if (key != NULL && op->key != key)
            ferro_key_retain(key);
        if (op->key != NULL && op->key != key)
            ferro_key_release(op->key);
        op->row = row;
        op->function = function;
        op->key = key;
    }
    rv = row->family->begin(op, mechanism);
    if (rv == CKR_OK) {
        op->primed = 1;
        op->state = OP_READY;
    } else {
        broken(op, rv);
        if (*given == NULL) {
            ferro_op_release(op);
            op = NULL;
        }
    }
    *given = op;
    return rv;
}

int ferro_multi_part(const ferro_kernel_op *op)
{
    return op->row != NULL && op->row->multi_part;
}

static CK_RV ready(const ferro_kernel_op *op, int once)
{
    if (ferro_enter() != CKR_OK || !usable(op))
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    if (op->state == OP_OVER)
        return CKR_OPERATION_NOT_INITIALIZED;
    if (once && op->state == OP_PARTIAL)
        return CKR_OPERATION_ACTIVE;
    if (!once && !op->row->multi_part)
        return CKR_FUNCTION_NOT_SUPPORTED;
    return CKR_OK;
}

CK_RV ferro_size_at_once(const ferro_kernel_op *op, size_t length, size_t *out_length)
{
    (void)length;
    *out_length = op->size;
    return CKR_OK;
}

CK_RV ferro_no_length(const ferro_kernel_op *op, size_t length, size_t *out_length)
{
    (void)op;
    (void)length;
    *out_length = 0;
    return CKR_OK;
}

CK_RV ferro_size_at_end(const ferro_kernel_op *op, size_t *out_length)
{
    *out_length = op->size;
    return CKR_OK;
}

CK_RV ferro_once_length(const ferro_kernel_op *op, size_t length, size_t *out_length)
{
    CK_RV rv = ready(op, 1);

    return rv != CKR_OK ? rv : op->row->family->once_length(op, length, out_length);
}

CK_RV ferro_update_length(const ferro_kernel_op *op, size_t length, size_t *out_length)
{
    CK_RV rv = ready(op, 0);

    return rv != CKR_OK ? rv : op->row->family->update_length(op, length, out_length);
}

CK_RV ferro_finish_length(const ferro_kernel_op *op, size_t *out_length)
{
    CK_RV rv = ready(op, 0);

    return rv != CKR_OK ? rv : op->row->family->finish_length(op, out_length);
}

static int overlap(const void *in, size_t length, const void *out, size_t room)
{
    uintptr_t a = (uintptr_t)in, b = (uintptr_t)out;

    return length != 0 && room != 0 && a < b + room && b < a + length;
}

/*
 * A decryption's size is an upper bound, and a caller may know better and give just the room that
 * the plaintext needs: compute aside, and start again when it does not fit.
 */
static CK_RV once_aside(ferro_kernel_op *op, const uint8_t *in, size_t length, uint8_t *out, size_t *out_length,
                        size_t bound)
{
    size_t room = *out_length, made = bound;
    uint8_t *aside = ferro_secret_alloc(bound);
    CK_RV rv;

    if (aside == NULL)
        return broken(op, CKR_HOST_MEMORY);
    rv = op->row->family->once(op, in, length, aside, &made);
    if (rv == CKR_OK && made > room) {
        rv = op->row->family->again(op);
        *out_length = made;
        ferro_free(aside);
        return rv == CKR_OK ? CKR_BUFFER_TOO_SMALL : broken(op, rv);
    }
    if (rv == CKR_OK) {
        memcpy(out, aside, made);
        *out_length = made;
        over(op);
    }
    ferro_free(aside);
    return rv == CKR_OK ? CKR_OK : broken(op, rv);
}

CK_RV ferro_once(ferro_kernel_op *op, const void *in, size_t length, void *out, size_t *out_length)
{
    size_t need;
    uint8_t *copy = NULL;
    CK_RV rv;

    if ((rv = ready(op, 1)) != CKR_OK)
        return rv;
    if (op->row->family->once == NULL || op->function == CKF_VERIFY)
        return CKR_FUNCTION_NOT_SUPPORTED;
    if ((rv = op->row->family->once_length(op, length, &need)) != CKR_OK)
        return broken(op, rv);
    if (out == NULL) {
        *out_length = need;
        return CKR_OK;
    }
    if (*out_length < need) {
        if (op->row->family->again != NULL && (op->function & (CKF_DECRYPT | CKF_VERIFY_RECOVER)))
            return once_aside(op, in, length, out, out_length, need);
        *out_length = need;
        return CKR_BUFFER_TOO_SMALL;
    }
    /* Ciphers work in place; a signature may be written before its message was read for the last time. */
    if ((in != out || (op->function & (CKF_SIGN | CKF_SIGN_RECOVER))) && overlap(in, length, out, need)) {
        if ((copy = ferro_secret_alloc(length)) == NULL)
            return broken(op, CKR_HOST_MEMORY);
        memcpy(copy, in, length);
        in = copy;
    }
    rv = op->row->family->once(op, in, length, out, out_length);
    ferro_free(copy);
    if (rv != CKR_OK) {
        ferro_wipe(out, need);
        return broken(op, rv);
    }
    over(op);
    return CKR_OK;
}

CK_RV ferro_update(ferro_kernel_op *op, const void *in, size_t length, void *out, size_t *out_length)
{
    size_t need;
    uint8_t *copy = NULL;
    CK_RV rv;

    if ((rv = ready(op, 0)) != CKR_OK)
        return rv;
    if ((rv = op->row->family->update_length(op, length, &need)) != CKR_OK)
        return broken(op, rv);
    if (need != 0 && out == NULL) {
        *out_length = need;
        return CKR_OK;
    }
    if (need != 0 && *out_length < need) {
        *out_length = need;
        return CKR_BUFFER_TOO_SMALL;
    }
    op->state = OP_PARTIAL;
    if (length == 0) {
        if (out_length != NULL)
            *out_length = 0;
        return CKR_OK;
    }
    if (need != 0 && overlap(in, length, out, need)) {
        if ((copy = ferro_secret_alloc(length)) == NULL)
            return broken(op, CKR_HOST_MEMORY);
        memcpy(copy, in, length);
        in = copy;
    }
    rv = op->row->family->update(op, in, length, out, &need);
    ferro_free(copy);
    if (rv != CKR_OK) {
        if (need != 0)
            ferro_wipe(out, need);
        return broken(op, rv);
    }
    if (out_length != NULL)
        *out_length = need;
    return CKR_OK;
}

CK_RV ferro_finish(ferro_kernel_op *op, void *out, size_t *out_length)
{
    size_t need, made;
    CK_RV rv;

    if ((rv = ready(op, 0)) != CKR_OK)
        return rv;
    if (op->row->family->finish == NULL || op->function == CKF_VERIFY)
        return CKR_FUNCTION_NOT_SUPPORTED;
    if ((rv = op->row->family->finish_length(op, &need)) != CKR_OK)
        return broken(op, rv);
    if (out == NULL && need != 0) {
        *out_length = need;
        return CKR_OK;
    }
    if (*out_length < need) {
        *out_length = need;
        return CKR_BUFFER_TOO_SMALL;
    }
    made = need;
    rv = op->row->family->finish(op, out, &made);
    if (rv != CKR_OK) {
        if (need != 0)
            ferro_wipe(out, need);
        return broken(op, rv);
    }
    *out_length = made;
    over(op);
    return CKR_OK;
}

CK_RV ferro_verify(ferro_kernel_op *op, const void *in, size_t length, const void *signature,
                   size_t signature_length)
{
    CK_RV rv = ready(op, 1);

    if (rv != CKR_OK)
        return rv;
    if (op->function != CKF_VERIFY)
        return CKR_FUNCTION_NOT_SUPPORTED;
    rv = op->row->family->verify(op, in, length, signature, signature_length);
    if (rv != CKR_OK && rv != CKR_SIGNATURE_INVALID && rv != CKR_SIGNATURE_LEN_RANGE)
        return broken(op, rv);
    over(op);
    return rv;
}

CK_RV ferro_finish_verify(ferro_kernel_op *op, const void *signature, size_t signature_length)
{
    CK_RV rv = ready(op, 0);

    if (rv != CKR_OK)
        return rv;
    if (op->function != CKF_VERIFY)
        return CKR_FUNCTION_NOT_SUPPORTED;
    rv = op->row->family->finish_verify(op, signature, signature_length);
    if (rv != CKR_OK && rv != CKR_SIGNATURE_INVALID && rv != CKR_SIGNATURE_LEN_RANGE)
        return broken(op, rv);
    over(op);
    return rv;
}

/*
 * A finished operation leaves no data in its contexts that its result did not give away, but one
 * that is dropped half way does, so its contexts go too.
 */
void ferro_op_reset(ferro_kernel_op *op)
{
    if (ferro_enter() != CKR_OK || !usable(op))
        return;
    if (op->state == OP_PARTIAL)
        ferro_op_strip(op);
    over(op);
}

void ferro_op_release(ferro_kernel_op *op)
{
    ferro_kernel_key *key;

    if (op == NULL || ferro_enter() != CKR_OK)
        return;
    key = op->key;
    ferro_op_reset(op);
    if (key == NULL) {
        ferro_op_destroy(op);
        return;
    }
    if (!usable(op) || !op->primed || !op_to_key(op))
        ferro_op_destroy(op);
    ferro_key_release(key);
}

/* Input that must be seen whole before anything may leave is kept up to here. */
#define MAX_HELD_BYTES ((size_t)64 * 1024 * 1024)

CK_RV ferro_gather(ferro_kernel_op *op, const uint8_t *in, size_t length)
{
    size_t room = op->gathered_room == 0 ? 1024 : op->gathered_room;
    uint8_t *more;

    if (length > MAX_HELD_BYTES - op->gathered_length)
        return CKR_TOKEN_RESOURCE_EXCEEDED;
    if (op->gathered_room - op->gathered_length < length) {
        while (room - op->gathered_length < length)
            room *= 2;
        if ((more = ferro_secret_alloc(room)) == NULL)
            return CKR_HOST_MEMORY;
        if (op->gathered_length != 0)
            memcpy(more, op->gathered, op->gathered_length);
        ferro_free(op->gathered);
        op->gathered = more;
        op->gathered_room = room;
    }
    if (length != 0)
        memcpy(op->gathered + op->gathered_length, in, length);
    op->gathered_length += length;
    return CKR_OK;
}
