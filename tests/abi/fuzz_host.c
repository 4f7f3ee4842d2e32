/* Calls the module at random, with arguments that no program should pass: fuzz_host LIBRARY CALLS SEED THREADS.
 *
 * Pointers are NULL or memory of exactly the size that is claimed (so that AddressSanitizer sees every byte too far), or
 * the claim is a length that no module may believe. Handles are live, dead or invented. The module must answer each
 * call with a return value it has a reason for: CKR_GENERAL_ERROR and CKR_FUNCTION_FAILED are failures here, as are a
 * byte beyond a buffer and a module that does not work any more at the end. The same seed makes the same calls; several
 * threads share sessions and objects, close them under each other and finalize the library while others are inside.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pkcs11.h"

#if defined(__SANITIZE_ADDRESS__)
#define CANARY 0
#else
#define CANARY 16
#endif
#define ROOM 262144 /* more than any function puts out */
#define HANDLES 48
#define SESSIONS 8
#define KEPT 4096

static CK_FUNCTION_LIST_3_2 *p11;
static _Thread_local uint64_t random_state;
static _Thread_local unsigned long call_number;
static _Thread_local const char *function = "";
static unsigned long calls, threads;
static CK_SLOT_ID slot;
static volatile CK_SESSION_HANDLE sessions[SESSIONS];
static volatile CK_OBJECT_HANDLE objects[HANDLES];
static _Atomic unsigned long answers[0x1000];
static _Atomic int failures;

static CK_UTF8CHAR so_pin[] = "87654321", user_pin[] = "12345678";
#define PIN_LENGTH 8

static uint64_t next(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545F4914F6CDD1DULL;
}

static unsigned long below(unsigned long limit) { return (unsigned long)((next() >> 16) % limit); }
static int one_in(unsigned long n) { return below(n) == 0; }

static void fail(const char *what, CK_RV rv)
{
    failures += 1;
    if (failures <= 20)
        printf("call %lu, %s: %s (0x%lx)\n", call_number, function, what, rv);
}

/* Memory that lives until the end of the call, checked for a byte too far. */
static _Thread_local struct {
    unsigned char *start;
    size_t size;
} kept[KEPT];
static _Thread_local size_t kept_count;

static void *memory(size_t size)
{
    unsigned char *start = malloc(size + CANARY ? size + CANARY : 1);
    size_t i;

    if (start == NULL || kept_count == KEPT)
        abort();
    for (i = 0; i < size; i++)
        start[i] = (unsigned char)next();
#if CANARY > 0
    memset(start + size, 0xA5, CANARY);
#endif
    kept[kept_count].start = start;
    kept[kept_count++].size = size;
    return start;
}

static void release(void)
{
    int i;

    while (kept_count != 0) {
        kept_count -= 1;
        for (i = 0; i < CANARY; i++)
            if (kept[kept_count].start[kept[kept_count].size + i] != 0xA5) {
                fail("a byte beyond a buffer was written", 0);
                break;
            }
        free(kept[kept_count].start);
    }
}

static CK_ULONG absurd(void)
{
    static const CK_ULONG lengths[] = {~0UL, ~0UL - 1, 1UL << 63, (1UL << 63) - 1, 1UL << 32, 1UL << 31};
    return lengths[below(sizeof lengths / sizeof *lengths)];
}

static size_t some_size(void)
{
    static const size_t sizes[] = {0, 1, 8, 12, 15, 16, 17, 20, 24, 28, 32, 48, 64, 128, 256, 1000};
    return one_in(12) ? below(4096) : sizes[below(sizeof sizes / sizeof *sizes)];
}

/* An input: its pointer, and in `length` what is claimed of it. */
static CK_BYTE_PTR input(CK_ULONG *length)
{
    size_t size = some_size();

    *length = size;
    if (one_in(25)) {
        *length = one_in(2) ? absurd() : size;
        return NULL;
    }
    if (one_in(25))
        *length = absurd();
    return memory(size);
}

/* The same for what may be read as a structure with pointers inside: a wild pointer is the host's crash, not ours. */
static CK_BYTE_PTR structure(CK_ULONG *length)
{
    CK_BYTE_PTR start = input(length);

    if (start != NULL)
        memset(start, 0, kept[kept_count - 1].size);
    return start;
}

/* An output: its pointer, and a place for its length. */
static CK_BYTE_PTR output(CK_ULONG_PTR *length)
{
    size_t size = one_in(3) ? some_size() : 1024;
    CK_ULONG_PTR place = one_in(40) ? NULL : memory(sizeof *place);
    CK_ULONG claimed = size;

    *length = place;
    if (one_in(20)) {
        size = ROOM;
        claimed = absurd();
    }
    if (place != NULL)
        *place = claimed;
    return one_in(5) ? NULL : memory(size);
}

static CK_SESSION_HANDLE session(void)
{
    if (one_in(30))
        return one_in(2) ? next() : below(100);
    return sessions[below(SESSIONS)];
}

static CK_OBJECT_HANDLE object(void)
{
    if (one_in(30))
        return one_in(2) ? next() : below(100);
    return objects[below(HANDLES)];
}

static void remember(CK_OBJECT_HANDLE handle) { objects[below(HANDLES)] = handle; }

static const CK_MECHANISM_TYPE mechanisms[] = {
    CKM_SHA_1, CKM_SHA256, CKM_SHA384, CKM_SHA512, CKM_SHA3_256, CKM_SHA256_HMAC, CKM_SHA512_HMAC, CKM_SHA256_HMAC_GENERAL,
    CKM_AES_KEY_GEN, CKM_GENERIC_SECRET_KEY_GEN, CKM_AES_ECB, CKM_AES_CBC, CKM_AES_CBC_PAD, CKM_AES_CTR, CKM_AES_GCM,
    CKM_AES_CMAC, CKM_AES_CMAC_GENERAL, CKM_AES_KEY_WRAP, CKM_AES_KEY_WRAP_KWP, CKM_AES_KEY_WRAP_PAD, CKM_RSA_PKCS,
    CKM_RSA_PKCS_KEY_PAIR_GEN, CKM_RSA_X_509, CKM_RSA_PKCS_PSS, CKM_RSA_PKCS_OAEP, CKM_SHA256_RSA_PKCS,
    CKM_SHA256_RSA_PKCS_PSS, CKM_EC_KEY_PAIR_GEN, CKM_ECDSA, CKM_ECDSA_SHA256, CKM_EDDSA, CKM_EC_EDWARDS_KEY_PAIR_GEN,
    CKM_EC_MONTGOMERY_KEY_PAIR_GEN, CKM_ECDH1_DERIVE, CKM_ECDH1_COFACTOR_DERIVE, CKM_AES_ECB_ENCRYPT_DATA,
    CKM_AES_CBC_ENCRYPT_DATA, CKM_RSA_AES_KEY_WRAP, CKM_CONCATENATE_BASE_AND_DATA, CKM_AES_CCM, CKM_DES3_CBC, CKM_ML_DSA,
};

