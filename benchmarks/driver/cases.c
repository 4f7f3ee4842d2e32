/* Sessions, random bytes, digests, MACs and ciphers of a module. */
#include <stdlib.h>
#include <string.h>

#include "driver.h"

CK_BBOOL yes = CK_TRUE, no = CK_FALSE;

int failed(run *run, const char *call, CK_RV rv) {
    run->call = call;
    run->rv = rv;
    return 1;
}

int stopped(worker *worker, const char *call, CK_RV rv) {
    worker->call = call;
    worker->rv = rv;
    return 1;
}

/* Say whether the module has a mechanism, and on which slot the case takes place. */
int needs(run *run, CK_MECHANISM_TYPE mechanism) {
    if (module_slot_for(mechanism, &run->slot))
        return 0;
    run->lacks = mechanism;
    run->is_lacking = 1;
    return 1;
}

#define STEP(name, arguments)                  \
    do {                                       \
        CK_RV rv = ck->name arguments;         \
        if (rv != CKR_OK)                      \
            return stopped(self, #name, rv);   \
    } while (0)

int session_open(worker *self) {
    STEP(C_OpenSession, (self->run->slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &self->session));
    return 0;
}

void session_close(worker *self) {
    if (self->session != 0)
        ck->C_CloseSession(self->session);
}

void key_destroy(run *run) {
    if (run->key != 0)
        ck->C_DestroyObject(main_session, run->key);
    if (run->other != 0)
        ck->C_DestroyObject(main_session, run->other);
}

static int session_info(worker *self) {
    CK_SESSION_INFO info;
    STEP(C_GetSessionInfo, (self->session, &info));
    return 0;
}

static int session_open_close(worker *self) {
    CK_SESSION_HANDLE session;
    STEP(C_OpenSession, (self->run->slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session));
    STEP(C_CloseSession, (session));
    return 0;
}

/* Every session of the module shares one login: the case takes it from the main session and gives it back. */
static int login_prepare(run *run) {
    CK_RV rv = ck->C_Logout(main_session);
    return rv == CKR_OK ? 0 : failed(run, "C_Logout", rv);
}

static int login_step(worker *self) {
    CK_SESSION_HANDLE session;
    STEP(C_OpenSession, (self->run->slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session));
    STEP(C_Login, (session, CKU_USER, (CK_UTF8CHAR *)user_pin, strlen(user_pin)));
    STEP(C_Logout, (session));
    STEP(C_CloseSession, (session));
    return 0;
}

static void login_finish(run *run) {
    (void)run;
    ck->C_Login(main_session, CKU_USER, (CK_UTF8CHAR *)user_pin, strlen(user_pin));
}

static int random_step(worker *self) {
    STEP(C_GenerateRandom, (self->session, self->output, self->run->size));
    return 0;
}

static int mechanism_prepare(run *run) { return needs(run, run->mechanism); }

static int digest_step(worker *self) {
    CK_MECHANISM mechanism = {self->run->mechanism, NULL, 0};
    CK_ULONG length = 64, done, part;

    STEP(C_DigestInit, (self->session, &mechanism));
    if (self->run->parts == 0) {
        STEP(C_Digest, (self->session, self->input, self->run->size, self->output, &length));
        return 0;
    }
    for (done = 0; done < self->run->size; done += part) {
        part = self->run->size - done < CHUNK ? self->run->size - done : CHUNK;
        STEP(C_DigestUpdate, (self->session, self->input + done, part));
    }
    STEP(C_DigestFinal, (self->session, self->output, &length));
    return 0;
}

static int secret_prepare(run *run, CK_KEY_TYPE type) {
    static CK_BYTE value[32] = {7};
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_BBOOL signs = type == CKK_AES ? CK_FALSE : CK_TRUE, encrypts = !signs;
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof class},     {CKA_KEY_TYPE, &type, sizeof type},   {CKA_TOKEN, &no, 1},
        {CKA_PRIVATE, &yes, 1},                {CKA_VALUE, value, sizeof value},     {CKA_SIGN, &signs, 1},
        {CKA_VERIFY, &signs, 1},               {CKA_ENCRYPT, &encrypts, 1},          {CKA_DECRYPT, &encrypts, 1},
    };
    CK_RV rv;

    if (needs(run, run->mechanism))
        return 1;
    rv = ck->C_CreateObject(main_session, template, sizeof template / sizeof *template, &run->key);
    return rv == CKR_OK ? 0 : failed(run, "C_CreateObject", rv);
}

