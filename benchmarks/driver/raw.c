/* The same operations straight on libcrypto, so that what a module adds is a number.
 *
 * Keys are parsed and contexts are made before the clock runs; a step does what cannot be done beforehand.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "driver.h"

/* The library is loaded by name at run time: it can be another one than the modules'. */
#define FUNCTIONS(X)                                                                                           \
    X(OpenSSL_version) X(RAND_bytes) X(RAND_priv_bytes) X(EVP_MD_fetch) X(EVP_MD_CTX_new) X(EVP_MD_CTX_free) X(EVP_DigestInit_ex2) \
    X(EVP_DigestUpdate) X(EVP_DigestFinal_ex) X(EVP_MAC_fetch) X(EVP_MAC_CTX_new) X(EVP_MAC_CTX_free)           \
    X(EVP_MAC_init) X(EVP_MAC_update) X(EVP_MAC_final) X(EVP_CIPHER_fetch) X(EVP_CIPHER_CTX_new)                \
    X(EVP_CIPHER_CTX_free) X(EVP_EncryptInit_ex2) X(EVP_EncryptUpdate) X(EVP_EncryptFinal_ex)                   \
    X(EVP_CIPHER_CTX_ctrl) X(EVP_PKEY_Q_keygen) X(EVP_PKEY_free) X(EVP_PKEY_CTX_new_from_pkey)                  \
    X(EVP_PKEY_CTX_free) X(EVP_PKEY_sign_init) X(EVP_PKEY_sign) X(EVP_PKEY_verify_init) X(EVP_PKEY_verify)      \
    X(EVP_DigestSignInit_ex) X(EVP_DigestSign) X(EVP_DigestVerifyInit_ex) X(EVP_DigestVerify)                   \
    X(EVP_PKEY_derive_init) X(EVP_PKEY_derive_set_peer) X(EVP_PKEY_derive) X(EVP_PKEY_encapsulate_init)         \
    X(EVP_PKEY_encapsulate) X(EVP_PKEY_decapsulate_init) X(EVP_PKEY_decapsulate)

static struct {
#define POINTER(name) __typeof__(&name) name;
    FUNCTIONS(POINTER)
} ssl;

int raw_load(const char *path, char *problem, size_t size) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);

    if (library == NULL) {
        snprintf(problem, size, "does not load: %s", dlerror());
        return 1;
    }