/* A pointer inside a parameter, likewise. */
static void inside(void *pointer_place, CK_ULONG *length)
{
    CK_BYTE_PTR pointer = input(length);

    memcpy(pointer_place, &pointer, sizeof pointer);
}

static CK_MECHANISM_TYPE any_of(CK_MECHANISM_TYPE number)
{
    static const CK_MECHANISM_TYPE hashes[] = {CKM_SHA_1, CKM_SHA256, CKM_SHA384, CKM_SHA512, 0x77777777UL};
    return one_in(4) ? number : hashes[below(5)];
}

static void *parameter(CK_MECHANISM_TYPE type, CK_ULONG *length)
{
    switch (type) {
    case CKM_AES_CBC: case CKM_AES_CBC_PAD:
        *length = 16;
        return memory(16);
    case CKM_AES_CTR: {
        CK_AES_CTR_PARAMS *made = memory(*length = sizeof *made);
        made->ulCounterBits = one_in(2) ? 128 : below(140);
        return made;
    }
    case CKM_AES_GCM: {
        CK_GCM_PARAMS *made = memory(*length = sizeof *made);
        inside(&made->pIv, &made->ulIvLen);
        inside(&made->pAAD, &made->ulAADLen);
        made->ulIvBits = made->ulIvLen * 8;
        made->ulTagBits = one_in(2) ? 128 : below(200);
        return made;
    }
    case CKM_AES_CCM: {
        CK_CCM_PARAMS *made = memory(*length = sizeof *made);
        inside(&made->pNonce, &made->ulNonceLen);
        inside(&made->pAAD, &made->ulAADLen);
        made->ulDataLen = some_size();
        made->ulMACLen = below(20);
        return made;
    }
    case CKM_RSA_PKCS_PSS: case CKM_SHA256_RSA_PKCS_PSS: {
        CK_RSA_PKCS_PSS_PARAMS *made = memory(*length = sizeof *made);
        made->hashAlg = any_of(CKM_SHA256);
        made->mgf = below(6);
        made->sLen = one_in(8) ? absurd() : below(80);
        return made;
    }
    case CKM_RSA_PKCS_OAEP: {
        CK_RSA_PKCS_OAEP_PARAMS *made = memory(*length = sizeof *made);
        made->hashAlg = any_of(CKM_SHA256);
        made->mgf = below(6);
        made->source = below(3);
        inside(&made->pSourceData, &made->ulSourceDataLen);
        return made;
    }
    case CKM_RSA_AES_KEY_WRAP: {
        CK_RSA_AES_KEY_WRAP_PARAMS *made = memory(*length = sizeof *made);
        CK_ULONG ignored;
        made->ulAESKeyBits = one_in(2) ? 256 : below(300);
        made->pOAEPParams = one_in(10) ? NULL : parameter(CKM_RSA_PKCS_OAEP, &ignored);
        return made;
    }
    case CKM_ECDH1_DERIVE: case CKM_ECDH1_COFACTOR_DERIVE: {
        CK_ECDH1_DERIVE_PARAMS *made = memory(*length = sizeof *made);
        made->kdf = below(10);
        inside(&made->pSharedData, &made->ulSharedDataLen);
        inside(&made->pPublicData, &made->ulPublicDataLen);
        return made;
    }
    case CKM_EDDSA: {
        CK_EDDSA_PARAMS *made = memory(*length = sizeof *made);
        inside(&made->pContextData, &made->ulContextDataLen);
        return made;
    }
    case CKM_AES_ECB_ENCRYPT_DATA: case CKM_CONCATENATE_BASE_AND_DATA: {
        CK_KEY_DERIVATION_STRING_DATA *made = memory(*length = sizeof *made);
        inside(&made->pData, &made->ulLen);
        return made;
    }
    case CKM_AES_CBC_ENCRYPT_DATA: {
        CK_AES_CBC_ENCRYPT_DATA_PARAMS *made = memory(*length = sizeof *made);
        inside(&made->pData, &made->length);
        return made;
    }
    case CKM_SHA256_HMAC_GENERAL: case CKM_AES_CMAC_GENERAL: {
        CK_ULONG *made = memory(*length = sizeof *made);
        *made = one_in(4) ? absurd() : below(40);
        return made;
    }
    default:
        *length = 0;
        return NULL;
    }
}

static CK_MECHANISM_PTR mechanism(CK_MECHANISM_TYPE wanted)
{
    CK_MECHANISM_PTR made;

    if (one_in(60))
        return NULL;
    made = memory(sizeof *made);
    made->mechanism = wanted != 0 && !one_in(20) ? wanted : mechanisms[below(sizeof mechanisms / sizeof *mechanisms)];
    if (one_in(60))
        made->mechanism = next();
    made->pParameter = parameter(made->mechanism, &made->ulParameterLen);
    if (one_in(20))
        made->pParameter = structure(&made->ulParameterLen);
    return made;
}

static const CK_ATTRIBUTE_TYPE attributes[] = {
    CKA_CLASS, CKA_TOKEN, CKA_PRIVATE, CKA_LABEL, CKA_UNIQUE_ID, CKA_APPLICATION, CKA_VALUE, CKA_OBJECT_ID, CKA_ID,
    CKA_CERTIFICATE_TYPE, CKA_ISSUER, CKA_SERIAL_NUMBER, CKA_SUBJECT, CKA_TRUSTED, CKA_KEY_TYPE, CKA_SENSITIVE, CKA_ENCRYPT,
    CKA_DECRYPT, CKA_WRAP, CKA_UNWRAP, CKA_SIGN, CKA_SIGN_RECOVER, CKA_VERIFY, CKA_DERIVE, CKA_START_DATE, CKA_END_DATE,
    CKA_MODULUS, CKA_MODULUS_BITS, CKA_PUBLIC_EXPONENT, CKA_PRIVATE_EXPONENT, CKA_VALUE_LEN, CKA_EXTRACTABLE, CKA_LOCAL,
    CKA_NEVER_EXTRACTABLE, CKA_ALWAYS_SENSITIVE, CKA_KEY_GEN_MECHANISM, CKA_MODIFIABLE, CKA_COPYABLE, CKA_DESTROYABLE,
    CKA_EC_PARAMS, CKA_EC_POINT, CKA_ALWAYS_AUTHENTICATE, CKA_WRAP_WITH_TRUSTED, CKA_WRAP_TEMPLATE, CKA_UNWRAP_TEMPLATE,
    CKA_DERIVE_TEMPLATE, CKA_ALLOWED_MECHANISMS, CKA_PUBLIC_KEY_INFO, CKA_CHECK_VALUE, CKA_HW_FEATURE_TYPE, CKA_SEED,
};

