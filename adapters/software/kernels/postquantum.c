/* ML-DSA, ML-KEM and SLH-DSA keys, and what ML-KEM does with them (PKCS#11 3.2, "ML-DSA", "ML-KEM", "SLH-DSA"). */
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <string.h>

#include "kernel.h"

#if FERRO_POSTQUANTUM

enum { LARGEST_PUBLIC = 2592 };

/* A private key of its seed. */
static EVP_PKEY *from_seed(const ferro_parameter_set *set, const ferro_kernel_attribute *seed)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(ferro_library(), set->name, NULL);
    OSSL_PARAM params[2];
    EVP_PKEY *pkey = NULL;

    params[0] = OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_ML_DSA_SEED, (void *)seed->value, seed->length);
    params[1] = OSSL_PARAM_construct_end();
    if (context == NULL || EVP_PKEY_fromdata_init(context) <= 0
        || EVP_PKEY_fromdata(context, &pkey, EVP_PKEY_KEYPAIR, params) <= 0)
        pkey = NULL;
    EVP_PKEY_CTX_free(context);
    return pkey;
}

/* Every ML-DSA signature is of the digest of the public key and the message (FIPS 204, "tr"). */
static int digest_public(ferro_kernel_key *key)
{
    uint8_t value[LARGEST_PUBLIC];
    size_t length = 0;
    EVP_MD *md = ferro_md(DIGEST_SHAKE256);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int ok = md != NULL && context != NULL
             && EVP_PKEY_get_octet_string_param(key->pkey, OSSL_PKEY_PARAM_PUB_KEY, value, sizeof(value), &length)
             && EVP_DigestInit_ex2(context, md, NULL) && EVP_DigestUpdate(context, value, length)
             && EVP_DigestFinalXOF(context, key->tr, sizeof(key->tr));

    EVP_MD_CTX_free(context);
    return ok;
}

CK_RV ferro_postquantum_load(ferro_kernel_key *key, const ferro_kernel_material *material, int is_private)
{
    const ferro_kernel_attribute *value = ferro_attribute(material, CKA_VALUE);
    const ferro_kernel_attribute *seed = ferro_attribute(material, CKA_SEED);
    CK_ULONG number;

    if (ferro_attribute_ulong(material, CKA_PARAMETER_SET, &number) != 0
        || (key->set = ferro_parameter_set_find(key->type, number)) == NULL)
        return CKR_FUNCTION_NOT_SUPPORTED;
    key->kind = key->type == CKK_ML_DSA ? KEY_ML_DSA : key->type == CKK_ML_KEM ? KEY_ML_KEM : KEY_SLH_DSA;
    key->is_private = is_private;
    /* The seed says what the key is, and the shorter way is to believe it. */
    if (is_private && key->set->seed_length != 0 && seed != NULL && seed->length != 0) {
        if (seed->length != key->set->seed_length)
            return CKR_ATTRIBUTE_VALUE_INVALID;
        key->pkey = from_seed(key->set, seed);
    } else if (value == NULL) {
        return CKR_FUNCTION_NOT_SUPPORTED;
    } else if (value->length != (is_private ? key->set->private_length : key->set->public_length)) {
        return CKR_ATTRIBUTE_VALUE_INVALID;
    } else if (is_private) {
        key->pkey = EVP_PKEY_new_raw_private_key_ex(ferro_library(), key->set->name, NULL, value->value, value->length);
    } else {
        key->pkey = EVP_PKEY_new_raw_public_key_ex(ferro_library(), key->set->name, NULL, value->value, value->length);
    }
    if (key->pkey == NULL)
        return ferro_failed(CKR_ATTRIBUTE_VALUE_INVALID);
    return key->kind != KEY_ML_DSA || digest_public(key) ? CKR_OK : ferro_failed(CKR_FUNCTION_FAILED);
}

/* Whether a key is one of ours, and of this process. */
static CK_RV ready(const ferro_kernel_key *key)
{
    CK_RV rv = ferro_enter();

    if (rv != CKR_OK)
        return rv;
    if (key->epoch != ferro_current_epoch())
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    return key->set != NULL ? CKR_OK : CKR_KEY_TYPE_INCONSISTENT;
}

CK_RV ferro_postquantum_value(const ferro_kernel_key *key, int is_private, uint8_t *out, size_t *length)
{
    CK_RV rv = ready(key);
    size_t room = *length;

    if (rv != CKR_OK)
        return rv;
    if (is_private && !key->is_private)
        return CKR_KEY_FUNCTION_NOT_PERMITTED;
    *length = is_private ? key->set->private_length : key->set->public_length;
    if (out == NULL)
        return CKR_OK;
    if (room < *length)
        return CKR_BUFFER_TOO_SMALL;
    return EVP_PKEY_get_octet_string_param(key->pkey, is_private ? OSSL_PKEY_PARAM_PRIV_KEY : OSSL_PKEY_PARAM_PUB_KEY,
                                           out, room, length)
               ? CKR_OK : ferro_failed(CKR_FUNCTION_FAILED);
}

