#include "ring.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)
#include <windows.h>
#else
#include <time.h>
#endif

_Static_assert(sizeof(ferro_entry) == 256, "the layout of ferrohsm/audit/events.py");

#define CLOSED ((uint64_t)1 << 63)
#define COUNT_MASK (((uint64_t)1 << 24) - 1)
#define SPAN_SHIFT 24
#define LAP_SHIFT 48
#define LAP_MASK (((uint64_t)1 << 15) - 1)

static _Atomic uint64_t *word_at(const ferro_ring *ring, size_t offset)
{
    return (_Atomic uint64_t *)(void *)(ring->memory + offset);
}

static ferro_entry *place_of(const ferro_ring *ring, uint64_t number)
{
    return (ferro_entry *)(void *)(ring->memory + FERRO_RING_HEADER + number % ring->capacity * sizeof(ferro_entry));
}

static uint64_t now_in_nanoseconds(int coarse)
{
#if defined(_WIN32)
    FILETIME now;

    (void)coarse;
    GetSystemTimeAsFileTime(&now);
    return ((((uint64_t)now.dwHighDateTime << 32) | now.dwLowDateTime) - 116444736000000000ULL) * 100;
#else
    struct timespec now;
    clockid_t clock = CLOCK_REALTIME;

#if defined(CLOCK_REALTIME_COARSE)
    if (coarse)
        clock = CLOCK_REALTIME_COARSE;
#else
    (void)coarse;
#endif
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
#endif
}

ferro_ring *ferro_ring_make(void *memory, size_t size, int mode, uint64_t sample, int sync)
{
    static _Atomic uint64_t identities;
    ferro_ring *ring;

    if (memory == NULL || (uintptr_t)memory % sizeof(uint64_t) || size < FERRO_RING_HEADER + sizeof(ferro_entry))
        return NULL;
    if ((ring = calloc(1, sizeof *ring)) == NULL)
        return NULL;
    ring->memory = memory;
    ring->capacity = (size - FERRO_RING_HEADER) / sizeof(ferro_entry);
    ring->identity = atomic_fetch_add(&identities, 1) + 1;
    ring->mode = mode;
    ring->sample = sample;
    ring->sync = sync;
    ferro_mutex_renew(&ring->mutex);
    ferro_condition_renew(&ring->woken);
    return ring;
}

void ferro_ring_free(ferro_ring *ring) { free(ring); }

static void wake(ferro_ring *ring)
{
    if (atomic_exchange(&ring->sleeping, 0)) {
        ferro_lock(&ring->mutex);
        ferro_wake_all(&ring->woken);
        ferro_unlock(&ring->mutex);
    }
}

static int reserve(ferro_ring *ring, uint64_t *number)
{
    _Atomic uint64_t *head = word_at(ring, FERRO_RING_HEAD);
    uint64_t next = atomic_load_explicit(head, memory_order_relaxed);

    do {
        if (next - atomic_load_explicit(word_at(ring, FERRO_RING_TAIL), memory_order_acquire) >= ring->capacity)
            return 0;
    } while (!atomic_compare_exchange_weak(head, &next, next + 1));
    *number = next;
    return 1;
}

static uint64_t lap_of(const ferro_ring *ring, uint64_t number) { return (number / ring->capacity & LAP_MASK) << LAP_SHIFT; }

int ferro_ring_push(ferro_ring *ring, const ferro_entry *entry, uint64_t *number)
{
    const size_t rest = offsetof(ferro_entry, taken);
    ferro_entry *place;
    uint64_t mine, filled, word;

    if (!reserve(ring, &mine))
        return 0;
    place = place_of(ring, mine);
    /* The count word is another's until it is this entry's as a whole, lap and all: whoever counted up the entry that
     * stood here before compares with it. */
    word = atomic_load_explicit(&entry->count, memory_order_relaxed);
    if ((word & CLOSED) == 0)
        word |= lap_of(ring, mine);
    atomic_store_explicit(&place->count, word, memory_order_relaxed);
    memcpy((char *)place + rest, (const char *)entry + rest, sizeof *entry - rest);
    atomic_store_explicit(&place->commit, mine + 1, memory_order_release);
    if (number != NULL)
        *number = mine;
    filled = mine - atomic_load_explicit(word_at(ring, FERRO_RING_TAIL), memory_order_relaxed);
    if (filled > ring->capacity / 2)
        wake(ring);
    return 1;
}

/* Count the session's entry up, if it still is what the last use wrote and this use is the same. */
static int counted(ferro_ring *ring, ferro_tally *tally, const ferro_use *use)
{
    uint64_t now, span, word = tally->word;

    if (tally->number == 0 || tally->result != use->result || tally->user != use->user)
        return 0;
    now = now_in_nanoseconds(1) / 1000000;
    span = now > tally->started ? now - tally->started : 0;
    if (span > COUNT_MASK || (word & COUNT_MASK) == COUNT_MASK)
        return 0;
    if (span < (word >> SPAN_SHIFT & COUNT_MASK))
        span = word >> SPAN_SHIFT & COUNT_MASK; /* the clock was put back */
    tally->word = (word & (LAP_MASK << LAP_SHIFT)) | span << SPAN_SHIFT | ((word & COUNT_MASK) + 1);
    return atomic_compare_exchange_strong(&place_of(ring, tally->number - 1)->count, &word, tally->word);
}

