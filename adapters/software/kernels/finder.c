/*
 * The short way of a search (ferrohsm/store/glance.py) without the interpreter: one read transaction on a
 * connection of the finder's own, the two lists that the name may stand in, and the objects themselves.
 * Links of the chain and objects are verified as there; whatever is unusual is no answer.
 */
#include "finder.h"
#include "kernel.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LANES = 2, /* connections, so that two threads need not wait for each other */
    TAG = 12,
    OID = 6,
    ENTRY = TAG + OID,
    MAC = 32,
    NONCE = 12,
    GCM_TAG = 16,
    NAME_ROOM = 512,    /* bytes of a name that is looked up */
    BOUND_ROOM = 128,   /* what an object's MAC binds beside its attributes */
    PLAIN_ROOM = 16384, /* the largest attributes that are looked at here */
    WANTED_ROOM = 16,   /* attributes in a template */
    TYPE_SIZE = 8
};

typedef enum { KEY_OF_INDEX, KEY_OF_CHAIN, KEY_OF_OBJECTS, KEY_OF_PRIVATE_INDEX, KEY_OF_SEAL, KEYS } key_name;
typedef enum { BEGIN, COMMIT, WHO, WALK, OBJECT, STATEMENTS } statement_name;

static const char *const texts[STATEMENTS] = {
    [BEGIN] = "BEGIN",
    [COMMIT] = "COMMIT",
    [WHO] = "SELECT value FROM meta WHERE name = 'incarnation'",
    [WALK] = "SELECT key, mac FROM entry WHERE key >= "
             "(SELECT key FROM entry WHERE key <= ? ORDER BY key DESC LIMIT 1) ORDER BY key",
    [OBJECT] = "SELECT private, version, attributes, secrets FROM object WHERE oid = ?",
};

typedef struct {
    ferro_mutex lock;
    sqlite3 *db; /* NULL: closed */
    sqlite3_stmt *statements[STATEMENTS];
    ferro_kernel_op *ops[KEYS];
    uint64_t certain; /* the commit as of which the token is known to be of our incarnation; 0: none */
    uint8_t *plain;   /* an object's attributes, unsealed; in the secret zone */
} lane;

typedef struct {
    ferro_finder face; /* the first, so that the two pointers are one */
    const ferro_sqlite *sqlite;
    uint8_t serial[FERRO_FINDER_NAME];
    /* Changed by those who hold the locks of all lanes, read by those who hold one. */
    uint8_t incarnation[FERRO_FINDER_NAME], login[FERRO_FINDER_NAME];
    ferro_kernel_key *keys[KEYS];
    int abandoned;
    atomic_int open;
    atomic_uint turn;
    lane lanes[LANES];
} finder;

/* What is looked for. */
typedef struct {
    ferro_kernel_attribute attributes[WANTED_ROOM]; /* that an object has to have */
    size_t count;
    uint8_t name[NAME_ROOM]; /* type and value, as they are indexed */
    size_t name_length;
    int lists[2]; /* whether public and private objects are wanted */
} wish;

/* ---- Reading the template ---- */

/* The names in the order in which they are tried. */
static int rank(CK_ATTRIBUTE_TYPE type)
{
    switch (type) {
    case CKA_ID: return 3;
    case CKA_LABEL: return 2;
    case CKA_SUBJECT: return 1;
    default: return 0;
    }
}

/* Whether an attribute is compared byte by byte. Others have forms of their own, or could be hidden. */
static int is_plain(const ferro_kernel_attribute *one)
{
    switch (one->type) {
    case CKA_ID:
    case CKA_LABEL:
    case CKA_SUBJECT:
    case CKA_ISSUER:
        return 1;
    case CKA_CLASS:
    case CKA_KEY_TYPE:
    case CKA_CERTIFICATE_TYPE:
        return one->length == TYPE_SIZE;
    default:
        return 0;
    }
}

static void put_number(uint8_t *to, uint64_t number, size_t size)
{
    size_t i;

    for (i = 0; i < size; i++)
        to[i] = (uint8_t)(number >> 8 * i);
}

static uint64_t number_at(const uint8_t *from, size_t size)
{
    uint64_t number = 0;

    while (size-- > 0)
        number = number << 8 | from[size];
    return number;
}

