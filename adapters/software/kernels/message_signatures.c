/*
 * ML-DSA and SLH-DSA: signatures of a message with a context, or of the message's hash (FIPS 204 and 205).
 *
 * Both sign M' = form || length of the context || context || message; where the message is hashed first (form 1), the
 * hash's object identifier and the digest stand for it. ML-DSA reads M' once, into its representative mu, so parts
 * need no memory. SLH-DSA reads it twice: it is gathered.
 */
#include "variants.h"

#if FERRO_POSTQUANTUM
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <string.h>

enum { LONGEST_CONTEXT = 255, MU = 64, LARGEST_DIGEST = 64, PREHASHED = 1 };

/* DER of 2.16.840.1.101.3.4.2.*, but for the last arc. */
static const uint8_t identifier[] = {0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02};

/* The last arc; 0 for a hash that the standards do not sign with. */
static const uint8_t arcs[DIGESTS] = {
    [DIGEST_SHA256] = 1,      [DIGEST_SHA384] = 2,   [DIGEST_SHA512] = 3,    [DIGEST_SHA224] = 4,
    [DIGEST_SHA512_224] = 5,  [DIGEST_SHA512_256] = 6, [DIGEST_SHA3_224] = 7, [DIGEST_SHA3_256] = 8,
    [DIGEST_SHA3_384] = 9,    [DIGEST_SHA3_512] = 10, [DIGEST_SHAKE128] = 11, [DIGEST_SHAKE256] = 12,
};

typedef struct {
    CK_ULONG hedge;
    const uint8_t *context;
    size_t context_length;
    ferro_digest digest; /* FERRO_HASHED, FERRO_GIVEN */
} parameter;

static CK_RV read_parameter(const ferro_kernel_op *op, const CK_MECHANISM *mechanism, parameter *p)
{
    CK_HASH_SIGN_ADDITIONAL_CONTEXT given;
    CK_SIGN_ADDITIONAL_CONTEXT plain;

    memset(p, 0, sizeof(*p));
    p->digest = (ferro_digest)op->row->digest;
    if (op->row->variant == FERRO_GIVEN) {
        if (mechanism->pParameter == NULL || mechanism->ulParameterLen != sizeof(given))
            return CKR_MECHANISM_PARAM_INVALID;
        memcpy(&given, mechanism->pParameter, sizeof(given));
        p->digest = ferro_digest_of_mechanism(given.hash);
        if (p->digest == DIGEST_NONE || arcs[p->digest] == 0)
            return CKR_MECHANISM_PARAM_INVALID;
        p->hedge = given.hedgeVariant;
        p->context = given.pContext;
        p->context_length = given.ulContextLen;
    } else if (mechanism->ulParameterLen != 0) {
        if (mechanism->pParameter == NULL || mechanism->ulParameterLen != sizeof(plain))
            return CKR_MECHANISM_PARAM_INVALID;
        memcpy(&plain, mechanism->pParameter, sizeof(plain));
        p->hedge = plain.hedgeVariant;
        p->context = plain.pContext;
        p->context_length = plain.ulContextLen;
    }
    if (p->context_length > LONGEST_CONTEXT || (p->context == NULL && p->context_length != 0))
        return CKR_MECHANISM_PARAM_INVALID;
    /* Whoever verifies need not know. */
    if (op->function == CKF_SIGN && p->hedge != CKH_HEDGE_PREFERRED && p->hedge != CKH_HEDGE_REQUIRED
        && p->hedge != CKH_DETERMINISTIC_REQUIRED)
        return CKR_MECHANISM_PARAM_INVALID;
    return CKR_OK;
}

/* What M' begins with. */
static size_t write_head(const ferro_kernel_op *op, const parameter *p, uint8_t *head)
{
    size_t length = 0;

    head[length++] = op->row->variant == FERRO_PURE ? 0 : PREHASHED;
    head[length++] = (uint8_t)p->context_length;
    if (p->context_length != 0)
        memcpy(head + length, p->context, p->context_length);
    length += p->context_length;
    if (op->row->variant != FERRO_PURE) {
        memcpy(head + length, identifier, sizeof(identifier));
        length += sizeof(identifier);
        head[length++] = arcs[p->digest];
    }
    return length;
}