static CK_ATTRIBUTE_PTR template(CK_ULONG *count, int depth);

static int holds_template(CK_ATTRIBUTE_TYPE type)
{
    return type == CKA_WRAP_TEMPLATE || type == CKA_UNWRAP_TEMPLATE || type == CKA_DERIVE_TEMPLATE;
}

static void set(CK_ATTRIBUTE *attribute, CK_ATTRIBUTE_TYPE type, const void *value, size_t size)
{
    attribute->type = type;
    attribute->ulValueLen = size;
    attribute->pValue = memory(size);
    memcpy(attribute->pValue, value, size);
}

static void fill(CK_ATTRIBUTE *attribute, int depth)
{
    static const unsigned char p256[] = {6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7};
    CK_ATTRIBUTE_TYPE type = attributes[below(sizeof attributes / sizeof *attributes)];
    CK_ULONG number = below(20), count;
    CK_BBOOL flag = (CK_BBOOL)below(one_in(10) ? 256 : 2);

    if (one_in(100))
        type = next();
    if (holds_template(type) && !one_in(4) && depth < 5) {
        attribute->type = type;
        attribute->pValue = template(&count, depth + 1);
        attribute->ulValueLen = count > 4096 ? count : count * sizeof(CK_ATTRIBUTE);
        if (one_in(20))
            attribute->ulValueLen -= attribute->ulValueLen != 0;
    } else if (type == CKA_EC_PARAMS && !one_in(4)) {
        set(attribute, type, p256, sizeof p256);
    } else if (type == CKA_VALUE_LEN || type == CKA_CLASS || type == CKA_KEY_TYPE) {
        number = type == CKA_VALUE_LEN && !one_in(4) ? 8 * below(5) : type == CKA_CLASS ? below(10) : below(0x50);
        set(attribute, type, &number, sizeof number);
    } else if (type == CKA_MODULUS_BITS) {
        number = one_in(2) ? 1024 : below(1030);
        set(attribute, type, &number, sizeof number);
    } else if (one_in(3)) {
        attribute->type = type;
        attribute->pValue = type & CKF_ARRAY_ATTRIBUTE ? structure(&attribute->ulValueLen) : input(&attribute->ulValueLen);
    } else {
        set(attribute, type, &flag, sizeof flag);
    }
}

/* A template: its pointer, and in `count` what is claimed of it. */
static CK_ATTRIBUTE_PTR template(CK_ULONG *count, int depth)
{
    CK_ULONG size = below(depth ? 4 : 8), i;
    CK_ATTRIBUTE_PTR made;

    *count = size;
    if (one_in(30)) {
        *count = one_in(2) ? absurd() : size;
        return NULL;
    }
    made = memory(size * sizeof *made);
    for (i = 0; i < size; i++)
        fill(&made[i], depth);
    if (one_in(40))
        *count = absurd();
    return made;
}

/* Make a template one that values may be written to: a length that is believed there has the room it claims. */
static void make_receiving(CK_ATTRIBUTE_PTR attribute, CK_ULONG count)
{
    CK_ULONG i;

    for (i = 0; attribute != NULL && count <= 4096 && i < count; i++) {
        if (attribute[i].pValue != NULL && attribute[i].ulValueLen > ROOM)
            attribute[i].pValue = memset(memory(ROOM), 0, ROOM);
        else if (holds_template(attribute[i].type))
            make_receiving(attribute[i].pValue, attribute[i].ulValueLen / sizeof *attribute);
    }
}

/* A template that may well be right: what is given, and sometimes something more. */
static CK_ATTRIBUTE_PTR sensible(CK_ULONG *count, const CK_ATTRIBUTE *given, CK_ULONG size)
{
    CK_ULONG more = one_in(2) ? below(3) : 0, i;
    CK_ATTRIBUTE_PTR made;

    if (one_in(4))
        return template(count, 0);
    made = memory((size + more) * sizeof *made);
    for (i = 0; i < size; i++)
        set(&made[i], given[i].type, given[i].pValue, given[i].ulValueLen);
    for (; i < size + more; i++)
        fill(&made[i], 0);
    *count = size + more;
    return made;
}

static CK_OBJECT_HANDLE_PTR place(void)
{
    CK_OBJECT_HANDLE_PTR made = one_in(60) ? NULL : memory(sizeof *made);

    if (made != NULL)
        *made = 0;
    return made;
}

static CK_RV made(CK_RV rv, CK_OBJECT_HANDLE_PTR handle)
{
    if (rv == CKR_OK && (handle == NULL || *handle == 0))
        fail("an object was made without a handle", rv);
    else if (rv == CKR_OK)
        remember(*handle);
    return rv;
}

static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
static CK_OBJECT_CLASS secret_key = CKO_SECRET_KEY, data_class = CKO_DATA;
static CK_KEY_TYPE generic_type = CKK_GENERIC_SECRET, aes_type = CKK_AES;
static CK_ULONG length_16 = 16, bits_1024 = 1024;
static unsigned char curve[] = {6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}, exponent[] = {1, 0, 1}, value[32];

#define ATTRIBUTE(type, variable) {type, &(variable), sizeof(variable)}

