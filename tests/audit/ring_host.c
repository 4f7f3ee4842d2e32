/* The ring of events without Python, under a sanitizer: threads that record uses of keys, each session its own, while one
 * thread closes and takes the entries as the interpreter would. Every use must be taken exactly once.
 *
 *     ring_host threads uses        count what is taken
 *     ring_host cost                nanoseconds that a use costs its caller, in each mode
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ring.h"

#define CAPACITY 256
#define CHECK(condition)                                                           \
    do {                                                                           \
        if (!(condition)) {                                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                               \
        }                                                                          \
    } while (0)

static unsigned char *memory;
static ferro_ring *ring;
static _Atomic int running;
static unsigned long long uses, taken_uses, full;
static _Atomic unsigned long long refused;

static _Atomic uint64_t *word(size_t at) { return (_Atomic uint64_t *)(void *)(memory + at); }

static ferro_entry *entry_at(uint64_t number)
{
    return (ferro_entry *)(void *)(memory + FERRO_RING_HEADER + number % CAPACITY * sizeof(ferro_entry));
}

static void make(int mode, int sync)
{
    size_t size = FERRO_RING_HEADER + CAPACITY * sizeof(ferro_entry);

    CHECK(posix_memalign((void **)&memory, 4096, size) == 0);
    memset(memory, 0, size);
    CHECK(ferro_ring_make(memory, 100, mode, 10, sync) == NULL);
    ring = ferro_ring_make(memory, size, mode, 10, sync);
    CHECK(ring != NULL);
}

static void take_all(void)
{
    uint64_t tail = atomic_load(word(FERRO_RING_TAIL)), head = atomic_load(word(FERRO_RING_HEAD));

    for (; tail < head && atomic_load_explicit(&entry_at(tail)->commit, memory_order_acquire) == tail + 1; tail++) {
        taken_uses += ferro_ring_close(ring, tail) & 0xFFFFFF;
        CHECK(memcmp(entry_at(tail)->chain, "chain", 6) == 0 && entry_at(tail)->session != 0);
    }
    atomic_store_explicit(word(FERRO_RING_TAIL), tail, memory_order_release);
}

static void *take(void *unused)
{
    while (atomic_load(&running)) {
        ferro_ring_wait(ring, 1);
        take_all();
    }
    take_all();
    return unused;
}

static ferro_subject subject(void)
{
    ferro_subject one;

    memset(&one, 0, sizeof one);
    one.ring = ring;
    memcpy(one.chain, "chain", 6);
    memset(one.object, 'a', 32);
    return one;
}

static void *use_keys(void *number)
{
    ferro_subject about = subject();
    uint64_t seen = 0;
    ferro_use use = {.session = (CK_SESSION_HANDLE)(size_t)number, .slot = 1, .mechanism = 5, .event = 32, .user = 1};
    ferro_entry entry;
    unsigned long long i;

    for (i = 0; i < uses; i++) {
        use.result = i % 97 == 0 ? CKR_SIGNATURE_INVALID : CKR_OK;
        while ((i % 5 ? ferro_ring_note(ring, &about, &seen, &use, &entry)
                      : ferro_ring_note_made(ring, &about, &use, &entry)) == FERRO_NOT_NOTED) {
            struct timespec pause = {0, 100000};
            atomic_fetch_add(&refused, 1);
            nanosleep(&pause, NULL);
        }
        if (ferro_ring_attend(ring, 1))
            ferro_ring_attend(ring, 0);
    }
    return NULL;
}

static void crowd(int threads)
{
    pthread_t users[64], taker;
    int i;

    CHECK(threads > 0 && threads <= 64);
    atomic_store(&running, 1);
    CHECK(pthread_create(&taker, NULL, take, NULL) == 0);
    for (i = 0; i < threads; i++)
        CHECK(pthread_create(&users[i], NULL, use_keys, (void *)(size_t)(i + 1)) == 0);
    for (i = 0; i < threads; i++)
        pthread_join(users[i], NULL);
    atomic_store(&running, 0);
    ferro_ring_stop(ring);
    pthread_join(taker, NULL);
    full += atomic_load(&refused);
    if (taken_uses != uses * (unsigned)threads) {
        fprintf(stderr, "%llu uses were taken of %llu\n", taken_uses, uses * (unsigned)threads);
        exit(1);
    }
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

/* The best of many rounds: the machine has others to serve. */
static double cost(int mode)
{
    ferro_subject about;
    uint64_t seen = 0;
    ferro_use use = {.session = 1, .slot = 1, .mechanism = 5, .event = 32, .user = 1};
    ferro_entry entry;
    double best = 1e9;
    int round, i;

    make(mode, 0);
    about = subject();
    atomic_store(&ring->attended, 1);
    for (round = 0; round < 2000; round++) {
        double start = now(), spent;
        for (i = 0; i < 100; i++)
            CHECK(ferro_ring_note(ring, &about, &seen, &use, &entry) == FERRO_NOTED);
        spent = (now() - start) / 100;
        take_all();
        if (spent < best)
            best = spent;
    }
    return best;
}