/* The beginning of mu: SHAKE256 of the public key's digest, then M'. */
static CK_RV begin_mu(EVP_MD_CTX **md, const ferro_kernel_key *key, const uint8_t *head, size_t length)
{
    EVP_MD *shake = ferro_md(DIGEST_SHAKE256);

    if (shake == NULL || (*md == NULL && (*md = EVP_MD_CTX_new()) == NULL))
        return ferro_failed(CKR_HOST_MEMORY);
    return EVP_DigestInit_ex2(*md, shake, NULL) && EVP_DigestUpdate(*md, key->tr, sizeof(key->tr))
                   && EVP_DigestUpdate(*md, head, length)
               ? CKR_OK : ferro_failed(CKR_FUNCTION_FAILED);
}

static int streams(const ferro_kernel_op *op)
{
    return op->row->kind == KEY_ML_DSA && op->row->variant == FERRO_PURE;
}

static CK_RV begin(ferro_kernel_op *op, const CK_MECHANISM *mechanism)
{
    uint8_t head[2 + LONGEST_CONTEXT + sizeof(identifier) + 1];
    parameter p;
    CK_RV rv = read_parameter(op, mechanism, &p);
    size_t length;

    if (rv != CKR_OK)
        return rv;
    op->size = op->key->set->output_length;
    op->deterministic = p.hedge == CKH_DETERMINISTIC_REQUIRED;
    op->hash = (int8_t)p.digest;
    length = write_head(op, &p, head);
    if (streams(op))
        return begin_mu(&op->md, op->key, head, length);
    if ((rv = ferro_gather(op, head, length)) != CKR_OK)
        return rv;
    return op->row->variant == FERRO_HASHED ? ferro_hash_begin(op) : CKR_OK;
}

static CK_RV once_length(const ferro_kernel_op *op, size_t length, size_t *out_length)
{
    if (op->row->variant == FERRO_GIVEN && length != ferro_digest_size((ferro_digest)op->hash))
        return CKR_DATA_LEN_RANGE;
    *out_length = op->size;
    return CKR_OK;
}

static CK_RV update(ferro_kernel_op *op, const uint8_t *in, size_t length, uint8_t *out, size_t *out_length)
{
    (void)out;
    *out_length = 0;
    if (length == 0)
        return CKR_OK;
    if (streams(op))
        return EVP_DigestUpdate(op->md, in, length) ? CKR_OK : ferro_failed(CKR_FUNCTION_FAILED);
    if (op->row->variant == FERRO_HASHED)
        return ferro_hash_update(op, in, length, NULL, out_length);
    return ferro_gather(op, in, length);
}

/* All of M' is there: what libcrypto is to sign, which for ML-DSA is mu, written to `mu`. */
static CK_RV finish_message(ferro_kernel_op *op, uint8_t *mu, const uint8_t **message, size_t *length)
{
    uint8_t digest[LARGEST_DIGEST];
    EVP_MD_CTX *md = NULL;
    size_t made = 0;
    CK_RV rv;

    if (op->row->variant == FERRO_HASHED) {
        if ((rv = ferro_hash_finish(op, digest, &made)) == CKR_OK)
            rv = ferro_gather(op, digest, made);
        ferro_wipe(digest, sizeof(digest));
        if (rv != CKR_OK)
            return rv;
    }
    *message = op->gathered;
    *length = op->gathered_length;
    if (op->row->kind == KEY_SLH_DSA)
        return CKR_OK;
    if (!streams(op) && (rv = begin_mu(&md, op->key, op->gathered, op->gathered_length)) != CKR_OK) {
        EVP_MD_CTX_free(md);
        return rv;
    }
    rv = EVP_DigestFinalXOF(streams(op) ? op->md : md, mu, MU) ? CKR_OK : ferro_failed(CKR_FUNCTION_FAILED);
    EVP_MD_CTX_free(md);
    *message = mu;
    *length = MU;
    return rv;
}

