/* What the C tests of the kernels share: checks that count, and keys from attribute values. */
#ifndef KERNELS_HOST_H
#define KERNELS_HOST_H 1

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            exit(1); \
        } \
    } while (0)

#define IS(call, right) \
    do { \
        CK_RV rv_ = (call); \
        if (rv_ != (right)) { \
            fprintf(stderr, "%s:%d: %s: 0x%lx\n", __FILE__, __LINE__, #call, (unsigned long)rv_); \
            exit(1); \
        } \
    } while (0)

#define OK(call) IS(call, CKR_OK)

static inline ferro_kernel_attribute attribute(CK_ATTRIBUTE_TYPE type, const void *value, size_t length)
{
    ferro_kernel_attribute a = {type, value, length};

    return a;
}

static inline ferro_kernel_attribute number(CK_ATTRIBUTE_TYPE type, const uint64_t *value)
{
    return attribute(type, value, sizeof(*value));
}

/* A secret key of `type`. */
static inline ferro_kernel_key *secret_key(uint64_t type, const void *value, size_t length)
{
    uint64_t class = CKO_SECRET_KEY;
    ferro_kernel_attribute attributes[] = {
        number(CKA_CLASS, &class), number(CKA_KEY_TYPE, &type), attribute(CKA_VALUE, value, length)};
    ferro_kernel_material material = {attributes, 3};
    ferro_kernel_key *key;

    OK(ferro_software_kernel()->key_load(&material, &key));
    return key;
}

/* The private and public key of what was generated. */
static inline void pair(const ferro_kernel_generated *generated, uint64_t type, ferro_kernel_key **private_key,
                        ferro_kernel_key **public_key)
{
    uint64_t class;
    ferro_kernel_attribute attributes[12];
    ferro_kernel_material material = {attributes, 0};

    class = CKO_PRIVATE_KEY;
    attributes[0] = number(CKA_CLASS, &class);
    attributes[1] = number(CKA_KEY_TYPE, &type);
    memcpy(attributes + 2, generated->secret.attributes, generated->secret.count * sizeof(attributes[0]));
    material.count = generated->secret.count + 2;
    OK(ferro_software_kernel()->key_load(&material, private_key));
    class = CKO_PUBLIC_KEY;
    memcpy(attributes + 2, generated->open.attributes, generated->open.count * sizeof(attributes[0]));
    material.count = generated->open.count + 2;
    OK(ferro_software_kernel()->key_load(&material, public_key));
}

static inline CK_MECHANISM plain(CK_MECHANISM_TYPE type)
{
    CK_MECHANISM m = {type, NULL, 0};

    return m;
}

static inline CK_MECHANISM with(CK_MECHANISM_TYPE type, void *parameter, size_t length)
{
    CK_MECHANISM m = {type, parameter, length};

    return m;
}

static const uint8_t P256[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
static const uint8_t ED25519[] = {0x06, 0x03, 0x2b, 0x65, 0x70};
static const uint8_t X25519[] = {0x06, 0x03, 0x2b, 0x65, 0x6e};

static inline ferro_kernel_generated *curve_pair(CK_MECHANISM_TYPE type, const uint8_t *params, size_t length)
{
    ferro_kernel_attribute attributes[] = {attribute(CKA_EC_PARAMS, params, length)};
    ferro_kernel_material material = {attributes, 1};
    CK_MECHANISM mechanism = plain(type);
    ferro_kernel_generated *generated;

    OK(ferro_software_kernel()->generate(&mechanism, &material, &generated));
    return generated;
}

static inline ferro_kernel_generated *rsa_pair(uint64_t bits)
{
    ferro_kernel_attribute attributes[] = {number(CKA_MODULUS_BITS, &bits)};
    ferro_kernel_material material = {attributes, 1};
    CK_MECHANISM mechanism = plain(CKM_RSA_PKCS_KEY_PAIR_GEN);
    ferro_kernel_generated *generated;

    OK(ferro_software_kernel()->generate(&mechanism, &material, &generated));
    return generated;
}

/* host_postquantum.c */
void test_postquantum(void);
void test_postquantum_residue(void); /* where there is something to leave behind */

#if !defined(FERRO_ARENA_PLAIN)
/* How often `needle` stands in the readable memory of this process; the needle itself is masked. */
int found_in_memory(const uint8_t *masked, size_t length);
void mask_bytes(const void *bytes, size_t length, uint8_t *masked);
#endif

#endif
