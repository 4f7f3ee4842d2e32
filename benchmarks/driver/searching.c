/* Objects: made and destroyed, found and read among many, and the memory that they and sessions take. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver.h"

#define STEP(name, arguments)                  \
    do {                                       \
        CK_RV rv = ck->name arguments;         \
        if (rv != CKR_OK)                      \
            return stopped(self, #name, rv);   \
    } while (0)

#define MOST_OBJECTS 10000000UL

static unsigned long grown; /* token objects with the labels 0 … grown - 1 are there */

static CK_ULONG label_of(unsigned long number, char *label) { return (CK_ULONG)sprintf(label, "ferrohsm-bench-%08lu", number); }

/* Create an AES key with a label and an id of its number. */
int secret_create(CK_SESSION_HANDLE session, CK_BBOOL token, unsigned long number, CK_OBJECT_HANDLE *object,
                  CK_RV *rv) {
    static CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    static CK_KEY_TYPE type = CKK_AES;
    CK_BYTE value[32] = {1};
    char label[64];
    CK_ULONG length = label_of(number, label);
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof class}, {CKA_KEY_TYPE, &type, sizeof type}, {CKA_TOKEN, &token, 1},
        {CKA_PRIVATE, &yes, 1},            {CKA_LABEL, label, length},         {CKA_ID, &number, sizeof number},
        {CKA_ENCRYPT, &yes, 1},            {CKA_VALUE, value, sizeof value},
    };

    memcpy(value, &number, sizeof number);
    *rv = ck->C_CreateObject(session, template, sizeof template / sizeof *template, object);
    return *rv != CKR_OK;
}

static CK_RV find(CK_SESSION_HANDLE session, CK_ATTRIBUTE *wanted, CK_OBJECT_HANDLE *objects, CK_ULONG room,
                  CK_ULONG *found) {
    CK_RV rv = ck->C_FindObjectsInit(session, wanted, 1), end;

    if (rv != CKR_OK)
        return rv;
    rv = ck->C_FindObjects(session, objects, room, found);
    end = ck->C_FindObjectsFinal(session);
    return rv != CKR_OK ? rv : end;
}

static int is_there(unsigned long number, CK_RV *rv) {
    char label[64];
    CK_ATTRIBUTE wanted = {CKA_LABEL, label, label_of(number, label)};
    CK_OBJECT_HANDLE object;
    CK_ULONG found = 0;

    *rv = find(main_session, &wanted, &object, 1, &found);
    return *rv == CKR_OK && found == 1;
}

/* Find out how many an earlier process has made: they are numbered without gaps. */
static void recount(unsigned long most, CK_RV *rv) {
    unsigned long missing = most;

    if (!is_there(0, rv))
        return;
    grown = 1;
    while (grown < missing) {
        unsigned long middle = grown + (missing - grown) / 2;
        if (is_there(middle, rv))
            grown = middle + 1;
        else
            missing = middle;
    }
}

unsigned long objects_count(unsigned long most, CK_RV *rv) {
    *rv = CKR_OK;
    if (grown == 0)
        recount(most, rv);
    return grown;
}

int objects_grow(unsigned long count, CK_RV *rv) {
    CK_OBJECT_HANDLE object;

    if (grown == 0)
        recount(count, rv);
    for (; grown < count; grown++)
        if (secret_create(main_session, CK_TRUE, grown, &object, rv) != 0)
            return 1;
    return 0;
}

/* Destroy them again, the last one first, so that what is left is without gaps whenever this ends. */
int objects_shrink(CK_RV *rv) {
    if (grown == 0)
        recount(MOST_OBJECTS, rv);
    while (grown > 0) {
        char label[64];
        CK_ATTRIBUTE wanted = {CKA_LABEL, label, label_of(grown - 1, label)};
        CK_OBJECT_HANDLE object;
        CK_ULONG found = 0;

        *rv = find(main_session, &wanted, &object, 1, &found);
        if (*rv == CKR_OK && found == 1)
            *rv = ck->C_DestroyObject(main_session, object);
        if (*rv != CKR_OK)
            return 1;
        grown--;
    }
    return 0;
}

static int create_step(worker *self, CK_BBOOL token) {
    CK_OBJECT_HANDLE object;
    CK_RV rv;

    /* Numbers that no object of another thread or of objects_grow has. */
    if (secret_create(self->session, token, 90000000UL + self->index * 1000000UL + self->turn++, &object, &rv) != 0)
        return stopped(self, "C_CreateObject", rv);
    STEP(C_DestroyObject, (self->session, object));
    return 0;
}

static int session_object_step(worker *self) { return create_step(self, CK_FALSE); }
static int token_object_step(worker *self) { return create_step(self, CK_TRUE); }

/* Another one of the `size` objects in each turn, far from the one before. */
static unsigned long another(worker *self) { return (self->turn++ * 7919UL) % self->run->size; }

static int find_label_of(worker *self, unsigned long number) {
    char label[64];
    CK_ATTRIBUTE wanted = {CKA_LABEL, label, label_of(number, label)};
    CK_OBJECT_HANDLE object;
    CK_ULONG found = 0;
    CK_RV rv = find(self->session, &wanted, &object, 1, &found);

    return rv == CKR_OK && found == 1 ? 0 : stopped(self, "C_FindObjects", rv != CKR_OK ? rv : CKR_OBJECT_HANDLE_INVALID);
}

