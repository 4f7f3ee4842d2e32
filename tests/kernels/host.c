/*
 * The kernel table from a plain C host: no Python, threads, a fork, and memory after release.
 *
 * Run with the name of one test. Built also with AddressSanitizer (then FERRO_ARENA_PLAIN gives the
 * sanitizer blocks that it knows) and ThreadSanitizer.
 */
#include "host.h"

#include <openssl/opensslv.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static const ferro_kernel *k;

/* ---- The table and its length rule ---- */

static void test_table(void)
{
    CHECK(k->version == FERRO_KERNEL_VERSION && k->size == sizeof(ferro_kernel));
    CHECK(k->serves(CKF_DIGEST, CKM_SHA256) == CKR_OK);
    CHECK(k->serves(CKF_SIGN, CKM_SHA256) == CKR_MECHANISM_INVALID);
    CHECK(k->serves(CKF_ENCRYPT, CKM_DES3_CBC) == CKR_MECHANISM_INVALID);
    CHECK(k->serves(CKF_DERIVE, CKM_ECDH1_DERIVE) == CKR_OK);
    CHECK(k->serves(CKF_DECRYPT, CKM_RSA_PKCS) == (OPENSSL_VERSION_NUMBER < 0x30200000L ? CKR_MECHANISM_INVALID : CKR_OK));
}

static void test_digest(void)
{
    static const uint8_t abc[] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40,
                                  0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17,
                                  0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
    CK_MECHANISM m = plain(CKM_SHA256);
    ferro_kernel_op *op = NULL;
    uint8_t out[64];
    size_t n = 31;
    int i;

    OK(k->begin(CKF_DIGEST, &m, NULL, &op));
    IS(k->once(op, "abc", 3, out, &n), CKR_BUFFER_TOO_SMALL);
    CHECK(n == 32);
    n = 0;
    OK(k->once(op, "abc", 3, NULL, &n));
    CHECK(n == 32);
    OK(k->once(op, "abc", 3, out, &n));
    CHECK(n == 32 && memcmp(out, abc, 32) == 0);
    IS(k->once(op, "abc", 3, out, &n), CKR_OPERATION_NOT_INITIALIZED);
    for (i = 0; i < 3; i++) {
        OK(k->begin(CKF_DIGEST, &m, NULL, &op));
        OK(k->update(op, "a", 1, NULL, NULL));
        OK(k->update(op, "", 0, NULL, NULL));
        IS(k->once(op, "bc", 2, out, &n), CKR_OPERATION_ACTIVE);
        OK(k->update(op, "bc", 2, NULL, NULL));
        n = 5;
        IS(k->finish(op, out, &n), CKR_BUFFER_TOO_SMALL);
        OK(k->finish(op, out, &n));
        CHECK(n == 32 && memcmp(out, abc, 32) == 0);
    }
    m.ulParameterLen = 1;
    IS(k->begin(CKF_DIGEST, &m, NULL, &op), CKR_MECHANISM_PARAM_INVALID);
    IS(k->finish(op, out, &n), CKR_OPERATION_NOT_INITIALIZED);
    m = plain(CKM_SHA3_512);
    OK(k->begin(CKF_DIGEST, &m, NULL, &op));
    n = sizeof(out);
    OK(k->once(op, NULL, 0, out, &n));
    CHECK(n == 64);
    k->op_release(op);
}

