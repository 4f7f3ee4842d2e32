/* Keys: parsed once from an object's attributes, shared by reference, wiped with the last one. */
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <string.h>

#include "kernel.h"

enum { SMALLEST_RSA = 512, LARGEST_RSA = 16384, LARGEST_SECRET = 16 * 1024 * 1024 };

const ferro_kernel_attribute *ferro_attribute(const ferro_kernel_material *material, CK_ATTRIBUTE_TYPE type)
{
    size_t i;

    for (i = 0; i < material->count; i++)
        if (material->attributes[i].type == type)
            return &material->attributes[i];
    return NULL;
}

int ferro_attribute_ulong(const ferro_kernel_material *material, CK_ATTRIBUTE_TYPE type, CK_ULONG *value)
{
    const ferro_kernel_attribute *a = ferro_attribute(material, type);
    const uint8_t *bytes;
    uint64_t number = 0;
    int i;

    if (a == NULL || a->length != 8)
        return -1;
    bytes = a->value;
    for (i = 7; i >= 0; i--)
        number = number << 8 | bytes[i];
    *value = (CK_ULONG)number;
    return *value == number ? 0 : -1;
}

/* An attribute that is there and not empty. */
static const ferro_kernel_attribute *filled(const ferro_kernel_material *material, CK_ATTRIBUTE_TYPE type)
{
    const ferro_kernel_attribute *a = ferro_attribute(material, type);

    return a != NULL && a->length != 0 ? a : NULL;
}

static CK_RV load_secret(ferro_kernel_key *key, const ferro_kernel_material *material)
{
    const ferro_kernel_attribute *value = ferro_attribute(material, CKA_VALUE);

    if (value == NULL)
        return CKR_FUNCTION_NOT_SUPPORTED;
    if (value->length > LARGEST_SECRET)
        return CKR_KEY_SIZE_RANGE;
    /* One byte more, so that an empty key has an address too. */
    if ((key->value = ferro_secret_alloc(value->length + 1)) == NULL)
        return CKR_HOST_MEMORY;
    if (value->length != 0)
        memcpy(key->value, value->value, value->length);
    key->length = value->length;
    key->kind = KEY_SECRET;
    key->is_private = 1;
    return CKR_OK;
}

/* Big integers for libcrypto, and their wiping. */
typedef struct {
    OSSL_PARAM_BLD *build;
    BIGNUM *numbers[8];
    int used;
} numbers;

static int push_number(numbers *n, const char *name, const ferro_kernel_attribute *a)
{
    BIGNUM *number;

    if (a->length > LARGEST_RSA / 8 + 8 || (number = BN_bin2bn(a->value, (int)a->length, NULL)) == NULL)
        return 0;
    n->numbers[n->used++] = number;
    return OSSL_PARAM_BLD_push_BN(n->build, name, number);
}

static EVP_PKEY *from_numbers(numbers *n, const char *type, int selection)
{
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(n->build);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(ferro_library(), type, NULL);
    EVP_PKEY *pkey = NULL;

    if (params == NULL || context == NULL || EVP_PKEY_fromdata_init(context) <= 0
        || EVP_PKEY_fromdata(context, &pkey, selection, params) <= 0)
        pkey = NULL;
    EVP_PKEY_CTX_free(context);
    OSSL_PARAM_free(params);
    return pkey;
}

static void free_numbers(numbers *n)
{
    while (n->used > 0)
        BN_clear_free(n->numbers[--n->used]);
    OSSL_PARAM_BLD_free(n->build);
}

