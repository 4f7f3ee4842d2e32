/* The parameter sets of ML-DSA, ML-KEM and SLH-DSA (FIPS 203, 204, 205), a row each. */
#include <openssl/err.h>

#include "kernel.h"

#define ML_DSA(set, public_length, private_length, signature) \
    {CKK_ML_DSA, CKP_ML_DSA_##set, "ML-DSA-" #set, public_length, private_length, 32, signature}
#define ML_KEM(set, public_length, private_length, ciphertext) \
    {CKK_ML_KEM, CKP_ML_KEM_##set, "ML-KEM-" #set, public_length, private_length, 64, ciphertext}
/* `n` is the security parameter: public keys have 2n bytes, private ones 4n. */
#define SLH_DSA(set, name, n, signature) {CKK_SLH_DSA, CKP_SLH_DSA_##set, "SLH-DSA-" name, 2 * n, 4 * n, 0, signature}

static const ferro_parameter_set sets[] = {
    ML_DSA(44, 1312, 2560, 2420),
    ML_DSA(65, 1952, 4032, 3309),
    ML_DSA(87, 2592, 4896, 4627),
    ML_KEM(512, 800, 1632, 768),
    ML_KEM(768, 1184, 2400, 1088),
    ML_KEM(1024, 1568, 3168, 1568),
    SLH_DSA(SHA2_128S, "SHA2-128s", 16, 7856),
    SLH_DSA(SHAKE_128S, "SHAKE-128s", 16, 7856),
    SLH_DSA(SHA2_128F, "SHA2-128f", 16, 17088),
    SLH_DSA(SHAKE_128F, "SHAKE-128f", 16, 17088),
    SLH_DSA(SHA2_192S, "SHA2-192s", 24, 16224),
    SLH_DSA(SHAKE_192S, "SHAKE-192s", 24, 16224),
    SLH_DSA(SHA2_192F, "SHA2-192f", 24, 35664),
    SLH_DSA(SHAKE_192F, "SHAKE-192f", 24, 35664),
    SLH_DSA(SHA2_256S, "SHA2-256s", 32, 29792),
    SLH_DSA(SHAKE_256S, "SHAKE-256s", 32, 29792),
    SLH_DSA(SHA2_256F, "SHA2-256f", 32, 49856),
    SLH_DSA(SHAKE_256F, "SHAKE-256f", 32, 49856),
};

enum { SETS = sizeof(sets) / sizeof(sets[0]) };

const ferro_parameter_set *ferro_parameter_set_find(CK_KEY_TYPE type, CK_ULONG number)
{
    size_t i;

    for (i = 0; i < SETS; i++)
        if (sets[i].type == type && sets[i].number == number)
            return &sets[i];
    return NULL;
}

#if FERRO_POSTQUANTUM
EVP_SIGNATURE *ferro_evp_signature(const ferro_parameter_set *set)
{
    static _Atomic(EVP_SIGNATURE *) fetched[SETS];
    _Atomic(EVP_SIGNATURE *) *place = &fetched[set - sets];
    EVP_SIGNATURE *known = atomic_load_explicit(place, memory_order_acquire), *none = NULL;

    if (known != NULL)
        return known;
    if ((known = EVP_SIGNATURE_fetch(ferro_library(), set->name, NULL)) == NULL) {
        ERR_clear_error();
        return NULL;
    }
    if (!atomic_compare_exchange_strong(place, &none, known)) {
        EVP_SIGNATURE_free(known);
        known = none;
    }
    return known;
}
#endif