/* One operation moves between mechanisms, functions and keys. */
static void test_reuse(void)
{
    uint8_t key_bytes[32] = "0123456789abcdef0123456789abcde", iv[16] = {0}, out[256], back[256], first[64];
    ferro_kernel_key *aes = secret_key(CKK_AES, key_bytes, 32), *other = secret_key(CKK_AES, key_bytes, 16);
    CK_GCM_PARAMS gcm = {iv, 12, 96, NULL, 0, 128};
    CK_MECHANISM cbc = with(CKM_AES_CBC_PAD, iv, 16), g = with(CKM_AES_GCM, &gcm, sizeof(gcm));
    CK_MECHANISM mac = plain(CKM_SHA256_HMAC);
    ferro_kernel_op *op = NULL;
    size_t n, m;
    int i;

    for (i = 0; i < 20; i++) {
        ferro_kernel_key *key = i % 3 == 0 ? other : aes;
        iv[0] = (uint8_t)i;
        OK(k->begin(CKF_ENCRYPT, i % 2 ? &cbc : &g, key, &op));
        n = sizeof(out);
        OK(k->once(op, "attack at dawn", 14, out, &n));
        if (i % 4 == 1) {
            k->op_release(op);
            op = NULL;
        }
        OK(k->begin(CKF_DECRYPT, i % 2 ? &cbc : &g, key, &op));
        /* Just the room that the plaintext needs. */
        m = 13;
        IS(k->once(op, out, n, back, &m), CKR_BUFFER_TOO_SMALL);
        CHECK(m >= 14);
        m = 14;
        OK(k->once(op, out, n, back, &m));
        CHECK(m == 14 && memcmp(back, "attack at dawn", 14) == 0);
        OK(k->begin(CKF_SIGN, &mac, aes, &op));
        if (i % 5 == 2) {
            OK(k->update(op, "half", 4, NULL, NULL));
            k->op_reset(op);
            IS(k->update(op, "half", 4, NULL, NULL), CKR_OPERATION_NOT_INITIALIZED);
            OK(k->begin(CKF_SIGN, &mac, aes, &op));
        }
        n = sizeof(out);
        OK(k->once(op, "data", 4, out, &n));
        if (i == 0)
            memcpy(first, out, n);
        CHECK(n == 32 && memcmp(first, out, n) == 0);
    }
    /* In place, and shifted. */
    memcpy(out, "a text of some length, for GCM", 30);
    OK(k->begin(CKF_ENCRYPT, &g, aes, &op));
    n = sizeof(out);
    OK(k->once(op, out, 30, out, &n));
    memmove(out + 7, out, n);
    OK(k->begin(CKF_DECRYPT, &g, aes, &op));
    m = sizeof(out);
    OK(k->once(op, out + 7, n, out, &m));
    CHECK(m == 30 && memcmp(out, "a text of some length, for GCM", 30) == 0);
    /* A forged tag leaves no plaintext. */
    OK(k->begin(CKF_ENCRYPT, &g, aes, &op));
    n = sizeof(out);
    OK(k->once(op, "plaintext", 9, out, &n));
    out[n - 1] ^= 1;
    memset(back, 0x55, sizeof(back));
    OK(k->begin(CKF_DECRYPT, &g, aes, &op));
    m = sizeof(back);
    IS(k->once(op, out, n, back, &m), CKR_ENCRYPTED_DATA_INVALID);
    for (m = 0; m < 9; m++)
        CHECK(back[m] == 0);
    /* A verification gives no MAC away. */
    OK(k->begin(CKF_VERIFY, &mac, aes, &op));
    n = sizeof(out);
    IS(k->once(op, "data", 4, out, &n), CKR_FUNCTION_NOT_SUPPORTED);
    OK(k->update(op, "data", 4, NULL, NULL));
    IS(k->finish(op, out, &n), CKR_FUNCTION_NOT_SUPPORTED);
    OK(k->finish_verify(op, first, 32));
    /* The key lives as long as the operation does. */
    OK(k->begin(CKF_SIGN, &mac, aes, &op));
    k->key_release(aes);
    k->key_release(other);
    n = sizeof(out);
    OK(k->once(op, "data", 4, out, &n));
    CHECK(memcmp(first, out, n) == 0);
    k->op_release(op);
}

static void test_refusals(void)
{
    uint8_t bytes[32] = {1}, out[64];
    ferro_kernel_key *aes = secret_key(CKK_AES, bytes, 32), *bad = secret_key(CKK_AES, bytes, 17);
    ferro_kernel_key *generic = secret_key(CKK_GENERIC_SECRET, bytes, 0);
    CK_MECHANISM ecb = plain(CKM_AES_ECB), sha = plain(CKM_SHA256), ecdsa = plain(CKM_ECDSA);
    CK_MECHANISM hmac = plain(CKM_SHA256_HMAC);
    ferro_kernel_op *op = NULL;
    size_t n = sizeof(out);

    IS(k->begin(CKF_ENCRYPT, &ecb, NULL, &op), CKR_KEY_NEEDED);
    IS(k->begin(CKF_DIGEST, &sha, aes, &op), CKR_KEY_NOT_NEEDED);
    IS(k->begin(CKF_SIGN, &ecdsa, aes, &op), CKR_KEY_TYPE_INCONSISTENT);
    IS(k->begin(CKF_ENCRYPT, &ecb, bad, &op), CKR_KEY_SIZE_RANGE);
    IS(k->begin(CKF_ENCRYPT, &ecb, generic, &op), CKR_KEY_TYPE_INCONSISTENT);
    IS(k->begin(CKF_ENCRYPT | CKF_DECRYPT, &ecb, aes, &op), CKR_FUNCTION_NOT_SUPPORTED);
    CHECK(op == NULL);
    OK(k->begin(CKF_SIGN, &hmac, generic, &op));
    OK(k->once(op, "x", 1, out, &n));
    k->op_release(op);
    op = NULL;
    OK(k->begin(CKF_ENCRYPT, &ecb, aes, &op));
    IS(k->once(op, bytes, 15, out, &n), CKR_DATA_LEN_RANGE);
    IS(k->once(op, bytes, 16, out, &n), CKR_OPERATION_NOT_INITIALIZED);
    k->op_release(op);
    k->key_release(aes);
    k->key_release(bad);
    k->key_release(generic);
}