static int read_wish(wish *to, const ferro_kernel_attribute *wanted, size_t count, int as_user)
{
    const ferro_kernel_attribute *best = NULL;
    size_t i, k;

    to->count = 0;
    to->lists[0] = 1;
    to->lists[1] = as_user;
    if (count > WANTED_ROOM)
        return 0;
    for (i = 0; i < count; i++) {
        const ferro_kernel_attribute *one = &wanted[i];
        for (k = 0; k < i; k++)
            if (wanted[k].type == one->type)
                return 0;
        if (one->type == CKA_TOKEN || one->type == CKA_PRIVATE) {
            int yes;
            if (one->length != 1)
                return 0;
            yes = *(const uint8_t *)one->value != 0;
            if (one->type == CKA_PRIVATE)
                to->lists[!yes] = 0;
            else if (!yes)
                return 0;
            continue;
        }
        if (!is_plain(one))
            return 0;
        to->attributes[to->count++] = *one;
        if (one->length != 0 && rank(one->type) > (best != NULL ? rank(best->type) : 0))
            best = one;
    }
    if (best == NULL || best->length > NAME_ROOM - TYPE_SIZE)
        return 0;
    put_number(to->name, best->type, TYPE_SIZE);
    memcpy(to->name + TYPE_SIZE, best->value, best->length);
    to->name_length = TYPE_SIZE + best->length;
    return 1;
}

/* ---- Computing ---- */

static int mac_of(finder *self, lane *way, key_name name, const void *data, size_t length, uint8_t out[MAC])
{
    CK_MECHANISM mechanism = {CKM_SHA256_HMAC, NULL, 0};
    size_t made = MAC;

    return self->keys[name] != NULL
           && ferro_begin(CKF_SIGN, &mechanism, self->keys[name], &way->ops[name]) == CKR_OK
           && ferro_once(way->ops[name], data, length, out, &made) == CKR_OK && made == MAC;
}

static int unseal(finder *self, lane *way, const uint8_t *sealed, size_t length, uint8_t *bound, size_t bound_length,
                  size_t *made)
{
    uint8_t nonce[NONCE];
    CK_GCM_PARAMS gcm = {nonce, NONCE, 8 * NONCE, bound, (CK_ULONG)bound_length, 8 * GCM_TAG};
    CK_MECHANISM mechanism = {CKM_AES_GCM, &gcm, sizeof gcm};

    if (length < NONCE + GCM_TAG || length > PLAIN_ROOM || self->keys[KEY_OF_SEAL] == NULL)
        return 0;
    memcpy(nonce, sealed, NONCE);
    *made = PLAIN_ROOM;
    return ferro_begin(CKF_DECRYPT, &mechanism, self->keys[KEY_OF_SEAL], &way->ops[KEY_OF_SEAL]) == CKR_OK
           && ferro_once(way->ops[KEY_OF_SEAL], sealed + NONCE, length - NONCE, way->plain, made) == CKR_OK;
}

/* ---- Reading the file ---- */

static int blob(finder *self, sqlite3_stmt *from, int at, const uint8_t **value, size_t *length)
{
    if (self->sqlite->column_type(from, at) != SQLITE_BLOB)
        return 0;
    *value = self->sqlite->column_blob(from, at);
    *length = (size_t)self->sqlite->column_bytes(from, at);
    return *value != NULL || *length == 0;
}

static int is_ours(finder *self, lane *way)
{
    sqlite3_stmt *who = way->statements[WHO];
    const uint8_t *value;
    size_t length;
    int right = self->sqlite->step(who) == SQLITE_ROW && blob(self, who, 0, &value, &length)
                && length == FERRO_FINDER_NAME && memcmp(value, self->incarnation, length) == 0;

    self->sqlite->reset(who);
    return right;
}

/* One entry of the chain, and the MAC of it and its successor. */
typedef struct {
    uint8_t key[ENTRY], mac[TAG];
} link;

static int read_link(finder *self, sqlite3_stmt *from, link *to)
{
    const uint8_t *key, *mac;
    size_t key_length, mac_length;

    if (self->sqlite->step(from) != SQLITE_ROW || !blob(self, from, 0, &key, &key_length)
        || !blob(self, from, 1, &mac, &mac_length) || key_length != ENTRY || mac_length != TAG)
        return 0;
    memcpy(to->key, key, ENTRY);
    memcpy(to->mac, mac, TAG);
    return 1;
}

