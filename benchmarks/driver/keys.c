/* Key pairs of a module: signatures, agreement, encapsulation, and how long their generation takes. */
#include <stdlib.h>
#include <string.h>

#include "driver.h"

#define STEP(name, arguments)                  \
    do {                                       \
        CK_RV rv = ck->name arguments;         \
        if (rv != CKR_OK)                      \
            return stopped(self, #name, rv);   \
    } while (0)

static CK_BYTE p256[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
static CK_BYTE ed25519[] = {0x06, 0x03, 0x2b, 0x65, 0x70};
static CK_BYTE exponent[] = {1, 0, 1};
static CK_BYTE id[] = "bench";

/* Generate a pair of session keys with which `usage` (CKA_SIGN, CKA_DERIVE, CKA_DECAPSULATE) is possible. */
static CK_RV generate(CK_SESSION_HANDLE session, CK_MECHANISM_TYPE type, CK_ATTRIBUTE_TYPE usage,
                      CK_OBJECT_HANDLE *public, CK_OBJECT_HANDLE *private) {
    CK_MECHANISM mechanism = {type, NULL, 0};
    CK_ULONG bits = 2048, set, count = 2;
    CK_ATTRIBUTE public_template[5] = {{CKA_TOKEN, &no, 1}, {CKA_ID, id, sizeof id - 1}};
    CK_ATTRIBUTE private_template[] = {
        {CKA_TOKEN, &no, 1}, {CKA_PRIVATE, &yes, 1}, {CKA_ID, id, sizeof id - 1}, {usage, &yes, 1}};

    switch (type) {
    case CKM_RSA_PKCS_KEY_PAIR_GEN:
        public_template[count++] = (CK_ATTRIBUTE){CKA_MODULUS_BITS, &bits, sizeof bits};
        public_template[count++] = (CK_ATTRIBUTE){CKA_PUBLIC_EXPONENT, exponent, sizeof exponent};
        break;
    case CKM_EC_KEY_PAIR_GEN:
        public_template[count++] = (CK_ATTRIBUTE){CKA_EC_PARAMS, p256, sizeof p256};
        break;
    case CKM_EC_EDWARDS_KEY_PAIR_GEN:
        public_template[count++] = (CK_ATTRIBUTE){CKA_EC_PARAMS, ed25519, sizeof ed25519};
        break;
    case CKM_ML_KEM_KEY_PAIR_GEN:
    case CKM_ML_DSA_KEY_PAIR_GEN:
    case CKM_SLH_DSA_KEY_PAIR_GEN:
        set = type == CKM_ML_KEM_KEY_PAIR_GEN   ? CKP_ML_KEM_768
              : type == CKM_ML_DSA_KEY_PAIR_GEN ? CKP_ML_DSA_65
                                                : CKP_SLH_DSA_SHA2_128F;
        public_template[count++] = (CK_ATTRIBUTE){CKA_PARAMETER_SET, &set, sizeof set};
    }
    if (usage == CKA_SIGN)
        public_template[count++] = (CK_ATTRIBUTE){CKA_VERIFY, &yes, 1};
    else if (usage == CKA_DECAPSULATE)
        public_template[count++] = (CK_ATTRIBUTE){CKA_ENCAPSULATE, &yes, 1};
    return ck->C_GenerateKeyPair(session, &mechanism, public_template, count, private_template,
                                 sizeof private_template / sizeof *private_template, public, private);
}

static int pair_prepare(run *run, CK_MECHANISM_TYPE generation, CK_ATTRIBUTE_TYPE usage) {
    CK_RV rv;

    if (needs(run, run->mechanism) || needs(run, generation))
        return 1;
    /* Keys of the main session's slot: NSS keeps the two apart. */
    run->slot = token_slot;
    rv = generate(main_session, generation, usage, &run->other, &run->key);
    return rv == CKR_OK ? 0 : failed(run, "C_GenerateKeyPair", rv);
}

static CK_MECHANISM_TYPE generation_of(CK_MECHANISM_TYPE mechanism) {
    switch (mechanism) {
    case CKM_ECDSA:
        return CKM_EC_KEY_PAIR_GEN;
    case CKM_EDDSA:
        return CKM_EC_EDWARDS_KEY_PAIR_GEN;
    case CKM_ML_DSA:
        return CKM_ML_DSA_KEY_PAIR_GEN;
    case CKM_SLH_DSA:
        return CKM_SLH_DSA_KEY_PAIR_GEN;
    default:
        return CKM_RSA_PKCS_KEY_PAIR_GEN;
    }
}

/* Make a pair, and a signature by it, whose length is that of all. */
static int sign_prepare(run *run) {
    CK_MECHANISM mechanism = {run->mechanism, NULL, 0};
    CK_BYTE message[256];
    CK_RV rv;

    if (pair_prepare(run, generation_of(run->mechanism), CKA_SIGN))
        return 1;
    memset(message, 'v', sizeof message);
    rv = ck->C_SignInit(main_session, &mechanism, run->key);
    if (rv == CKR_OK)
        rv = ck->C_Sign(main_session, message, run->size, NULL, &run->blob_length);
    if (rv == CKR_OK && run->mechanism == CKM_EDDSA)
        run->blob_length = 64; /* NSS 3.110 tells more, and takes no more room than that */
    if (rv == CKR_OK && run->blob_length > sizeof run->blob)
        rv = CKR_BUFFER_TOO_SMALL;
    if (rv == CKR_OK)
        rv = ck->C_Sign(main_session, message, run->size, run->blob, &run->blob_length);
    return rv == CKR_OK ? 0 : failed(run, "C_Sign", rv);
}

static int sign_step(worker *self) {
    CK_MECHANISM mechanism = {self->run->mechanism, NULL, 0};
    CK_ULONG length = self->run->blob_length;

    STEP(C_SignInit, (self->session, &mechanism, self->run->key));
    STEP(C_Sign, (self->session, self->input, self->run->size, self->output, &length));
    return 0;
}

static int verify_open(worker *self) {
    memset(self->input, 'v', self->run->size);
    return session_open(self);
}

static int verify_step(worker *self) {
    CK_MECHANISM mechanism = {self->run->mechanism, NULL, 0};

    STEP(C_VerifyInit, (self->session, &mechanism, self->run->other));
    STEP(C_Verify, (self->session, self->input, self->run->size, self->run->blob, self->run->blob_length));
    return 0;
}

static CK_OBJECT_CLASS secret_class = CKO_SECRET_KEY;
static CK_KEY_TYPE generic = CKK_GENERIC_SECRET;
static CK_ULONG secret_length = 32;
static CK_ATTRIBUTE secret_template[] = {
    {CKA_CLASS, &secret_class, sizeof secret_class}, {CKA_KEY_TYPE, &generic, sizeof generic},
    {CKA_TOKEN, &no, 1},                             {CKA_SENSITIVE, &no, 1},
    {CKA_EXTRACTABLE, &yes, 1},                      {CKA_VALUE_LEN, &secret_length, sizeof secret_length},
};
#define SECRET_COUNT (sizeof secret_template / sizeof *secret_template)

static int agree_prepare(run *run) {
    CK_ATTRIBUTE point = {CKA_EC_POINT, run->blob, sizeof run->blob};
    CK_RV rv;

    if (pair_prepare(run, CKM_EC_KEY_PAIR_GEN, CKA_DERIVE))
        return 1;
    rv = ck->C_GetAttributeValue(main_session, run->other, &point, 1);
    if (rv != CKR_OK)
        return failed(run, "C_GetAttributeValue", rv);
    run->blob_length = point.ulValueLen;
    if (run->blob_length == 67) { /* take it out of the OCTET STRING */
        memmove(run->blob, run->blob + 2, 65);
        run->blob_length = 65;
    }
    return 0;
}

static int agree_step(worker *self) {
    CK_ECDH1_DERIVE_PARAMS parameters = {CKD_NULL, 0, NULL, self->run->blob_length, self->run->blob};
    CK_MECHANISM mechanism = {CKM_ECDH1_DERIVE, &parameters, sizeof parameters};
    CK_OBJECT_HANDLE secret;

    STEP(C_DeriveKey, (self->session, &mechanism, self->run->key, secret_template, SECRET_COUNT, &secret));
    STEP(C_DestroyObject, (self->session, secret));
    return 0;
}

static int encapsulate_prepare(run *run) {
    if (ck32 == NULL) {
        run->lacks = CKM_ML_KEM;
        run->is_lacking = 1;
        return 1;
    }
    return pair_prepare(run, CKM_ML_KEM_KEY_PAIR_GEN, CKA_DECAPSULATE);
}

static CK_RV encapsulate(CK_SESSION_HANDLE session, run *run, unsigned char *output, CK_ULONG *length,
                         CK_OBJECT_HANDLE *secret) {
    CK_MECHANISM mechanism = {CKM_ML_KEM, NULL, 0};
    /* The secret's length is the mechanism's. */
    return ck32->C_EncapsulateKey(session, &mechanism, run->other, secret_template, SECRET_COUNT - 1, output, length,
                                  secret);
}

static int encapsulate_step(worker *self) {
    CK_ULONG length = 4000;
    CK_OBJECT_HANDLE secret;
    CK_RV rv = encapsulate(self->session, self->run, self->output, &length, &secret);

    if (rv != CKR_OK)
        return stopped(self, "C_EncapsulateKey", rv);
    STEP(C_DestroyObject, (self->session, secret));
    return 0;
}

static int decapsulate_prepare(run *run) {
    CK_OBJECT_HANDLE secret;
    CK_RV rv;

    if (encapsulate_prepare(run))
        return 1;
    run->blob_length = sizeof run->blob;
    rv = encapsulate(main_session, run, run->blob, &run->blob_length, &secret);
    if (rv != CKR_OK)
        return failed(run, "C_EncapsulateKey", rv);
    ck->C_DestroyObject(main_session, secret);
    return 0;
}

static int decapsulate_step(worker *self) {
    CK_MECHANISM mechanism = {CKM_ML_KEM, NULL, 0};
    CK_OBJECT_HANDLE secret;
    CK_RV rv = ck32->C_DecapsulateKey(self->session, &mechanism, self->run->key, secret_template, SECRET_COUNT - 1,
                                      self->run->blob, self->run->blob_length, &secret);

    if (rv != CKR_OK)
        return stopped(self, "C_DecapsulateKey", rv);
    STEP(C_DestroyObject, (self->session, secret));
    return 0;
}

static int generate_prepare(run *run) {
    int missing = needs(run, run->mechanism);
    run->slot = token_slot;
    return missing;
}

static int generate_pair_step(worker *self) {
    CK_OBJECT_HANDLE public, private;
    CK_ATTRIBUTE_TYPE usage = self->run->mechanism == CKM_ML_KEM_KEY_PAIR_GEN ? CKA_DECAPSULATE : CKA_SIGN;
    CK_RV rv = generate(self->session, self->run->mechanism, usage, &public, &private);

    if (rv != CKR_OK)
        return stopped(self, "C_GenerateKeyPair", rv);
    STEP(C_DestroyObject, (self->session, public));
    STEP(C_DestroyObject, (self->session, private));
    return 0;
}

static int generate_secret_step(worker *self) {
    CK_MECHANISM mechanism = {CKM_AES_KEY_GEN, NULL, 0};
    CK_ATTRIBUTE template[] = {{CKA_TOKEN, &no, 1},
                               {CKA_ENCRYPT, &yes, 1},
                               {CKA_VALUE_LEN, &secret_length, sizeof secret_length}};
    CK_OBJECT_HANDLE key;

    STEP(C_GenerateKey, (self->session, &mechanism, template, 3, &key));
    STEP(C_DestroyObject, (self->session, key));
    return 0;
}

/* Make a P-256 key pair that stays in the token, for programs that find it by its label. */
CK_RV token_pair(const char *label) {
    CK_MECHANISM mechanism = {CKM_EC_KEY_PAIR_GEN, NULL, 0};
    CK_ATTRIBUTE common[] = {
        {CKA_TOKEN, &yes, 1}, {CKA_LABEL, (void *)label, strlen(label)}, {CKA_ID, id, sizeof id - 1}};
    CK_ATTRIBUTE public_template[] = {
        common[0], common[1], common[2], {CKA_VERIFY, &yes, 1}, {CKA_EC_PARAMS, p256, sizeof p256}};
    CK_ATTRIBUTE private_template[] = {
        common[0], common[1], common[2], {CKA_SIGN, &yes, 1}, {CKA_PRIVATE, &yes, 1}};
    CK_OBJECT_HANDLE public, private;

    return ck->C_GenerateKeyPair(main_session, &mechanism, public_template, 5, private_template, 5, &public, &private);
}

const operation key_operations[] = {
    {"sign", sign_prepare, session_open, sign_step, session_close, key_destroy},
    {"verify", sign_prepare, verify_open, verify_step, session_close, key_destroy},
    {"agree", agree_prepare, session_open, agree_step, session_close, key_destroy},
    {"encapsulate", encapsulate_prepare, session_open, encapsulate_step, session_close, key_destroy},
    {"decapsulate", decapsulate_prepare, session_open, decapsulate_step, session_close, key_destroy},
    {"generate-pair", generate_prepare, session_open, generate_pair_step, session_close, NULL},
    {"generate-secret", generate_prepare, session_open, generate_secret_step, session_close, NULL},
    {NULL, NULL, NULL, NULL, NULL, NULL},
};