static void sign_and_verify(CK_MECHANISM_TYPE type, ferro_kernel_key *private_key, ferro_kernel_key *public_key)
{
    CK_MECHANISM m = plain(type);
    ferro_kernel_op *op = NULL, *check = NULL;
    uint8_t data[32] = "some hash, thirty-two bytes long", out[1024];
    size_t n = 1;

    OK(k->begin(CKF_SIGN, &m, private_key, &op));
    IS(k->once(op, data, 32, out, &n), CKR_BUFFER_TOO_SMALL);
    OK(k->once(op, data, 32, out, &n));
    IS(k->begin(CKF_SIGN, &m, public_key, &op), CKR_KEY_FUNCTION_NOT_PERMITTED);
    OK(k->begin(CKF_VERIFY, &m, public_key, &check));
    OK(k->verify(check, data, 32, out, n));
    data[0] ^= 1;
    OK(k->begin(CKF_VERIFY, &m, public_key, &check));
    IS(k->verify(check, data, 32, out, n), CKR_SIGNATURE_INVALID);
    OK(k->begin(CKF_VERIFY, &m, public_key, &check));
    IS(k->verify(check, data, 32, out, n + 2), CKR_SIGNATURE_LEN_RANGE);
    if (k->multi_part(op)) {
        data[0] ^= 1;
        OK(k->begin(CKF_SIGN, &m, private_key, &op));
        OK(k->update(op, data, 5, NULL, NULL));
        OK(k->update(op, data + 5, 27, NULL, NULL));
        n = sizeof(out);
        OK(k->finish(op, out, &n));
        OK(k->begin(CKF_VERIFY, &m, public_key, &check));
        OK(k->update(check, data, 32, NULL, NULL));
        OK(k->finish_verify(check, out, n));
    }
    k->op_release(op);
    k->op_release(check);
}

static void test_pairs(void)
{
    ferro_kernel_generated *g;
    ferro_kernel_key *private_key, *public_key, *peer;
    CK_ECDH1_DERIVE_PARAMS ecdh = {CKD_NULL, 0, NULL, 0, NULL};
    CK_MECHANISM m = with(CKM_ECDH1_DERIVE, &ecdh, sizeof(ecdh));
    uint8_t shared[64];
    size_t n = sizeof(shared);

    g = rsa_pair(2048);
    pair(g, CKK_RSA, &private_key, &public_key);
    sign_and_verify(CKM_RSA_PKCS, private_key, public_key);
    sign_and_verify(CKM_SHA256_RSA_PKCS, private_key, public_key);
    sign_and_verify(CKM_RSA_X_509, private_key, public_key);
    k->key_release(private_key);
    k->key_release(public_key);
    k->generated_release(g);

    g = curve_pair(CKM_EC_EDWARDS_KEY_PAIR_GEN, ED25519, sizeof(ED25519));
    pair(g, CKK_EC_EDWARDS, &private_key, &public_key);
    sign_and_verify(CKM_EDDSA, private_key, public_key);
    k->key_release(private_key);
    k->key_release(public_key);
    k->generated_release(g);

    g = curve_pair(CKM_EC_KEY_PAIR_GEN, P256, sizeof(P256));
    pair(g, CKK_EC, &private_key, &public_key);
    sign_and_verify(CKM_ECDSA, private_key, public_key);
    sign_and_verify(CKM_ECDSA_SHA256, private_key, public_key);
    ecdh.pPublicData = (CK_BYTE *)g->open.attributes[1].value;
    ecdh.ulPublicDataLen = g->open.attributes[1].length;
    OK(k->derive(&m, private_key, shared, &n));
    CHECK(n == 32);
    n = 31;
    IS(k->derive(&m, private_key, shared, &n), CKR_BUFFER_TOO_SMALL);
    IS(k->derive(&m, public_key, shared, &n), CKR_KEY_FUNCTION_NOT_PERMITTED);
    ecdh.ulPublicDataLen--;
    n = sizeof(shared);
    IS(k->derive(&m, private_key, shared, &n), CKR_MECHANISM_PARAM_INVALID);
    k->key_release(private_key);
    k->key_release(public_key);
    k->generated_release(g);

    g = curve_pair(CKM_EC_MONTGOMERY_KEY_PAIR_GEN, X25519, sizeof(X25519));
    pair(g, CKK_EC_MONTGOMERY, &private_key, &peer);
    memset(shared, 0, sizeof(shared));
    ecdh.pPublicData = shared; /* the point of order 1 */
    ecdh.ulPublicDataLen = 32;
    n = 32;
    IS(k->derive(&m, private_key, shared + 32, &n), CKR_MECHANISM_PARAM_INVALID);
    k->key_release(private_key);
    k->key_release(peer);
    k->generated_release(g);
}

/* ---- Junk: whatever is asked, an answer comes, and nothing is left ---- */

static unsigned junk_state = 12345;

static unsigned junk(unsigned below)
{
    junk_state ^= junk_state << 13;
    junk_state ^= junk_state >> 17;
    junk_state ^= junk_state << 5;
    return junk_state % below;
}

static void junk_bytes(uint8_t *bytes, size_t length)
{
    while (length-- > 0)
        *bytes++ = (uint8_t)junk(256);
}

