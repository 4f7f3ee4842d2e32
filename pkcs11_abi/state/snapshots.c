#include "snapshots.h"
#include "decisions.h"
#include "lanes.h"
#include "lock.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { SHARDS = 64, SETS = 16, WAYS = 4, LIFETIME_MS = 1000 };

typedef struct {
    CK_ATTRIBUTE_TYPE type;
    unsigned length;
    unsigned answer; /* a CK_RV */
} head;

typedef _Atomic unsigned long long word;

/* Many threads may read one object, so a reader writes nothing that others read and takes no lock: `sequence` is odd
 * while a place is being changed, and whoever finds another one behind what was read than before has read nothing.
 * Everything that is read this way is atomic, and a block of content, once made, is only ever used for another content:
 * it can be read at any time. Writers have the shard's lock. */
typedef struct {
    _Atomic unsigned sequence;
    _Atomic unsigned used;          /* since the hand went by */
    word handle;                    /* 0: free */
    _Atomic(ferro_slot *) slot;
    word epoch;                     /* of the login that was there: what it showed is shown to no other */
    word on_token, generation, expires;
    word bytes;
    _Atomic(word *) content;        /* a block: how many bytes it has room for, then the bytes */
} place;

enum { SMALLEST = 128, SIZES = 4 }; /* 128, 256, 512, 1024 bytes */

