/*
 * The private libcrypto: linked statically, its memory in the arena, a library context of its own,
 * no configuration file, no exit handler. Whatever OpenSSL the host has does not matter.
 */
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/provider.h>

#include "kernel.h"

typedef struct {
    const char *name;
    size_t size;
    CK_MECHANISM_TYPE mechanism;
    CK_ULONG mgf; /* CKG_*, 0 when there is none */
    CK_ULONG kdf; /* CKD_*_KDF, 0 when there is none */
} digest_row;

static const digest_row digest_rows[DIGESTS] = {
    [DIGEST_SHA1] = {"SHA1", 20, CKM_SHA_1, CKG_MGF1_SHA1, CKD_SHA1_KDF},
    [DIGEST_SHA224] = {"SHA2-224", 28, CKM_SHA224, CKG_MGF1_SHA224, CKD_SHA224_KDF},
    [DIGEST_SHA256] = {"SHA2-256", 32, CKM_SHA256, CKG_MGF1_SHA256, CKD_SHA256_KDF},
    [DIGEST_SHA384] = {"SHA2-384", 48, CKM_SHA384, CKG_MGF1_SHA384, CKD_SHA384_KDF},
    [DIGEST_SHA512] = {"SHA2-512", 64, CKM_SHA512, CKG_MGF1_SHA512, CKD_SHA512_KDF},
    [DIGEST_SHA512_224] = {"SHA2-512/224", 28, CKM_SHA512_224, 0, 0},
    [DIGEST_SHA512_256] = {"SHA2-512/256", 32, CKM_SHA512_256, 0, 0},
    [DIGEST_SHA3_224] = {"SHA3-224", 28, CKM_SHA3_224, CKG_MGF1_SHA3_224, CKD_SHA3_224_KDF},
    [DIGEST_SHA3_256] = {"SHA3-256", 32, CKM_SHA3_256, CKG_MGF1_SHA3_256, CKD_SHA3_256_KDF},
    [DIGEST_SHA3_384] = {"SHA3-384", 48, CKM_SHA3_384, CKG_MGF1_SHA3_384, CKD_SHA3_384_KDF},
    [DIGEST_SHA3_512] = {"SHA3-512", 64, CKM_SHA3_512, CKG_MGF1_SHA3_512, CKD_SHA3_512_KDF},
    [DIGEST_SHAKE128] = {"SHAKE-128", 32, CK_UNAVAILABLE_INFORMATION, 0, 0},
    [DIGEST_SHAKE256] = {"SHAKE-256", 64, CK_UNAVAILABLE_INFORMATION, 0, 0},
};

static const char *const cipher_names[CIPHERS][3] = {
    [CIPHER_ECB] = {"AES-128-ECB", "AES-192-ECB", "AES-256-ECB"},
    [CIPHER_CBC] = {"AES-128-CBC", "AES-192-CBC", "AES-256-CBC"},
    [CIPHER_CTR] = {"AES-128-CTR", "AES-192-CTR", "AES-256-CTR"},
    [CIPHER_GCM] = {"AES-128-GCM", "AES-192-GCM", "AES-256-GCM"},
};

static const char *const mac_names[MACS] = {[MAC_HMAC] = "HMAC", [MAC_CMAC] = "CMAC"};

static ferro_mutex starting = FERRO_MUTEX_INIT;
static atomic_int running;
static OSSL_LIB_CTX *library;
static OSSL_PROVIDER *provider;
static _Atomic(EVP_MD *) digests[DIGESTS];
static _Atomic(EVP_CIPHER *) ciphers[CIPHERS][3];
static _Atomic(EVP_MAC *) macs[MACS];

static void *engine_malloc(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return ferro_alloc(size);
}

static void *engine_realloc(void *block, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return ferro_realloc(block, size);
}

static void engine_free(void *block, const char *file, int line)
{
    (void)file;
    (void)line;
    ferro_free(block);
}

static CK_RV start(void)
{
    if (ferro_arena_start() != 0)
        return CKR_HOST_MEMORY;
    /* Refused when libcrypto has allocated before: then its memory would not be ours. */
    if (!CRYPTO_set_mem_functions(engine_malloc, engine_realloc, engine_free))
        return CKR_GENERAL_ERROR;
    if (!OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT
                                 | OPENSSL_INIT_NO_LOAD_CRYPTO_STRINGS, NULL))
        return CKR_GENERAL_ERROR;
    if ((library = OSSL_LIB_CTX_new()) == NULL)
        return ferro_failed(CKR_GENERAL_ERROR);
    if ((provider = OSSL_PROVIDER_load(library, "default")) == NULL)
        return ferro_failed(CKR_GENERAL_ERROR);
    return CKR_OK;
}