static void fill(ferro_entry *entry, const ferro_subject *subject, const ferro_use *use, uint64_t weight)
{
    static const char *const parts[] = {"", "first part", "last part"};

    memset(entry, 0, sizeof *entry);
    entry->count = CLOSED | 1;
    entry->time = now_in_nanoseconds(0);
    entry->session = use->session;
    entry->slot = use->slot;
    entry->mechanism = use->mechanism;
    entry->result = use->result;
    entry->event = use->event;
    entry->user = use->user;
    entry->weight = weight;
    memcpy(entry->chain, subject->chain, sizeof entry->chain);
    memcpy(entry->object, subject->object, sizeof entry->object);
    strncpy(entry->detail, parts[use->part], sizeof entry->detail - 1);
}

/* What this thread counted lately, each in its place by what it was: whoever takes turns with some keys, or works in parts,
 * counts each of them up. Nobody else's, so no lock. */
typedef struct {
    uint64_t ring;
    ferro_use use;
    char object[40];
    ferro_tally tally;
} remembered;

enum { LATELY = 16 };

static ferro_tally *tally_of(const ferro_ring *ring, const ferro_subject *subject, const ferro_use *use)
{
    static _Thread_local remembered lately[LATELY];
    remembered *one;
    uint64_t mixed, tail;

    memcpy(&tail, subject->object, sizeof tail); /* of a random name */
    mixed = tail ^ use->session * 0x9E3779B97F4A7C15u ^ use->mechanism ^ ((uint64_t)use->event << 8) ^ ((uint64_t)use->part << 4);
    mixed *= 0x9E3779B97F4A7C15u;
    one = &lately[mixed >> 60];
    if (one->ring != ring->identity || one->use.session != use->session || one->use.event != use->event
        || one->use.mechanism != use->mechanism || one->use.part != use->part
        || memcmp(one->object, subject->object, sizeof one->object) != 0) {
        memset(one, 0, sizeof *one);
        one->ring = ring->identity;
        one->use = *use;
        memcpy(one->object, subject->object, sizeof one->object);
    }
    return &one->tally;
}

int ferro_ring_note(ferro_ring *ring, const ferro_subject *subject, uint64_t *seen, const ferro_use *use,
                    ferro_entry *entry)
{
    const int open = ring->mode == FERRO_USE_COUNTED && !ring->sync;
    ferro_tally *tally = NULL;
    uint64_t number, weight = 1;

    if (ring->mode == FERRO_USE_SAMPLED && use->result == CKR_OK) {
        if ((*seen)++ % ring->sample != 0)
            return FERRO_NOTED;
        weight = ring->sample;
    }
    if (open) {
        tally = tally_of(ring, subject, use);
        if (!ferro_ring_broken(ring) && counted(ring, tally, use))
            return FERRO_NOTED;
        tally->number = 0;
    }
    fill(entry, subject, use, weight);
    if (ring->sync || ferro_ring_broken(ring))
        return FERRO_NOT_NOTED;
    if (open)
        entry->count = 1;
    if (!ferro_ring_push(ring, entry, &number)) {
        entry->count = CLOSED | 1;
        return FERRO_NOT_NOTED;
    }
    if (open) {
        tally->number = number + 1;
        tally->word = lap_of(ring, number) | 1;
        tally->started = entry->time / 1000000;
        tally->result = use->result;
        tally->user = use->user;
    }
    return atomic_load(&ring->attended) ? FERRO_NOTED : FERRO_NOTED_UNATTENDED;
}

int ferro_ring_note_made(ferro_ring *ring, const ferro_subject *subject, const ferro_use *use, ferro_entry *entry)
{
    static _Thread_local uint64_t seen[4];

    return ferro_ring_note(ring, subject, &seen[use->event % 4], use, entry);
}

int ferro_ring_note_ended(ferro_ring *ring, const ferro_subject *subject, const ferro_use *use,
                          unsigned long long count, ferro_entry *entry)
{
    fill(entry, subject, use, 1);
    snprintf(entry->detail, sizeof entry->detail, "%llu session objects, with their session", count);
    if (ring->sync || ferro_ring_broken(ring) || !ferro_ring_push(ring, entry, NULL))
        return FERRO_NOT_NOTED;
    return atomic_load(&ring->attended) ? FERRO_NOTED : FERRO_NOTED_UNATTENDED;
}

uint64_t ferro_ring_close(ferro_ring *ring, uint64_t number)
{
    return atomic_fetch_or(&place_of(ring, number)->count, CLOSED) & ~CLOSED;
}

void ferro_ring_set_broken(ferro_ring *ring, int broken)
{
    atomic_store_explicit(&ring->broken, broken, memory_order_release);
}

static int is_empty(const ferro_ring *ring)
{
    return atomic_load(word_at(ring, FERRO_RING_HEAD)) == atomic_load(word_at(ring, FERRO_RING_TAIL));
}

int ferro_ring_attend(ferro_ring *ring, int begin)
{
    if (begin)
        return atomic_exchange(&ring->attended, 1) == 0;
    atomic_store(&ring->attended, 0);
    /* Who put an entry in before this saw that somebody attends; who puts one in after it does not. */
    return is_empty(ring) || atomic_exchange(&ring->attended, 1) != 0;
}

int ferro_ring_wait(ferro_ring *ring, unsigned milliseconds)
{
    int going;

    ferro_lock(&ring->mutex);
    atomic_store(&ring->sleeping, 1);
    if (!ring->stopped)
        ferro_wait(&ring->woken, &ring->mutex, milliseconds);
    atomic_store(&ring->sleeping, 0);
    going = !ring->stopped;
    ferro_unlock(&ring->mutex);
    return going;
}

void ferro_ring_stop(ferro_ring *ring)
{
    ferro_lock(&ring->mutex);
    ring->stopped = 1;
    ferro_wake_all(&ring->woken);
    ferro_unlock(&ring->mutex);
}
