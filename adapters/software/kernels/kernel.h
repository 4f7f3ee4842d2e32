/* What the files of the kernels share: keys, operations, families, and the engine's algorithms. */
#ifndef FERRO_KERNELS_KERNEL_H
#define FERRO_KERNELS_KERNEL_H 1

#include <openssl/evp.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "ferrohsm_kernel.h"
#include "platform.h"

/* ---- The engine: a private libcrypto (engine.c) ---- */

typedef enum {
    DIGEST_NONE = -1,
    DIGEST_SHA1,
    DIGEST_SHA224,
    DIGEST_SHA256,
    DIGEST_SHA384,
    DIGEST_SHA512,
    DIGEST_SHA512_224,
    DIGEST_SHA512_256,
    DIGEST_SHA3_224,
    DIGEST_SHA3_256,
    DIGEST_SHA3_384,
    DIGEST_SHA3_512,
    DIGEST_SHAKE128, /* these two as long as FIPS 204 and 205 have them for what is hashed first */
    DIGEST_SHAKE256,
    DIGESTS
} ferro_digest;

typedef enum { CIPHER_ECB, CIPHER_CBC, CIPHER_CTR, CIPHER_GCM, CIPHERS } ferro_cipher;

typedef enum { MAC_HMAC, MAC_CMAC, MACS } ferro_mac;

/* Start libcrypto in our arena; CKR_OK or why not. Cheap when it runs already. */
CK_RV ferro_engine_start(void);
OSSL_LIB_CTX *ferro_library(void);
/* Algorithms, fetched at their first use and kept; NULL when libcrypto does not have one. */
EVP_MD *ferro_md(ferro_digest digest);
EVP_CIPHER *ferro_evp_cipher(ferro_cipher mode, size_t key_length);
EVP_MAC *ferro_evp_mac(ferro_mac mac);
const char *ferro_digest_name(ferro_digest digest);
size_t ferro_digest_size(ferro_digest digest);
ferro_digest ferro_digest_of_mechanism(CK_MECHANISM_TYPE mechanism);
ferro_digest ferro_digest_of_mgf(CK_ULONG mgf);
/* The digest of an X9.63 key derivation (CKD_*_KDF). */
ferro_digest ferro_digest_of_kdf(CK_ULONG kdf);
/* Empty libcrypto's error queue and return CKR_HOST_MEMORY when it says so, else `otherwise`. */
CK_RV ferro_failed(CK_RV otherwise);

/* ---- Curves (curves.c) ---- */

typedef enum { CURVE_WEIERSTRASS, CURVE_EDWARDS, CURVE_MONTGOMERY } ferro_curve_form;

typedef struct ferro_curve {
    const char *name;       /* libcrypto's group or key type */
    ferro_curve_form form;
    uint16_t bits;          /* of the field */
    uint16_t order_length;  /* bytes of the order; half of a signature */
    uint16_t public_length; /* bytes of an encoded point, uncompressed */
    uint8_t oid_length;
    uint8_t oid[16];        /* DER, with tag and length */
    const char *alias;      /* name that CKA_EC_PARAMS may hold as a PrintableString, or NULL */
} ferro_curve;

enum { FERRO_CURVES = 13 };
/* Where a curve stands in the list, from 0. */
size_t ferro_curve_index(const ferro_curve *curve);
const ferro_curve *ferro_curve_find(const uint8_t *params, size_t length);
/* The point inside an optional DER OCTET STRING; 0, or -1 when neither form fits. */
int ferro_curve_point(const ferro_curve *curve, const uint8_t *value, size_t length, const uint8_t **point,
                      size_t *point_length);
/* A public key from an encoded point; NULL when it is not on the curve. */
EVP_PKEY *ferro_curve_public(const ferro_curve *curve, const uint8_t *point, size_t length);

/* ---- Post-quantum parameter sets (parameter_sets.c) ---- */

/* libcrypto has them from 3.5 on, unless it was configured without one of the three. */
#if OPENSSL_VERSION_NUMBER >= 0x30500000L && !defined(OPENSSL_NO_ML_DSA) && !defined(OPENSSL_NO_ML_KEM) \
    && !defined(OPENSSL_NO_SLH_DSA)
#define FERRO_POSTQUANTUM 1
#else
#define FERRO_POSTQUANTUM 0
#endif

typedef struct ferro_parameter_set {
    CK_KEY_TYPE type;
    CK_ULONG number;         /* CKP_* */
    const char *name;        /* libcrypto's */
    uint16_t public_length;  /* all lengths in bytes */
    uint16_t private_length; /* of the expanded private key */
    uint16_t seed_length;    /* 0: keys of this type have no CKA_SEED */
    uint16_t output_length;  /* of a signature or a ciphertext */
} ferro_parameter_set;

