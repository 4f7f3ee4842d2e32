/* Events of the audit, written into a mapped file without the interpreter (ferrohsm/audit/ring.py makes and empties it).
 *
 * An entry is complete when its first word is its number plus one, which is stored last: a process that is killed in the
 * middle leaves an entry that is told to be incomplete. A full ring takes nothing: the caller empties it or waits.
 *
 * An entry may stand for several uses of one key by one session: its count word holds how many, and the milliseconds from
 * the first to the last. Only the thread that wrote it counts it up, by comparing and exchanging the word that it wrote
 * last; so once somebody has closed it (or it has become another entry) the next use makes a new entry.
 */
#ifndef FERROHSM_STATE_RING_H
#define FERROHSM_STATE_RING_H

#include <stddef.h>
#include <stdatomic.h>
#include <stdint.h>

#include "lock.h"
#include "pkcs11.h"

enum { FERRO_RING_HEADER = 4096, FERRO_RING_HEAD = 128, FERRO_RING_TAIL = 256 };

/* As the configuration has it: what becomes of the uses of keys. */
enum { FERRO_USE_EACH, FERRO_USE_COUNTED, FERRO_USE_SAMPLED };

/* Which part of an operation a use was. */
enum { FERRO_USE_WHOLE, FERRO_USE_FIRST, FERRO_USE_LAST };

/* ferrohsm/audit/events.py has the same layout. */
typedef struct ferro_entry {
    _Atomic uint64_t commit;
    _Atomic uint64_t count; /* 24 bits count, 24 bits milliseconds, 15 bits lap, 1 bit closed */
    _Atomic uint64_t taken;
    uint64_t time; /* nanoseconds since the epoch */
    uint64_t unused;
    uint64_t session;
    uint64_t slot;
    uint64_t mechanism;
    uint64_t result;
    uint32_t event;
    int32_t user;
    uint64_t weight;
    char chain[32];
    char object[40];
    char other[40];
    char detail[56];
} ferro_entry;

typedef struct ferro_ring {
    unsigned char *memory;
    uint64_t capacity;
    uint64_t identity;     /* no other ring of the process has it */
    int mode;
    uint64_t sample;
    int sync;              /* every event is on disk before the answer: the caller sees to it */
    void *owner;           /* who is asked when it is not as simple as pushing */
    _Atomic int broken;    /* what is in here cannot be moved on: nothing is done that it must hold */
    _Atomic int sleeping;
    _Atomic int attended;  /* a thread moves on what is in here */
    int stopped;
    ferro_mutex mutex;
    ferro_condition woken;
} ferro_ring;

/* What is recorded of a decision. ring NULL: nothing. */
typedef struct ferro_subject {
    ferro_ring *ring;
    char chain[32];
    char object[40];
} ferro_subject;

/* The entry that a thread counts up for a session and a key. All zero: none. */
typedef struct ferro_tally {
    uint64_t number; /* plus one */
    uint64_t word;
    uint64_t started; /* milliseconds */
    CK_RV result;
    int user;
} ferro_tally;

typedef struct ferro_use {
    CK_SESSION_HANDLE session;
    CK_SLOT_ID slot;
    CK_MECHANISM_TYPE mechanism;
    CK_RV result;
    uint32_t event;
    int user;
    int part;
} ferro_use;

ferro_ring *ferro_ring_make(void *memory, size_t size, int mode, uint64_t sample, int sync);
void ferro_ring_free(ferro_ring *ring);

/* Put an entry in (all but its commit word is taken over). Returns 0 when the ring is full. `number` may be NULL. */
int ferro_ring_push(ferro_ring *ring, const ferro_entry *entry, uint64_t *number);

/* What ferro_ring_note did. */
enum { FERRO_NOTED, FERRO_NOTED_UNATTENDED, FERRO_NOT_NOTED };

/* Record a use of a key; `seen` counts those of which samples are taken. FERRO_NOT_NOTED: the owner has to be asked, because the ring is full or broken or every event has
 * to be on disk; `entry` is filled in then. FERRO_NOTED_UNATTENDED: the owner has to see to it that somebody moves it on. */
int ferro_ring_note(ferro_ring *ring, const ferro_subject *subject, uint64_t *seen, const ferro_use *use,
                    ferro_entry *entry);

/* Record, on whatever thread, that session objects came and went of which only the handle is known; `subject`'s object is
 * what they were derived from. They are counted where uses are. Returns what ferro_ring_note does. */
int ferro_ring_note_made(ferro_ring *ring, const ferro_subject *subject, const ferro_use *use, ferro_entry *entry);

/* Record, on whatever thread, that `count` session objects went with their session, in one entry. Returns what
 * ferro_ring_note does. */
int ferro_ring_note_ended(ferro_ring *ring, const ferro_subject *subject, const ferro_use *use,
                          unsigned long long count, ferro_entry *entry);

/* Let an entry count no further; returns its count word. */
uint64_t ferro_ring_close(ferro_ring *ring, uint64_t number);

static inline int ferro_ring_broken(const ferro_ring *ring)
{
    return ring != NULL && atomic_load_explicit(&((ferro_ring *)ring)->broken, memory_order_acquire);
}

void ferro_ring_set_broken(ferro_ring *ring, int broken);

/* Begin to look after the ring, or (`begin` 0) end: returns 0 when somebody does, or when something has come again. */
int ferro_ring_attend(ferro_ring *ring, int begin);

/* Wait for the time given, or until the ring is half full. Returns 0 once it was stopped. */
int ferro_ring_wait(ferro_ring *ring, unsigned milliseconds);
void ferro_ring_stop(ferro_ring *ring);

#endif