/* Who works in parts, with one key after the other, does not need an entry for each use. */
static void take_turns(void)
{
    ferro_subject about;
    uint64_t seen = 0, made;
    ferro_use use = {.session = 1, .slot = 1, .mechanism = 5, .event = 32, .user = 1};
    ferro_entry entry;
    int i;

    make(FERRO_USE_COUNTED, 0);
    about = subject();
    taken_uses = 0;
    for (i = 0; i < 6000; i++) {
        about.object[0] = (char)('a' + i % 3);
        use.part = i % 2 ? FERRO_USE_FIRST : FERRO_USE_LAST;
        CHECK(ferro_ring_note(ring, &about, &seen, &use, &entry) != FERRO_NOT_NOTED);
    }
    made = atomic_load(word(FERRO_RING_HEAD));
    take_all();
    CHECK(taken_uses == 6000 && made < CAPACITY);
    if (made > 6)
        printf("%llu entries for six ways\n", (unsigned long long)made);
    ferro_ring_free(ring);
    free(memory);
}

int main(int argc, char **argv)
{
    static const int modes[] = {FERRO_USE_EACH, FERRO_USE_COUNTED};
    ferro_subject about;
    uint64_t seen = 0;
    ferro_use use = {.session = 1, .slot = 1, .result = CKR_OK};
    ferro_entry entry;
    size_t i;

    if (argc == 2) {
        printf("each %.0f counted %.0f sampled %.0f\n", cost(FERRO_USE_EACH), cost(FERRO_USE_COUNTED),
               cost(FERRO_USE_SAMPLED));
        return 0;
    }
    CHECK(argc == 3);
    uses = strtoull(argv[2], NULL, 10);
    for (i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        taken_uses = 0;
        make(modes[i], 0);
        crowd(atoi(argv[1]));
        ferro_ring_free(ring);
        free(memory);
    }
    take_turns();
    make(FERRO_USE_COUNTED, 1);
    about = subject();
    CHECK(ferro_ring_note(ring, &about, &seen, &use, &entry) == FERRO_NOT_NOTED); /* sync: the owner has to */
    ring->sync = 0;
    ferro_ring_set_broken(ring, 1);
    CHECK(ferro_ring_broken(ring) && ferro_ring_note(ring, &about, &seen, &use, &entry) == FERRO_NOT_NOTED);
    ferro_ring_set_broken(ring, 0);
    for (i = 0; i < CAPACITY; i++)
        CHECK(ferro_ring_push(ring, &entry, NULL) == 1);
    CHECK(ferro_ring_push(ring, &entry, NULL) == 0); /* nothing is overwritten */
    ferro_ring_free(ring);
    free(memory);
    printf("every use was taken once; the ring was full %llu times\n", full);
    return 0;
}