/* A context that signs, or verifies, M' or mu just as it is. */
static EVP_PKEY_CTX *prepared(const ferro_kernel_op *op)
{
    EVP_SIGNATURE *signature = ferro_evp_signature(op->key->set);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(ferro_library(), op->key->pkey, NULL);
    int one = 1, raw = 0, deterministic = op->deterministic, ok;
    OSSL_PARAM params[3];

    params[0] = op->row->kind == KEY_ML_DSA ? OSSL_PARAM_construct_int(OSSL_SIGNATURE_PARAM_MU, &one)
                                            : OSSL_PARAM_construct_int(OSSL_SIGNATURE_PARAM_MESSAGE_ENCODING, &raw);
    params[1] = OSSL_PARAM_construct_int(OSSL_SIGNATURE_PARAM_DETERMINISTIC, &deterministic);
    params[2] = OSSL_PARAM_construct_end();
    ok = signature != NULL && context != NULL
         && (op->function == CKF_SIGN ? EVP_PKEY_sign_message_init(context, signature, params)
                                      : EVP_PKEY_verify_message_init(context, signature, params)) > 0;
    if (!ok) {
        EVP_PKEY_CTX_free(context);
        context = NULL;
    }
    return context;
}

static CK_RV finish(ferro_kernel_op *op, uint8_t *out, size_t *out_length)
{
    EVP_PKEY_CTX *context;
    const uint8_t *message;
    uint8_t mu[MU];
    size_t length, made = op->size;
    CK_RV rv = finish_message(op, mu, &message, &length);

    if (rv != CKR_OK)
        return rv;
    if ((context = prepared(op)) == NULL)
        return ferro_failed(CKR_FUNCTION_FAILED);
    rv = EVP_PKEY_sign(context, out, &made, message, length) > 0 && made == op->size
             ? CKR_OK : ferro_failed(CKR_FUNCTION_FAILED);
    EVP_PKEY_CTX_free(context);
    *out_length = made;
    return rv;
}

static CK_RV finish_verify(ferro_kernel_op *op, const uint8_t *signature, size_t signature_length)
{
    EVP_PKEY_CTX *context;
    const uint8_t *message;
    uint8_t mu[MU];
    size_t length;
    CK_RV rv;

    if (signature_length != op->size)
        return CKR_SIGNATURE_LEN_RANGE;
    if ((rv = finish_message(op, mu, &message, &length)) != CKR_OK)
        return rv;
    if ((context = prepared(op)) == NULL)
        return ferro_failed(CKR_FUNCTION_FAILED);
    rv = EVP_PKEY_verify(context, signature, signature_length, message, length) == 1
             ? CKR_OK : ferro_failed(CKR_SIGNATURE_INVALID);
    EVP_PKEY_CTX_free(context);
    return rv;
}

/* The digest that the caller gives, or the whole message. */
static CK_RV take(ferro_kernel_op *op, const uint8_t *in, size_t length)
{
    size_t none;

    if (op->row->variant == FERRO_GIVEN && length != ferro_digest_size((ferro_digest)op->hash))
        return CKR_DATA_LEN_RANGE;
    return update(op, in, length, NULL, &none);
}

static CK_RV once(ferro_kernel_op *op, const uint8_t *in, size_t length, uint8_t *out, size_t *out_length)
{
    CK_RV rv = take(op, in, length);

    return rv != CKR_OK ? rv : finish(op, out, out_length);
}

static CK_RV verify(ferro_kernel_op *op, const uint8_t *in, size_t length, const uint8_t *signature,
                    size_t signature_length)
{
    CK_RV rv;

    if (signature_length != op->size)
        return CKR_SIGNATURE_LEN_RANGE;
    rv = take(op, in, length);
    return rv != CKR_OK ? rv : finish_verify(op, signature, signature_length);
}

const ferro_family ferro_message_signatures = {
    .begin = begin,
    .once_length = once_length,
    .update_length = ferro_no_length,
    .finish_length = ferro_size_at_end,
    .once = once,
    .update = update,
    .finish = finish,
    .verify = verify,
    .finish_verify = finish_verify,
};
#endif
