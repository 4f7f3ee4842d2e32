#include "finds.h"
#include "decisions.h"
#include "lock.h"
#include "wipe.h"

#include <stdlib.h>
#include <string.h>

enum { GROUPS = 8, PARTS = 8, SHARDS = GROUPS * PARTS, SETS = 32, WAYS = 4 };

typedef struct {
    CK_ATTRIBUTE_TYPE type;
    size_t length;
} head;

/* The content is the template's bytes, then the handles. */
typedef struct {
    ferro_slot *slot; /* NULL: free */
    unsigned long long hash;
    ferro_find_moment before;
    size_t bytes; /* of the template */
    CK_ULONG count;
    int used; /* since the hand went by */
    unsigned char *content;
} place;

typedef struct {
    _Alignas(FERRO_CACHE_LINES) ferro_mutex mutex;
    unsigned hand;
    place (*sets)[WAYS]; /* made at first use */
} shard;

static shard shards[SHARDS];

void ferro_finds_prepare(void)
{
    int i;

    for (i = 0; i < SHARDS; i++)
        ferro_mutex_renew(&shards[i].mutex);
}

static size_t padded(size_t length) { return (length + 7) & ~(size_t)7; }

int ferro_wanted_add(ferro_wanted *wanted, CK_ATTRIBUTE_TYPE type, const void *value, size_t length)
{
    char *to = (char *)wanted->bytes + wanted->used;
    head one = {type, length};

    if (length > FERRO_WANTED_BYTES || sizeof one + padded(length) > FERRO_WANTED_BYTES - wanted->used)
        return 0;
    memcpy(to, &one, sizeof one);
    memset(to + sizeof one, 0, padded(length));
    if (length != 0)
        memcpy(to + sizeof one, value, length);
    wanted->used += sizeof one + padded(length);
    return 1;
}

int ferro_wanted_next(const ferro_wanted *wanted, size_t *at, CK_ATTRIBUTE_TYPE *type, const void **value,
                      size_t *length)
{
    const char *from = (const char *)wanted->bytes + *at;
    head one;

    if (*at >= wanted->used)
        return 0;
    memcpy(&one, from, sizeof one);
    *type = one.type;
    *value = from + sizeof one;
    *length = one.length;
    *at += sizeof one + padded(one.length);
    return 1;
}

ferro_found *ferro_found_make(const CK_OBJECT_HANDLE *handles, CK_ULONG count, unsigned long long stamp)
{
    ferro_found *found = malloc(sizeof *found + count * sizeof *handles);

    if (found != NULL) {
        found->stamp = stamp;
        found->count = count;
        found->at = 0;
        if (count != 0)
            memcpy(found->handles, handles, count * sizeof *handles);
    }
    return found;
}

CK_ULONG ferro_found_take(ferro_found *found, CK_OBJECT_HANDLE *out, CK_ULONG room)
{
    CK_ULONG left = found->count - found->at, taken = room < left ? room : left;

    if (taken != 0)
        memcpy(out, &found->handles[found->at], taken * sizeof *out);
    found->at += taken;
    return taken;
}

void ferro_find_note(ferro_slot *slot, ferro_find_moment *moment)
{
    moment->stamp = ferro_slot_stamp(slot);
    moment->births = ferro_slot_births(slot);
    moment->generation = 0;
    moment->settled = ferro_slot_settled(slot, &moment->generation);
}

static unsigned long long hash_of(const ferro_slot *slot, const ferro_wanted *wanted)
{
    unsigned long long hash = (unsigned long long)(size_t)slot;
    size_t i;

    for (i = 0; i < wanted->used / 8; i++) {
        hash = (hash ^ wanted->bytes[i]) * 0x9E3779B97F4A7C15ULL;
        hash ^= hash >> 32;
    }
    hash ^= hash >> 33; /* so that the low bits tell what only the last bytes of a value do */
    hash *= 0xFF51AFD7ED558CCDULL;
    return hash ^ hash >> 29;
}

/* Threads that repeat the same search would hand one lock to and fro, which costs more than the search. So each keeps what
 * it searched for in shards that it shares with few others. */
static shard *shard_of(unsigned long long hash)
{
    static atomic_uint threads;
    static _Thread_local unsigned group; /* and one, when it is known */

    if (group == 0)
        group = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) % GROUPS + 1;
    return &shards[(group - 1) * PARTS + hash % PARTS];
}