static const CK_ATTRIBUTE for_aes[] = {
    ATTRIBUTE(CKA_VALUE_LEN, length_16), ATTRIBUTE(CKA_ENCRYPT, yes), ATTRIBUTE(CKA_DECRYPT, yes), ATTRIBUTE(CKA_WRAP, yes),
    ATTRIBUTE(CKA_UNWRAP, yes), ATTRIBUTE(CKA_SIGN, yes), ATTRIBUTE(CKA_VERIFY, yes), ATTRIBUTE(CKA_DERIVE, yes),
    ATTRIBUTE(CKA_EXTRACTABLE, yes),
};
static const CK_ATTRIBUTE for_generic[] = {
    ATTRIBUTE(CKA_CLASS, secret_key), ATTRIBUTE(CKA_KEY_TYPE, generic_type), ATTRIBUTE(CKA_VALUE, value),
    ATTRIBUTE(CKA_SIGN, yes), ATTRIBUTE(CKA_VERIFY, yes), ATTRIBUTE(CKA_SENSITIVE, no), ATTRIBUTE(CKA_EXTRACTABLE, yes),
    ATTRIBUTE(CKA_DERIVE, yes),
};
static const CK_ATTRIBUTE for_unwrap[] = {
    ATTRIBUTE(CKA_CLASS, secret_key), ATTRIBUTE(CKA_KEY_TYPE, aes_type), ATTRIBUTE(CKA_ENCRYPT, yes),
};
static const CK_ATTRIBUTE for_data[] = {ATTRIBUTE(CKA_CLASS, data_class), ATTRIBUTE(CKA_VALUE, value)};
static const CK_ATTRIBUTE for_ec_public[] = {{CKA_EC_PARAMS, curve, sizeof curve}, ATTRIBUTE(CKA_VERIFY, yes)};
static const CK_ATTRIBUTE for_rsa_public[] = {
    ATTRIBUTE(CKA_MODULUS_BITS, bits_1024), {CKA_PUBLIC_EXPONENT, exponent, sizeof exponent},
    ATTRIBUTE(CKA_ENCRYPT, yes), ATTRIBUTE(CKA_VERIFY, yes), ATTRIBUTE(CKA_WRAP, yes),
};
static const CK_ATTRIBUTE for_private[] = {
    ATTRIBUTE(CKA_SIGN, yes), ATTRIBUTE(CKA_DECRYPT, yes), ATTRIBUTE(CKA_UNWRAP, yes), ATTRIBUTE(CKA_DERIVE, yes),
};
#define COUNT(array) (sizeof(array) / sizeof *(array))

static CK_RV open_one(void)
{
    CK_FLAGS flags = one_in(20) ? next()
                     : CKF_SERIAL_SESSION | (one_in(4) ? 0 : CKF_RW_SESSION)
                     | (one_in(4) ? CKF_ASYNC_SESSION : 0);
    CK_SESSION_HANDLE_PTR handle = place();
    CK_SLOT_ID where = one_in(30) ? next() : slot;
    CK_ULONG at = below(SESSIONS);
    CK_RV rv;

    rv = p11->C_OpenSession(where, flags, NULL, NULL, handle);
    if (rv == CKR_OK) {
        p11->C_CloseSession(sessions[at]);
        sessions[at] = *handle;
    }
    return rv;
}

static CK_RV log_in(void)
{
    CK_USER_TYPE user = one_in(6) ? below(4) : CKU_USER;
    CK_ULONG length = PIN_LENGTH, name_length;
    CK_UTF8CHAR_PTR pin = user == CKU_SO ? so_pin : user_pin, name;

    if (one_in(12))
        pin = input(&length);
    if (one_in(2))
        return p11->C_Login(session(), user, pin, length);
    name = input(&name_length);
    return p11->C_LoginUser(session(), user, pin, length, name, name_length);
}

static CK_RV set_pins(void)
{
    CK_ULONG old_length = PIN_LENGTH, new_length = PIN_LENGTH;
    CK_UTF8CHAR_PTR old = user_pin, new = user_pin, label = memory(32);

    if (one_in(2))
        old = input(&old_length);
    switch (below(3)) {
    case 0: /* the new PIN is one that is refused, or the old one */
        return p11->C_SetPIN(session(), old, old_length, one_in(2) ? NULL : new, new_length);
    case 1:
        return p11->C_InitPIN(session(), one_in(2) ? NULL : user_pin, PIN_LENGTH);
    default:
        return p11->C_InitToken(one_in(2) ? next() : slot, one_in(2) ? NULL : user_pin, PIN_LENGTH, one_in(4) ? NULL : label);
    }
}

static CK_RV look_around(void)
{
    CK_ULONG_PTR count = one_in(20) ? NULL : memory(sizeof *count);
    CK_SLOT_ID where = one_in(4) ? next() : slot;
    CK_ULONG room = below(300);

    if (count != NULL)
        *count = room;
    switch (below(8)) {
    case 0: return p11->C_GetInfo(one_in(4) ? NULL : memory(sizeof(CK_INFO)));
    case 1: return p11->C_GetSlotList((CK_BBOOL)below(3), one_in(3) ? NULL : memory(room * sizeof(CK_SLOT_ID)), count);
    case 2: return p11->C_GetSlotInfo(where, one_in(4) ? NULL : memory(sizeof(CK_SLOT_INFO)));
    case 3: return p11->C_GetTokenInfo(where, one_in(4) ? NULL : memory(sizeof(CK_TOKEN_INFO)));
    case 4: return p11->C_GetMechanismList(where, one_in(3) ? NULL : memory(room * sizeof(CK_MECHANISM_TYPE)), count);
    case 5: return p11->C_GetMechanismInfo(where, one_in(4) ? next() : mechanisms[below(COUNT(mechanisms))],
                                           one_in(4) ? NULL : memory(sizeof(CK_MECHANISM_INFO)));
    case 6: return p11->C_WaitForSlotEvent(CKF_DONT_BLOCK, one_in(4) ? NULL : memory(sizeof(CK_SLOT_ID)),
                                           one_in(4) ? memory(8) : NULL);
    default: return p11->C_GetSessionInfo(session(), one_in(4) ? NULL : memory(sizeof(CK_SESSION_INFO)));
    }
}

