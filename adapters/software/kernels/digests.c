/* SHA-1, SHA-2 and SHA-3 (PKCS#11 3.2, "Digests"). */
#define OPENSSL_SUPPRESS_DEPRECATED 1
#include <openssl/sha.h>
#include <string.h>

#include "kernel.h"

/*
 * EVP makes a provider's context anew for each digest, which costs as much as hashing 64 bytes. The functions of before
 * EVP compute with the same code in a structure of ours; where a libcrypto is built without them, EVP does it all.
 */
struct ferro_sha {
    int (*init)(struct ferro_sha *sha);
    int (*update)(struct ferro_sha *sha, const void *in, size_t length);
    int (*final)(struct ferro_sha *sha, uint8_t *out);
    int8_t digest;
    union {
        SHA_CTX sha1;
        SHA256_CTX sha256;
        SHA512_CTX sha512;
    } state;
};

#if OPENSSL_VERSION_NUMBER < 0x40000000L && !defined(OPENSSL_NO_DEPRECATED_3_0)
#define FUNCTIONS(name, NAME, member)                                                                            \
    static int init_##name(struct ferro_sha *sha) { return NAME##_Init(&sha->state.member); }                    \
    static int update_##name(struct ferro_sha *sha, const void *in, size_t length)                               \
    {                                                                                                            \
        return NAME##_Update(&sha->state.member, in, length);                                                    \
    }                                                                                                            \
    static int final_##name(struct ferro_sha *sha, uint8_t *out) { return NAME##_Final(out, &sha->state.member); }

FUNCTIONS(sha1, SHA1, sha1)
FUNCTIONS(sha224, SHA224, sha256)
FUNCTIONS(sha256, SHA256, sha256)
FUNCTIONS(sha384, SHA384, sha512)
FUNCTIONS(sha512, SHA512, sha512)

#define SHA(name) {init_##name, update_##name, final_##name, 0, {{0}}}

static const struct ferro_sha known[DIGESTS] = {
    [DIGEST_SHA1] = SHA(sha1),     [DIGEST_SHA224] = SHA(sha224), [DIGEST_SHA256] = SHA(sha256),
    [DIGEST_SHA384] = SHA(sha384), [DIGEST_SHA512] = SHA(sha512),
};
#else
static const struct ferro_sha known[DIGESTS];
#endif

static CK_RV sha_begin(ferro_kernel_op *op, ferro_digest digest)
{
    if (op->sha == NULL && (op->sha = ferro_alloc(sizeof(*op->sha))) == NULL)
        return CKR_HOST_MEMORY;
    if (op->sha->init == NULL || op->sha->digest != (int8_t)digest) {
        *op->sha = known[digest];
        op->sha->digest = (int8_t)digest;
    }
    return op->sha->init(op->sha) ? CKR_OK : CKR_FUNCTION_FAILED;
}

CK_RV ferro_hash_begin(ferro_kernel_op *op)
{
    ferro_digest digest = (ferro_digest)op->row->digest;
    EVP_MD *md;

    if (known[digest].init != NULL)
        return sha_begin(op, digest);
    if ((md = ferro_md(digest)) == NULL)
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
    if (op->sha != NULL)
        return op->sha->update(op->sha, in, length) ? CKR_OK : CKR_FUNCTION_FAILED;
    return EVP_DigestUpdate(op->md, in, length) ? CKR_OK : ferro_failed(CKR_FUNCTION_FAILED);
}

CK_RV ferro_hash_finish(ferro_kernel_op *op, uint8_t *out, size_t *out_length)
{
    unsigned int made = 0;

    if (op->sha != NULL) {
        *out_length = ferro_digest_size((ferro_digest)op->sha->digest);
        return op->sha->final(op->sha, out) ? CKR_OK : CKR_FUNCTION_FAILED;
    }
    if (op->row->digest == DIGEST_SHAKE128 || op->row->digest == DIGEST_SHAKE256) {
        *out_length = ferro_digest_size((ferro_digest)op->row->digest);
        return EVP_DigestFinalXOF(op->md, out, *out_length) ? CKR_OK : ferro_failed(CKR_FUNCTION_FAILED);
    }
    if (!EVP_DigestFinal_ex(op->md, out, &made))
        return ferro_failed(CKR_FUNCTION_FAILED);
    *out_length = made;
    return CKR_OK;
}

int ferro_hash_copy(ferro_kernel_op *to, const ferro_kernel_op *from)
{
    if ((to->sha = ferro_alloc(sizeof(*to->sha))) == NULL)
        return 0;
    *to->sha = *from->sha;
    return 1;
}

static CK_RV begin(ferro_kernel_op *op, const CK_MECHANISM *mechanism)
{
    if (mechanism->ulParameterLen != 0)
        return CKR_MECHANISM_PARAM_INVALID;
    op->size = ferro_digest_size((ferro_digest)op->row->digest);
    return ferro_hash_begin(op);
}

static CK_RV once(ferro_kernel_op *op, const uint8_t *in, size_t length, uint8_t *out, size_t *out_length)
{
    size_t none;
    CK_RV rv = length == 0 ? CKR_OK : ferro_hash_update(op, in, length, NULL, &none);

    return rv != CKR_OK ? rv : ferro_hash_finish(op, out, out_length);
}

const ferro_family ferro_digests = {
    .begin = begin,
    .once_length = ferro_size_at_once,
    .update_length = ferro_no_length,
    .finish_length = ferro_size_at_end,
    .once = once,
    .update = ferro_hash_update,
    .finish = ferro_hash_finish,
};
