/*
 * Key generation. The parts come out as attribute values in the secret zone: big integers without
 * leading zeros for RSA, private EC values as long as the order, points as the standard has them
 * (an OCTET STRING for EC, plain bytes for Edwards and Montgomery).
 */
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/rsa.h>
#include <string.h>

#include "kernel.h"

enum {
    PARTS = 10,
    ROOM = 12 * 1024, /* bytes: the parts of the largest RSA key */
    ROOM_CURVE = 512, /* bytes: those of a key of any curve */
    SMALLEST_RSA = 1024,
    LARGEST_RSA = 8192,
    LARGEST_SECRET = 4096,
    LARGEST_KEPT = 1024 * 1024,
    LARGEST_POINT = 133
};

/* One block of the secret zone for everything that a generation gives. */
typedef struct {
    ferro_kernel_generated result; /* first: it is what the caller holds */
    ferro_kernel_attribute *secret, *open;
    size_t secret_parts, open_parts; /* there is room for */
    size_t used, room;
    uint8_t *bytes;
} made;

/* A key that is kept takes the memory that it needs, not that of the largest. */
static made *make(size_t secret, size_t open, size_t room)
{
    size_t heads = (secret + open) * sizeof(ferro_kernel_attribute);
    made *m = ferro_secret_alloc(sizeof(*m) + heads + room);

    if (m == NULL)
        return NULL;
    memset(m, 0, sizeof(*m));
    m->secret = (ferro_kernel_attribute *)(m + 1);
    m->open = m->secret + secret;
    m->secret_parts = secret;
    m->open_parts = open;
    m->bytes = (uint8_t *)(m->secret + secret + open);
    m->room = room;
    m->result.secret.attributes = m->secret;
    m->result.open.attributes = m->open;
    return m;
}

static uint8_t *append(made *m, int open, CK_ATTRIBUTE_TYPE type, size_t length)
{
    ferro_kernel_material *to = open ? &m->result.open : &m->result.secret;
    ferro_kernel_attribute *a = open ? &m->open[to->count] : &m->secret[to->count];
    uint8_t *value = m->bytes + m->used;

    if (to->count == (open ? m->open_parts : m->secret_parts) || m->room - m->used < length)
        return NULL;
    a->type = type;
    a->value = value;
    a->length = length;
    m->used += length;
    to->count++;
    return value;
}

static int append_bytes(made *m, int open, CK_ATTRIBUTE_TYPE type, const void *bytes, size_t length)
{
    uint8_t *value = append(m, open, type, length);

    if (value == NULL)
        return 0;
    memcpy(value, bytes, length);
    return 1;
}

/* A number of the key; `length` 0 for no leading zeros. */
static int append_number(made *m, int open, CK_ATTRIBUTE_TYPE type, const EVP_PKEY *pkey, const char *name,
                         size_t length)
{
    BIGNUM *number = NULL;
    uint8_t *value;
    int ok = 0;

    if (EVP_PKEY_get_bn_param(pkey, name, &number)) {
        if (length == 0)
            length = (size_t)BN_num_bytes(number);
        value = append(m, open, type, length);
        ok = value != NULL && BN_bn2binpad(number, value, (int)length) == (int)length;
    }
    BN_clear_free(number);
    return ok;
}

static CK_RV generate_secret(made *m, const ferro_kernel_material *material, int aes)
{
    CK_ULONG length;
    uint8_t *value;

    if (ferro_attribute_ulong(material, CKA_VALUE_LEN, &length) != 0)
        return CKR_TEMPLATE_INCOMPLETE;
    if (aes ? length != 16 && length != 24 && length != 32 : length == 0 || length > LARGEST_SECRET)
        return aes ? CKR_ATTRIBUTE_VALUE_INVALID : CKR_KEY_SIZE_RANGE;
    if ((value = append(m, 0, CKA_VALUE, length)) == NULL)
        return CKR_HOST_MEMORY;
    return ferro_random_private(value, length);
}

static EVP_PKEY *generate_rsa_key(CK_ULONG bits, const BIGNUM *exponent)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(ferro_library(), "RSA", NULL);
    BIGNUM *copy = BN_dup(exponent);
    EVP_PKEY *pkey = NULL;

    if (context == NULL || copy == NULL || EVP_PKEY_keygen_init(context) <= 0
        || EVP_PKEY_CTX_set_rsa_keygen_bits(context, (int)bits) <= 0
        || EVP_PKEY_CTX_set1_rsa_keygen_pubexp(context, copy) <= 0 || EVP_PKEY_generate(context, &pkey) <= 0)
        pkey = NULL;
    BN_free(copy);
    EVP_PKEY_CTX_free(context);
    return pkey;
}

