/* The slots as the ABI remembers them: what C_GetSlotList and C_OpenSession need without the interpreter.
 *
 * The core's view is copied in by a scan. A slot's structure, once made, lives as long as the process, so a session
 * may keep a pointer to it; a slot that is gone is only not listed any more.
 */
#ifndef FERROHSM_STATE_SLOTS_H
#define FERROHSM_STATE_SLOTS_H

#include <stdatomic.h>

#include "ferrohsm_finder.h"
#include "ferrohsm_kernel.h"
#include "pkcs11.h"
#include "lock.h"
#include "ring.h"

enum { FERRO_NOBODY = -1, FERRO_SO = 0, FERRO_USER = 1 };

typedef struct ferro_slot {
    CK_SLOT_ID id;
    CK_FLAGS flags;
    CK_UTF8CHAR description[64];
    CK_UTF8CHAR manufacturer[32];
    int listed;
    int order;           /* place in the list */
    int is_inline;       /* the adapter's coroutines are stepped on the caller's thread */
    int present;         /* a token is in the slot */
    int initialized;     /* and was initialized */
    int write_protected;
    CK_ULONG max_sessions; /* of this process; CK_EFFECTIVELY_INFINITE: as many as it likes */
    int removed;         /* the token was taken out: the sessions with it have to be closed */
    _Atomic unsigned tokens; /* counts the tokens that were taken out of it */
    int event;           /* an event that the application was not told of */
    int exclusive;       /* a login, logout or change of PIN is being made */
    int initializing;    /* C_InitToken is at work: no session can be opened */
    int so_pending;      /* an SO login is being tried: no R/O session can be opened */
    int logout_pending;  /* the last session was closed, the core has not been told */
    _Atomic int login;   /* FERRO_NOBODY, FERRO_SO or FERRO_USER; read without a lock */
    _Atomic unsigned long long epoch; /* moves with every login and logout, never 0; read without a lock */
    CK_ULONG sessions;
    CK_ULONG rw_sessions;
    /* Moves with everything that this process does to logins and objects (decisions.h); read without a lock. */
    _Atomic unsigned long long stamp;
    /* What computes for this slot without Python, or NULL. */
    _Atomic(const ferro_kernel *) kernel;
    /* The store's generation in shared memory, or NULL: the numbers of the commit that was begun and of the one that is
     * done, and whether the token is gone. */
    _Atomic(const _Atomic unsigned long long *) words;
    /* Where the coming and going of objects is recorded that only the handle table knows, or ring NULL. */
    _Atomic(ferro_ring *) ring;
    char chain[32];
    struct ferro_slot *next;
    /* Moves with every object that this process makes, so that no search that is kept misses one. Written and read without
     * a lock, like all that follows; copies end before it. */
    _Alignas(FERRO_CACHE_LINES) _Atomic unsigned long long births;
    /* Drafts come much more often than searches, so only the first one after the beginning of a search moves the births:
     * the search that began last, and the last one after which they were moved. */
    _Atomic unsigned long long searches;
    _Atomic unsigned long long drafted;
    /* What finds objects by their name without Python, or NULL. */
    _Atomic(ferro_finder *) finder;
    _Atomic unsigned asked;       /* searches by way of the core */
    /* The births, and one, at which the core had no session object: the finder does not know of any. */
    _Atomic unsigned long long bare;
    /* When the core last looked whether the store's files are still the same, in milliseconds; 0: never. */
    _Atomic unsigned long long looked;
} ferro_slot;

/* A slot as a scan found it. */
typedef struct ferro_slot_view {
    CK_SLOT_ID id;
    CK_FLAGS flags;
    CK_UTF8CHAR description[64];
    CK_UTF8CHAR manufacturer[32];
    int is_inline, present, initialized, write_protected;
    CK_ULONG max_sessions;
} ferro_slot_view;

/* What a caller gets to see of a slot: a copy, made under the lock. */
typedef struct ferro_slot ferro_slot_copy;

static inline unsigned long long ferro_slot_stamp(ferro_slot *slot)
{
    return atomic_load_explicit(&slot->stamp, memory_order_acquire);
}

static inline unsigned long long ferro_slot_births(ferro_slot *slot)
{
    return atomic_load_explicit(&slot->births, memory_order_acquire);
}

/* An object was made, and the one who asked for it has not been told yet. */
void ferro_slot_born(ferro_slot *slot);
/* The same for a draft, which is in the handle table by now. */
void ferro_slot_draft_born(ferro_slot *slot);
/* A search begins, which looks into the handle table after this. */
void ferro_slot_look_for_drafts(ferro_slot *slot);

