/* ML-DSA, ML-KEM and SLH-DSA in a host without Python; where libcrypto has none, that nothing is offered. */
#include <pthread.h>

#include "host.h"

static const ferro_kernel *k;

static const CK_KEY_TYPE TYPES[] = {CKK_ML_DSA, CKK_ML_KEM, CKK_SLH_DSA};
static const CK_MECHANISM_TYPE GENERATORS[] = {CKM_ML_DSA_KEY_PAIR_GEN, CKM_ML_KEM_KEY_PAIR_GEN, CKM_SLH_DSA_KEY_PAIR_GEN};

#if FERRO_POSTQUANTUM

enum { ROOM = 20000, JUNK = 300 };

/* Keys of a set, of the attributes that `secret` and `open` point to. */
static CK_RV load(uint64_t class, uint64_t type, uint64_t set, const ferro_kernel_material *values, ferro_kernel_key **key)
{
    ferro_kernel_attribute attributes[6] = {
        number(CKA_CLASS, &class), number(CKA_KEY_TYPE, &type), number(CKA_PARAMETER_SET, &set)};
    ferro_kernel_material material = {attributes, 3 + values->count};

    memcpy(attributes + 3, values->attributes, values->count * sizeof(attributes[0]));
    return k->key_load(&material, key);
}

static ferro_kernel_generated *generated(int type, uint64_t set)
{
    ferro_kernel_attribute attributes[] = {number(CKA_PARAMETER_SET, &set)};
    ferro_kernel_material material = {attributes, 1};
    CK_MECHANISM m = plain(GENERATORS[type]);
    ferro_kernel_generated *g;

    OK(k->generate(&m, &material, &g));
    CHECK(g->open.count == 1 && g->secret.count == (TYPES[type] == CKK_SLH_DSA ? 1u : 2u));
    return g;
}

static void sign(CK_MECHANISM *m, ferro_kernel_key *key, const void *data, size_t length, uint8_t *out, size_t *n)
{
    ferro_kernel_op *op = NULL;

    OK(k->begin(CKF_SIGN, m, key, &op));
    *n = 1;
    IS(k->once(op, data, length, out, n), CKR_BUFFER_TOO_SMALL);
    OK(k->once(op, data, length, out, n));
    k->op_release(op);
}

static CK_RV check(CK_MECHANISM *m, ferro_kernel_key *key, const void *data, size_t length, const uint8_t *s, size_t n)
{
    ferro_kernel_op *op = NULL;
    CK_RV rv;

    OK(k->begin(CKF_VERIFY, m, key, &op));
    rv = k->verify(op, data, length, s, n);
    k->op_release(op);
    return rv;
}