static CK_RV generate_rsa(made *m, const ferro_kernel_material *material)
{
    static const struct {
        CK_ATTRIBUTE_TYPE type;
        const char *name;
        int open;
    } parts[] = {
        {CKA_MODULUS, OSSL_PKEY_PARAM_RSA_N, 1},           {CKA_PUBLIC_EXPONENT, OSSL_PKEY_PARAM_RSA_E, 1},
        {CKA_MODULUS, OSSL_PKEY_PARAM_RSA_N, 0},           {CKA_PUBLIC_EXPONENT, OSSL_PKEY_PARAM_RSA_E, 0},
        {CKA_PRIVATE_EXPONENT, OSSL_PKEY_PARAM_RSA_D, 0},  {CKA_PRIME_1, OSSL_PKEY_PARAM_RSA_FACTOR1, 0},
        {CKA_PRIME_2, OSSL_PKEY_PARAM_RSA_FACTOR2, 0},     {CKA_EXPONENT_1, OSSL_PKEY_PARAM_RSA_EXPONENT1, 0},
        {CKA_EXPONENT_2, OSSL_PKEY_PARAM_RSA_EXPONENT2, 0},
        {CKA_COEFFICIENT, OSSL_PKEY_PARAM_RSA_COEFFICIENT1, 0},
    };
    const ferro_kernel_attribute *e = ferro_attribute(material, CKA_PUBLIC_EXPONENT);
    static const uint8_t f4[] = {1, 0, 1};
    BIGNUM *exponent;
    EVP_PKEY *pkey;
    CK_ULONG bits;
    size_t i;
    int ok = 1;

    if (ferro_attribute_ulong(material, CKA_MODULUS_BITS, &bits) != 0)
        return CKR_TEMPLATE_INCOMPLETE;
    if (bits < SMALLEST_RSA || bits > LARGEST_RSA)
        return CKR_KEY_SIZE_RANGE;
    if (e != NULL && e->length > 32)
        return CKR_ATTRIBUTE_VALUE_INVALID;
    exponent = e != NULL ? BN_bin2bn(e->value, (int)e->length, NULL) : BN_bin2bn(f4, sizeof(f4), NULL);
    if (exponent == NULL)
        return ferro_failed(CKR_HOST_MEMORY);
    if (!BN_is_odd(exponent) || BN_is_one(exponent)) {
        BN_free(exponent);
        return CKR_ATTRIBUTE_VALUE_INVALID;
    }
    pkey = generate_rsa_key(bits, exponent);
    BN_free(exponent);
    if (pkey == NULL)
        return ferro_failed(CKR_FUNCTION_FAILED);
    for (i = 0; ok && i < sizeof(parts) / sizeof(parts[0]); i++)
        ok = append_number(m, parts[i].open, parts[i].type, pkey, parts[i].name, 0);
    EVP_PKEY_free(pkey);
    return ok ? CKR_OK : ferro_failed(CKR_FUNCTION_FAILED);
}

/* A new key, or for `parameters` only a group, of an EC curve by its name. */
static EVP_PKEY *generate_by_name(const ferro_curve *curve, int parameters)
{
    const char *type = curve->form == CURVE_WEIERSTRASS ? "EC" : curve->name;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(ferro_library(), type, NULL);
    OSSL_PARAM params[2];
    EVP_PKEY *pkey = NULL;

    params[0] = OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char *)curve->name, 0);
    params[1] = OSSL_PARAM_construct_end();
    if (context == NULL
        || (parameters ? EVP_PKEY_paramgen_init(context) : EVP_PKEY_keygen_init(context)) <= 0
        || (curve->form == CURVE_WEIERSTRASS && EVP_PKEY_CTX_set_params(context, params) <= 0)
        || EVP_PKEY_generate(context, &pkey) <= 0)
        pkey = NULL;
    EVP_PKEY_CTX_free(context);
    return pkey;
}

/*
 * Setting a group up from its name costs about as much as a P-256 key, so the group of each curve
 * is kept, and keys are made after it.
 */