static int hmac_prepare(run *run) { return secret_prepare(run, CKK_GENERIC_SECRET); }

static int hmac_step(worker *self) {
    CK_MECHANISM mechanism = {self->run->mechanism, NULL, 0};
    CK_ULONG length = 64;

    STEP(C_SignInit, (self->session, &mechanism, self->run->key));
    STEP(C_Sign, (self->session, self->input, self->run->size, self->output, &length));
    return 0;
}

static int cipher_prepare(run *run) { return secret_prepare(run, CKK_AES); }

static int cipher_step(worker *self) {
    CK_GCM_PARAMS gcm = {self->iv, 12, 96, NULL, 0, 128};
    CK_AES_CTR_PARAMS ctr = {.ulCounterBits = 128};
    CK_MECHANISM mechanism = {self->run->mechanism, self->iv, 16};
    CK_ULONG size = self->run->size, room = size + 64, length = room, done, part, written = 0;

    memcpy(self->iv + 4, &self->turn, sizeof self->turn);
    self->turn++;
    if (mechanism.mechanism == CKM_AES_GCM) {
        mechanism.pParameter = &gcm;
        mechanism.ulParameterLen = sizeof gcm;
    } else if (mechanism.mechanism == CKM_AES_CTR) {
        memcpy(ctr.cb, self->iv, 16);
        mechanism.pParameter = &ctr;
        mechanism.ulParameterLen = sizeof ctr;
    }
    STEP(C_EncryptInit, (self->session, &mechanism, self->run->key));
    if (self->run->parts == 0) {
        STEP(C_Encrypt, (self->session, self->input, size, self->output, &length));
        return 0;
    }
    for (done = 0; done < size; done += part) {
        part = size - done < CHUNK ? size - done : CHUNK;
        length = room - written;
        STEP(C_EncryptUpdate, (self->session, self->input + done, part, self->output + written, &length));
        written += length;
    }
    length = room - written;
    STEP(C_EncryptFinal, (self->session, self->output + written, &length));
    return 0;
}

/* Many open sessions: `size` of them, each digests in its turn. */
static int sessions_prepare(run *run) {
    if (needs(run, run->mechanism))
        return 1;
    run->sessions = calloc(run->size, sizeof *run->sessions);
    if (run->sessions == NULL)
        abort();
    for (; run->session_count < run->size; run->session_count++) {
        CK_RV rv =
            ck->C_OpenSession(run->slot, CKF_SERIAL_SESSION, NULL, NULL, &run->sessions[run->session_count]);
        if (rv != CKR_OK)
            return failed(run, "C_OpenSession", rv);
    }
    return 0;
}

static int sessions_step(worker *self) {
    CK_MECHANISM mechanism = {self->run->mechanism, NULL, 0};
    CK_SESSION_HANDLE session = self->run->sessions[self->turn++ % self->run->session_count];
    CK_ULONG length = 64;

    STEP(C_DigestInit, (session, &mechanism));
    STEP(C_Digest, (session, self->input, 64, self->output, &length));
    return 0;
}

static void sessions_finish(run *run) {
    while (run->session_count > 0)
        ck->C_CloseSession(run->sessions[--run->session_count]);
    free(run->sessions);
}

const operation module_operations[] = {
    {"session-info", NULL, session_open, session_info, session_close, NULL},
    {"session-open-close", NULL, NULL, session_open_close, NULL, NULL},
    {"login", login_prepare, NULL, login_step, NULL, login_finish},
    {"random", NULL, session_open, random_step, session_close, NULL},
    {"digest", mechanism_prepare, session_open, digest_step, session_close, NULL},
    {"hmac", hmac_prepare, session_open, hmac_step, session_close, key_destroy},
    {"cipher", cipher_prepare, session_open, cipher_step, session_close, key_destroy},
    {"sessions", sessions_prepare, NULL, sessions_step, NULL, sessions_finish},
    {NULL, NULL, NULL, NULL, NULL, NULL},
};