CK_RV ferro_postquantum_check(const ferro_kernel_key *key)
{
    CK_RV rv = ready(key);
    EVP_PKEY_CTX *context;

    if (rv != CKR_OK)
        return rv;
    if ((context = EVP_PKEY_CTX_new_from_pkey(ferro_library(), key->pkey, NULL)) == NULL)
        return ferro_failed(CKR_HOST_MEMORY);
    rv = EVP_PKEY_pairwise_check(context) > 0 ? CKR_OK : ferro_failed(CKR_ATTRIBUTE_VALUE_INVALID);
    EVP_PKEY_CTX_free(context);
    return rv;
}

CK_RV ferro_encapsulate(const ferro_kernel_key *key, uint8_t *ciphertext, uint8_t *secret)
{
    size_t length, secret_length = FERRO_SHARED_SECRET;
    EVP_PKEY_CTX *context;
    CK_RV rv = ready(key);

    if (rv != CKR_OK)
        return rv;
    if (key->kind != KEY_ML_KEM)
        return CKR_KEY_TYPE_INCONSISTENT;
    length = key->set->output_length;
    if ((context = EVP_PKEY_CTX_new_from_pkey(ferro_library(), key->pkey, NULL)) == NULL)
        return ferro_failed(CKR_HOST_MEMORY);
    rv = EVP_PKEY_encapsulate_init(context, NULL) > 0
                 && EVP_PKEY_encapsulate(context, ciphertext, &length, secret, &secret_length) > 0
                 && length == key->set->output_length && secret_length == FERRO_SHARED_SECRET
             ? CKR_OK : ferro_failed(CKR_FUNCTION_FAILED);
    EVP_PKEY_CTX_free(context);
    return rv;
}

CK_RV ferro_decapsulate(const ferro_kernel_key *key, const uint8_t *ciphertext, size_t length, uint8_t *secret)
{
    size_t secret_length = FERRO_SHARED_SECRET;
    EVP_PKEY_CTX *context;
    CK_RV rv = ready(key);

    if (rv != CKR_OK)
        return rv;
    if (key->kind != KEY_ML_KEM)
        return CKR_KEY_TYPE_INCONSISTENT;
    if (!key->is_private)
        return CKR_KEY_FUNCTION_NOT_PERMITTED;
    if (length != key->set->output_length)
        return CKR_ENCRYPTED_DATA_LEN_RANGE;
    if ((context = EVP_PKEY_CTX_new_from_pkey(ferro_library(), key->pkey, NULL)) == NULL)
        return ferro_failed(CKR_HOST_MEMORY);
    rv = EVP_PKEY_decapsulate_init(context, NULL) > 0
                 && EVP_PKEY_decapsulate(context, secret, &secret_length, ciphertext, length) > 0
                 && secret_length == FERRO_SHARED_SECRET
             ? CKR_OK : ferro_failed(CKR_FUNCTION_FAILED);
    EVP_PKEY_CTX_free(context);
    return rv;
}

#else /* libcrypto has none of them: such keys are never loaded. */

CK_RV ferro_postquantum_load(ferro_kernel_key *key, const ferro_kernel_material *material, int is_private)
{
    (void)key;
    (void)material;
    (void)is_private;
    return CKR_FUNCTION_NOT_SUPPORTED;
}

CK_RV ferro_postquantum_value(const ferro_kernel_key *key, int is_private, uint8_t *out, size_t *length)
{
    (void)key;
    (void)is_private;
    (void)out;
    (void)length;
    return CKR_FUNCTION_NOT_SUPPORTED;
}

CK_RV ferro_postquantum_check(const ferro_kernel_key *key)
{
    (void)key;
    return CKR_FUNCTION_NOT_SUPPORTED;
}

CK_RV ferro_encapsulate(const ferro_kernel_key *key, uint8_t *ciphertext, uint8_t *secret)
{
    (void)key;
    (void)ciphertext;
    (void)secret;
    return CKR_FUNCTION_NOT_SUPPORTED;
}

CK_RV ferro_decapsulate(const ferro_kernel_key *key, const uint8_t *ciphertext, size_t length, uint8_t *secret)
{
    (void)key;
    (void)ciphertext;
    (void)length;
    (void)secret;
    return CKR_FUNCTION_NOT_SUPPORTED;
}

#endif