static void signatures(CK_MECHANISM_TYPE pure, CK_MECHANISM_TYPE hashed, CK_MECHANISM_TYPE given, ferro_kernel_key *private_key,
                       ferro_kernel_key *public_key)
{
    uint8_t context[256] = "context", *one = malloc(ROOM), *two = malloc(ROOM), digest[64] = {1};
    CK_SIGN_ADDITIONAL_CONTEXT plain_context = {CKH_DETERMINISTIC_REQUIRED, context, 7};
    CK_HASH_SIGN_ADDITIONAL_CONTEXT hash_context = {CKH_HEDGE_REQUIRED, context, 7, CKM_SHA512};
    CK_MECHANISM m = with(pure, &plain_context, sizeof(plain_context)), h = m, none = plain(pure);
    CK_MECHANISM g = with(given, &hash_context, sizeof(hash_context));
    ferro_kernel_op *op = NULL, *copy = NULL;
    size_t n, again;

    h.mechanism = hashed;
    sign(&m, private_key, "data", 4, one, &n);
    OK(check(&m, public_key, "data", 4, one, n));
    OK(check(&m, private_key, "data", 4, one, n));
    IS(check(&m, public_key, "date", 4, one, n), CKR_SIGNATURE_INVALID);
    IS(check(&none, public_key, "data", 4, one, n), CKR_SIGNATURE_INVALID);
    IS(check(&m, public_key, "data", 4, one, n - 1), CKR_SIGNATURE_LEN_RANGE);
    /* In parts, where signing can be copied half way also from there, it is the same. */
    OK(k->begin(CKF_SIGN, &m, private_key, &op));
    OK(k->update(op, "da", 2, NULL, NULL));
    if (k->op_copy(op, &copy) == CKR_OK) {
        OK(k->update(copy, "ta", 2, NULL, NULL));
        again = ROOM;
        OK(k->finish(copy, two, &again));
        CHECK(again == n && memcmp(one, two, n) == 0);
        k->op_release(copy);
    }
    OK(k->update(op, "ta", 2, NULL, NULL));
    again = 1;
    IS(k->finish(op, two, &again), CKR_BUFFER_TOO_SMALL);
    OK(k->finish(op, two, &again));
    CHECK(again == n && memcmp(one, two, n) == 0);
    /* The message may lie where the signature goes. */
    OK(k->begin(CKF_SIGN, &m, private_key, &op));
    memcpy(two, "data", 4);
    again = ROOM;
    OK(k->once(op, two, 4, two, &again));
    CHECK(again == n && memcmp(one, two, n) == 0);
    sign(&h, private_key, "", 0, two, &again);
    OK(check(&h, public_key, NULL, 0, two, again));
    sign(&g, private_key, digest, sizeof(digest), two, &again);
    OK(check(&g, public_key, digest, sizeof(digest), two, again));
    IS(check(&g, public_key, digest, 63, two, again), CKR_DATA_LEN_RANGE);
    IS(k->begin(CKF_SIGN, &m, public_key, &op), CKR_KEY_FUNCTION_NOT_PERMITTED);
    plain_context.ulContextLen = 256;
    IS(k->begin(CKF_SIGN, &m, private_key, &op), CKR_MECHANISM_PARAM_INVALID);
    plain_context.ulContextLen = 7;
    plain_context.pContext = NULL;
    IS(k->begin(CKF_SIGN, &m, private_key, &op), CKR_MECHANISM_PARAM_INVALID);
    m.ulParameterLen--;
    IS(k->begin(CKF_SIGN, &m, private_key, &op), CKR_MECHANISM_PARAM_INVALID);
    hash_context.hash = CKM_SHA_1;
    IS(k->begin(CKF_SIGN, &g, private_key, &op), CKR_MECHANISM_PARAM_INVALID);
    k->op_release(op);
    free(one);
    free(two);
}

static void kem(ferro_kernel_key *private_key, ferro_kernel_key *public_key)
{
    uint8_t ciphertext[2000], secret[FERRO_SHARED_SECRET], other[FERRO_SHARED_SECRET];
    size_t n = public_key->set->output_length;

    OK(ferro_encapsulate(public_key, ciphertext, secret));
    OK(ferro_decapsulate(private_key, ciphertext, n, other));
    CHECK(memcmp(secret, other, sizeof(secret)) == 0);
    ciphertext[n / 2] ^= 1;
    OK(ferro_decapsulate(private_key, ciphertext, n, other));
    CHECK(memcmp(secret, other, sizeof(secret)) != 0);
    IS(ferro_decapsulate(private_key, ciphertext, n - 1, other), CKR_ENCRYPTED_DATA_LEN_RANGE);
    IS(ferro_decapsulate(public_key, ciphertext, n, other), CKR_KEY_FUNCTION_NOT_PERMITTED);
}