static ferro_kernel_key *junk_key(void)
{
    static const CK_ATTRIBUTE_TYPE types[] = {
        CKA_VALUE, CKA_MODULUS, CKA_PUBLIC_EXPONENT, CKA_PRIVATE_EXPONENT, CKA_EC_PARAMS, CKA_EC_POINT, CKA_PRIME_1,
    };
    static const uint64_t kinds[] = {CKK_AES, CKK_RSA, CKK_EC, CKK_EC_EDWARDS, CKK_EC_MONTGOMERY, CKK_GENERIC_SECRET};
    static const size_t lengths[] = {0, 1, 3, 16, 32, 32, 33, 65, 67, 97, 128, 256};
    uint64_t class = CKO_PUBLIC_KEY + junk(3), kind = kinds[junk(6)];
    ferro_kernel_attribute attributes[9] = {number(CKA_CLASS, &class), number(CKA_KEY_TYPE, &kind)};
    ferro_kernel_material material = {attributes, 2 + junk(8)};
    static uint8_t values[7][256];
    ferro_kernel_key *key = NULL;
    size_t i;

    if (junk(2) == 0) {
        junk_bytes(values[0], 32);
        return secret_key(kinds[junk(2) ? 0 : 5], values[0], 16 + 16 * (size_t)junk(2));
    }
    for (i = 2; i < material.count; i++) {
        junk_bytes(values[i - 2], 256);
        attributes[i] = attribute(types[i - 2], values[i - 2], lengths[junk(12)]);
        if (types[i - 2] == CKA_EC_PARAMS && junk(4) != 0)
            attributes[i] = junk(2) ? attribute(CKA_EC_PARAMS, P256, sizeof(P256))
                                    : attribute(CKA_EC_PARAMS, ED25519, sizeof(ED25519));
        if (types[i - 2] == CKA_PUBLIC_EXPONENT || types[i - 2] == CKA_MODULUS)
            values[i - 2][attributes[i].length == 0 ? 0 : attributes[i].length - 1] |= 1;
    }
    (void)k->key_load(&material, &key);
    return key;
}

static size_t parameter_length(CK_MECHANISM_TYPE mechanism)
{
    switch (mechanism) {
    case CKM_AES_CBC:
    case CKM_AES_CBC_PAD:
        return 16;
    case CKM_AES_CTR:
        return sizeof(CK_AES_CTR_PARAMS);
    case CKM_RSA_PKCS_PSS:
    case CKM_SHA256_RSA_PKCS_PSS:
        return sizeof(CK_RSA_PKCS_PSS_PARAMS);
    case CKM_AES_CMAC_GENERAL:
        return sizeof(CK_ULONG);
    default:
        return 0;
    }
}

static void test_junk(void)
{
    static const CK_FLAGS functions[] = {CKF_ENCRYPT, CKF_DECRYPT, CKF_SIGN, CKF_VERIFY, CKF_DIGEST, CKF_VERIFY_RECOVER,
                                         CKF_SIGN_RECOVER};
    static const CK_MECHANISM_TYPE mechanisms[] = {
        CKM_AES_ECB, CKM_AES_CBC, CKM_AES_CBC_PAD, CKM_AES_CTR, CKM_AES_CMAC, CKM_AES_CMAC_GENERAL, CKM_SHA256,
        CKM_SHA256_HMAC, CKM_RSA_PKCS, CKM_RSA_X_509, CKM_SHA256_RSA_PKCS, CKM_SHA256_RSA_PKCS_PSS, CKM_ECDSA,
        CKM_ECDSA_SHA384, CKM_EDDSA, CKM_RSA_PKCS_PSS,
    };
    uint8_t parameter[64], in[300], out[600], signature[300];
    ferro_kernel_key *keys[8] = {NULL};
    ferro_kernel_op *op = NULL;
    unsigned long begun = 0;
    int turn;

    for (turn = 0; turn < 40000; turn++) {
        ferro_kernel_key **key = &keys[junk(8)];
        CK_MECHANISM m = with(mechanisms[junk(16)], parameter, 0);
        size_t length = junk(300), room = junk(600);

        if (*key == NULL || junk(50) == 0) {
            if (*key != NULL)
                k->key_release(*key);
            *key = junk_key();
        }
        junk_bytes(parameter, sizeof(parameter));
        m.ulParameterLen = junk(8) == 0 ? junk(64) : parameter_length(m.mechanism);
        if (k->begin(functions[junk(7)], &m, m.mechanism == CKM_SHA256 ? NULL : *key, &op) == CKR_OK)
            begun++;
        while (op != NULL && junk(4) != 0) {
            switch (junk(5)) {
            case 0:
                (void)k->once(op, in, length, out, &room);
                break;
            case 1:
                (void)k->update(op, in, length, out, &room);
                break;
            case 2:
                (void)k->finish(op, out, &room);
                break;
            case 3:
                (void)k->verify(op, in, length, signature, junk(300));
                break;
            default:
                (void)k->finish_verify(op, signature, junk(300));
            }
            room = junk(600);
        }
        if (junk(5) == 0) {
            k->op_release(op);
            op = NULL;
        }
    }
    CHECK(begun > 1000);
    k->op_release(op);
    for (turn = 0; turn < 8; turn++)
        k->key_release(keys[turn]);
}

