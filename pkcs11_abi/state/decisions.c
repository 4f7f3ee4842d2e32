#include "decisions.h"
#include "lanes.h"
#include "lock.h"

#include <string.h>

#if defined(_WIN32)
#include <windows.h>
#else
#include <time.h>
#endif

enum { SHARDS = 64, PLACES = 16, LIFETIME_MS = 1000 };

typedef struct {
    _Alignas(FERRO_CACHE_LINES) ferro_mutex mutex;
    ferro_decision places[PLACES]; /* kernel NULL: free */
    unsigned char used[PLACES];    /* since the hand went by */
    unsigned hand;
    int overflowed; /* one was pushed out: a session may have a memo of what is not here */
} shard;

static shard shards[SHARDS];

void ferro_decisions_prepare(void)
{
    int i;

    for (i = 0; i < SHARDS; i++)
        ferro_mutex_renew(&shards[i].mutex);
}

unsigned long long ferro_coarse_time(void)
{
#if defined(_WIN32)
    return GetTickCount64();
#else
    struct timespec now;
#if defined(CLOCK_MONOTONIC_COARSE)
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
#else
    clock_gettime(CLOCK_MONOTONIC, &now);
#endif
    return (unsigned long long)now.tv_sec * 1000 + (unsigned long long)now.tv_nsec / 1000000;
#endif
}

/* All decisions about one handle stand in one shard. */
static shard *shard_of(CK_OBJECT_HANDLE handle)
{
    return &shards[(handle / FERRO_LANES + handle) % SHARDS]; /* a thread's new handles are FERRO_LANES apart */
}

void ferro_decision_release(ferro_decision *decision)
{
    if (decision->kernel != NULL && decision->key != NULL)
        decision->kernel->key_release(decision->key);
    memset(decision, 0, sizeof *decision);
}

static int is_about(const ferro_decision *one, const ferro_slot *slot, CK_OBJECT_HANDLE handle,
                    CK_MECHANISM_TYPE mechanism, CK_FLAGS function)
{
    return one->kernel != NULL && one->handle == handle && one->mechanism == mechanism && one->function == function
           && one->slot == slot;
}

/* Whether the login is the one that it was made for, and nothing outside of this process has changed what it rests on. */
static int unchanged(const ferro_decision *decision)
{
    unsigned long long generation;

    if (decision->is_private && decision->epoch != ferro_slot_epoch(decision->slot))
        return 0;
    return !decision->on_token
           || (ferro_slot_settled(decision->slot, &generation) && generation == decision->generation
               && ferro_coarse_time() < decision->expires);
}

int ferro_decision_good(const ferro_decision *decision, unsigned long long stamp)
{
    return decision->kernel != NULL && ferro_slot_stamp(decision->slot) == stamp && unchanged(decision);
}

int ferro_decisions_find(ferro_slot *slot, CK_OBJECT_HANDLE handle, CK_MECHANISM_TYPE mechanism, CK_FLAGS function,
                         ferro_decision *found, unsigned long long *stamp)
{
    shard *part = shard_of(handle);
    int i, hit = 0;

    *stamp = ferro_slot_stamp(slot);
    ferro_lock(&part->mutex);
    for (i = 0; i < PLACES && !hit; i++)
        if (is_about(&part->places[i], slot, handle, mechanism, function) && unchanged(&part->places[i])) {
            part->used[i] = 1;
            *found = part->places[i];
            if (found->key != NULL)
                found->kernel->key_retain(found->key);
            hit = 1;
        }
    ferro_unlock(&part->mutex);
    return hit;
}

/* The place for a decision: its own of before, a free one, or the one that was not used for the longest time. */
static int place_for(shard *part, const ferro_decision *decision)
{
    int i, open = -1;

    for (i = 0; i < PLACES; i++) {
        const ferro_decision *one = &part->places[i];
        if (is_about(one, decision->slot, decision->handle, decision->mechanism, decision->function))
            return i;
        if (one->kernel == NULL && open < 0)
            open = i;
    }
    while (open < 0) {
        unsigned at = part->hand++ % PLACES;
        if (!part->used[at]) {
            open = (int)at;
            part->overflowed = 1;
        }
        part->used[at] = 0;
    }
    return open;
}

void ferro_decisions_keep(ferro_decision *decision, unsigned long long stamp)
{
    shard *part = shard_of(decision->handle);
    ferro_decision old = {0};
    int kept = 0;

    decision->expires = ferro_coarse_time() + LIFETIME_MS;
    ferro_lock(&part->mutex);
    if (ferro_slot_stamp(decision->slot) == stamp) {
        int at = place_for(part, decision);
        old = part->places[at];
        part->places[at] = *decision;
        part->used[at] = 1;
        kept = 1;
    }
    ferro_unlock(&part->mutex);
    ferro_decision_release(kept ? &old : decision);
}

/* Take out of a shard what concerns a handle, or else a slot, or else everything. */
static int take_out(shard *part, CK_OBJECT_HANDLE handle, const ferro_slot *slot, ferro_decision *out)
{
    int i, count = 0;

    for (i = 0; i < PLACES; i++) {
        ferro_decision *one = &part->places[i];
        if (one->kernel == NULL || (handle != 0 && one->handle != handle) || (slot != NULL && one->slot != slot))
            continue;
        out[count++] = *one;
        memset(one, 0, sizeof *one);
    }
    return count;
}

static int clear_shard(shard *part, CK_OBJECT_HANDLE handle, const ferro_slot *slot)
{
    ferro_decision out[PLACES];
    int count, i, more;

    ferro_lock(&part->mutex);
    count = take_out(part, handle, slot, out);
    more = part->overflowed;
    if (handle == 0 && slot == NULL)
        part->overflowed = 0;
    ferro_unlock(&part->mutex);
    for (i = 0; i < count; i++)
        ferro_decision_release(&out[i]);
    return count != 0 || more;
}

int ferro_decisions_forget(CK_OBJECT_HANDLE handle) { return clear_shard(shard_of(handle), handle, NULL); }

void ferro_decisions_forget_slot(const ferro_slot *slot)
{
    int i;

    for (i = 0; i < SHARDS; i++)
        clear_shard(&shards[i], 0, slot);
}

void ferro_decisions_forget_all(void) { ferro_decisions_forget_slot(NULL); }

void ferro_memo_clear(ferro_memo *memo)
{
    if (memo->op != NULL)
        memo->decision.kernel->op_release(memo->op);
    memo->op = NULL;
    memo->seen = 0;
    ferro_decision_release(&memo->decision);
}

void ferro_decisions_fork_child(void)
{
    memset(shards, 0, sizeof shards);
    ferro_decisions_prepare();
}