static EVP_PKEY *group_of(const ferro_curve *curve)
{
    static _Atomic(EVP_PKEY *) groups[FERRO_CURVES];
    _Atomic(EVP_PKEY *) *kept = &groups[ferro_curve_index(curve)];
    EVP_PKEY *known = atomic_load_explicit(kept, memory_order_acquire), *none = NULL;

    if (known != NULL || (known = generate_by_name(curve, 1)) == NULL)
        return known;
    if (!atomic_compare_exchange_strong(kept, &none, known)) {
        EVP_PKEY_free(known);
        known = none;
    }
    return known;
}

static EVP_PKEY *generate_curve_key(const ferro_curve *curve)
{
    EVP_PKEY *group, *pkey = NULL;
    EVP_PKEY_CTX *context;

    if (curve->form != CURVE_WEIERSTRASS)
        return generate_by_name(curve, 0);
    if ((group = group_of(curve)) == NULL)
        return NULL;
    context = EVP_PKEY_CTX_new_from_pkey(ferro_library(), group, NULL);
    if (context == NULL || EVP_PKEY_keygen_init(context) <= 0 || EVP_PKEY_generate(context, &pkey) <= 0)
        pkey = NULL;
    EVP_PKEY_CTX_free(context);
    return pkey;
}

/* The public point, inside an OCTET STRING for EC. */
static int append_point(made *m, const ferro_curve *curve, const uint8_t *bytes)
{
    uint8_t point[LARGEST_POINT + 3];
    size_t header = 0;

    if (curve->form == CURVE_WEIERSTRASS) {
        point[header++] = 0x04;
        if (curve->public_length >= 0x80)
            point[header++] = 0x81;
        point[header++] = (uint8_t)curve->public_length;
    }
    memcpy(point + header, bytes, curve->public_length);
    return append_bytes(m, 1, CKA_EC_POINT, point, header + curve->public_length);
}

/* The way that every curve and every libcrypto knows. */
static CK_RV generate_by_evp(const ferro_curve *curve, uint8_t *value, uint8_t *point)
{
    size_t length = curve->order_length, point_length = curve->public_length;
    EVP_PKEY *pkey = generate_curve_key(curve);
    BIGNUM *number = NULL;
    int ok;

    if (pkey == NULL)
        return ferro_failed(CKR_FUNCTION_FAILED);
    if (curve->form == CURVE_WEIERSTRASS)
        ok = EVP_PKEY_get_octet_string_param(pkey, OSSL_PKEY_PARAM_PUB_KEY, point, point_length, &point_length)
             && EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_PRIV_KEY, &number)
             && BN_bn2binpad(number, value, (int)length) == (int)length;
    else
        ok = EVP_PKEY_get_raw_public_key(pkey, point, &point_length)
             && EVP_PKEY_get_raw_private_key(pkey, value, &length) && length == curve->order_length;
    BN_clear_free(number);
    EVP_PKEY_free(pkey);
    return ok && point_length == curve->public_length ? CKR_OK : ferro_failed(CKR_FUNCTION_FAILED);
}

static CK_RV generate_curve(made *m, const ferro_kernel_material *material, ferro_curve_form form)
{
    const ferro_kernel_attribute *params = ferro_attribute(material, CKA_EC_PARAMS);
    const ferro_curve *curve;
    uint8_t point[LARGEST_POINT], *value;
    CK_RV rv;

    if (params == NULL)
        return CKR_TEMPLATE_INCOMPLETE;
    if ((curve = ferro_curve_find(params->value, params->length)) == NULL || curve->form != form)
        return CKR_FUNCTION_NOT_SUPPORTED;
    if (!append_bytes(m, 1, CKA_EC_PARAMS, params->value, params->length)
        || !append_bytes(m, 0, CKA_EC_PARAMS, params->value, params->length)
        || (value = append(m, 0, CKA_VALUE, curve->order_length)) == NULL)
        return CKR_FUNCTION_FAILED;
    rv = form == CURVE_WEIERSTRASS ? ferro_curve_generate(curve, value, point) : CKR_FUNCTION_NOT_SUPPORTED;
    if (rv == CKR_FUNCTION_NOT_SUPPORTED)
        rv = generate_by_evp(curve, value, point);
    if (rv != CKR_OK)
        return rv;
    return append_point(m, curve, point) ? CKR_OK : CKR_FUNCTION_FAILED;
}

#if FERRO_POSTQUANTUM
/* The parameter set of a template, NULL for one that is not known. */
static const ferro_parameter_set *set_of(CK_MECHANISM_TYPE mechanism, const ferro_kernel_material *material)
{
    CK_KEY_TYPE type = mechanism == CKM_ML_DSA_KEY_PAIR_GEN ? CKK_ML_DSA
                       : mechanism == CKM_ML_KEM_KEY_PAIR_GEN ? CKK_ML_KEM : CKK_SLH_DSA;
    CK_ULONG number;

    return ferro_attribute_ulong(material, CKA_PARAMETER_SET, &number) == 0
               ? ferro_parameter_set_find(type, number) : NULL;
}