static inline unsigned long long ferro_slot_epoch(ferro_slot *slot)
{
    return atomic_load_explicit(&slot->epoch, memory_order_acquire);
}

static inline const ferro_kernel *ferro_slot_kernel(ferro_slot *slot)
{
    return atomic_load_explicit(&slot->kernel, memory_order_acquire);
}

static inline int ferro_slot_login(ferro_slot *slot) { return atomic_load_explicit(&slot->login, memory_order_relaxed); }

/* The number of the store's last commit. Returns 0 when it is not certain: then the store has to be asked. */
static inline int ferro_slot_settled(ferro_slot *slot, unsigned long long *number)
{
    const _Atomic unsigned long long *words = atomic_load_explicit(&slot->words, memory_order_acquire);

    if (words == NULL)
        return 0;
    *number = atomic_load_explicit(&words[0], memory_order_acquire);
    return atomic_load_explicit(&words[1], memory_order_acquire) == *number
           && atomic_load_explicit(&words[2], memory_order_acquire) == 0;
}

/* Move the stamp. */
void ferro_slot_moved(ferro_slot *slot);

/* The core has just looked at the store's files. For a second what is known of the store may be used: a file that was
 * put in the place of another tells nobody. */
void ferro_slot_look(ferro_slot *slot);
int ferro_slot_looked(ferro_slot *slot);

/* The core had no session object when the births were these. */
void ferro_slot_was_bare(ferro_slot *slot, unsigned long long births);

/* What finds without Python; it has to stay usable as long as calls may be in progress. */
void ferro_slot_finds_with(ferro_slot *slot, ferro_finder *finder);

/* What is behind a slot; moves the stamp if it is something else than before. */
void ferro_slot_behind(ferro_slot *slot, const ferro_kernel *kernel, const void *words);

/* Take over a scan. With `tell`, what changed becomes an event. Returns CKR_OK or CKR_HOST_MEMORY. */
CK_RV ferro_slots_update(const ferro_slot_view *views, CK_ULONG count, int tell);

/* The listed slots' ids in order; the rules of C_GetSlotList. */
CK_RV ferro_slots_list(int with_token, CK_SLOT_ID *ids, CK_ULONG *count);

/* The token that was in the slot is gone, or another one is there. `take` returns one such slot and forgets that, or
 * NULL; to look whether there is any costs one load. */
void ferro_slot_removed(ferro_slot *slot);
ferro_slot *ferro_slots_take_removed(void);

/* Clear and return one event: CKR_OK or CKR_NO_EVENT. */
CK_RV ferro_slots_event(CK_SLOT_ID *id);

/* The listed slot with this id, or NULL. `copy` (may be NULL) gets its state. */
ferro_slot *ferro_slot_find(CK_SLOT_ID id, ferro_slot_copy *copy);
void ferro_slot_read(ferro_slot *slot, ferro_slot_copy *copy);

/* Count a session in, if the rules allow one of this kind; count it out. Out returns 1 when that was the last session
 * of somebody who was logged in: the login is over, and the core has to be told. */
CK_RV ferro_slot_count_in(CK_SLOT_ID id, int read_write, ferro_slot **slot);
int ferro_slot_count_out(ferro_slot *slot, int read_write);

/* One login, logout or PIN function at a time. `try_enter` returns 0 when somebody else is at work; `await_free` waits
 * a short time for that to change (without the interpreter's lock). */
int ferro_slot_try_enter(ferro_slot *slot);
void ferro_slot_await_free(ferro_slot *slot);
void ferro_slot_leave(ferro_slot *slot);

/* For the one who entered. */
CK_RV ferro_slot_begin_login(ferro_slot *slot, int user);
void ferro_slot_end_login(ferro_slot *slot, int user, int success);
void ferro_slot_logged_out(ferro_slot *slot);
int ferro_slot_take_pending_logout(ferro_slot *slot);
CK_RV ferro_slot_begin_init(ferro_slot *slot);
void ferro_slot_end_init(ferro_slot *slot);

/* Wait for at most the time given, or until ferro_slots_interrupt. Returns 1 when interrupted. */
int ferro_slots_wait(unsigned milliseconds);
void ferro_slots_interrupt(void);
void ferro_slots_resume(void);

/* Where the slot's drafts are recorded. `subject` returns 0 when they are not. */
void ferro_slot_recorded(ferro_slot *slot, const ferro_subject *subject);
int ferro_slot_subject(ferro_slot *slot, ferro_subject *subject);

/* Forget logins, sessions, events and the list (C_Finalize); and in the child of a fork, locks as well. */
void ferro_slots_reset(int forked);

#endif