static int linked(finder *self, lane *way, const link *before, const link *here)
{
    uint8_t both[2 * ENTRY], right[MAC];

    memcpy(both, before->key, ENTRY);
    memcpy(both + ENTRY, here->key, ENTRY);
    return mac_of(self, way, KEY_OF_CHAIN, both, sizeof both, right) && CRYPTO_memcmp(right, before->mac, TAG) == 0;
}

typedef struct {
    long long objects[FERRO_FINDER_MOST];
    int is_private[FERRO_FINDER_MOST];
    size_t count;
} list;

/* Add the objects under a tag, from its predecessor in the chain to its successor. */
static int walk(finder *self, lane *way, const uint8_t tag[TAG], int is_private, list *to)
{
    sqlite3_stmt *from = way->statements[WALK];
    uint8_t start[ENTRY] = {0};
    link before, here;
    int whole = 0, i;

    memcpy(start, tag, TAG);
    if (self->sqlite->bind_blob(from, 1, start, ENTRY, NULL) == SQLITE_OK && read_link(self, from, &before))
        while (read_link(self, from, &here) && linked(self, way, &before, &here)) {
            long long oid = 0;
            if (memcmp(here.key, tag, TAG) != 0) {
                whole = 1;
                break;
            }
            if (to->count == FERRO_FINDER_MOST)
                break;
            for (i = TAG; i < ENTRY; i++)
                oid = oid << 8 | here.key[i];
            to->is_private[to->count] = is_private;
            to->objects[to->count++] = oid;
            before = here;
        }
    self->sqlite->reset(from);
    return whole;
}

/* ---- An object ---- */

typedef enum { DOES_NOT, DOES, UNKNOWN } verdict;

/* Whether encoded attributes (ferrohsm/store/encoding.py) have the values that are wanted. */
static verdict compare(const uint8_t *encoded, size_t length, const wish *wanted)
{
    enum { HEAD = 3, ITEM = 13, IS_BYTES = 0 };
    size_t count, at = HEAD, met = 0, i;

    if (length < HEAD || encoded[0] != 1)
        return UNKNOWN;
    for (count = number_at(encoded + 1, 2); count > 0; count--) {
        const uint8_t *item = encoded + at, *value = item + ITEM;
        uint64_t size;
        if (length - at < ITEM || (size = number_at(item + 9, 4)) > length - at - ITEM)
            return UNKNOWN;
        at += ITEM + (size_t)size;
        for (i = 0; i < wanted->count; i++)
            if (wanted->attributes[i].type == number_at(item, 8)) {
                if (item[8] != IS_BYTES)
                    return UNKNOWN;
                if (wanted->attributes[i].length != size
                    || (size != 0 && memcmp(wanted->attributes[i].value, value, (size_t)size) != 0))
                    return DOES_NOT;
                met++;
            }
    }
    return met == wanted->count ? DOES : UNKNOWN;
}

/* What an object's attributes are bound to: itself, and one sealing of its secrets. Returns its length. */
static size_t bind(finder *self, uint8_t *to, long long oid, int64_t version, int is_private, const uint8_t *secrets,
                   size_t secrets_length)
{
    static const char purpose[] = "attributes";
    uint8_t *start = to;

    memcpy(to, purpose, sizeof purpose); /* with its zero */
    to += sizeof purpose;
    memcpy(to, self->serial, FERRO_FINDER_NAME);
    to += FERRO_FINDER_NAME;
    memcpy(to, self->incarnation, FERRO_FINDER_NAME);
    to += FERRO_FINDER_NAME;
    put_number(to, (uint64_t)oid, 8);
    put_number(to + 8, (uint64_t)version, 8);
    to[16] = (uint8_t)is_private;
    to += 17;
    if (secrets_length != 0) {
        memcpy(to, secrets, NONCE);
        memcpy(to + NONCE, secrets + secrets_length - GCM_TAG, GCM_TAG);
        to += NONCE + GCM_TAG;
    }
    return (size_t)(to - start);
}