static CK_RV handle_objects(void)
{
    CK_OBJECT_HANDLE_PTR handle = place();
    CK_ULONG count, room = below(20), i;
    CK_ATTRIBUTE_PTR some;
    CK_RV rv;

    switch (below(9)) {
    case 0:
        some = sensible(&count, for_generic, COUNT(for_generic));
        return made(p11->C_CreateObject(session(), some, count, handle), handle);
    case 1:
        some = one_in(2) ? sensible(&count, for_data, COUNT(for_data)) : template(&count, 0);
        return made(p11->C_CreateObject(session(), some, count, handle), handle);
    case 2:
        some = template(&count, 0);
        return made(p11->C_CopyObject(session(), object(), some, count, handle), handle);
    case 3:
        return one_in(4) ? p11->C_DestroyObject(session(), object()) : p11->C_GetObjectSize(session(), object(), handle);
    case 4: case 5:
        some = template(&count, 0);
        make_receiving(some, count);
        return p11->C_GetAttributeValue(session(), object(), some, count);
    case 6:
        some = template(&count, 0);
        return p11->C_SetAttributeValue(session(), object(), some, count);
    case 7:
        some = one_in(2) ? template(&count, 0) : NULL;
        return p11->C_FindObjectsInit(session(), some, some == NULL ? 0 : count);
    default: {
        CK_OBJECT_HANDLE_PTR found = one_in(20) ? NULL : memory(room * sizeof *found);
        CK_ULONG_PTR number = one_in(20) ? NULL : memory(sizeof *number);
        if (one_in(4))
            return p11->C_FindObjectsFinal(session());
        rv = p11->C_FindObjects(session(), found, room, number);
        if (rv == CKR_OK && *number > room)
            fail("more objects than there is room for", rv);
        for (i = 0; rv == CKR_OK && i < *number; i++)
            remember(found[i]);
        return rv;
    }
    }
}

static CK_RV manage_keys(void)
{
    CK_OBJECT_HANDLE_PTR handle = place(), second = place();
    CK_ULONG count, more, length;
    CK_ULONG_PTR out_length;
    CK_ATTRIBUTE_PTR some, other;
    CK_BYTE_PTR out, data;
    CK_RV rv;

    switch (below(12)) {
    case 0:
        if (!one_in(8)) /* it costs more than all the others */
            return p11->C_GenerateKey(session(), NULL, NULL, 0, NULL);
        some = sensible(&count, for_rsa_public, COUNT(for_rsa_public));
        other = sensible(&more, for_private, COUNT(for_private));
        rv = p11->C_GenerateKeyPair(session(), mechanism(CKM_RSA_PKCS_KEY_PAIR_GEN), some, count, other, more, handle, second);
        return made(made(rv, handle), second);
    case 1:
        some = sensible(&count, for_ec_public, COUNT(for_ec_public));
        other = sensible(&more, for_private, COUNT(for_private));
        rv = p11->C_GenerateKeyPair(session(), mechanism(CKM_EC_KEY_PAIR_GEN), some, count, other, more, handle, second);
        return made(made(rv, handle), second);
    case 2: case 3:
        some = sensible(&count, for_aes, COUNT(for_aes));
        return made(p11->C_GenerateKey(session(), mechanism(CKM_AES_KEY_GEN), some, count, handle), handle);
    case 4: case 5:
        out = output(&out_length);
        return p11->C_WrapKey(session(), mechanism(CKM_AES_KEY_WRAP_KWP), object(), object(), out, out_length);
    case 6: case 7:
        data = input(&length);
        some = sensible(&count, for_unwrap, COUNT(for_unwrap));
        rv = p11->C_UnwrapKey(session(), mechanism(CKM_AES_CBC_PAD), object(), data, length, some, count, handle);
        return made(rv, handle);
    case 8: case 9:
        some = sensible(&count, for_unwrap, COUNT(for_unwrap));
        rv = p11->C_DeriveKey(session(), mechanism(one_in(2) ? CKM_ECDH1_DERIVE : CKM_AES_ECB_ENCRYPT_DATA), object(), some,
                              count, handle);
        return made(rv, handle);
    case 10:
        data = input(&length);
        return p11->C_SeedRandom(session(), data, length);
    default:
        length = some_size();
        return one_in(10) ? p11->C_GenerateRandom(session(), one_in(2) ? NULL : memory(8), absurd())
                          : p11->C_GenerateRandom(session(), one_in(10) ? NULL : memory(length), length);
    }
}

/* One of the five families with Init, one part, update and final. */
static CK_RV operate(void)
{
    CK_SESSION_HANDLE where = session();
    CK_ULONG length, signature_length;
    CK_BYTE_PTR data = input(&length), out, signature;
    CK_ULONG_PTR out_length;
    CK_MECHANISM_PTR how = mechanism(0);

    out = output(&out_length);
    signature = input(&signature_length);
    switch (below(24)) {
    case 0: return p11->C_EncryptInit(where, how, object());
    case 1: return p11->C_Encrypt(where, data, length, out, out_length);
    case 2: return p11->C_EncryptUpdate(where, data, length, out, out_length);
    case 3: return p11->C_EncryptFinal(where, out, out_length);
    case 4: return p11->C_DecryptInit(where, how, object());
    case 5: return p11->C_Decrypt(where, data, length, out, out_length);
    case 6: return p11->C_DecryptUpdate(where, data, length, out, out_length);
    case 7: return p11->C_DecryptFinal(where, out, out_length);
    case 8: return p11->C_DigestInit(where, how);
    case 9: return p11->C_Digest(where, data, length, out, out_length);
    case 10: return p11->C_DigestUpdate(where, data, length);
    case 11: return p11->C_DigestKey(where, object());
    case 12: return p11->C_DigestFinal(where, out, out_length);
    case 13: return p11->C_SignInit(where, how, object());
    case 14: return p11->C_Sign(where, data, length, out, out_length);
    case 15: return p11->C_SignUpdate(where, data, length);
    case 16: return p11->C_SignFinal(where, out, out_length);
    case 17: return one_in(2) ? p11->C_SignRecoverInit(where, how, object())
                              : p11->C_SignRecover(where, data, length, out, out_length);
    case 18: return p11->C_VerifyInit(where, how, object());
    case 19: return p11->C_Verify(where, data, length, signature, signature_length);
    case 20: return p11->C_VerifyUpdate(where, data, length);
    case 21: return p11->C_VerifyFinal(where, signature, signature_length);
    case 22: return one_in(2) ? p11->C_VerifyRecoverInit(where, how, object())
                              : p11->C_VerifyRecover(where, data, length, out, out_length);
    default:
        switch (below(8)) {
        case 0: return p11->C_VerifySignatureInit(where, how, object(), signature, signature_length);
        case 1: return p11->C_VerifySignature(where, data, length);
        case 2: return p11->C_VerifySignatureUpdate(where, data, length);
        case 3: return p11->C_VerifySignatureFinal(where);
        case 4: return p11->C_DigestEncryptUpdate(where, data, length, out, out_length);
        case 5: return p11->C_DecryptDigestUpdate(where, data, length, out, out_length);
        case 6: return p11->C_SignEncryptUpdate(where, data, length, out, out_length);
        default: return p11->C_DecryptVerifyUpdate(where, data, length, out, out_length);
        }
    }
}