static int find_label_step(worker *self) { return find_label_of(self, another(self)); }
static int find_same_label_step(worker *self) { return find_label_of(self, self->index); }

static int find_id_step(worker *self) {
    unsigned long number = another(self);
    CK_ATTRIBUTE wanted = {CKA_ID, &number, sizeof number};
    CK_OBJECT_HANDLE object;
    CK_ULONG found = 0;
    CK_RV rv = find(self->session, &wanted, &object, 1, &found);

    return rv == CKR_OK && found == 1 ? 0 : stopped(self, "C_FindObjects", rv != CKR_OK ? rv : CKR_OBJECT_HANDLE_INVALID);
}

static int read_prepare(run *run) {
    unsigned long number;

    for (number = 0; number < 64 && number < run->size; number++) {
        char label[64];
        CK_ATTRIBUTE wanted = {CKA_LABEL, label, label_of(number, label)};
        CK_ULONG found = 0;
        CK_RV rv = find(main_session, &wanted, &run->handles[number], 1, &found);

        if (rv != CKR_OK || found != 1)
            return failed(run, "C_FindObjects", rv != CKR_OK ? rv : CKR_OBJECT_HANDLE_INVALID);
        run->handle_count++;
    }
    return 0;
}

static CK_RV read_three(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object) {
    CK_ULONG type, number;
    char label[64];
    CK_ATTRIBUTE wanted[] = {
        {CKA_KEY_TYPE, &type, sizeof type}, {CKA_LABEL, label, sizeof label}, {CKA_ID, &number, sizeof number}};

    return ck->C_GetAttributeValue(session, object, wanted, 3);
}

static int read_step(worker *self) {
    CK_RV rv = read_three(self->session, self->run->handles[self->turn++ % self->run->handle_count]);
    return rv == CKR_OK ? 0 : stopped(self, "C_GetAttributeValue", rv);
}

static int read_one_step(worker *self) {
    CK_RV rv = read_three(self->session, self->run->handles[0]);
    return rv == CKR_OK ? 0 : stopped(self, "C_GetAttributeValue", rv);
}

/* The bytes of memory that this process has in RAM. */
long resident(void) {
    unsigned long pages = 0, all;
    FILE *file = fopen("/proc/self/statm", "r");

    if (file == NULL)
        return 0;
    if (fscanf(file, "%lu %lu", &all, &pages) != 2)
        pages = 0;
    fclose(file);
    return (long)pages * sysconf(_SC_PAGESIZE);
}

long memory_of_sessions(unsigned long count, CK_RV *rv) {
    CK_SESSION_HANDLE *sessions = calloc(count, sizeof *sessions);
    CK_SESSION_INFO info;
    unsigned long open;
    long before, after;

    if (sessions == NULL)
        abort();
    memset(sessions, 1, count * sizeof *sessions); /* our own memory is there before */
    before = resident();
    for (open = 0; open < count; open++) {
        *rv = ck->C_OpenSession(token_slot, CKF_SERIAL_SESSION, NULL, NULL, &sessions[open]);
        if (*rv == CKR_OK)
            *rv = ck->C_GetSessionInfo(sessions[open], &info);
        if (*rv != CKR_OK)
            break;
    }
    after = resident();
    while (open > 0)
        ck->C_CloseSession(sessions[--open]);
    free(sessions);
    return after - before;
}

long memory_of_objects(unsigned long count, CK_RV *rv) {
    CK_SESSION_HANDLE session; /* its end is the objects' */
    CK_OBJECT_HANDLE object;
    unsigned long number;
    long before;

    *rv = ck->C_OpenSession(token_slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session);
    if (*rv != CKR_OK)
        return 0;
    before = resident();
    for (number = 0; number < count && *rv == CKR_OK; number++)
        secret_create(session, CK_FALSE, 80000000UL + number, &object, rv);
    before = resident() - before;
    ck->C_CloseSession(session);
    return before;
}

/* What it takes to have found and read every token object once. */
long memory_of_touched(unsigned long *count, CK_RV *rv) {
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_ATTRIBUTE wanted = {CKA_CLASS, &class, sizeof class};
    CK_OBJECT_HANDLE *objects = calloc(grown + 1, sizeof *objects);
    CK_ULONG found = 0, index;
    long before;

    if (objects == NULL)
        abort();
    memset(objects, 1, (grown + 1) * sizeof *objects);
    before = resident();
    *rv = find(main_session, &wanted, objects, grown, &found);
    for (index = 0; index < found && *rv == CKR_OK; index++)
        *rv = read_three(main_session, objects[index]);
    before = resident() - before;
    free(objects);
    *count = found;
    return before;
}

const operation search_operations[] = {
    {"session-object", NULL, session_open, session_object_step, session_close, NULL},
    {"token-object", NULL, session_open, token_object_step, session_close, NULL},
    {"find-label", NULL, session_open, find_label_step, session_close, NULL},
    {"find-same-label", NULL, session_open, find_same_label_step, session_close, NULL},
    {"find-id", NULL, session_open, find_id_step, session_close, NULL},
    {"read", read_prepare, session_open, read_step, session_close, NULL},
    {"read-one", read_prepare, session_open, read_one_step, session_close, NULL},
    {NULL, NULL, NULL, NULL, NULL, NULL},
};