/* The verified attributes are what is compared; `way->plain` is used for both kinds of objects. */
static verdict judge(finder *self, lane *way, sqlite3_stmt *row, long long oid, int is_private, const wish *wanted)
{
    const uint8_t *stored, *secrets;
    size_t stored_length, secrets_length, bound_length, length;
    uint8_t bound[BOUND_ROOM], right[MAC];
    verdict found = UNKNOWN;

    if (self->sqlite->column_type(row, 0) != SQLITE_INTEGER || self->sqlite->column_type(row, 1) != SQLITE_INTEGER
        || self->sqlite->column_int64(row, 0) != is_private || !blob(self, row, 2, &stored, &stored_length)
        || !blob(self, row, 3, &secrets, &secrets_length) || (secrets_length != 0 && secrets_length < NONCE + GCM_TAG))
        return UNKNOWN;
    bound_length = bind(self, bound, oid, self->sqlite->column_int64(row, 1), is_private, secrets, secrets_length);
    if (is_private) {
        if (unseal(self, way, stored, stored_length, bound, bound_length, &length)) {
            found = compare(way->plain, length, wanted);
            ferro_wipe(way->plain, length);
        }
        return found;
    }
    if (stored_length < MAC || stored_length > PLAIN_ROOM - BOUND_ROOM)
        return UNKNOWN;
    length = stored_length - MAC;
    memcpy(way->plain, bound, bound_length);
    memcpy(way->plain + bound_length, stored, length);
    if (mac_of(self, way, KEY_OF_OBJECTS, way->plain, bound_length + length, right)
        && CRYPTO_memcmp(right, stored + length, MAC) == 0)
        found = compare(way->plain + bound_length, length, wanted);
    return found;
}

static verdict look_at(finder *self, lane *way, long long oid, int is_private, const wish *wanted)
{
    sqlite3_stmt *row = way->statements[OBJECT];
    verdict found = UNKNOWN;

    if (self->sqlite->bind_int64(row, 1, oid) == SQLITE_OK && self->sqlite->step(row) == SQLITE_ROW)
        found = judge(self, way, row, oid, is_private, wanted);
    self->sqlite->reset(row);
    return found;
}

/* ---- A search ---- */

static void put_in_order(list *found)
{
    size_t i, k;

    for (i = 1; i < found->count; i++)
        for (k = i; k > 0 && found->objects[k - 1] > found->objects[k]; k--) {
            long long oid = found->objects[k];
            int is_private = found->is_private[k];
            found->objects[k] = found->objects[k - 1];
            found->is_private[k] = found->is_private[k - 1];
            found->objects[k - 1] = oid;
            found->is_private[k - 1] = is_private;
        }
}

/* With the transaction open. */
static int search(finder *self, lane *way, const wish *wanted, uint8_t tags[2][MAC], uint64_t generation,
                  long long *objects, size_t *count)
{
    list found = {.count = 0};
    size_t i;

    if (generation == 0 || way->certain != generation) {
        if (!is_ours(self, way))
            return 0;
        way->certain = generation;
    }
    for (i = 0; i < 2; i++)
        if (wanted->lists[i] && !walk(self, way, tags[i], (int)i, &found))
            return 0;
    put_in_order(&found);
    *count = 0;
    for (i = 0; i < found.count; i++) {
        verdict judged = look_at(self, way, found.objects[i], found.is_private[i], wanted);
        if (judged == UNKNOWN)
            return 0;
        if (judged == DOES)
            objects[(*count)++] = found.objects[i];
    }
    return 1;
}

static int run(finder *self, sqlite3_stmt *statement)
{
    int rv = self->sqlite->step(statement);

    self->sqlite->reset(statement);
    return rv == SQLITE_DONE;
}

