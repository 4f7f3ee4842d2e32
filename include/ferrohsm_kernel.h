/*
 * ferrohsm_kernel.h: what an adapter hands over so that its keys compute without the interpreter.
 *
 * A kernel is one table of C functions. An adapter fills it and gives it to the core as a PyCapsule
 * named FERRO_KERNEL_CAPSULE whose pointer is a `const ferro_kernel *` that lives as long as the
 * process. FerroHSM's own software adapter does so with its kernels on libcrypto, and a vendor's
 * adapter may do the same with its own.
 *
 * Rules for the one who fills the table
 *
 *   - Every function may be called from any thread, without the interpreter lock, and never needs it.
 *     Keys are shared by threads. An operation is used by one thread at a time.
 *   - Nothing is printed, no process state (signals, locale, environment, descriptors) is changed.
 *   - Secrets are wiped when they are released. Functions fail closed: after a return value other
 *     than CKR_OK no output byte may be trusted, and none that came from a secret is left in the
 *     caller's buffer.
 *   - A slot may be NULL when the kernel has no such function; `begin` and `key_release` may not.
 *
 * Rules for the caller
 *
 *   - A `CK_MECHANISM` and what its parameter points to is the caller's own memory, well formed
 *     (lengths of the structures checked, inner pointers readable), and may go away after the call.
 *   - Who may use which key for what was decided before: a kernel checks sizes and material only.
 *   - fork() happens while no call is in flight. In the child `fork_child` comes first; keys and
 *     operations of the parent answer CKR_CRYPTOKI_NOT_INITIALIZED there and are still released.
 *
 * Attribute values are laid out as in the core: CK_ULONG as 8 bytes, least significant first,
 * CK_BBOOL as one byte, everything else as the standard has it.
 */
#ifndef FERROHSM_KERNEL_H
#define FERROHSM_KERNEL_H 1

#include <stddef.h>
#include <stdint.h>

#include "pkcs11.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FERRO_KERNEL_CAPSULE "ferrohsm.kernel"

/* Moves when a slot changes its meaning. Slots added at the end show in `size` alone. */
#define FERRO_KERNEL_VERSION 1

/* A parsed key, reference counted. */
typedef struct ferro_kernel_key ferro_kernel_key;

/* One operation and the contexts it needs; it may be begun again when it is over. */
typedef struct ferro_kernel_op ferro_kernel_op;

typedef struct ferro_kernel_attribute {
    CK_ATTRIBUTE_TYPE type;
    const void *value;
    size_t length; /* bytes */
} ferro_kernel_attribute;

/* The attributes of one object. */
typedef struct ferro_kernel_material {
    const ferro_kernel_attribute *attributes;
    size_t count;
} ferro_kernel_material;

/*
 * What a generation made. `secret` holds the attributes of the secret or private key, `open` those
 * of the public key (count 0 for a secret key). The memory belongs to the kernel until
 * `generated_release`, which wipes it.
 */
typedef struct ferro_kernel_generated {
    ferro_kernel_material secret;
    ferro_kernel_material open;
} ferro_kernel_generated;