/* ---- Random ---- */

static void test_random(void)
{
    uint8_t a[64], b[64], zero[64] = {0}, large[5000];
    int i;

    memset(large, 0, sizeof(large));
    for (i = 0; i < 1000; i++) {
        OK(k->random(a, sizeof(a)));
        OK(k->random(b, sizeof(b)));
        CHECK(memcmp(a, b, sizeof(a)) != 0 && memcmp(a, zero, sizeof(a)) != 0);
    }
    OK(k->random(large, sizeof(large)));
    CHECK(memcmp(large + 4936, zero, 64) != 0);
    OK(k->seed("seed", 4));
    OK(k->random(b, sizeof(b)));
    k->stop();
    OK(k->random(a, sizeof(a)));
    CHECK(memcmp(a, b, sizeof(a)) != 0);
}

/* ---- Threads ---- */

static ferro_kernel_key *shared_private, *shared_public, *shared_aes;
static uint8_t expected_mac[32];

static void *worker(void *turn)
{
    CK_MECHANISM ecdsa = plain(CKM_ECDSA), hmac = plain(CKM_SHA256_HMAC), sha = plain(CKM_SHA256);
    uint8_t iv[16] = {(uint8_t)(uintptr_t)turn}, in[3000], out[3100], back[3100], mac[32];
    CK_MECHANISM cbc = with(CKM_AES_CBC_PAD, iv, 16);
    ferro_kernel_op *op = NULL, *kept = NULL;
    size_t n, m;
    int i;

    for (i = 0; i < 60; i++) {
        OK(k->random(in, (size_t)(1 + i * 40)));
        OK(k->begin(CKF_SIGN, &ecdsa, shared_private, &op));
        n = sizeof(out);
        OK(k->once(op, "0123456789abcdef0123456789abcdef", 32, out, &n));
        k->op_release(op);
        op = NULL;
        OK(k->begin(CKF_VERIFY, &ecdsa, shared_public, &op));
        OK(k->verify(op, "0123456789abcdef0123456789abcdef", 32, out, n));
        k->op_release(op);
        op = NULL;
        OK(k->begin(CKF_ENCRYPT, &cbc, shared_aes, &kept));
        n = sizeof(out);
        OK(k->once(kept, in, (size_t)(1 + i * 40), out, &n));
        OK(k->begin(CKF_DECRYPT, &cbc, shared_aes, &kept));
        m = sizeof(back);
        OK(k->once(kept, out, n, back, &m));
        CHECK(m == (size_t)(1 + i * 40) && memcmp(in, back, m) == 0);
        OK(k->begin(CKF_SIGN, &hmac, shared_aes, &op));
        n = sizeof(mac);
        OK(k->once(op, "message", 7, mac, &n));
        CHECK(memcmp(mac, expected_mac, 32) == 0);
        OK(k->begin(CKF_DIGEST, &sha, NULL, &kept));
        n = sizeof(mac);
        OK(k->once(kept, in, 10, mac, &n));
        k->op_release(op);
        op = NULL;
    }
    k->op_release(kept);
    return NULL;
}

static void shared_keys(void)
{
    uint8_t bytes[32] = "a key that all the threads share";
    ferro_kernel_generated *g = curve_pair(CKM_EC_KEY_PAIR_GEN, P256, sizeof(P256));
    CK_MECHANISM hmac = plain(CKM_SHA256_HMAC);
    ferro_kernel_op *op = NULL;
    size_t n = sizeof(expected_mac);

    pair(g, CKK_EC, &shared_private, &shared_public);
    k->generated_release(g);
    shared_aes = secret_key(CKK_AES, bytes, 32);
    OK(k->begin(CKF_SIGN, &hmac, shared_aes, &op));
    OK(k->once(op, "message", 7, expected_mac, &n));
    k->op_release(op);
}

static void release_shared_keys(void)
{
    k->key_release(shared_private);
    k->key_release(shared_public);
    k->key_release(shared_aes);
}

static void test_threads(void)
{
    pthread_t threads[8];
    uintptr_t i, round;

    shared_keys();
    for (round = 0; round < 4; round++) {
        for (i = 0; i < 8; i++)
            CHECK(pthread_create(&threads[i], NULL, worker, (void *)i) == 0);
        k->stop();
        for (i = 0; i < 8; i++)
            CHECK(pthread_join(threads[i], NULL) == 0);
    }
    release_shared_keys();
}

/* Threads by the thousand leave nothing behind. */
static void *short_lived(void *unused)
{
    uint8_t out[32];
    CK_MECHANISM sha = plain(CKM_SHA256);
    ferro_kernel_op *op = NULL;
    size_t n = sizeof(out);

    OK(k->random(out, sizeof(out)));
    OK(k->begin(CKF_DIGEST, &sha, NULL, &op));
    OK(k->once(op, out, sizeof(out), out, &n));
    k->op_release(op);
    return unused;
}