static int find_in(finder *self, lane *way, const wish *wanted, uint64_t generation, long long *objects, size_t *count)
{
    static const key_name indexes[2] = {KEY_OF_INDEX, KEY_OF_PRIVATE_INDEX};
    uint8_t tags[2][MAC];
    int known, i;

    if (way->db == NULL || self->abandoned)
        return 0;
    if (wanted->lists[1] && memcmp(self->login, self->incarnation, FERRO_FINDER_NAME) != 0)
        return 0;
    /* Before SQLite is touched: in the child of a fork that went past everybody, the keys are not usable. */
    for (i = 0; i < 2; i++)
        if (wanted->lists[i] && !mac_of(self, way, indexes[i], wanted->name, wanted->name_length, tags[i]))
            return 0;
    if (!run(self, way->statements[BEGIN]))
        return 0;
    known = search(self, way, wanted, tags, generation, objects, count);
    if (!run(self, way->statements[COMMIT]) && !self->sqlite->get_autocommit(way->db))
        known = self->sqlite->exec(way->db, "ROLLBACK", NULL, NULL, NULL) == SQLITE_OK && known;
    return known;
}

static lane *take_lane(finder *self)
{
    unsigned first = atomic_fetch_add_explicit(&self->turn, 1, memory_order_relaxed);
    lane *way;
    int i;

    /* The first one while it is free: its pages are the ones that are known. */
    for (i = 0; i < LANES; i++)
        if (ferro_mutex_try_lock(&self->lanes[i].lock))
            return &self->lanes[i];
    way = &self->lanes[first % LANES];
    ferro_mutex_lock(&way->lock);
    return way;
}

static int find(ferro_finder *face, const ferro_kernel_attribute *wanted, size_t count, int as_user, uint64_t generation,
                long long *objects, size_t *found)
{
    finder *self = (finder *)face;
    lane *way;
    wish one;
    int known;

    if (!read_wish(&one, wanted, count, as_user))
        return 0;
    way = take_lane(self);
    known = find_in(self, way, &one, generation, objects, found);
    ferro_mutex_unlock(&way->lock);
    return known;
}

/* ---- Its life ---- */

static void lock_all(finder *self)
{
    int i;

    for (i = 0; i < LANES; i++)
        ferro_mutex_lock(&self->lanes[i].lock);
}

static void unlock_all(finder *self)
{
    int i;

    for (i = LANES; i-- > 0;)
        ferro_mutex_unlock(&self->lanes[i].lock);
}

ferro_finder *ferro_finder_make(const uint8_t *serial)
{
    finder *self = calloc(1, sizeof *self);
    int i;

    if (self == NULL)
        return NULL;
    self->face.size = sizeof self->face;
    self->face.find = find;
    memcpy(self->serial, serial, FERRO_FINDER_NAME);
    for (i = 0; i < LANES; i++)
        ferro_mutex_init(&self->lanes[i].lock);
    return &self->face;
}

static void drop_key(finder *self, key_name name)
{
    int i;

    for (i = 0; i < LANES; i++)
        if (self->lanes[i].ops[name] != NULL) {
            ferro_op_release(self->lanes[i].ops[name]);
            self->lanes[i].ops[name] = NULL;
        }
    if (self->keys[name] != NULL) {
        ferro_key_release(self->keys[name]);
        self->keys[name] = NULL;
    }
}

static CK_RV take_key(finder *self, key_name name, CK_KEY_TYPE type, const uint8_t *value)
{
    uint8_t class_bytes[TYPE_SIZE], type_bytes[TYPE_SIZE];
    ferro_kernel_attribute attributes[] = {{CKA_CLASS, class_bytes, TYPE_SIZE},
                                           {CKA_KEY_TYPE, type_bytes, TYPE_SIZE},
                                           {CKA_VALUE, value, FERRO_FINDER_KEY}};
    ferro_kernel_material material = {attributes, 3};

    put_number(class_bytes, CKO_SECRET_KEY, TYPE_SIZE);
    put_number(type_bytes, type, TYPE_SIZE);
    drop_key(self, name);
    return ferro_key_load(&material, &self->keys[name]);
}

static void close_lane(finder *self, lane *way)
{
    int i;

    for (i = 0; i < STATEMENTS; i++)
        if (way->statements[i] != NULL) {
            self->sqlite->finalize(way->statements[i]);
            way->statements[i] = NULL;
        }
    if (way->db != NULL)
        self->sqlite->close(way->db);
    way->db = NULL;
    way->certain = 0;
    ferro_free(way->plain);
    way->plain = NULL;
}