typedef struct {
    _Alignas(FERRO_CACHE_LINES) ferro_mutex mutex;
    unsigned hand;
    place places[SETS][WAYS];
    word *spare[SIZES]; /* blocks that wait for a content; the second word of each is the next one's address */
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

static shard *shard_of(CK_OBJECT_HANDLE handle)
{
    return &shards[(handle / FERRO_LANES + handle) % SHARDS]; /* a thread's new handles are FERRO_LANES apart */
}

static place *set_of(shard *part, CK_OBJECT_HANDLE handle) { return part->places[handle / SHARDS % SETS]; }

static unsigned long long look(const word *one) { return atomic_load_explicit(one, memory_order_acquire); }
static void put(word *one, unsigned long long value) { atomic_store_explicit(one, value, memory_order_release); }

static ferro_slot *slot_of(const place *one) { return atomic_load_explicit(&one->slot, memory_order_acquire); }

static int good(const place *one)
{
    unsigned long long generation;

    if (look(&one->epoch) != ferro_slot_epoch(slot_of(one)))
        return 0; /* the login has ended, though the snapshots that it leaves are still to be forgotten */
    return !look(&one->on_token)
           || (ferro_slot_settled(slot_of(one), &generation) && generation == look(&one->generation)
               && ferro_coarse_time() < look(&one->expires));
}

static place *find(shard *part, const ferro_slot *slot, CK_OBJECT_HANDLE handle)
{
    place *set = set_of(part, handle);
    int i;

    for (i = 0; i < WAYS; i++)
        if (look(&set[i].handle) == handle && slot_of(&set[i]) == slot)
            return &set[i];
    return NULL;
}

/* The words may be another content's by now: then the sequence tells. */
static void copy_out(const place *one, ferro_snapshot *copy)
{
    const word *content = atomic_load_explicit(&one->content, memory_order_acquire);
    size_t bytes = (size_t)look(&one->bytes), i;

    copy->used = content != NULL && bytes <= (size_t)look(&content[0]) ? bytes : 0;
    for (i = 0; i < copy->used / 8; i++)
        copy->bytes[i] = look(&content[1 + i]);
}

int ferro_snapshots_read(ferro_slot *slot, CK_OBJECT_HANDLE handle, ferro_snapshot *copy)
{
    shard *part = shard_of(handle);
    unsigned before;
    int i;

    if (handle == 0)
        return 0;
    for (i = 0; i < WAYS; i++) {
        place *one = &set_of(part, handle)[i];
        before = atomic_load_explicit(&one->sequence, memory_order_acquire);
        if (before % 2 || look(&one->handle) != handle || slot_of(one) != slot || !good(one))
            continue;
        copy_out(one, copy);
        if (atomic_load_explicit(&one->sequence, memory_order_acquire) != before)
            return 0; /* it was changed under our hands: the core is asked */
        if (!atomic_load_explicit(&one->used, memory_order_relaxed))
            atomic_store_explicit(&one->used, 1, memory_order_relaxed);
        return 1;
    }
    return 0;
}

/* A place in the object's set: free, or the one that was not used for the longest time. */
static place *place_for(shard *part, CK_OBJECT_HANDLE handle)
{
    place *set = set_of(part, handle);
    int i;

    for (i = 0; i < WAYS; i++)
        if (look(&set[i].handle) == 0)
            return &set[i];
    for (;;) {
        place *one = &set[part->hand++ % WAYS];
        if (!atomic_exchange_explicit(&one->used, 0, memory_order_relaxed))
            return one;
    }
}

static int size_of(size_t bytes)
{
    int size = 0;

    while (bytes > (size_t)SMALLEST << size)
        size++;
    return size;
}

static word *take_block(shard *part, size_t bytes)
{
    int size = size_of(bytes);
    word *block = part->spare[size];

    if (block != NULL) {
        part->spare[size] = (word *)(size_t)look(&block[1]);
    } else if ((block = calloc(1, sizeof *block + ((size_t)SMALLEST << size))) != NULL) {
        put(&block[0], (size_t)SMALLEST << size);
    }
    return block;
}

static void give_block(shard *part, word *block)
{
    int size = size_of((size_t)look(&block[0]));

    put(&block[1], (unsigned long long)(size_t)part->spare[size]);
    part->spare[size] = block;
}

/* The change of a place: between the two nobody trusts it. */
static void begin_change(place *one) { atomic_fetch_add_explicit(&one->sequence, 1, memory_order_acq_rel); }
static void end_change(place *one) { atomic_fetch_add_explicit(&one->sequence, 1, memory_order_acq_rel); }

/* Within a change. */
static void take_out(shard *part, place *one)
{
    word *content = atomic_load_explicit(&one->content, memory_order_relaxed);

    put(&one->handle, 0);
    atomic_store_explicit(&one->content, NULL, memory_order_release);
    if (content != NULL)
        give_block(part, content);
    put(&one->bytes, 0);
}

static void empty(shard *part, place *one)
{
    begin_change(one);
    take_out(part, one);
    end_change(one);
}

static void add_all(ferro_snapshot *to, const ferro_snapshot *from)
{
    const head *one;
    size_t at;

    for (at = 0; (one = head_at(from, at)) != NULL; at += sizeof *one + padded(one->length))
        ferro_snapshot_add(to, one->type, one->answer, one + 1, one->length);
}

void ferro_snapshots_keep(ferro_slot *slot, CK_OBJECT_HANDLE handle, const ferro_snapshot *shown,
                          const ferro_snapshot_moment *before, int on_token)
{
    shard *part = shard_of(handle);
    ferro_snapshot all;
    word *content;
    place *one;
    size_t i;

    all.used = 0;
    ferro_lock(&part->mutex);
    if (handle != 0 && ferro_slot_stamp(slot) == before->stamp) {
        one = find(part, slot, handle);
        if (one != NULL && good(one) && (int)look(&one->on_token) == !!on_token
            && (!on_token || look(&one->generation) == before->generation))
            copy_out(one, &all);
        add_all(&all, shown);
        if (all.used != 0 && (content = take_block(part, all.used)) != NULL) {
            if (one == NULL)
                one = place_for(part, handle);
            begin_change(one);
            take_out(part, one);
            for (i = 0; i < all.used / 8; i++)
                put(&content[1 + i], all.bytes[i]);
            atomic_store_explicit(&one->slot, slot, memory_order_release);
            put(&one->on_token, on_token != 0);
            put(&one->epoch, before->epoch);
            put(&one->generation, before->generation);
            put(&one->expires, ferro_coarse_time() + LIFETIME_MS);
            put(&one->bytes, all.used);
            atomic_store_explicit(&one->content, content, memory_order_release);
            atomic_store_explicit(&one->used, 1, memory_order_relaxed);
            put(&one->handle, handle);
            end_change(one);
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
        if (look(&set[i].handle) == handle)
            empty(part, &set[i]);
    ferro_unlock(&part->mutex);
}

void ferro_snapshots_forget_slot(const ferro_slot *slot)
{
    int i, k;

    for (i = 0; i < SHARDS; i++) {
        ferro_lock(&shards[i].mutex);
        for (k = 0; k < SETS * WAYS; k++) {
            place *one = &shards[i].places[k / WAYS][k % WAYS];
            if (look(&one->handle) != 0 && (slot == NULL || slot_of(one) == slot))
                empty(&shards[i], one);
        }
        ferro_unlock(&shards[i].mutex);
    }
}

void ferro_snapshots_fork_child(void)
{
    memset(shards, 0, sizeof shards); /* what the parent's held is abandoned */
    ferro_snapshots_prepare();
}