/* A key that fits a mechanism, and in `public_key` the one that verifies; 0 when it cannot be made. */
static CK_OBJECT_HANDLE fitting(CK_SESSION_HANDLE where, CK_MECHANISM_TYPE type, CK_OBJECT_HANDLE_PTR public_key)
{
    CK_MECHANISM make_aes = {CKM_AES_KEY_GEN, NULL, 0}, make_ec = {CKM_EC_KEY_PAIR_GEN, NULL, 0};
    CK_OBJECT_HANDLE key = 0;

    if (type == CKM_ECDSA || type == CKM_ECDSA_SHA256) {
        p11->C_GenerateKeyPair(where, &make_ec, (CK_ATTRIBUTE_PTR)for_ec_public, COUNT(for_ec_public), NULL, 0, public_key, &key);
        return key;
    }
    if (type == CKM_SHA256_HMAC)
        p11->C_CreateObject(where, (CK_ATTRIBUTE_PTR)for_generic, COUNT(for_generic), &key);
    else
        p11->C_GenerateKey(where, &make_aes, (CK_ATTRIBUTE_PTR)for_aes, COUNT(for_aes), &key);
    return *public_key = key;
}

/* A whole operation with a mechanism that fits, so that not everything ends at the first check. */
static CK_RV operate_well(void)
{
    static const CK_MECHANISM_TYPE ciphers[] = {CKM_AES_CBC_PAD, CKM_AES_CBC, CKM_AES_ECB, CKM_AES_CTR, CKM_AES_GCM,
                                                CKM_RSA_PKCS, CKM_RSA_PKCS_OAEP};
    static const CK_MECHANISM_TYPE signers[] = {CKM_ECDSA, CKM_ECDSA_SHA256, CKM_SHA256_HMAC, CKM_AES_CMAC,
                                                CKM_SHA256_RSA_PKCS, CKM_SHA256_RSA_PKCS_PSS, CKM_RSA_PKCS};
    CK_SESSION_HANDLE where = session();
    CK_OBJECT_HANDLE key = object(), verifying = key;
    CK_ULONG length, out_length = 2048, again_length = 2048;
    CK_BYTE_PTR data = input(&length), out = memory(2048), again = memory(2048);
    CK_MECHANISM_PTR how = mechanism(one_in(2) ? ciphers[below(COUNT(ciphers))] : signers[below(COUNT(signers))]);
    CK_RV rv;

    p11->C_SessionCancel(where, CKF_ENCRYPT | CKF_DECRYPT | CKF_SIGN | CKF_VERIFY);
    if (how != NULL && !one_in(4)) {
        key = fitting(where, how->mechanism, &verifying);
        remember(key);
    }
    if (one_in(2)) {
        if ((rv = p11->C_EncryptInit(where, how, key)) != CKR_OK || (rv = p11->C_Encrypt(where, data, length, out, &out_length)))
            return rv;
        if ((rv = p11->C_DecryptInit(where, how, key)) != CKR_OK)
            return rv;
        if (one_in(2)) {
            again_length = below(2) ? below(64) : 0;
            rv = p11->C_Decrypt(where, out, out_length, again, &again_length);
            if (rv != CKR_BUFFER_TOO_SMALL)
                return rv;
        }
        rv = p11->C_Decrypt(where, out, out_length, again, &again_length);
        if (rv == CKR_OK && threads == 1 && (again_length != length || memcmp(again, data, length)) && how->mechanism != CKM_RSA_X_509)
            fail("decryption gave something else", rv);
        return rv;
    }
    if ((rv = p11->C_SignInit(where, how, key)) != CKR_OK || (rv = p11->C_Sign(where, data, length, out, &out_length)))
        return rv;
    if ((rv = p11->C_VerifyInit(where, how, verifying)) != CKR_OK)
        return rv;
    return p11->C_Verify(where, data, length, out, out_length);
}

/* One of the functions about messages, with a parameter that is well formed more often than not. */
static CK_RV talk(CK_SESSION_HANDLE where, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR out, CK_ULONG_PTR out_length)
{
    CK_GCM_MESSAGE_PARAMS *made = memory(sizeof *made);
    CK_ULONG size = one_in(8) ? below(sizeof *made) : sizeof *made;

    made->ulIvLen = one_in(8) ? 0 : 1 + below(20);
    made->pIv = made->ulIvLen && !one_in(8) ? memory(made->ulIvLen) : NULL;
    made->ulIvFixedBits = one_in(3) ? next() : below(100);
    made->ivGenerator = below(6);
    made->ulTagBits = one_in(4) ? below(200) : 128;
    made->pTag = one_in(8) ? NULL : memory(made->ulTagBits / 8 + 1);
    switch (below(9)) {
    case 0: return p11->C_MessageDecryptInit(where, mechanism(CKM_AES_GCM), object());
    case 1: return p11->C_EncryptMessageBegin(where, made, size, data, length);
    case 2: return p11->C_EncryptMessageNext(where, made, size, data, length, out, out_length, below(3));
    case 3: return p11->C_DecryptMessage(where, made, size, data, length, data, length, out, out_length);
    case 4: return p11->C_DecryptMessageBegin(where, made, size, data, length);
    case 5: return p11->C_DecryptMessageNext(where, made, size, data, length, out, out_length, below(3));
    case 6: return one_in(4) ? p11->C_MessageEncryptFinal(where) : p11->C_MessageDecryptFinal(where);
    default: return p11->C_EncryptMessage(where, made, size, data, length, data, length, out, out_length);
    }
}

static CK_RV the_rest(void)
{
    CK_SESSION_HANDLE where = session();
    CK_ULONG length;
    CK_BYTE_PTR data = input(&length), out;
    CK_ULONG_PTR out_length;

    out = output(&out_length);
    switch (below(14)) {
    case 0: return p11->C_SessionCancel(where, one_in(2) ? next() : 0xFFFFF);
    case 1: return p11->C_GetOperationState(where, out, out_length);
    case 2: return p11->C_SetOperationState(where, data, length, object(), object());
    case 3: return p11->C_GetFunctionStatus(where);
    case 4: return p11->C_CancelFunction(where);
    case 5: return p11->C_GetSessionValidationFlags(where, below(3), one_in(4) ? NULL : memory(8));
    case 6: return p11->C_MessageEncryptInit(where, mechanism(CKM_AES_GCM), object());
    case 7: return talk(where, data, length, out, out_length);
    case 8: return p11->C_SignMessageBegin(where, data, length);
    case 9: return p11->C_AsyncGetID(where, (CK_UTF8CHAR_PTR)"C_Sign", out_length);
    case 10: return p11->C_Logout(where);
    case 11: return one_in(50) ? p11->C_CloseAllSessions(slot) : p11->C_CloseAllSessions(next());
    case 12: return one_in(4) ? p11->C_CloseSession(where) : p11->C_GetFunctionStatus(where);
    default: return one_in(3) ? p11->C_Finalize(memory(8)) : p11->C_Initialize(NULL);
    }
}