/* Values that are changed or cut anywhere: an answer, and nothing left. */
static void broken(uint64_t type, uint64_t set, const ferro_kernel_generated *g)
{
    static uint8_t bytes[6000];
    unsigned state = 4711;
    int turn;

    for (turn = 0; turn < JUNK; turn++) {
        const ferro_kernel_material *from = turn & 1 ? &g->secret : &g->open;
        const ferro_kernel_attribute *a = &from->attributes[(unsigned)turn / 2 % from->count];
        ferro_kernel_attribute changed = {a->type, bytes, a->length};
        ferro_kernel_material material = {&changed, 1};
        ferro_kernel_key *key = NULL;
        size_t length = 0;

        memcpy(bytes, a->value, a->length);
        state = state * 1103515245 + 12345;
        bytes[(state >> 8) % a->length] ^= (uint8_t)(1u << (state >> 28 & 7));
        if (turn % 5 == 0)
            changed.length = (state >> 8) % a->length;
        if (load(turn & 1 ? CKO_PRIVATE_KEY : CKO_PUBLIC_KEY, type, set, &material, &key) != CKR_OK) {
            CHECK(key == NULL);
            continue;
        }
        CHECK(changed.length == a->length);
        if (type != CKK_SLH_DSA)
            (void)ferro_postquantum_check(key);
        OK(ferro_postquantum_value(key, 0, NULL, &length));
        k->key_release(key);
    }
}

static ferro_kernel_key *shared;
static uint8_t expected[ROOM];

static void *worker(void *unused)
{
    CK_SIGN_ADDITIONAL_CONTEXT context = {CKH_DETERMINISTIC_REQUIRED, NULL, 0};
    CK_MECHANISM m = with(CKM_ML_DSA, &context, sizeof(context));
    uint8_t out[ROOM];
    size_t n;
    int i;

    for (i = 0; i < 10; i++) {
        sign(&m, shared, "data", 4, out, &n);
        CHECK(memcmp(out, expected, n) == 0);
    }
    return unused;
}

