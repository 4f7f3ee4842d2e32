/* Curves by their CKA_EC_PARAMS, and points in and out of their wrappings. */
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <string.h>

#include "kernel.h"

#define OID(...) sizeof((const uint8_t[]){__VA_ARGS__}), {__VA_ARGS__}

static const ferro_curve curves[FERRO_CURVES] = {
    {"prime256v1", CURVE_WEIERSTRASS, 256, 32, 65,
     OID(0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07), NULL},
    {"secp384r1", CURVE_WEIERSTRASS, 384, 48, 97, OID(0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22), NULL},
    {"secp521r1", CURVE_WEIERSTRASS, 521, 66, 133, OID(0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23), NULL},
    {"secp224r1", CURVE_WEIERSTRASS, 224, 28, 57, OID(0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x21), NULL},
    {"secp256k1", CURVE_WEIERSTRASS, 256, 32, 65, OID(0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a), NULL},
    {"brainpoolP256r1", CURVE_WEIERSTRASS, 256, 32, 65,
     OID(0x06, 0x09, 0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x07), NULL},
    {"brainpoolP320r1", CURVE_WEIERSTRASS, 320, 40, 81,
     OID(0x06, 0x09, 0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x09), NULL},
    {"brainpoolP384r1", CURVE_WEIERSTRASS, 384, 48, 97,
     OID(0x06, 0x09, 0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x0b), NULL},
    {"brainpoolP512r1", CURVE_WEIERSTRASS, 512, 64, 129,
     OID(0x06, 0x09, 0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x0d), NULL},
    {"ED25519", CURVE_EDWARDS, 255, 32, 32, OID(0x06, 0x03, 0x2b, 0x65, 0x70), "edwards25519"},
    {"ED448", CURVE_EDWARDS, 448, 57, 57, OID(0x06, 0x03, 0x2b, 0x65, 0x71), "edwards448"},
    {"X25519", CURVE_MONTGOMERY, 255, 32, 32, OID(0x06, 0x03, 0x2b, 0x65, 0x6e), "curve25519"},
    {"X448", CURVE_MONTGOMERY, 448, 56, 56, OID(0x06, 0x03, 0x2b, 0x65, 0x6f), "curve448"},
};

size_t ferro_curve_index(const ferro_curve *curve)
{
    return (size_t)(curve - curves);
}

const ferro_curve *ferro_curve_find(const uint8_t *params, size_t length)
{
    size_t i;

    for (i = 0; i < FERRO_CURVES; i++) {
        const ferro_curve *c = &curves[i];
        if (length == c->oid_length && memcmp(params, c->oid, length) == 0)
            return c;
        if (c->alias != NULL && length == strlen(c->alias) + 2 && params[0] == 0x13 && params[1] == length - 2
            && memcmp(params + 2, c->alias, length - 2) == 0)
            return c;
    }
    return NULL;
}

static int fits(const ferro_curve *curve, size_t length)
{
    return length == curve->public_length
           || (curve->form == CURVE_WEIERSTRASS && length == (size_t)(curve->public_length + 1) / 2);
}

int ferro_curve_point(const ferro_curve *curve, const uint8_t *value, size_t length, const uint8_t **point,
                      size_t *point_length)
{
    size_t header = 0;

    if (length > 2 && value[0] == 0x04 && value[1] < 0x80 && value[1] == length - 2)
        header = 2;
    else if (length > 3 && value[0] == 0x04 && value[1] == 0x81 && value[2] >= 0x80 && value[2] == length - 3)
        header = 3;
    if (header != 0 && fits(curve, length - header)) {
        *point = value + header;
        *point_length = length - header;
        return 0;
    }
    if (!fits(curve, length))
        return -1;
    *point = value;
    *point_length = length;
    return 0;
}

EVP_PKEY *ferro_curve_public(const ferro_curve *curve, const uint8_t *point, size_t length)
{
    OSSL_PARAM params[3];
    EVP_PKEY_CTX *context;
    EVP_PKEY *key = NULL;

    if (curve->form != CURVE_WEIERSTRASS) {
        if ((key = EVP_PKEY_new_raw_public_key_ex(ferro_library(), curve->name, NULL, point, length)) == NULL)
            ERR_clear_error();
        return key;
    }
    params[0] = OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char *)curve->name, 0);
    params[1] = OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, (void *)point, length);
    params[2] = OSSL_PARAM_construct_end();
    context = EVP_PKEY_CTX_new_from_name(ferro_library(), "EC", NULL);
    if (context == NULL || EVP_PKEY_fromdata_init(context) <= 0
        || EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, params) <= 0)
        key = NULL;
    EVP_PKEY_CTX_free(context);
    ERR_clear_error();
    return key;
}
