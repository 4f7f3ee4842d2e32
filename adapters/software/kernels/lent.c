/*
 * Algorithms of libcrypto that the families of mechanisms work with where their own library has none: ciphers, and the
 * derivation of PKCS#12.
 */
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <string.h>

#include "kernel.h"

enum { CHUNK = 1 << 30 /* bytes: what libcrypto's int can count, with a block more */ };

int ferro_lends(const char *algorithm)
{
#ifdef OPENSSL_NO_ARIA
    if (strcmp(algorithm, "ARIA") == 0)
        return 0;
#endif
#ifdef OPENSSL_NO_CAMELLIA
    if (strcmp(algorithm, "CAMELLIA") == 0)
        return 0;
#endif
    return strcmp(algorithm, "AES") == 0 || strcmp(algorithm, "ARIA") == 0 || strcmp(algorithm, "CAMELLIA") == 0
           || strcmp(algorithm, "PKCS12KDF") == 0;
}

CK_RV ferro_lent_cipher(const char *name, const uint8_t *key, size_t key_length, const uint8_t *iv, size_t iv_length,
                        int encrypt, ferro_kernel_op **op)
{
    EVP_CIPHER *cipher;
    ferro_kernel_op *made;
    CK_RV rv = ferro_enter();
    int ok;

    if (rv != CKR_OK)
        return rv;
    if ((made = ferro_op_make()) == NULL)
        return CKR_HOST_MEMORY;
    cipher = EVP_CIPHER_fetch(ferro_library(), name, NULL);
    made->cipher = cipher == NULL ? NULL : EVP_CIPHER_CTX_new();
    ok = made->cipher != NULL && (size_t)EVP_CIPHER_get_key_length(cipher) == key_length
         && (size_t)EVP_CIPHER_get_iv_length(cipher) == iv_length
         && EVP_CipherInit_ex2(made->cipher, cipher, key, iv_length == 0 ? NULL : iv, encrypt, NULL) > 0
         && EVP_CIPHER_CTX_set_padding(made->cipher, 0) > 0;
    EVP_CIPHER_free(cipher);
    if (!ok) {
        ferro_op_destroy(made);
        return ferro_failed(CKR_FUNCTION_NOT_SUPPORTED);
    }
    *op = made;
    return CKR_OK;
}

CK_RV ferro_lent_update(ferro_kernel_op *op, const uint8_t *in, size_t length, uint8_t *out, size_t *out_length)
{
    size_t written = 0;
    CK_RV rv = ferro_enter();

    if (rv != CKR_OK)
        return rv;
    if (op->epoch != ferro_current_epoch())
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    while (length > 0) {
        int part = length > CHUNK ? CHUNK : (int)length, made = 0;

        if (EVP_CipherUpdate(op->cipher, out + written, &made, in, part) <= 0)
            return ferro_failed(CKR_FUNCTION_FAILED);
        in += part;
        length -= (size_t)part;
        written += (size_t)made;
    }
    *out_length = written;
    return CKR_OK;
}

void ferro_lent_close(ferro_kernel_op *op)
{
    ferro_op_destroy(op);
}

CK_RV ferro_lent_pkcs12(const uint8_t *password, size_t password_length, const uint8_t *salt, size_t salt_length, int id,
                        uint64_t iterations, uint8_t *out, size_t out_length)
{
    EVP_KDF *kdf;
    EVP_KDF_CTX *context;
    OSSL_PARAM params[6], *p = params;
    CK_RV rv = ferro_enter();
    int ok;

    if (rv != CKR_OK)
        return rv;
    kdf = EVP_KDF_fetch(ferro_library(), "PKCS12KDF", NULL);
    context = kdf == NULL ? NULL : EVP_KDF_CTX_new(kdf);
    *p++ = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, "SHA1", 0);
    *p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PASSWORD, (void *)password, password_length);
    *p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)salt, salt_length);
    *p++ = OSSL_PARAM_construct_int(OSSL_KDF_PARAM_PKCS12_ID, &id);
    *p++ = OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_ITER, &iterations);
    *p = OSSL_PARAM_construct_end();
    ok = context != NULL && EVP_KDF_derive(context, out, out_length, params) > 0;
    EVP_KDF_CTX_free(context);
    EVP_KDF_free(kdf);
    return ok ? CKR_OK : ferro_failed(CKR_FUNCTION_FAILED);
}