/* Messages that are signed, states, calls that are pending. */
static CK_RV sign_messages(CK_SESSION_HANDLE where, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR out,
                           CK_ULONG_PTR out_length)
{
    static const CK_MECHANISM_TYPE types[] = {CKM_SHA256_HMAC, CKM_ECDSA_SHA256, CKM_AES_CMAC, CKM_ECDSA, CKM_EDDSA};
    CK_MECHANISM_TYPE type = types[below(COUNT(types))];
    CK_ULONG size = one_in(8) ? next() : 0, signature_length;
    CK_BYTE_PTR signature = input(&signature_length);

    switch (below(12)) {
    case 0:
    case 1: return p11->C_MessageSignInit(where, mechanism(type), object());
    case 2: return p11->C_MessageVerifyInit(where, mechanism(type), object());
    case 3: return p11->C_SignMessageBegin(where, NULL, size);
    case 4: return p11->C_SignMessageNext(where, NULL, size, data, length, out, one_in(2) ? NULL : out_length);
    case 5: return p11->C_VerifyMessage(where, NULL, size, data, length, signature, signature_length);
    case 6: return p11->C_VerifyMessageBegin(where, NULL, size);
    case 7: return p11->C_VerifyMessageNext(where, NULL, size, data, length, signature, signature_length);
    case 8: return one_in(4) ? p11->C_MessageSignFinal(where) : p11->C_MessageVerifyFinal(where);
    default: return p11->C_SignMessage(where, NULL, size, data, length, out, out_length);
    }
}

static CK_RV keep_states(CK_SESSION_HANDLE where, CK_BYTE_PTR data, CK_ULONG length)
{
    static _Thread_local unsigned char state[36];
    CK_ULONG size = sizeof state;
    CK_BYTE_PTR copy;

    if (one_in(3))
        return p11->C_DigestInit(where, mechanism(CKM_SHA256));
    if (one_in(3))
        return p11->C_DigestUpdate(where, data, length);
    if (one_in(2))
        return p11->C_GetOperationState(where, state, &size);
    copy = memory(sizeof state);
    memcpy(copy, state, sizeof state);
    if (one_in(4))
        copy[below(sizeof state)] ^= (unsigned char)next();
    return p11->C_SetOperationState(where, copy, one_in(8) ? below(36) : 36, one_in(8) ? object() : 0,
                                    one_in(3) ? object() : 0);
}

static CK_RV pending(CK_SESSION_HANDLE where, CK_BYTE_PTR data, CK_ULONG length)
{
    static char *const names[] = {"C_GenerateKeyPair", "C_GenerateKey", "C_Sign", "C_Digest", "C_Login", "C", ""};
    static _Atomic CK_ULONG known;
    CK_ASYNC_DATA *result = one_in(20) ? NULL : memory(sizeof *result);
    CK_UTF8CHAR_PTR name = (CK_UTF8CHAR_PTR)(one_in(20) ? NULL : names[one_in(2) ? 0 : below(COUNT(names))]);
    CK_ULONG id = known;
    CK_RV rv;

    if (result != NULL && !one_in(10))
        result->ulVersion = 0;
    switch (below(5)) {
    case 0:
        rv = p11->C_AsyncGetID(where, name, one_in(20) ? NULL : &id);
        known = id;
        return rv;
    case 1: return p11->C_AsyncJoin(where, name, one_in(4) ? next() : id, data, length);
    default: return p11->C_AsyncComplete(where, name, result);
    }
}

static CK_RV wrap_apart(CK_SESSION_HANDLE where, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR out,
                        CK_ULONG_PTR out_length)
{
    CK_GCM_WRAP_PARAMS *made = memory(sizeof *made);
    CK_MECHANISM_PTR how = memory(sizeof *how);
    CK_ULONG count, tag;
    CK_ATTRIBUTE_PTR pairs = template(&count, 0);

    how->mechanism = one_in(8) ? CKM_AES_CCM : CKM_AES_GCM;
    how->pParameter = made;
    made->ulIvLen = one_in(8) ? next() : 12;
    made->pIv = made->ulIvLen == 12 ? memory(12) : NULL;
    made->ulIvFixedBits = one_in(4) ? next() : 0;
    made->ivGenerator = below(6);
    if (one_in(2)) {
        CK_GCM_MESSAGE_PARAMS *message = (CK_GCM_MESSAGE_PARAMS *)made;
        how->ulParameterLen = one_in(8) ? below(sizeof *made) : sizeof *message;
        tag = one_in(8) ? below(200) : 128;
        message->pTag = one_in(8) ? NULL : memory(tag / 8 + 1);
        message->ulTagBits = tag;
        if (one_in(2))
            return p11->C_WrapKeyAuthenticated(where, how, object(), object(), data, length, out, out_length);
        return p11->C_UnwrapKeyAuthenticated(where, how, object(), data, length, pairs, count, data,
                                             length, place());
    }
    how->ulParameterLen = sizeof *made;
    made->pAAD = data;
    made->ulAADLen = length;
    made->ulTagBits = one_in(4) ? next() : 128;
    if (one_in(2))
        return p11->C_WrapKey(where, how, object(), object(), out, out_length);
    return p11->C_UnwrapKey(where, how, object(), data, length, pairs, count, place());
}

static CK_RV newer(void)
{
    CK_SESSION_HANDLE where = session();
    CK_ULONG length;
    CK_BYTE_PTR data = input(&length), out;
    CK_ULONG_PTR out_length;

    out = output(&out_length);
    switch (below(4)) {
    case 0: return sign_messages(where, data, length, out, out_length);
    case 1: return keep_states(where, data, length);
    case 2: return pending(where, data, length);
    default: return wrap_apart(where, data, length, out, out_length);
    }
}

static CK_RV again(void)
{
    CK_RV rv = p11->C_Finalize(NULL);

    return rv != CKR_OK ? rv : p11->C_Initialize(NULL);
}