static void in_threads(ferro_kernel_key *key)
{
    CK_SIGN_ADDITIONAL_CONTEXT context = {CKH_DETERMINISTIC_REQUIRED, NULL, 0};
    CK_MECHANISM m = with(CKM_ML_DSA, &context, sizeof(context));
    pthread_t threads[4];
    size_t n;
    int i;

    shared = key;
    sign(&m, key, "data", 4, expected, &n);
    for (i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, worker, NULL) == 0);
    for (i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

void test_postquantum(void)
{
    static const uint64_t sets[] = {CKP_ML_DSA_44, CKP_ML_KEM_512, CKP_SLH_DSA_SHA2_128F};
    ferro_kernel_key *private_key, *expanded, *public_key;
    ferro_kernel_material last;
    size_t length;
    int i;

    k = ferro_software_kernel();
    for (i = 0; i < 3; i++) {
        ferro_kernel_generated *g = generated(i, sets[i]);
        uint8_t *value = malloc(6000);

        OK(k->serves(CKF_GENERATE_KEY_PAIR, GENERATORS[i]));
        OK(load(CKO_PRIVATE_KEY, TYPES[i], sets[i], &g->secret, &private_key));
        OK(load(CKO_PUBLIC_KEY, TYPES[i], sets[i], &g->open, &public_key));
        last.attributes = &g->secret.attributes[g->secret.count - 1];
        last.count = 1;
        OK(load(CKO_PRIVATE_KEY, TYPES[i], sets[i], &last, &expanded));
        OK(ferro_postquantum_check(expanded));
        length = 6000;
        OK(ferro_postquantum_value(expanded, 1, value, &length));
        CHECK(length == last.attributes->length && memcmp(value, last.attributes->value, length) == 0);
        length--;
        IS(ferro_postquantum_value(private_key, 1, value, &length), CKR_BUFFER_TOO_SMALL);
        IS(ferro_postquantum_value(public_key, 1, NULL, &length), CKR_KEY_FUNCTION_NOT_PERMITTED);
        if (TYPES[i] == CKK_ML_DSA) {
            signatures(CKM_ML_DSA, CKM_HASH_ML_DSA_SHAKE256, CKM_HASH_ML_DSA, expanded, public_key);
            in_threads(private_key);
        } else if (TYPES[i] == CKK_ML_KEM) {
            kem(expanded, public_key);
            kem(private_key, public_key);
        } else {
            signatures(CKM_SLH_DSA, CKM_HASH_SLH_DSA_SHA3_256, CKM_HASH_SLH_DSA, private_key, public_key);
        }
        broken(TYPES[i], sets[i], g);
        k->key_release(private_key);
        k->key_release(public_key);
        k->key_release(expanded);
        k->generated_release(g);
        free(value);
    }
    k->stop();
    CHECK(ferro_objects_count() == 0);
}

#if !defined(FERRO_ARENA_PLAIN)
/* Neither a seed nor an expanded key is left when the key and what it signed are gone. */
void test_postquantum_residue(void)
{
    static const uint64_t sets[] = {CKP_ML_DSA_65, CKP_ML_KEM_768, CKP_SLH_DSA_SHAKE_128F};
    CK_MECHANISM ways[] = {plain(CKM_ML_DSA), plain(0), plain(CKM_SLH_DSA)};
    uint8_t *out = malloc(ROOM), masked[2][16], ciphertext[2000], secret[FERRO_SHARED_SECRET];
    ferro_kernel_key *private_key, *public_key;
    size_t n;
    int i, part;

    k = ferro_software_kernel();
    for (i = 0; i < 3; i++) {
        ferro_kernel_generated *g = generated(i, sets[i]);

        for (part = 0; part < 2; part++) {
            /* Of an expanded ML-DSA key what stands first is public. */
            const ferro_kernel_attribute *a = &g->secret.attributes[part < (int)g->secret.count ? part : 0];
            size_t offset = a->type == CKA_VALUE && TYPES[i] == CKK_ML_DSA ? 32 : 0;
            mask_bytes((const uint8_t *)a->value + offset, 16, masked[part]);
            CHECK(found_in_memory(masked[part], 16) > 0);
        }
        OK(load(CKO_PRIVATE_KEY, TYPES[i], sets[i], &g->secret, &private_key));
        OK(load(CKO_PUBLIC_KEY, TYPES[i], sets[i], &g->open, &public_key));
        k->generated_release(g);
        if (TYPES[i] == CKK_ML_KEM) {
            OK(ferro_encapsulate(public_key, ciphertext, secret));
            OK(ferro_decapsulate(private_key, ciphertext, private_key->set->output_length, secret));
        } else {
            sign(&ways[i], private_key, "data", 4, out, &n);
        }
        k->key_release(private_key);
        k->key_release(public_key);
        k->stop();
        for (part = 0; part < 2; part++)
            CHECK(found_in_memory(masked[part], 16) == 0);
    }
    free(out);
}
#endif

#else

void test_postquantum(void)
{
    uint64_t class = CKO_PUBLIC_KEY, type, set = 1;
    uint8_t value[1312] = {0};
    ferro_kernel_key *key = NULL;
    int i;

    k = ferro_software_kernel();
    for (i = 0; i < 3; i++) {
        ferro_kernel_attribute attributes[] = {number(CKA_CLASS, &class), number(CKA_KEY_TYPE, &type),
                                               number(CKA_PARAMETER_SET, &set), attribute(CKA_VALUE, value, sizeof(value))};
        ferro_kernel_material material = {attributes, 4};
        CK_MECHANISM m = plain(GENERATORS[i]);
        ferro_kernel_generated *g;

        type = TYPES[i];
        IS(k->serves(CKF_GENERATE_KEY_PAIR, GENERATORS[i]), CKR_MECHANISM_INVALID);
        IS(k->generate(&m, &material, &g), CKR_FUNCTION_NOT_SUPPORTED);
        IS(k->key_load(&material, &key), CKR_FUNCTION_NOT_SUPPORTED);
    }
    IS(k->serves(CKF_SIGN, CKM_ML_DSA), CKR_MECHANISM_INVALID);
    IS(k->serves(CKF_SIGN, CKM_SLH_DSA), CKR_MECHANISM_INVALID);
    IS(k->serves(CKF_ENCAPSULATE, CKM_ML_KEM), CKR_MECHANISM_INVALID);
}

#endif
