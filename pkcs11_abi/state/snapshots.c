#include "snapshots.h"
#include "decisions.h"
#include "lock.h"

#include <stdlib.h>
#include <string.h>

enum { SHARDS = 64, SETS = 16, WAYS = 4, LIFETIME_MS = 1000 };

typedef struct {
    CK_ATTRIBUTE_TYPE type;
    unsigned length;
    unsigned answer; /* a CK_RV */
} head;

typedef struct {
    CK_OBJECT_HANDLE handle; /* 0: free */
    ferro_slot *slot;
    int on_token;
    int used; /* since the hand went by */
    unsigned long long generation, expires;
    size_t bytes;
    void *content;
} place;

typedef struct {
    _Alignas(FERRO_CACHE_LINES) ferro_mutex mutex;
    unsigned hand;
    place places[SETS][WAYS];
} shard;

static shard shards[SHARDS];

void ferro_snapshots_prepare(void)
{
    int i;

    for (i = 0; i < SHARDS; i++)
        ferro_mutex_renew(&shards[i].mutex);
}

static size_t padded(size_t length) { return (length + 7) & ~(size_t)7; }

/* The head at `at`, or NULL behind the last one. */
static const head *head_at(const ferro_snapshot *snapshot, size_t at)
{
    return at < snapshot->used ? (const head *)((const char *)snapshot->bytes + at) : NULL;
}

int ferro_snapshot_find(const ferro_snapshot *snapshot, CK_ATTRIBUTE_TYPE type, CK_RV *answer, const void **value,
                        size_t *length)
{
    const head *one;
    size_t at;

    for (at = 0; (one = head_at(snapshot, at)) != NULL; at += sizeof *one + padded(one->length))
        if (one->type == type) {
            *answer = one->answer;
            *value = one + 1;
            *length = one->length;
            return 1;
        }
    return 0;
}

void ferro_snapshot_add(ferro_snapshot *snapshot, CK_ATTRIBUTE_TYPE type, CK_RV answer, const void *value,
                        size_t length)
{
    char *place = (char *)snapshot->bytes + snapshot->used;
    const void *known;
    size_t n;
    CK_RV rv;
    head one = {type, (unsigned)length, (unsigned)answer};

    if (length > FERRO_SNAPSHOT_BYTES || sizeof one + padded(length) > FERRO_SNAPSHOT_BYTES - snapshot->used
        || ferro_snapshot_find(snapshot, type, &rv, &known, &n))
        return;
    memcpy(place, &one, sizeof one);
    if (length != 0)
        memcpy(place + sizeof one, value, length);
    snapshot->used += sizeof one + padded(length);
}

static shard *shard_of(CK_OBJECT_HANDLE handle) { return &shards[handle % SHARDS]; }

static place *set_of(shard *part, CK_OBJECT_HANDLE handle) { return part->places[handle / SHARDS % SETS]; }

static int good(const place *one)
{
    unsigned long long generation;

    return !one->on_token
           || (ferro_slot_settled(one->slot, &generation) && generation == one->generation
               && ferro_coarse_time() < one->expires);
}

static place *find(shard *part, const ferro_slot *slot, CK_OBJECT_HANDLE handle)
{
    place *set = set_of(part, handle);
    int i;

    for (i = 0; i < WAYS; i++)
        if (set[i].handle == handle && set[i].slot == slot)
            return &set[i];
    return NULL;
}

static void copy_out(const place *one, ferro_snapshot *copy)
{
    copy->used = one->bytes;
    memcpy(copy->bytes, one->content, one->bytes);
}

int ferro_snapshots_read(ferro_slot *slot, CK_OBJECT_HANDLE handle, ferro_snapshot *copy)
{
    shard *part = shard_of(handle);
    int found = 0;
    place *one;

    if (handle == 0)
        return 0;
    ferro_lock(&part->mutex);
    if ((one = find(part, slot, handle)) != NULL && good(one)) {
        copy_out(one, copy);
        one->used = found = 1;
    }
    ferro_unlock(&part->mutex);
    return found;
}

/* A place in the object's set: free, or the one that was not used for the longest time. */
static place *place_for(shard *part, CK_OBJECT_HANDLE handle)
{
    place *set = set_of(part, handle);
    int i;

    for (i = 0; i < WAYS; i++)
        if (set[i].handle == 0)
            return &set[i];
    for (;;) {
        place *one = &set[part->hand++ % WAYS];
        if (!one->used)
            return one;
        one->used = 0;
    }
}

static void empty(place *one)
{
    free(one->content);
    memset(one, 0, sizeof *one);
}

static void add_all(ferro_snapshot *to, const ferro_snapshot *from)
{
    const head *one;
    size_t at;

    for (at = 0; (one = head_at(from, at)) != NULL; at += sizeof *one + padded(one->length))
        ferro_snapshot_add(to, one->type, one->answer, one + 1, one->length);
}

void ferro_snapshots_keep(ferro_slot *slot, CK_OBJECT_HANDLE handle, const ferro_snapshot *shown,
                          unsigned long long stamp, int on_token, unsigned long long generation)
{
    shard *part = shard_of(handle);
    ferro_snapshot all;
    void *content;
    place *one;

    all.used = 0;
    ferro_lock(&part->mutex);
    if (handle != 0 && ferro_slot_stamp(slot) == stamp) {
        one = find(part, slot, handle);
        if (one != NULL && good(one) && one->on_token == on_token && (!on_token || one->generation == generation))
            copy_out(one, &all);
        add_all(&all, shown);
        if (all.used != 0 && (content = malloc(all.used)) != NULL) {
            if (one == NULL)
                one = place_for(part, handle);
            empty(one);
            memcpy(content, all.bytes, all.used);
            one->handle = handle;
            one->slot = slot;
            one->on_token = on_token;
            one->generation = generation;
            one->expires = ferro_coarse_time() + LIFETIME_MS;
            one->bytes = all.used;
            one->content = content;
            one->used = 1;
        }
    }
    ferro_unlock(&part->mutex);
}

void ferro_snapshots_forget(CK_OBJECT_HANDLE handle)
{
    shard *part = shard_of(handle);
    place *set = set_of(part, handle);
    int i;

    ferro_lock(&part->mutex);
    for (i = 0; i < WAYS; i++)
        if (set[i].handle == handle)
            empty(&set[i]);
    ferro_unlock(&part->mutex);
}

void ferro_snapshots_forget_slot(const ferro_slot *slot)
{
    int i, k;

    for (i = 0; i < SHARDS; i++) {
        ferro_lock(&shards[i].mutex);
        for (k = 0; k < SETS * WAYS; k++) {
            place *one = &shards[i].places[k / WAYS][k % WAYS];
            if (one->handle != 0 && (slot == NULL || one->slot == slot))
                empty(one);
        }
        ferro_unlock(&shards[i].mutex);
    }
}

void ferro_snapshots_fork_child(void)
{
    memset(shards, 0, sizeof shards); /* what the parent's held is abandoned */
    ferro_snapshots_prepare();
}