/* libcrypto's `part` of a key as an attribute of `length` bytes. */
static int append_part(made *m, int open, CK_ATTRIBUTE_TYPE type, const EVP_PKEY *pkey, const char *part, size_t length)
{
    uint8_t *value = append(m, open, type, length);
    size_t size = 0;

    return value != NULL && EVP_PKEY_get_octet_string_param(pkey, part, value, length, &size) && size == length;
}

/* ML-DSA, ML-KEM and SLH-DSA: the parameter set says everything. */
static CK_RV generate_postquantum(made *m, const ferro_parameter_set *set)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(ferro_library(), set->name, NULL);
    EVP_PKEY *pkey = NULL;
    int ok;

    ok = context != NULL && EVP_PKEY_keygen_init(context) > 0 && EVP_PKEY_generate(context, &pkey) > 0
         && append_part(m, 1, CKA_VALUE, pkey, OSSL_PKEY_PARAM_PUB_KEY, set->public_length)
         && (set->seed_length == 0
             || append_part(m, 0, CKA_SEED, pkey, OSSL_PKEY_PARAM_ML_DSA_SEED, set->seed_length))
         && append_part(m, 0, CKA_VALUE, pkey, OSSL_PKEY_PARAM_PRIV_KEY, set->private_length);
    EVP_PKEY_free(pkey);
    EVP_PKEY_CTX_free(context);
    return ok ? CKR_OK : ferro_failed(CKR_FUNCTION_FAILED);
}
#endif

static CK_RV fill(made *m, CK_MECHANISM_TYPE mechanism, const ferro_kernel_material *material)
{
    switch (mechanism) {
    case CKM_AES_KEY_GEN:
        return generate_secret(m, material, 1);
    case CKM_GENERIC_SECRET_KEY_GEN:
        return generate_secret(m, material, 0);
    case CKM_RSA_PKCS_KEY_PAIR_GEN:
        return generate_rsa(m, material);
    case CKM_EC_KEY_PAIR_GEN:
        return generate_curve(m, material, CURVE_WEIERSTRASS);
    case CKM_EC_EDWARDS_KEY_PAIR_GEN:
        return generate_curve(m, material, CURVE_EDWARDS);
    case CKM_EC_MONTGOMERY_KEY_PAIR_GEN:
        return generate_curve(m, material, CURVE_MONTGOMERY);
#if FERRO_POSTQUANTUM
    case CKM_ML_DSA_KEY_PAIR_GEN:
    case CKM_ML_KEM_KEY_PAIR_GEN:
    case CKM_SLH_DSA_KEY_PAIR_GEN: {
        const ferro_parameter_set *set = set_of(mechanism, material);
        return set != NULL ? generate_postquantum(m, set) : CKR_FUNCTION_NOT_SUPPORTED;
    }
#endif
    default:
        return CKR_FUNCTION_NOT_SUPPORTED;
    }
}

static made *room_for(CK_MECHANISM_TYPE mechanism, const ferro_kernel_material *material)
{
    CK_ULONG length;

    switch (mechanism) {
    case CKM_AES_KEY_GEN:
    case CKM_GENERIC_SECRET_KEY_GEN:
        if (ferro_attribute_ulong(material, CKA_VALUE_LEN, &length) != 0 || length > LARGEST_SECRET)
            length = 0; /* what is wrong with it is said by the one who makes the key */
        return make(1, 0, length);
    case CKM_RSA_PKCS_KEY_PAIR_GEN:
        return make(PARTS, PARTS, ROOM);
#if FERRO_POSTQUANTUM
    case CKM_ML_DSA_KEY_PAIR_GEN:
    case CKM_ML_KEM_KEY_PAIR_GEN:
    case CKM_SLH_DSA_KEY_PAIR_GEN: {
        const ferro_parameter_set *set = set_of(mechanism, material);
        return make(2, 1, set == NULL ? 0 : (size_t)set->public_length + set->seed_length + set->private_length);
    }
#endif
    default:
        return make(2, 2, ROOM_CURVE);
    }
}