static void test_thread_ends(void)
{
    ferro_arena_status before, after;
    pthread_t thread;
    int i;

    for (i = 0; i < 2000; i++) {
        CHECK(pthread_create(&thread, NULL, short_lived, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        if (i == 20)
            ferro_arena_read_status(&before);
    }
    ferro_arena_read_status(&after);
    CHECK(after.mapped == before.mapped && after.in_use == before.in_use);
}

/* ---- Fork ---- */

static int child_result(pid_t child)
{
    int status = -1;

    CHECK(waitpid(child, &status, 0) == child);
    return status;
}

/* The parent's key and operation are refused in the child, which then works with its own. */
static void child(ferro_kernel_op *op, ferro_kernel_key *key, const uint8_t *parents_random)
{
    CK_MECHANISM hmac = plain(CKM_SHA256_HMAC);
    ferro_kernel_op *mine = NULL;
    uint8_t out[64];
    size_t n = sizeof(out);

    IS(k->once(op, "x", 1, out, &n), CKR_CRYPTOKI_NOT_INITIALIZED);
    IS(k->begin(CKF_SIGN, &hmac, key, &mine), CKR_CRYPTOKI_NOT_INITIALIZED);
    OK(k->random(out, 32));
    CHECK(memcmp(out, parents_random, 32) != 0);
    k->op_release(op);
    release_shared_keys();
    CHECK(ferro_objects_count() == 0);
    shared_keys();
    worker(NULL);
    test_pairs();
    release_shared_keys();
    _exit(0);
}

static void test_fork(void)
{
    CK_MECHANISM hmac = plain(CKM_SHA256_HMAC);
    ferro_kernel_op *op = NULL;
    uint8_t out[64], next[32];
    size_t n = sizeof(out);
    int round;

    shared_keys();
    for (round = 0; round < 3; round++) {
        int pipes[2];
        pid_t pid;

        OK(k->random(out, 32));
        OK(k->begin(CKF_SIGN, &hmac, shared_aes, &op));
        CHECK(pipe(pipes) == 0);
        if ((pid = fork()) == 0) {
            CHECK(read(pipes[0], next, sizeof(next)) == sizeof(next));
            if (round == 1)
                k->fork_child();
            child(op, shared_aes, next);
        }
        OK(k->random(next, sizeof(next)));
        CHECK(write(pipes[1], next, sizeof(next)) == sizeof(next));
        CHECK(child_result(pid) == 0);
        close(pipes[0]);
        close(pipes[1]);
        n = sizeof(out);
        OK(k->once(op, "message", 7, out, &n));
        CHECK(memcmp(out, expected_mac, 32) == 0);
    }
    k->op_release(op);
    release_shared_keys();
}

/* ---- Memory ---- */

#if !defined(FERRO_ARENA_PLAIN)
int found_in_memory(const uint8_t *masked, size_t length)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    FILE *memory = fopen("/proc/self/mem", "rb");
    static uint8_t chunk[1 << 16];
    char line[512];
    int found = 0;

    CHECK(maps != NULL && memory != NULL);
    setvbuf(memory, NULL, _IONBF, 0);
    while (fgets(line, sizeof(line), maps) != NULL) {
        unsigned long start, end, at;
        char mode[8];
        if (sscanf(line, "%lx-%lx %7s", &start, &end, mode) != 3 || mode[0] != 'r' || strstr(line, "[v") != NULL)
            continue;
        for (at = start; at < end; at += sizeof(chunk) - 64) {
            size_t want = end - at < sizeof(chunk) ? end - at : sizeof(chunk), got, i, j;
            if ((uint8_t *)at < chunk + sizeof(chunk) && (uint8_t *)at + want > chunk)
                continue;
            CHECK(fseek(memory, (long)at, SEEK_SET) == 0);
            got = fread(chunk, 1, want, memory);
            for (i = 0; i + length <= got; i++) {
                for (j = 0; j < length && chunk[i + j] == (uint8_t)(masked[j] ^ 0xa5); j++)
                    ;
                found += j == length && (want < sizeof(chunk) || i < sizeof(chunk) - 64);
            }
        }
    }
    memset(chunk, 0, sizeof(chunk));
    fclose(maps);
    fclose(memory);
    return found;
}

void mask_bytes(const void *bytes, size_t length, uint8_t *masked)
{
    size_t i;

    for (i = 0; i < length; i++)
        masked[i] = ((const uint8_t *)bytes)[i] ^ 0xa5;
}

/* Little-endian words, as libcrypto keeps big integers. */
static void mask_reversed(const void *bytes, size_t length, uint8_t *masked)
{
    size_t i;

    for (i = 0; i < length; i++)
        masked[i] = ((const uint8_t *)bytes)[length - 1 - i] ^ 0xa5;
}

static const ferro_kernel_attribute *part(const ferro_kernel_generated *g, CK_ATTRIBUTE_TYPE type)
{
    return ferro_attribute(&g->secret, type);
}

static void test_residue(void)
{
    uint8_t key_bytes[32], masked[3][16], out[512], masked_key[16];
    ferro_kernel_key *aes, *rsa, *rsa_public;
    ferro_kernel_generated *g;
    ferro_kernel_op *op = NULL;
    CK_MECHANISM hmac = plain(CKM_SHA256_HMAC), sign = plain(CKM_SHA256_RSA_PKCS), ecb = plain(CKM_AES_ECB);
    size_t n;
    int i;

    OK(k->random(key_bytes, sizeof(key_bytes)));
    mask_bytes(key_bytes, 16, masked_key);
    aes = secret_key(CKK_AES, key_bytes, sizeof(key_bytes));
    memset(key_bytes, 0, sizeof(key_bytes));
    g = rsa_pair(2048);
    mask_bytes(part(g, CKA_PRIME_1)->value, 16, masked[0]);
    mask_reversed((const uint8_t *)part(g, CKA_PRIME_1)->value + 112, 16, masked[1]);
    mask_reversed((const uint8_t *)part(g, CKA_PRIVATE_EXPONENT)->value + 200, 16, masked[2]);
    pair(g, CKK_RSA, &rsa, &rsa_public);
    CHECK(found_in_memory(masked[0], 16) > 0);
    k->generated_release(g);
    CHECK(found_in_memory(masked[0], 16) == 0);
    OK(k->begin(CKF_SIGN, &sign, rsa, &op));
    n = sizeof(out);
    OK(k->once(op, "x", 1, out, &n));
    OK(k->begin(CKF_SIGN, &hmac, aes, &op));
    n = sizeof(out);
    OK(k->once(op, "x", 1, out, &n));
    OK(k->begin(CKF_ENCRYPT, &ecb, aes, &op));
    CHECK(found_in_memory(masked_key, 16) > 0);
    CHECK(found_in_memory(masked[1], 16) > 0);
    CHECK(found_in_memory(masked[2], 16) > 0);
    k->op_release(op);
    k->key_release(aes);
    k->key_release(rsa);
    k->key_release(rsa_public);
    k->stop();
    CHECK(found_in_memory(masked_key, 16) == 0);
    for (i = 0; i < 3; i++)
        CHECK(found_in_memory(masked[i], 16) == 0);
    CHECK(ferro_objects_count() == 0);
}

/* In the child nothing of the parent's keys is left after fork_child, in the parent all of it. */
static void test_residue_after_fork(void)
{
    uint8_t key_bytes[32], masked[16];
    ferro_kernel_key *key;
    CK_MECHANISM ecb = plain(CKM_AES_ECB);
    ferro_kernel_op *op = NULL;
    pid_t pid;

    OK(k->random(key_bytes, sizeof(key_bytes)));
    mask_bytes(key_bytes, 16, masked);
    key = secret_key(CKK_AES, key_bytes, sizeof(key_bytes));
    memset(key_bytes, 0, sizeof(key_bytes));
    OK(k->begin(CKF_ENCRYPT, &ecb, key, &op));
    if ((pid = fork()) == 0) {
        CHECK(found_in_memory(masked, 16) > 0);
        k->fork_child();
        CHECK(found_in_memory(masked, 16) == 0);
        _exit(0);
    }
    CHECK(child_result(pid) == 0);
    CHECK(found_in_memory(masked, 16) > 0);
    k->op_release(op);
    k->key_release(key);
}

/* What a thread keeps of the secret zone is chained in the zone, which a child finds wiped: keys that end there, before or
 * while the kernels notice the fork, meet a chain that has ended too early. */
static void test_full_pockets_after_fork(void)
{
    enum { KEYS = 40 };
    static const uint8_t value[32] = {1};
    ferro_kernel_key *keys[KEYS];
    uint8_t *blocks[KEYS];
    int round, i;

    for (round = 0; round < 2; round++) {
        pid_t pid;

        for (i = 0; i < KEYS; i++) {
            keys[i] = secret_key(CKK_AES, value, sizeof(value));
            CHECK((blocks[i] = ferro_secret_alloc(sizeof(value) + 1)) != NULL);
        }
        for (i = 0; i < KEYS; i++)
            ferro_free(blocks[i]);
        if ((pid = fork()) == 0) {
            for (i = 0; round == 0 && i < KEYS; i++)
                k->key_release(keys[i]);
            k->fork_child();
            for (i = 0; round == 1 && i < KEYS; i++)
                k->key_release(keys[i]);
            CHECK(ferro_objects_count() == 0);
            for (i = 0; i < KEYS; i++) {
                CHECK((blocks[i] = ferro_secret_alloc(sizeof(value) + 1)) != NULL);
                memset(blocks[i], i + 1, sizeof(value));
            }
            for (i = 0; i < KEYS; i++)
                CHECK(blocks[i][0] == i + 1 && blocks[i][sizeof(value) - 1] == i + 1);
            _exit(0);
        }
        CHECK(child_result(pid) == 0);
        for (i = 0; i < KEYS; i++)
            k->key_release(keys[i]);
    }
}

enum { LANE_BLOCKS = 300 };

static void *takes_one(void *size)
{
    return ferro_alloc(*(size_t *)size);
}

static void *takes_many(void *size)
{
    void *blocks[LANE_BLOCKS];
    int i;

    for (i = 0; i < LANE_BLOCKS; i++)
        CHECK((blocks[i] = ferro_alloc(*(size_t *)size)) != NULL);
    for (i = 0; i < LANE_BLOCKS; i++)
        ferro_free(blocks[i]);
    return NULL;
}

/* One thread after the other: what a later one takes is not beside what an earlier one left in use, and what it
 * gave back is used before more is mapped. */
static void test_lanes(void)
{
    static const size_t sizes[] = {32, 90, 300, 1000};
    ferro_arena_status status;
    size_t i, first;
    int round;

    for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t size = sizes[i];
        pthread_t thread;
        void *one, *other;

        CHECK(pthread_create(&thread, NULL, takes_one, &size) == 0 && pthread_join(thread, &one) == 0);
        CHECK(pthread_create(&thread, NULL, takes_one, &size) == 0 && pthread_join(thread, &other) == 0);
        CHECK(one != NULL && other != NULL && (uintptr_t)one / 4096 != (uintptr_t)other / 4096);
        ferro_free(one);
        ferro_free(other);
        first = 0;
        for (round = 0; round < 20; round++) {
            CHECK(pthread_create(&thread, NULL, takes_many, &size) == 0 && pthread_join(thread, NULL) == 0);
            ferro_arena_read_status(&status);
            first = first == 0 ? status.mapped : first;
            CHECK(status.mapped <= first + 65536);
        }
    }
}