static struct {
    const char *name;
    CK_RV (*call)(void);
    unsigned weight;
    _Atomic unsigned long succeeded;
} kinds[] = {
    {"open_one", open_one, 6, 0}, {"log_in", log_in, 4, 0}, {"set_pins", set_pins, 1, 0}, {"look_around", look_around, 8, 0},
    {"handle_objects", handle_objects, 20, 0}, {"manage_keys", manage_keys, 16, 0}, {"operate", operate, 60, 0},
    {"operate_well", operate_well, 12, 0}, {"the_rest", the_rest, 8, 0}, {"newer", newer, 12, 0},
};

static void one_call(void)
{
    unsigned total = 0, chosen;
    size_t i;
    CK_RV rv;

    for (i = 0; i < COUNT(kinds); i++)
        total += kinds[i].weight;
    chosen = (unsigned)below(total);
    for (i = 0; chosen >= kinds[i].weight; i++)
        chosen -= kinds[i].weight;
    function = kinds[i].name;
    rv = one_in(5000) ? again() : kinds[i].call();
    kinds[i].succeeded += rv == CKR_OK;
    if (rv == CKR_GENERAL_ERROR || rv == CKR_FUNCTION_FAILED || (rv == CKR_CRYPTOKI_NOT_INITIALIZED && threads == 1))
        fail("an answer without a reason", rv);
    if (rv >= 0x1000)
        fail("an answer that is none", rv);
    else
        answers[rv] += 1;
    release();
}

static int prepare(void)
{
    CK_ULONG count = 1;
    CK_SESSION_HANDLE first;
    CK_SLOT_ID found[64];
    CK_UTF8CHAR label[33] = "fuzzed                          ";
    CK_RV rv;

    count = 64;
    if ((rv = p11->C_Initialize(NULL)) || (rv = p11->C_GetSlotList(CK_TRUE, NULL, &count)) ||
        (count = 64, rv = p11->C_GetSlotList(CK_TRUE, found, &count)))
        return printf("the module does not start: 0x%lx\n", rv), 0;
    slot = found[0];
    if ((rv = p11->C_InitToken(slot, so_pin, PIN_LENGTH, label)) ||
        (rv = p11->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &first)) ||
        (rv = p11->C_Login(first, CKU_SO, so_pin, PIN_LENGTH)) || (rv = p11->C_InitPIN(first, user_pin, PIN_LENGTH)) ||
        (rv = p11->C_Logout(first)) || (rv = p11->C_Login(first, CKU_USER, user_pin, PIN_LENGTH)))
        return printf("the token cannot be made: 0x%lx\n", rv), 0;
    for (count = 0; count < SESSIONS; count++)
        sessions[count] = first;
    return 1;
}

/* After all that: a login, a key, a signature that verifies. */
static int still_works(void)
{
    CK_MECHANISM make = {CKM_EC_KEY_PAIR_GEN, NULL, 0}, sign = {CKM_ECDSA_SHA256, NULL, 0};
    CK_ATTRIBUTE public_template[] = {{CKA_EC_PARAMS, curve, sizeof curve}};
    CK_OBJECT_HANDLE public_key, private_key;
    CK_BYTE signature[64];
    CK_ULONG length = sizeof signature;
    CK_SESSION_HANDLE last;
    CK_RV rv;

    p11->C_CloseAllSessions(slot);
    if ((rv = p11->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &last)) ||
        (rv = p11->C_Login(last, CKU_USER, user_pin, PIN_LENGTH)) ||
        (rv = p11->C_GenerateKeyPair(last, &make, public_template, 1, NULL, 0, &public_key, &private_key)) ||
        (rv = p11->C_SignInit(last, &sign, private_key)) || (rv = p11->C_Sign(last, value, 32, signature, &length)) ||
        (rv = p11->C_VerifyInit(last, &sign, public_key)) || (rv = p11->C_Verify(last, value, 32, signature, length)) ||
        (rv = p11->C_Finalize(NULL)))
        return printf("the module does not work any more: 0x%lx\n", (unsigned long)rv), 0;
    return 1;
}

static void *work(void *seed)
{
    random_state = *(uint64_t *)seed;
    for (call_number = 0; call_number < calls && failures < 1000; call_number++)
        one_call();
    return NULL;
}

static void run(uint64_t seed)
{
    pthread_t started[64];
    uint64_t seeds[64];
    unsigned long i;

    for (i = 0; i < threads; i++) {
        seeds[i] = (seed + i) * 0x9E3779B97F4A7C15ULL | 1;
        if (i != 0 && pthread_create(&started[i], NULL, work, &seeds[i]) != 0)
            abort();
    }
    work(&seeds[0]);
    for (i = 1; i < threads; i++)
        pthread_join(started[i], NULL);
}

int main(int argc, char **argv)
{
    CK_RV (*get_interface)(CK_UTF8CHAR_PTR, CK_VERSION_PTR, CK_INTERFACE_PTR_PTR, CK_FLAGS);
    CK_VERSION version = {3, 2};
    CK_INTERFACE_PTR interface;
    unsigned long i;
    void *library;

    if (argc != 5)
        return fprintf(stderr, "usage: fuzz_host LIBRARY CALLS SEED THREADS\n"), 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    calls = strtoul(argv[2], NULL, 10);
    threads = strtoul(argv[4], NULL, 10) % 64;
    if ((library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL)) == NULL)
        return fprintf(stderr, "%s\n", dlerror()), 2;
    *(void **)&get_interface = dlsym(library, "C_GetInterface");
    if (get_interface == NULL || get_interface((CK_UTF8CHAR_PTR) "PKCS 11", &version, &interface, 0) != CKR_OK)
        return fprintf(stderr, "no PKCS 11 3.2\n"), 2;
    p11 = interface->pFunctionList;
    if (!prepare())
        return 1;
    run(strtoull(argv[3], NULL, 10));
    p11->C_Initialize(NULL); /* a thread may have been the last to finalize */
    for (i = 0; i < COUNT(answers); i++)
        if (answers[i] != 0)
            printf("answer 0x%03lx: %lu\n", i, (unsigned long)answers[i]);
    for (i = 0; i < COUNT(kinds); i++)
        printf("succeeded %s: %lu\n", kinds[i].name, (unsigned long)kinds[i].succeeded);
    printf("%lu calls, %d failures\n", call_number * threads, failures);
    return still_works() && failures == 0 ? 0 : 1;
}