static CK_RV open_lane(finder *self, lane *way, const char *uri, const char *pragmas)
{
    const ferro_sqlite *sqlite = self->sqlite;
    sqlite3 *db = NULL;
    int i;

    if ((way->plain = ferro_secret_alloc(PLAIN_ROOM)) == NULL)
        return CKR_HOST_MEMORY;
    if (sqlite->open_v2(uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK
        || sqlite->exec(db, pragmas, NULL, NULL, NULL) != SQLITE_OK) {
        sqlite->close(db); /* a failed one has to be closed, too; NULL may be */
        return CKR_DEVICE_ERROR;
    }
    way->db = db;
    for (i = 0; i < STATEMENTS; i++)
        if (sqlite->prepare_v2(db, texts[i], -1, &way->statements[i], NULL) != SQLITE_OK)
            return CKR_DEVICE_ERROR;
    return CKR_OK;
}

static void close_all(finder *self)
{
    int i;

    for (i = 0; i < LANES; i++)
        close_lane(self, &self->lanes[i]);
    for (i = 0; i < KEY_OF_PRIVATE_INDEX; i++)
        drop_key(self, (key_name)i);
    atomic_store(&self->open, 0);
}

CK_RV ferro_finder_open(ferro_finder *face, const ferro_sqlite *sqlite, const char *uri, const char *pragmas,
                        const uint8_t *incarnation, const uint8_t *const keys[3])
{
    finder *self = (finder *)face;
    CK_RV rv = ferro_enter();
    int i;

    lock_all(self);
    if (rv == CKR_OK && self->abandoned)
        rv = CKR_CRYPTOKI_NOT_INITIALIZED;
    if (rv == CKR_OK) {
        close_all(self);
        self->sqlite = sqlite;
        memcpy(self->incarnation, incarnation, FERRO_FINDER_NAME);
        for (i = 0; i < 3 && rv == CKR_OK; i++)
            rv = take_key(self, (key_name)i, CKK_GENERIC_SECRET, keys[i]);
        for (i = 0; i < LANES && rv == CKR_OK; i++)
            rv = open_lane(self, &self->lanes[i], uri, pragmas);
        if (rv == CKR_OK)
            atomic_store(&self->open, 1);
        else
            close_all(self);
    }
    unlock_all(self);
    return rv;
}

void ferro_finder_close(ferro_finder *face)
{
    finder *self = (finder *)face;

    lock_all(self);
    if (!self->abandoned)
        close_all(self);
    unlock_all(self);
}

int ferro_finder_is_open(ferro_finder *face)
{
    finder *self = (finder *)face;

    return atomic_load(&self->open);
}

CK_RV ferro_finder_log_in(ferro_finder *face, const uint8_t *incarnation, const uint8_t *index, const uint8_t *seal)
{
    finder *self = (finder *)face;
    CK_RV rv = ferro_enter();

    if (rv != CKR_OK)
        return rv;
    lock_all(self);
    rv = take_key(self, KEY_OF_PRIVATE_INDEX, CKK_GENERIC_SECRET, index);
    if (rv == CKR_OK)
        rv = take_key(self, KEY_OF_SEAL, CKK_AES, seal);
    memcpy(self->login, incarnation, FERRO_FINDER_NAME);
    unlock_all(self);
    return rv;
}

void ferro_finder_log_out(ferro_finder *face)
{
    finder *self = (finder *)face;

    lock_all(self);
    drop_key(self, KEY_OF_PRIVATE_INDEX);
    drop_key(self, KEY_OF_SEAL);
    unlock_all(self);
}

void ferro_finder_abandon(ferro_finder *face)
{
    finder *self = (finder *)face;
    int i;

    self->abandoned = 1;
    atomic_store(&self->open, 0);
    for (i = 0; i < LANES; i++) {
        ferro_mutex_init(&self->lanes[i].lock); /* a thread that is not here may hold it */
        self->lanes[i].db = NULL;
        memset(self->lanes[i].statements, 0, sizeof self->lanes[i].statements);
    }
}

void ferro_finder_free(ferro_finder *face)
{
    finder *self = (finder *)face;
    int i;

    close_all(self);
    ferro_finder_log_out(face);
    for (i = 0; i < LANES; i++)
        ferro_mutex_destroy(&self->lanes[i].lock);
    free(self);
}
