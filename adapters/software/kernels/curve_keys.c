/*
 * New keys of a curve in Weierstrass form. EVP looks its own tables through by name for each key, under locks that all
 * threads share, which costs a third as much as the key itself. The functions of before EVP compute with the same code;
 * where a libcrypto is built without them, EVP does it all (generate.c).
 */
#define OPENSSL_SUPPRESS_DEPRECATED 1
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/objects.h>

#include "kernel.h"

#if OPENSSL_VERSION_NUMBER < 0x40000000L && !defined(OPENSSL_NO_DEPRECATED_3_0) && !defined(OPENSSL_NO_EC)

enum { LANES = 8 };

/* Setting a group up costs about as much as a key, so each lane keeps an empty key of each curve. Threads are dealt out
 * over the lanes; one that finds the place empty makes another. */
static struct {
    _Alignas(128) _Atomic(EC_KEY *) idle[FERRO_CURVES];
} lanes[LANES];
static atomic_uint threads;
static _Thread_local unsigned lane; /* from 1 */

static _Atomic(EC_KEY *) *place_of(const ferro_curve *curve)
{
    if (lane == 0)
        lane = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) % LANES + 1;
    return &lanes[lane - 1].idle[ferro_curve_index(curve)];
}

static EC_KEY *take(const ferro_curve *curve)
{
    EC_KEY *key = atomic_exchange_explicit(place_of(curve), NULL, memory_order_acquire);
    EC_GROUP *group;

    if (key != NULL)
        return key;
    group = EC_GROUP_new_by_curve_name_ex(ferro_library(), NULL, OBJ_sn2nid(curve->name));
    key = EC_KEY_new_ex(ferro_library(), NULL);
    if (group == NULL || key == NULL || !EC_KEY_set_group(key, group)) {
        EC_KEY_free(key);
        key = NULL;
    }
    EC_GROUP_free(group);
    return key;
}

/* Put it back without its private value, which is wiped. */
static void give(const ferro_curve *curve, EC_KEY *key)
{
    (void)EC_KEY_set_private_key(key, NULL); /* says 0 when it has cleared it */
    if (EC_KEY_get0_private_key(key) != NULL) {
        EC_KEY_free(key);
        return;
    }
    EC_KEY_free(atomic_exchange_explicit(place_of(curve), key, memory_order_acq_rel));
}

CK_RV ferro_curve_generate(const ferro_curve *curve, uint8_t *value, uint8_t *point)
{
    EC_KEY *key = take(curve);
    int length = curve->order_length, ok;

    if (key == NULL) {
        (void)ferro_failed(CKR_OK);
        return CKR_FUNCTION_NOT_SUPPORTED;
    }
    ok = EC_KEY_generate_key(key) && BN_bn2binpad(EC_KEY_get0_private_key(key), value, length) == length
         && EC_POINT_point2oct(EC_KEY_get0_group(key), EC_KEY_get0_public_key(key), POINT_CONVERSION_UNCOMPRESSED, point,
                               curve->public_length, NULL) == curve->public_length;
    give(curve, key);
    return ok ? CKR_OK : ferro_failed(CKR_FUNCTION_FAILED);
}

#else

CK_RV ferro_curve_generate(const ferro_curve *curve, uint8_t *value, uint8_t *point)
{
    (void)curve, (void)value, (void)point;
    return CKR_FUNCTION_NOT_SUPPORTED;
}

#endif