enum { FERRO_SHARED_SECRET = 32 /* bytes: of every ML-KEM */, FERRO_TR = 64 /* bytes: digest of an ML-DSA key */ };

/* NULL for a set that is not known. */
const ferro_parameter_set *ferro_parameter_set_find(CK_KEY_TYPE type, CK_ULONG number);
#if FERRO_POSTQUANTUM
/* The set's signature, fetched at its first use and kept; NULL when libcrypto does not have it. */
EVP_SIGNATURE *ferro_evp_signature(const ferro_parameter_set *set);
#endif

/* ---- New keys of a curve in Weierstrass form (curve_keys.c) ---- */

/* Make one: the private value, as long as the order, and the encoded point. CKR_FUNCTION_NOT_SUPPORTED: not with this
 * libcrypto, or not that curve. */
CK_RV ferro_curve_generate(const ferro_curve *curve, uint8_t *value, uint8_t *point);

/* ---- Keys (keys.c) ---- */

typedef enum {
    KEY_NONE,
    KEY_SECRET,
    KEY_RSA,
    KEY_EC,
    KEY_EDWARDS,
    KEY_MONTGOMERY,
    KEY_ML_DSA,
    KEY_ML_KEM,
    KEY_SLH_DSA
} ferro_key_kind;

enum { IDLE_OPS = 4 };

struct ferro_kernel_key {
    atomic_uint references;
    uint32_t epoch;
    ferro_key_kind kind;
    CK_KEY_TYPE type;
    int is_private;           /* has the private part; secret keys always */
    uint8_t *value;           /* KEY_SECRET, in the secret zone */
    size_t length;            /* KEY_SECRET: of the value, in bytes */
    EVP_PKEY *pkey;           /* all other kinds */
    size_t size;              /* KEY_RSA: bytes of the modulus */
    size_t bits;              /* KEY_RSA: bits of the modulus */
    const ferro_curve *curve; /* KEY_EC, KEY_EDWARDS, KEY_MONTGOMERY */
    const ferro_parameter_set *set; /* KEY_ML_DSA, KEY_ML_KEM, KEY_SLH_DSA */
    uint8_t tr[FERRO_TR];     /* KEY_ML_DSA: what every signature begins with; public */
    ferro_mutex lock;         /* guards `idle` */
    ferro_kernel_op *idle;    /* operations that are over and keep their contexts */
    unsigned idle_count;
    ferro_kernel_key *previous, *next;
};

CK_RV ferro_key_load(const ferro_kernel_material *material, ferro_kernel_key **key);
void ferro_key_retain(ferro_kernel_key *key);
void ferro_key_release(ferro_kernel_key *key);
const ferro_kernel_attribute *ferro_attribute(const ferro_kernel_material *material, CK_ATTRIBUTE_TYPE type);
/* A CK_ULONG attribute; 0, or -1 when it is absent or has another length. */
int ferro_attribute_ulong(const ferro_kernel_material *material, CK_ATTRIBUTE_TYPE type, CK_ULONG *value);

/* ---- Operations (operations.c) ---- */

typedef struct ferro_family ferro_family;

/* What one mechanism is: a row of mechanisms.c. */
typedef struct ferro_row {
    CK_MECHANISM_TYPE mechanism;
    CK_FLAGS functions;
    const ferro_family *family;
    int8_t digest;   /* ferro_digest */
    uint8_t variant; /* the family's own */
    uint8_t kind;    /* ferro_key_kind */
    uint8_t multi_part;
} ferro_row;

const ferro_row *ferro_row_find(CK_MECHANISM_TYPE mechanism);

typedef enum { OP_OVER, OP_READY, OP_PARTIAL } ferro_op_state;

struct ferro_kernel_op {
    const ferro_row *row;  /* NULL for an agreement */
    ferro_kernel_key *key; /* a reference while begun; borrowed from the key while idle */
    CK_FLAGS function;
    uint32_t epoch;
    uint8_t state; /* ferro_op_state */
    uint8_t primed; /* contexts are set up for row, function and key */
    EVP_MD_CTX *md;
    struct ferro_sha *sha; /* instead of `md` for the hashes of digests.c's table */
    EVP_CIPHER_CTX *cipher;
    EVP_MAC_CTX *mac;
    EVP_PKEY_CTX *pkey;
    EVP_PKEY *peer; /* an agreement's other side: another one each time */
    size_t size;   /* bytes of a digest, MAC, signature or tag */
    size_t held;   /* bytes that wait in a block cipher for the rest of their block */
    uint64_t room; /* bytes that a counter has left */
    uint8_t iv[16];
    size_t iv_length;
    size_t salt;   /* RSA PSS */
    int8_t hash;   /* RSA PSS and OAEP: ferro_digest */
    int8_t mgf;
    uint8_t deterministic; /* ML-DSA and SLH-DSA */
    uint8_t *gathered; /* input that can only be used whole, in the secret zone */
    size_t gathered_length, gathered_room;
    ferro_kernel_op *idle_next;
    ferro_kernel_op *previous, *next;
};