typedef struct ferro_kernel {
    uint32_t version; /* FERRO_KERNEL_VERSION as compiled */
    uint32_t size;    /* sizeof(ferro_kernel) as compiled */
    const char *name; /* for logs: engine and its version */

    /*
     * CKR_OK when this kernel does `function` (one CKF_* of CK_MECHANISM_INFO: encrypt, decrypt,
     * digest, sign, sign-recover, verify, verify-recover, generate, generate-key-pair, derive) with
     * `mechanism`, else CKR_MECHANISM_INVALID.
     */
    CK_RV (*serves)(CK_FLAGS function, CK_MECHANISM_TYPE mechanism);

    /*
     * Parse a key. CKR_FUNCTION_NOT_SUPPORTED: not a key for this kernel (the adapter itself
     * serves it); CKR_KEY_SIZE_RANGE, CKR_CURVE_NOT_SUPPORTED, CKR_ATTRIBUTE_VALUE_INVALID.
     */
    CK_RV (*key_load)(const ferro_kernel_material *material, ferro_kernel_key **key);
    void (*key_retain)(ferro_kernel_key *key);
    /* Drop one reference; the last one wipes the key, when operations on it are over too. */
    void (*key_release)(ferro_kernel_key *key);

    /*
     * Begin `function` with `mechanism` and `key` (NULL for digests). `*op` is NULL or an operation
     * that this kernel made before: what it was doing is dropped, and when key and mechanism are the
     * same again its contexts are used again. On CKR_OK `*op` is ready. On an error an operation
     * that was given stays the caller's, and is over.
     * CKR_FUNCTION_NOT_SUPPORTED: not with this parameter or key (the adapter itself serves it);
     * CKR_MECHANISM_PARAM_INVALID, CKR_KEY_SIZE_RANGE, CKR_KEY_TYPE_INCONSISTENT,
     * CKR_KEY_FUNCTION_NOT_PERMITTED (the material lacks the private part).
     */
    CK_RV (*begin)(CK_FLAGS function, const CK_MECHANISM *mechanism, ferro_kernel_key *key,
                   ferro_kernel_op **op);

    /* 1 when `update` may be used, 0 for operations that take their input at once. */
    int (*multi_part)(const ferro_kernel_op *op);

    /*
     * Output sizes in bytes; they consume nothing. Exact, but for decryption's `once` and `finish`
     * an upper bound. They return what the operation itself would (CKR_DATA_LEN_RANGE,
     * CKR_ENCRYPTED_DATA_LEN_RANGE) and then the operation is not over yet.
     */
    CK_RV (*once_length)(const ferro_kernel_op *op, size_t length, size_t *out_length);
    CK_RV (*update_length)(const ferro_kernel_op *op, size_t length, size_t *out_length);
    CK_RV (*finish_length)(const ferro_kernel_op *op, size_t *out_length);

    /*
     * Compute. `*out_length` is the room in `out` and becomes the number of bytes written. With
     * `out` NULL only `*out_length` is set. With too little room: CKR_BUFFER_TOO_SMALL, `*out_length`
     * tells how much is needed. In both cases nothing is consumed and the operation goes on. After
     * any other error, and after once, finish, verify and finish_verify, the operation is over.
     * `in` and `out` may be the same or overlap.
     * Signing, digesting, encryption and decryption use these; verify-recover uses `once`.
     */
    CK_RV (*once)(ferro_kernel_op *op, const void *in, size_t length, void *out, size_t *out_length);
    CK_RV (*update)(ferro_kernel_op *op, const void *in, size_t length, void *out, size_t *out_length);
    CK_RV (*finish)(ferro_kernel_op *op, void *out, size_t *out_length);

    /* Verification: CKR_OK, CKR_SIGNATURE_INVALID, CKR_SIGNATURE_LEN_RANGE, CKR_DATA_LEN_RANGE. */
    CK_RV (*verify)(ferro_kernel_op *op, const void *in, size_t length, const void *signature,
                    size_t signature_length);
    CK_RV (*finish_verify)(ferro_kernel_op *op, const void *signature, size_t signature_length);

    /* Drop what the operation was doing, wiped, and keep its contexts for the next `begin`. */
    void (*op_reset)(ferro_kernel_op *op);
    void (*op_release)(ferro_kernel_op *op);

    /*
     * The shared secret of an agreement (ECDH1 and its kin), with the mechanism's key derivation.
     * `*out_length` is the number of bytes wanted and becomes the number written; without a
     * derivation function the whole shared secret is given, however much was wanted. `out` NULL:
     * only the length. The template's truncation is the caller's.
     */
    CK_RV (*derive)(const CK_MECHANISM *mechanism, ferro_kernel_key *base, void *out, size_t *out_length);

    /*
     * Make a key (CKM_*_KEY_GEN) or a key pair (CKM_*_KEY_PAIR_GEN). `material` is the template:
     * CKA_VALUE_LEN; CKA_MODULUS_BITS and CKA_PUBLIC_EXPONENT; CKA_EC_PARAMS; CKA_PARAMETER_SET.
     */
    CK_RV (*generate)(const CK_MECHANISM *mechanism, const ferro_kernel_material *material,
                      ferro_kernel_generated **generated);
    void (*generated_release)(ferro_kernel_generated *generated);

    /* Random bytes, and mixing of `seed` into the generator. */
    CK_RV (*random)(void *out, size_t length);
    CK_RV (*seed)(const void *seed, size_t length);

    /* The module is finalized: wipe what is kept ahead (random bytes, idle contexts). */
    void (*stop)(void);
    /* In the child of a fork, before anything else: wipe the parent's keys and operations. */
    void (*fork_child)(void);

    /* The following slots were added later: `size` says whether a kernel has them (FERRO_KERNEL_HAS). */

    /*
     * `*copy` becomes a second operation that is where `op` is, its caller's to finish and to release, for
     * C_GetOperationState. CKR_FUNCTION_NOT_SUPPORTED: this operation cannot be copied. Encryption and
     * decryption never are: two continuations of one message would use its initialization vector twice.
     */
    CK_RV (*op_copy)(const ferro_kernel_op *op, ferro_kernel_op **copy);

    /*
     * `derive`, but the secret stays with the kernel: `secret` of what is made holds CKA_VALUE. `length` is the number
     * of bytes wanted, of use with a key derivation function only.
     */
    CK_RV (*derive_key)(const CK_MECHANISM *mechanism, ferro_kernel_key *base, size_t length,
                        ferro_kernel_generated **generated);
    /* Keep a copy of attribute values in the kernel's memory for secrets, all of them in `secret`. */
    CK_RV (*keep)(const ferro_kernel_material *material, ferro_kernel_generated **kept);

    /*
     * A new shared secret and its ciphertext under a public key, or the one that a ciphertext holds. The whole secret
     * stays with the kernel: `secret` of what is made holds CKA_VALUE. `*out_length` is the room in `out` and becomes
     * the number of bytes written; with too little room CKR_BUFFER_TOO_SMALL, and `*out_length` tells how much is needed.
     */
    CK_RV (*encapsulate_key)(const CK_MECHANISM *mechanism, ferro_kernel_key *key, void *out, size_t *out_length,
                             ferro_kernel_generated **generated);
    CK_RV (*decapsulate_key)(const CK_MECHANISM *mechanism, ferro_kernel_key *key, const void *in, size_t length,
                             ferro_kernel_generated **generated);
} ferro_kernel;

/* Whether a kernel has this slot, and something in it. */
#define FERRO_KERNEL_HAS(kernel, slot) \
    ((kernel)->size >= offsetof(ferro_kernel, slot) + sizeof((kernel)->slot) && (kernel)->slot != NULL)

/* Whether what a kernel makes can stay with it. */
#define FERRO_KERNEL_MAKES(kernel)                                                             \
    (FERRO_KERNEL_HAS(kernel, generate) && FERRO_KERNEL_HAS(kernel, generated_release)         \
     && FERRO_KERNEL_HAS(kernel, derive_key) && FERRO_KERNEL_HAS(kernel, keep))

/* The same of what it encapsulates. */
#define FERRO_KERNEL_ENCAPSULATES(kernel)                                                      \
    (FERRO_KERNEL_MAKES(kernel) && FERRO_KERNEL_HAS(kernel, encapsulate_key)                   \
     && FERRO_KERNEL_HAS(kernel, decapsulate_key))

#ifdef __cplusplus
}
#endif

#endif /* FERROHSM_KERNEL_H */