static CK_RV load_rsa(ferro_kernel_key *key, const ferro_kernel_material *material, int is_private)
{
    static const struct {
        CK_ATTRIBUTE_TYPE type;
        const char *name;
    } crt[] = {
        {CKA_PRIME_1, OSSL_PKEY_PARAM_RSA_FACTOR1},      {CKA_PRIME_2, OSSL_PKEY_PARAM_RSA_FACTOR2},
        {CKA_EXPONENT_1, OSSL_PKEY_PARAM_RSA_EXPONENT1}, {CKA_EXPONENT_2, OSSL_PKEY_PARAM_RSA_EXPONENT2},
        {CKA_COEFFICIENT, OSSL_PKEY_PARAM_RSA_COEFFICIENT1},
    };
    const ferro_kernel_attribute *n = filled(material, CKA_MODULUS), *e = filled(material, CKA_PUBLIC_EXPONENT);
    const ferro_kernel_attribute *d = filled(material, CKA_PRIVATE_EXPONENT);
    numbers build = {0};
    size_t i, parts = 0;
    int ok;

    /* Without the public exponent there is no blinding, and no check of what leaves. */
    if (n == NULL || e == NULL || (is_private && d == NULL))
        return CKR_FUNCTION_NOT_SUPPORTED;
    if ((build.build = OSSL_PARAM_BLD_new()) == NULL)
        return ferro_failed(CKR_HOST_MEMORY);
    ok = push_number(&build, OSSL_PKEY_PARAM_RSA_N, n) && push_number(&build, OSSL_PKEY_PARAM_RSA_E, e);
    if (ok && is_private) {
        ok = push_number(&build, OSSL_PKEY_PARAM_RSA_D, d);
        for (i = 0; i < 5; i++)
            parts += filled(material, crt[i].type) != NULL;
        for (i = 0; ok && parts == 5 && i < 5; i++)
            ok = push_number(&build, crt[i].name, filled(material, crt[i].type));
    }
    if (ok)
        key->pkey = from_numbers(&build, "RSA", is_private ? EVP_PKEY_KEYPAIR : EVP_PKEY_PUBLIC_KEY);
    free_numbers(&build);
    if (key->pkey == NULL)
        return ferro_failed(CKR_ATTRIBUTE_VALUE_INVALID);
    key->bits = (size_t)EVP_PKEY_get_bits(key->pkey);
    key->size = (size_t)EVP_PKEY_get_size(key->pkey);
    key->kind = KEY_RSA;
    key->is_private = is_private;
    return key->bits < SMALLEST_RSA || key->bits > LARGEST_RSA ? CKR_KEY_SIZE_RANGE : CKR_OK;
}

static CK_RV load_weierstrass(ferro_kernel_key *key, const ferro_kernel_material *material, int is_private)
{
    const ferro_kernel_attribute *value = filled(material, CKA_VALUE);
    numbers build = {0};
    int ok;

    if (value->length > (size_t)key->curve->order_length + 1)
        return CKR_ATTRIBUTE_VALUE_INVALID;
    if ((build.build = OSSL_PARAM_BLD_new()) == NULL)
        return ferro_failed(CKR_HOST_MEMORY);
    ok = OSSL_PARAM_BLD_push_utf8_string(build.build, OSSL_PKEY_PARAM_GROUP_NAME, key->curve->name, 0)
         && push_number(&build, OSSL_PKEY_PARAM_PRIV_KEY, value);
    if (ok)
        key->pkey = from_numbers(&build, "EC", EVP_PKEY_KEYPAIR);
    free_numbers(&build);
    key->is_private = is_private;
    return key->pkey != NULL ? CKR_OK : ferro_failed(CKR_ATTRIBUTE_VALUE_INVALID);
}