static place *find(shard *part, const ferro_slot *slot, const ferro_wanted *wanted, unsigned long long hash)
{
    place *set;
    int i;

    if (part->sets == NULL)
        return NULL;
    set = part->sets[hash / PARTS % SETS];
    for (i = 0; i < WAYS; i++)
        if (set[i].hash == hash && set[i].slot == slot && set[i].bytes == wanted->used
            && memcmp(set[i].content, wanted->bytes, wanted->used) == 0)
            return &set[i];
    return NULL;
}

/* Whether what was found is all that there is now. */
static int good(const place *one)
{
    ferro_find_moment now;

    ferro_find_note(one->slot, &now);
    return now.settled && now.generation == one->before.generation && now.stamp == one->before.stamp
           && now.births == one->before.births && ferro_slot_looked(one->slot);
}

ferro_found *ferro_finds_read(ferro_slot *slot, const ferro_wanted *wanted)
{
    unsigned long long hash = hash_of(slot, wanted);
    shard *part = shard_of(hash);
    ferro_found *found = malloc(sizeof *found + FERRO_FOUND_MOST * sizeof *found->handles);
    int known = 0;
    place *one;

    if (found == NULL)
        return NULL;
    ferro_lock_briefly(&part->mutex);
    if ((one = find(part, slot, wanted, hash)) != NULL && good(one)) {
        found->stamp = one->before.stamp;
        found->count = one->count;
        found->at = 0;
        memcpy(found->handles, one->content + one->bytes, one->count * sizeof *found->handles);
        one->used = known = 1;
    }
    ferro_unlock(&part->mutex);
    if (known)
        return found;
    free(found);
    return NULL;
}

static void empty(place *one)
{
    ferro_wipe_free(one->content, one->bytes);
    memset(one, 0, sizeof *one);
}

/* A place in the search's set: free, or the one that was not used for the longest time. */
static place *place_for(shard *part, unsigned long long hash)
{
    place *set = part->sets[hash / PARTS % SETS];
    int i;

    for (i = 0; i < WAYS; i++)
        if (set[i].slot == NULL)
            return &set[i];
    for (;;) {
        place *one = &set[part->hand++ % WAYS];
        if (!one->used)
            return one;
        one->used = 0;
    }
}

void ferro_finds_keep(ferro_slot *slot, const ferro_wanted *wanted, const ferro_found *found,
                      const ferro_find_moment *before)
{
    unsigned long long hash = hash_of(slot, wanted);
    size_t handles = found->count * sizeof *found->handles;
    shard *part = shard_of(hash);
    unsigned char *content;
    place *one;

    if (!before->settled || found->count > FERRO_FOUND_MOST)
        return;
    if ((content = malloc(wanted->used + handles + 1)) == NULL)
        return;
    ferro_lock(&part->mutex);
    if (part->sets == NULL)
        part->sets = calloc(SETS, sizeof *part->sets);
    if (part->sets != NULL && ferro_slot_stamp(slot) == before->stamp && ferro_slot_births(slot) == before->births) {
        if ((one = find(part, slot, wanted, hash)) == NULL)
            one = place_for(part, hash);
        empty(one);
        memcpy(content, wanted->bytes, wanted->used);
        if (handles != 0)
            memcpy(content + wanted->used, found->handles, handles);
        one->slot = slot;
        one->hash = hash;
        one->before = *before;
        one->bytes = wanted->used;
        one->count = found->count;
        one->used = 1;
        one->content = content;
        content = NULL;
    }
    ferro_unlock(&part->mutex);
    free(content);
}

void ferro_finds_forget_slot(const ferro_slot *slot)
{
    int i, k;

    for (i = 0; i < SHARDS; i++) {
        ferro_lock(&shards[i].mutex);
        for (k = 0; shards[i].sets != NULL && k < SETS * WAYS; k++) {
            place *one = &shards[i].sets[k / WAYS][k % WAYS];
            if (one->slot != NULL && (slot == NULL || one->slot == slot))
                empty(one);
        }
        ferro_unlock(&shards[i].mutex);
    }
}

void ferro_finds_fork_child(void)
{
    int i;

    for (i = 0; i < SHARDS; i++) {
        shards[i].sets = NULL; /* what the parent's held is abandoned */
        shards[i].hand = 0;
    }
    ferro_finds_prepare();
}