CK_RV ferro_generate(const CK_MECHANISM *mechanism, const ferro_kernel_material *material,
                     ferro_kernel_generated **generated)
{
    CK_RV rv = ferro_enter();
    made *m;

    *generated = NULL;
    if (rv != CKR_OK)
        return rv;
    if (mechanism->ulParameterLen != 0)
        return CKR_MECHANISM_PARAM_INVALID;
    if ((m = room_for(mechanism->mechanism, material)) == NULL)
        return CKR_HOST_MEMORY;
    if ((rv = fill(m, mechanism->mechanism, material)) != CKR_OK) {
        ferro_free(m);
        return rv;
    }
    *generated = &m->result;
    return CKR_OK;
}

/* Room for a shared secret, and where it goes. */
static made *make_shared(const CK_MECHANISM *mechanism, uint8_t **secret, CK_RV *rv)
{
    made *m;

    if (mechanism->mechanism != CKM_ML_KEM || mechanism->ulParameterLen != 0) {
        *rv = mechanism->mechanism != CKM_ML_KEM ? CKR_MECHANISM_INVALID : CKR_MECHANISM_PARAM_INVALID;
        return NULL;
    }
    if ((m = make(1, 0, FERRO_SHARED_SECRET)) == NULL) {
        *rv = CKR_HOST_MEMORY;
        return NULL;
    }
    *secret = append(m, 0, CKA_VALUE, FERRO_SHARED_SECRET);
    return m;
}

static CK_RV give_shared(made *m, CK_RV rv, ferro_kernel_generated **generated)
{
    if (rv == CKR_OK)
        *generated = &m->result;
    else
        ferro_free(m);
    return rv;
}

CK_RV ferro_encapsulate_key(const CK_MECHANISM *mechanism, ferro_kernel_key *key, void *out, size_t *out_length,
                            ferro_kernel_generated **generated)
{
    size_t room = *out_length;
    uint8_t *secret;
    CK_RV rv;
    made *m;

    *generated = NULL;
    if (key->kind != KEY_ML_KEM || key->set == NULL)
        return CKR_KEY_TYPE_INCONSISTENT;
    *out_length = key->set->output_length;
    if (room < *out_length)
        return CKR_BUFFER_TOO_SMALL;
    if ((m = make_shared(mechanism, &secret, &rv)) == NULL)
        return rv;
    return give_shared(m, ferro_encapsulate(key, out, secret), generated);
}

CK_RV ferro_decapsulate_key(const CK_MECHANISM *mechanism, ferro_kernel_key *key, const void *in, size_t length,
                            ferro_kernel_generated **generated)
{
    uint8_t *secret;
    CK_RV rv;
    made *m;

    *generated = NULL;
    if ((m = make_shared(mechanism, &secret, &rv)) == NULL)
        return rv;
    return give_shared(m, ferro_decapsulate(key, in, length, secret), generated);
}

void ferro_generated_release(ferro_kernel_generated *generated)
{
    ferro_free(generated);
}

CK_RV ferro_derive_key(const CK_MECHANISM *mechanism, ferro_kernel_key *base, size_t length,
                       ferro_kernel_generated **generated)
{
    size_t whole = length;
    CK_RV rv = ferro_derive(mechanism, base, NULL, &whole);
    uint8_t *value;
    made *m;

    *generated = NULL;
    if (rv != CKR_OK)
        return rv;
    if (whole == 0 || whole > LARGEST_SECRET)
        return CKR_KEY_SIZE_RANGE;
    if ((m = make(1, 0, whole)) == NULL)
        return CKR_HOST_MEMORY;
    value = append(m, 0, CKA_VALUE, whole);
    if ((rv = ferro_derive(mechanism, base, value, &whole)) != CKR_OK) {
        ferro_free(m);
        return rv;
    }
    m->secret[0].length = whole;
    *generated = &m->result;
    return CKR_OK;
}

CK_RV ferro_keep(const ferro_kernel_material *material, ferro_kernel_generated **kept)
{
    size_t i, room = 0;
    CK_RV rv = ferro_enter();
    made *m;

    *kept = NULL;
    if (rv != CKR_OK)
        return rv;
    for (i = 0; i < material->count; i++) {
        if (material->attributes[i].length > LARGEST_KEPT - room)
            return CKR_ATTRIBUTE_VALUE_INVALID;
        room += material->attributes[i].length;
    }
    if ((m = make(material->count, 0, room)) == NULL)
        return CKR_HOST_MEMORY;
    for (i = 0; i < material->count; i++)
        append_bytes(m, 0, material->attributes[i].type, material->attributes[i].value, material->attributes[i].length);
    *kept = &m->result;
    return CKR_OK;
}