#define RESOLVE(name)                                                      \
    *(void **)&ssl.name = dlsym(library, #name);                           \
    if (ssl.name == NULL) {                                                \
        snprintf(problem, size, "does not load: it has no %s", #name);     \
        return 1;                                                          \
    }
    FUNCTIONS(RESOLVE)
    return 0;
}

const char *raw_version(void) { return ssl.OpenSSL_version(OPENSSL_VERSION); }

#define STEP(name, arguments)                                  \
    do {                                                       \
        if (ssl.name arguments <= 0)                           \
            return stopped(self, #name, CKR_FUNCTION_FAILED);  \
    } while (0)

static int random_step(worker *self) {
    STEP(RAND_bytes, (self->output, (int)self->run->size));
    return 0;
}

static int digest_prepare(run *run) {
    run->engine = ssl.EVP_MD_fetch(NULL, run->mechanism == CKM_SHA512 ? "SHA512" : "SHA256", NULL);
    return run->engine == NULL ? failed(run, "EVP_MD_fetch", CKR_FUNCTION_FAILED) : 0;
}

static int digest_open(worker *self) {
    self->engine = ssl.EVP_MD_CTX_new();
    return 0;
}

static int digest_step(worker *self) {
    unsigned long done, part, size = self->run->size;

    STEP(EVP_DigestInit_ex2, (self->engine, self->run->engine, NULL));
    for (done = 0; done < size; done += part) {
        part = self->run->parts != 0 && size - done > CHUNK ? CHUNK : size - done;
        STEP(EVP_DigestUpdate, (self->engine, self->input + done, part));
    }
    STEP(EVP_DigestFinal_ex, (self->engine, self->output, NULL));
    return 0;
}

static void digest_close(worker *self) { ssl.EVP_MD_CTX_free(self->engine); }

static int hmac_open(worker *self) {
    static const unsigned char key[32] = {7};
    OSSL_PARAM parameters[] = {OSSL_PARAM_utf8_string("digest", "SHA256", 6), OSSL_PARAM_END};
    EVP_MAC *mac = ssl.EVP_MAC_fetch(NULL, "HMAC", NULL);

    self->engine = mac == NULL ? NULL : ssl.EVP_MAC_CTX_new(mac);
    if (self->engine == NULL)
        return stopped(self, "EVP_MAC_fetch", CKR_FUNCTION_FAILED);
    STEP(EVP_MAC_init, (self->engine, key, sizeof key, parameters));
    return 0;
}

static int hmac_step(worker *self) {
    size_t length;

    STEP(EVP_MAC_init, (self->engine, NULL, 0, NULL));
    STEP(EVP_MAC_update, (self->engine, self->input, self->run->size));
    STEP(EVP_MAC_final, (self->engine, self->output, &length, 64));
    return 0;
}

static void hmac_close(worker *self) { ssl.EVP_MAC_CTX_free(self->engine); }

static int cipher_prepare(run *run) {
    const char *name = run->mechanism == CKM_AES_GCM   ? "AES-256-GCM"
                       : run->mechanism == CKM_AES_CTR ? "AES-256-CTR"
                                                       : "AES-256-CBC";
    run->engine = ssl.EVP_CIPHER_fetch(NULL, name, NULL);
    return run->engine == NULL ? failed(run, "EVP_CIPHER_fetch", CKR_FUNCTION_FAILED) : 0;
}

static int cipher_open(worker *self) {
    static const unsigned char key[32] = {7};

    self->engine = ssl.EVP_CIPHER_CTX_new();
    STEP(EVP_EncryptInit_ex2, (self->engine, self->run->engine, key, self->iv, NULL));
    return 0;
}

static int cipher_step(worker *self) {
    unsigned long done, part, size = self->run->size;
    int length, written = 0;

    memcpy(self->iv + 4, &self->turn, sizeof self->turn);
    self->turn++;
    STEP(EVP_EncryptInit_ex2, (self->engine, NULL, NULL, self->iv, NULL));
    for (done = 0; done < size; done += part) {
        part = self->run->parts != 0 && size - done > CHUNK ? CHUNK : size - done;
        STEP(EVP_EncryptUpdate, (self->engine, self->output + written, &length, self->input + done, (int)part));
        written += length;
    }
    STEP(EVP_EncryptFinal_ex, (self->engine, self->output + written, &length));
    if (self->run->mechanism == CKM_AES_GCM)
        STEP(EVP_CIPHER_CTX_ctrl, (self->engine, EVP_CTRL_AEAD_GET_TAG, 16, self->output + written));
    return 0;
}

static void cipher_close(worker *self) { ssl.EVP_CIPHER_CTX_free(self->engine); }

static EVP_PKEY *new_key(CK_MECHANISM_TYPE mechanism) {
    switch (mechanism) {
    case CKM_ECDSA:
    case CKM_ECDH1_DERIVE:
    case CKM_EC_KEY_PAIR_GEN:
        return ssl.EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    case CKM_EDDSA:
    case CKM_EC_EDWARDS_KEY_PAIR_GEN:
        return ssl.EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    case CKM_ML_DSA:
    case CKM_ML_DSA_KEY_PAIR_GEN:
        return ssl.EVP_PKEY_Q_keygen(NULL, NULL, "ML-DSA-65");
    case CKM_ML_KEM:
    case CKM_ML_KEM_KEY_PAIR_GEN:
        return ssl.EVP_PKEY_Q_keygen(NULL, NULL, "ML-KEM-768");
    case CKM_SLH_DSA:
    case CKM_SLH_DSA_KEY_PAIR_GEN:
        return ssl.EVP_PKEY_Q_keygen(NULL, NULL, "SLH-DSA-SHA2-128f");
    default:
        return ssl.EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    }
}

static int key_prepare(run *run) {
    run->engine = new_key(run->mechanism);
    if (run->engine != NULL)
        return 0;
    run->lacks = run->mechanism;
    run->is_lacking = 1;
    return 1;
}

static void key_finish(run *run) { ssl.EVP_PKEY_free(run->engine); }

/* ECDSA takes what was digested; the others sign messages. */
static int is_digested(const run *run) { return run->mechanism == CKM_ECDSA; }

static const char *digest_of(const run *run) {
    return run->mechanism == CKM_SHA256_RSA_PKCS ? "SHA256" : NULL;
}

static int sign_open(worker *self) {
    if (!is_digested(self->run)) {
        self->engine = ssl.EVP_MD_CTX_new();
        return 0;
    }
    self->engine = ssl.EVP_PKEY_CTX_new_from_pkey(NULL, self->run->engine, NULL);
    STEP(EVP_PKEY_sign_init, (self->engine));
    return 0;
}

static int sign_step(worker *self) {
    size_t length = LONGEST;

    if (is_digested(self->run)) {
        STEP(EVP_PKEY_sign, (self->engine, self->output, &length, self->input, self->run->size));
        return 0;
    }
    STEP(EVP_DigestSignInit_ex, (self->engine, NULL, digest_of(self->run), NULL, NULL, self->run->engine, NULL));
    STEP(EVP_DigestSign, (self->engine, self->output, &length, self->input, self->run->size));
    return 0;
}

static void sign_close(worker *self) {
    if (is_digested(self->run))
        ssl.EVP_PKEY_CTX_free(self->engine);
    else
        ssl.EVP_MD_CTX_free(self->engine);
}

static int verify_open(worker *self) {
    /* Each thread verifies a signature of its own. */
    size_t length = LONGEST;

    if (sign_open(self))
        return 1;
    if (is_digested(self->run)) {
        STEP(EVP_PKEY_sign, (self->engine, self->output, &length, self->input, self->run->size));
        STEP(EVP_PKEY_verify_init, (self->engine));
    } else {
        STEP(EVP_DigestSignInit_ex, (self->engine, NULL, digest_of(self->run), NULL, NULL, self->run->engine, NULL));
        STEP(EVP_DigestSign, (self->engine, self->output, &length, self->input, self->run->size));
    }
    self->turn = length;
    return 0;
}

static int verify_step(worker *self) {
    if (is_digested(self->run)) {
        STEP(EVP_PKEY_verify, (self->engine, self->output, self->turn, self->input, self->run->size));
        return 0;
    }
    STEP(EVP_DigestVerifyInit_ex, (self->engine, NULL, digest_of(self->run), NULL, NULL, self->run->engine, NULL));
    STEP(EVP_DigestVerify, (self->engine, self->output, self->turn, self->input, self->run->size));
    return 0;
}

static int agree_prepare(run *run) {
    run->engine_other = new_key(CKM_ECDSA);
    return key_prepare(run);
}

static void agree_finish(run *run) {
    ssl.EVP_PKEY_free(run->engine_other);
    ssl.EVP_PKEY_free(run->engine);
}

static int agree_open(worker *self) {
    self->engine = ssl.EVP_PKEY_CTX_new_from_pkey(NULL, self->run->engine, NULL);
    return 0;
}

static int agree_step(worker *self) {
    size_t length = 32;

    STEP(EVP_PKEY_derive_init, (self->engine));
    STEP(EVP_PKEY_derive_set_peer, (self->engine, self->run->engine_other));
    STEP(EVP_PKEY_derive, (self->engine, self->output, &length));
    return 0;
}

static void context_close(worker *self) { ssl.EVP_PKEY_CTX_free(self->engine); }

static int encapsulate_open(worker *self) {
    agree_open(self);
    STEP(EVP_PKEY_encapsulate_init, (self->engine, NULL));
    return 0;
}

static int encapsulate_step(worker *self) {
    size_t length = 4000, secret = 32;

    STEP(EVP_PKEY_encapsulate, (self->engine, self->output, &length, self->input, &secret));
    self->turn = length;
    return 0;
}

static int decapsulate_open(worker *self) {
    if (encapsulate_open(self) || encapsulate_step(self))
        return 1;
    STEP(EVP_PKEY_decapsulate_init, (self->engine, NULL));
    return 0;
}

static int decapsulate_step(worker *self) {
    size_t secret = 32;

    STEP(EVP_PKEY_decapsulate, (self->engine, self->input, &secret, self->output, self->turn));
    return 0;
}

static int secret_step(worker *self) {
    STEP(RAND_priv_bytes, (self->output, 32));
    return 0;
}

/* Whether it can make such keys at all; the keys themselves are made while the clock runs. */
static int generate_prepare(run *run) {
    if (key_prepare(run))
        return 1;
    key_finish(run);
    run->engine = NULL;
    return 0;
}

static int generate_step(worker *self) {
    EVP_PKEY *key = new_key(self->run->mechanism);

    if (key == NULL)
        return stopped(self, "EVP_PKEY_Q_keygen", CKR_FUNCTION_FAILED);
    ssl.EVP_PKEY_free(key);
    return 0;
}

const operation raw_operations[] = {
    {"random", NULL, NULL, random_step, NULL, NULL},
    {"digest", digest_prepare, digest_open, digest_step, digest_close, NULL},
    {"hmac", NULL, hmac_open, hmac_step, hmac_close, NULL},
    {"cipher", cipher_prepare, cipher_open, cipher_step, cipher_close, NULL},
    {"sign", key_prepare, sign_open, sign_step, sign_close, key_finish},
    {"verify", key_prepare, verify_open, verify_step, sign_close, key_finish},
    {"agree", agree_prepare, agree_open, agree_step, context_close, agree_finish},
    {"encapsulate", key_prepare, encapsulate_open, encapsulate_step, context_close, key_finish},
    {"decapsulate", key_prepare, decapsulate_open, decapsulate_step, context_close, key_finish},
    {"generate-pair", generate_prepare, NULL, generate_step, NULL, NULL},
    {"generate-secret", NULL, NULL, secret_step, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL, NULL},
};