static CK_RV load_curve(ferro_kernel_key *key, const ferro_kernel_material *material, int is_private)
{
    static const uint8_t kinds[] = {
        [CURVE_WEIERSTRASS] = KEY_EC, [CURVE_EDWARDS] = KEY_EDWARDS, [CURVE_MONTGOMERY] = KEY_MONTGOMERY,
    };
    const ferro_kernel_attribute *params = filled(material, CKA_EC_PARAMS), *value = filled(material, CKA_VALUE);
    const ferro_kernel_attribute *point = filled(material, CKA_EC_POINT);
    const uint8_t *bytes;
    size_t length;

    if (params == NULL || (key->curve = ferro_curve_find(params->value, params->length)) == NULL)
        return CKR_FUNCTION_NOT_SUPPORTED;
    key->kind = (ferro_key_kind)kinds[key->curve->form];
    if (is_private && value == NULL)
        return CKR_FUNCTION_NOT_SUPPORTED;
    if (is_private && key->curve->form == CURVE_WEIERSTRASS)
        return load_weierstrass(key, material, is_private);
    if (is_private) {
        key->is_private = 1;
        key->pkey = EVP_PKEY_new_raw_private_key_ex(ferro_library(), key->curve->name, NULL, value->value,
                                                    value->length);
        return key->pkey != NULL ? CKR_OK : ferro_failed(CKR_ATTRIBUTE_VALUE_INVALID);
    }
    if (point == NULL || ferro_curve_point(key->curve, point->value, point->length, &bytes, &length) != 0)
        return CKR_ATTRIBUTE_VALUE_INVALID;
    key->pkey = ferro_curve_public(key->curve, bytes, length);
    return key->pkey != NULL ? CKR_OK : CKR_ATTRIBUTE_VALUE_INVALID;
}

static CK_RV parse(ferro_kernel_key *key, const ferro_kernel_material *material)
{
    CK_ULONG class, type;

    if (ferro_attribute_ulong(material, CKA_CLASS, &class) != 0
        || ferro_attribute_ulong(material, CKA_KEY_TYPE, &type) != 0)
        return CKR_ARGUMENTS_BAD;
    key->type = type;
    if (class == CKO_SECRET_KEY)
        return load_secret(key, material);
    if (class != CKO_PRIVATE_KEY && class != CKO_PUBLIC_KEY)
        return CKR_FUNCTION_NOT_SUPPORTED;
    switch (type) {
    case CKK_RSA:
        return load_rsa(key, material, class == CKO_PRIVATE_KEY);
    case CKK_EC:
    case CKK_EC_EDWARDS:
    case CKK_EC_MONTGOMERY:
        return load_curve(key, material, class == CKO_PRIVATE_KEY);
    case CKK_ML_DSA:
    case CKK_ML_KEM:
    case CKK_SLH_DSA:
        return ferro_postquantum_load(key, material, class == CKO_PRIVATE_KEY);
    default:
        return CKR_FUNCTION_NOT_SUPPORTED;
    }
}

static void destroy(ferro_kernel_key *key)
{
    ferro_objects_remove_key(key);
    while (key->idle != NULL) {
        ferro_kernel_op *op = key->idle;
        key->idle = op->idle_next;
        ferro_op_destroy(op);
    }
    EVP_PKEY_free(key->pkey);
    ferro_free(key->value);
    ferro_mutex_destroy(&key->lock);
    ferro_free(key);
}

CK_RV ferro_key_load(const ferro_kernel_material *material, ferro_kernel_key **out)
{
    ferro_kernel_key *key;
    CK_RV rv = ferro_enter();

    *out = NULL;
    if (rv != CKR_OK)
        return rv;
    if ((key = ferro_alloc(sizeof(*key))) == NULL)
        return CKR_HOST_MEMORY;
    memset(key, 0, sizeof(*key));
    atomic_init(&key->references, 1);
    key->epoch = ferro_current_epoch();
    ferro_mutex_init(&key->lock);
    ferro_objects_add_key(key);
    if ((rv = parse(key, material)) != CKR_OK) {
        destroy(key);
        return rv;
    }
    *out = key;
    return CKR_OK;
}

void ferro_key_retain(ferro_kernel_key *key)
{
    atomic_fetch_add_explicit(&key->references, 1, memory_order_relaxed);
}

void ferro_key_release(ferro_kernel_key *key)
{
    /* ferro_enter: in a child the parent's material goes before anything else happens. */
    if (key == NULL || ferro_enter() != CKR_OK)
        return;
    if (atomic_fetch_sub_explicit(&key->references, 1, memory_order_acq_rel) == 1)
        destroy(key);
}