CK_RV ferro_engine_start(void)
{
    CK_RV rv = CKR_OK;

    if (atomic_load_explicit(&running, memory_order_acquire))
        return CKR_OK;
    ferro_mutex_lock(&starting);
    if (!atomic_load(&running)) {
        rv = start();
        if (rv == CKR_OK)
            rv = ferro_random_start();
        if (rv == CKR_OK)
            rv = ferro_objects_start();
        if (rv == CKR_OK)
            atomic_store_explicit(&running, 1, memory_order_release);
    }
    ferro_mutex_unlock(&starting);
    return rv;
}

OSSL_LIB_CTX *ferro_library(void)
{
    return library;
}

/*
 * Fetching costs microseconds and a lock, so what was fetched stays. Two threads may fetch the same
 * thing at once: the second gives its own back.
 */
EVP_MD *ferro_md(ferro_digest digest)
{
    EVP_MD *known = atomic_load_explicit(&digests[digest], memory_order_acquire), *none = NULL;

    if (known != NULL)
        return known;
    if ((known = EVP_MD_fetch(library, digest_rows[digest].name, NULL)) == NULL) {
        ERR_clear_error();
        return NULL;
    }
    if (!atomic_compare_exchange_strong(&digests[digest], &none, known)) {
        EVP_MD_free(known);
        known = none;
    }
    return known;
}

EVP_CIPHER *ferro_evp_cipher(ferro_cipher mode, size_t key_length)
{
    int size = key_length == 16 ? 0 : key_length == 24 ? 1 : 2;
    EVP_CIPHER *known = atomic_load_explicit(&ciphers[mode][size], memory_order_acquire), *none = NULL;

    if (known != NULL)
        return known;
    if ((known = EVP_CIPHER_fetch(library, cipher_names[mode][size], NULL)) == NULL) {
        ERR_clear_error();
        return NULL;
    }
    if (!atomic_compare_exchange_strong(&ciphers[mode][size], &none, known)) {
        EVP_CIPHER_free(known);
        known = none;
    }
    return known;
}

EVP_MAC *ferro_evp_mac(ferro_mac mac)
{
    EVP_MAC *known = atomic_load_explicit(&macs[mac], memory_order_acquire), *none = NULL;

    if (known != NULL)
        return known;
    if ((known = EVP_MAC_fetch(library, mac_names[mac], NULL)) == NULL) {
        ERR_clear_error();
        return NULL;
    }
    if (!atomic_compare_exchange_strong(&macs[mac], &none, known)) {
        EVP_MAC_free(known);
        known = none;
    }
    return known;
}

const char *ferro_digest_name(ferro_digest digest)
{
    return digest_rows[digest].name;
}

size_t ferro_digest_size(ferro_digest digest)
{
    return digest_rows[digest].size;
}

ferro_digest ferro_digest_of_mechanism(CK_MECHANISM_TYPE mechanism)
{
    int i;

    for (i = 0; i < DIGESTS; i++)
        if (digest_rows[i].mechanism == mechanism && mechanism != CK_UNAVAILABLE_INFORMATION)
            return (ferro_digest)i;
    return DIGEST_NONE;
}

ferro_digest ferro_digest_of_mgf(CK_ULONG mgf)
{
    int i;

    for (i = 0; mgf != 0 && i < DIGESTS; i++)
        if (digest_rows[i].mgf == mgf)
            return (ferro_digest)i;
    return DIGEST_NONE;
}

ferro_digest ferro_digest_of_kdf(CK_ULONG kdf)
{
    int i;

    for (i = 0; kdf != 0 && i < DIGESTS; i++)
        if (digest_rows[i].kdf == kdf)
            return (ferro_digest)i;
    return DIGEST_NONE;
}

CK_RV ferro_failed(CK_RV otherwise)
{
    unsigned long error;

    while ((error = ERR_get_error()) != 0)
        if (ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE)
            otherwise = CKR_HOST_MEMORY;
    return otherwise;
}