/*
 * What operations.c asks of a family. `begin` sets the contexts up, or only what changes when
 * `op->primed`. Lengths and room were checked before `once`, `update` and `finish` are called;
 * `*out_length` is set by them. A NULL function means that the family has none.
 */
struct ferro_family {
    CK_RV (*begin)(ferro_kernel_op *op, const CK_MECHANISM *mechanism);
    CK_RV (*once_length)(const ferro_kernel_op *op, size_t length, size_t *out_length);
    CK_RV (*update_length)(const ferro_kernel_op *op, size_t length, size_t *out_length);
    CK_RV (*finish_length)(const ferro_kernel_op *op, size_t *out_length);
    CK_RV (*once)(ferro_kernel_op *op, const uint8_t *in, size_t length, uint8_t *out, size_t *out_length);
    CK_RV (*update)(ferro_kernel_op *op, const uint8_t *in, size_t length, uint8_t *out, size_t *out_length);
    CK_RV (*finish)(ferro_kernel_op *op, uint8_t *out, size_t *out_length);
    CK_RV (*verify)(ferro_kernel_op *op, const uint8_t *in, size_t length, const uint8_t *signature,
                    size_t signature_length);
    CK_RV (*finish_verify)(ferro_kernel_op *op, const uint8_t *signature, size_t signature_length);
    /* Start again after a plaintext that found no room; NULL where sizes are exact. */
    CK_RV (*again)(ferro_kernel_op *op);
};

extern const ferro_family ferro_digests, ferro_macs, ferro_ciphers, ferro_gcm, ferro_rsa, ferro_ecdsa, ferro_eddsa;
extern const ferro_family ferro_message_signatures; /* where FERRO_POSTQUANTUM */

CK_RV ferro_begin(CK_FLAGS function, const CK_MECHANISM *mechanism, ferro_kernel_key *key, ferro_kernel_op **op);
int ferro_multi_part(const ferro_kernel_op *op);
CK_RV ferro_once_length(const ferro_kernel_op *op, size_t length, size_t *out_length);
CK_RV ferro_update_length(const ferro_kernel_op *op, size_t length, size_t *out_length);
CK_RV ferro_finish_length(const ferro_kernel_op *op, size_t *out_length);
CK_RV ferro_once(ferro_kernel_op *op, const void *in, size_t length, void *out, size_t *out_length);
CK_RV ferro_update(ferro_kernel_op *op, const void *in, size_t length, void *out, size_t *out_length);
CK_RV ferro_finish(ferro_kernel_op *op, void *out, size_t *out_length);
CK_RV ferro_verify(ferro_kernel_op *op, const void *in, size_t length, const void *signature,
                   size_t signature_length);
CK_RV ferro_finish_verify(ferro_kernel_op *op, const void *signature, size_t signature_length);
/* An operation with nothing in it, NULL without memory. */
ferro_kernel_op *ferro_op_make(void);
/* An idle operation of the key that did the same before, or NULL; the caller gives it a reference to the key. */
ferro_kernel_op *ferro_op_idle(ferro_kernel_key *key, const ferro_row *row, CK_FLAGS function);
/* A second operation that is where the first is (copying.c). */
CK_RV ferro_op_copy(const ferro_kernel_op *op, ferro_kernel_op **copy);
void ferro_op_reset(ferro_kernel_op *op);
void ferro_op_release(ferro_kernel_op *op);
/* Free an idle operation's contexts and itself; its key's lock is not needed. */
void ferro_op_destroy(ferro_kernel_op *op);
/* Free the contexts of an operation, keep the shell. */
void ferro_op_strip(ferro_kernel_op *op);
/* The lengths of a family whose one output comes at the end and has `op->size` bytes. */
CK_RV ferro_size_at_once(const ferro_kernel_op *op, size_t length, size_t *out_length);
CK_RV ferro_no_length(const ferro_kernel_op *op, size_t length, size_t *out_length);
CK_RV ferro_size_at_end(const ferro_kernel_op *op, size_t *out_length);
/* Append to `op->gathered`. */
CK_RV ferro_gather(ferro_kernel_op *op, const uint8_t *in, size_t length);

/* Begin hashing when `op->row` has a digest; shared by digests and the hashed signatures. */
CK_RV ferro_hash_begin(ferro_kernel_op *op);
CK_RV ferro_hash_update(ferro_kernel_op *op, const uint8_t *in, size_t length, uint8_t *out, size_t *out_length);
CK_RV ferro_hash_finish(ferro_kernel_op *op, uint8_t *out, size_t *out_length);
/* Give `to` the hash that `from` is in the middle of; 0 without memory. */
int ferro_hash_copy(ferro_kernel_op *to, const ferro_kernel_op *from);