static void test_arena(void)
{
    enum { BLOCKS = 4000 };
    static uint8_t *blocks[BLOCKS];
    static size_t sizes[BLOCKS];
    ferro_arena_status status;
    uint8_t *large;
    unsigned seed = 1;
    size_t j;
    int round, i;

    for (round = 0; round < 5; round++) {
        for (i = 0; i < BLOCKS; i++) {
            seed = seed * 1103515245u + 12345u;
            sizes[i] = 1 + (seed >> 8) % (i % 50 == 0 ? 40000 : 700);
            blocks[i] = i % 7 == 0 ? ferro_secret_alloc(sizes[i]) : ferro_alloc(sizes[i]);
            CHECK(blocks[i] != NULL && (uintptr_t)blocks[i] % 16 == 0);
            for (j = 0; j < sizes[i]; j++)
                CHECK(blocks[i][j] == 0);
            memset(blocks[i], i & 0xff, sizes[i]);
        }
        for (i = 0; i < BLOCKS; i++) {
            for (j = 0; j < sizes[i]; j++)
                CHECK(blocks[i][j] == (i & 0xff));
            if (i % 3 == 0) {
                size_t old = sizes[i];
                sizes[i] = sizes[i] * 2 + 5;
                CHECK((blocks[i] = ferro_realloc(blocks[i], sizes[i])) != NULL);
                for (j = 0; j < old; j++)
                    CHECK(blocks[i][j] == (i & 0xff));
            }
        }
        for (i = 0; i < BLOCKS; i++)
            ferro_free(blocks[(i * 7) % BLOCKS]);
    }
    ferro_free(NULL);
    CHECK(ferro_alloc(0) == NULL);
    CHECK(ferro_alloc(SIZE_MAX) == NULL);
    ferro_arena_read_status(&status);
    CHECK(status.mapped > 0 && status.locked <= status.mapped);
    /* Beyond a block with a mapping of its own there is a guard: a write ends the process. */
    large = ferro_secret_alloc(ferro_page_size() * 8);
    CHECK(large != NULL);
    {
        pid_t pid = fork();
        if (pid == 0) {
            large[ferro_page_size() * 9] = 1;
            _exit(0);
        }
        CHECK(WIFSIGNALED(child_result(pid)));
    }
    ferro_free(large);
}
#endif

static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {
    {"table", test_table},
    {"digest", test_digest},
    {"reuse", test_reuse},
    {"refusals", test_refusals},
    {"pairs", test_pairs},
    {"junk", test_junk},
    {"random", test_random},
    {"threads", test_threads},
    {"thread_ends", test_thread_ends},
    {"fork", test_fork},
    {"postquantum", test_postquantum},
#if !defined(FERRO_ARENA_PLAIN)
    {"residue", test_residue},
    {"residue_after_fork", test_residue_after_fork},
#if FERRO_POSTQUANTUM
    {"postquantum_residue", test_postquantum_residue},
#endif
    {"arena", test_arena},
    {"lanes", test_lanes},
    {"full_pockets_after_fork", test_full_pockets_after_fork},
#endif
};

int main(int argc, char **argv)
{
    size_t i;

    k = ferro_software_kernel();
    OK(ferro_enter());
    for (i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        if (argc == 2 && strcmp(argv[1], tests[i].name) == 0) {
            tests[i].run();
            /* Every test gives back what it took. */
            CHECK(ferro_objects_count() == 0);
            return 0;
        }
        if (argc == 1)
            puts(tests[i].name);
    }
    return argc == 1 ? 0 : 2;
}