/* ---- Living things (objects.c): every key and operation, for the child of a fork ---- */

extern atomic_uint ferro_epoch;
uint32_t ferro_current_epoch(void);
/* Make sure of the engine, and of this process being the one that made what it holds. */
CK_RV ferro_enter(void);
void ferro_objects_add_key(ferro_kernel_key *key);
void ferro_objects_remove_key(ferro_kernel_key *key);
void ferro_objects_add_op(ferro_kernel_op *op);
void ferro_objects_remove_op(ferro_kernel_op *op);
size_t ferro_objects_count(void);
void ferro_objects_watch_forks(void);
CK_RV ferro_objects_start(void);
void ferro_fork_child(void);
void ferro_stop(void);

/* ---- Post-quantum keys (postquantum.c); CKR_FUNCTION_NOT_SUPPORTED where not FERRO_POSTQUANTUM ---- */

CK_RV ferro_postquantum_load(ferro_kernel_key *key, const ferro_kernel_material *material, int is_private);
/* The bytes of the public key, or for `is_private` of the expanded private one. `*length` is the room, then the size. */
CK_RV ferro_postquantum_value(const ferro_kernel_key *key, int is_private, uint8_t *out, size_t *length);
/* Whether the parts of a private key belong together: CKR_OK or CKR_ATTRIBUTE_VALUE_INVALID. */
CK_RV ferro_postquantum_check(const ferro_kernel_key *key);
/* ML-KEM; `ciphertext` has the set's output_length, `secret` FERRO_SHARED_SECRET. */
CK_RV ferro_encapsulate(const ferro_kernel_key *key, uint8_t *ciphertext, uint8_t *secret);
CK_RV ferro_decapsulate(const ferro_kernel_key *key, const uint8_t *ciphertext, size_t length, uint8_t *secret);

/* ---- Agreement, generation, random ---- */

CK_RV ferro_derive(const CK_MECHANISM *mechanism, ferro_kernel_key *base, void *out, size_t *out_length);
CK_RV ferro_generate(const CK_MECHANISM *mechanism, const ferro_kernel_material *material,
                     ferro_kernel_generated **generated);
CK_RV ferro_derive_key(const CK_MECHANISM *mechanism, ferro_kernel_key *base, size_t length,
                       ferro_kernel_generated **generated);
CK_RV ferro_encapsulate_key(const CK_MECHANISM *mechanism, ferro_kernel_key *key, void *out, size_t *out_length,
                            ferro_kernel_generated **generated);
CK_RV ferro_decapsulate_key(const CK_MECHANISM *mechanism, ferro_kernel_key *key, const void *in, size_t length,
                            ferro_kernel_generated **generated);
CK_RV ferro_keep(const ferro_kernel_material *material, ferro_kernel_generated **kept);
void ferro_generated_release(ferro_kernel_generated *generated);
CK_RV ferro_random(void *out, size_t length);
/* For what becomes a key: of the other generator. After ferro_enter. */
CK_RV ferro_random_private(void *out, size_t length);
CK_RV ferro_seed(const void *seed, size_t length);
CK_RV ferro_random_start(void);
/* Wipe what is kept ahead by every thread. */
void ferro_random_drop(void);
void ferro_random_fork_child(void);
void ferro_random_lock(void);
void ferro_random_unlock(void);

/* ---- Lent algorithms (lent.c) ---- */

/* Whether libcrypto was built with one: AES, ARIA, CAMELLIA, PKCS12KDF. */
int ferro_lends(const char *algorithm);
/* A cipher by libcrypto's name, without padding; CKR_FUNCTION_NOT_SUPPORTED for a name, key or vector it does not take.
 * It has nothing of an operation but its context, and that a child of fork() wipes it. */
CK_RV ferro_lent_cipher(const char *name, const uint8_t *key, size_t key_length, const uint8_t *iv, size_t iv_length,
                        int encrypt, ferro_kernel_op **op);
/* `out` has room for `length` bytes and a block less one more. */
CK_RV ferro_lent_update(ferro_kernel_op *op, const uint8_t *in, size_t length, uint8_t *out, size_t *out_length);
void ferro_lent_close(ferro_kernel_op *op);
/* RFC 7292, appendix B.2, with SHA-1; `id` is 1 for a key, 2 for a vector, 3 for a key of a MAC. */
CK_RV ferro_lent_pkcs12(const uint8_t *password, size_t password_length, const uint8_t *salt, size_t salt_length, int id,
                        uint64_t iterations, uint8_t *out, size_t out_length);

CK_RV ferro_serves(CK_FLAGS function, CK_MECHANISM_TYPE mechanism);

/* The table itself. */
const ferro_kernel *ferro_software_kernel(void);

#endif
