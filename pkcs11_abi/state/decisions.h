/* What the core decided, remembered: this function with this mechanism and this key is allowed, and this is its kernel.
 *
 * A decision is good while nothing moved that it rests on. Three things tell:
 *
 *   - the slot's stamp (slots.h), which everything moves that this process does to logins and objects;
 *   - for token objects the store's generation, three words of shared memory, which every commit of any process moves;
 *   - for token objects a second of time, after which the core looks at the store's file again.
 *
 * The table is bounded; each place of a session keeps the decision that it used last, and the kernel's operation with
 * its contexts (a memo), so that the same use again takes no lock but the session's own.
 *
 * Who takes a reason away moves the stamp, forgets, moves it again, and then has the sessions looked through: then no
 * decision that was made before outlives the call, and no memo was made of one that was about to be forgotten.
 */
#ifndef FERROHSM_STATE_DECISIONS_H
#define FERROHSM_STATE_DECISIONS_H

#include "ferrohsm_kernel.h"
#include "ring.h"
#include "slots.h"

/* No return value of the standard's: the core has to be asked. */
#define FERRO_ASK (~(CK_RV)0)

typedef struct ferro_decision {
    ferro_slot *slot;
    CK_OBJECT_HANDLE handle; /* 0 for digests, which have no key */
    CK_MECHANISM_TYPE mechanism;
    CK_FLAGS function;
    const ferro_kernel *kernel;
    ferro_kernel_key *key;   /* a reference, NULL for digests */
    int parameter;           /* which kind of parameter the mechanism has, as the ABI numbers them */
    int is_private;          /* the key's right ends with the login */
    int on_token;            /* other processes may change the key */
    unsigned long long epoch;      /* the slot's login epoch */
    unsigned long long generation; /* the store's, when on_token */
    unsigned long long expires;    /* milliseconds, when on_token */
    ferro_subject subject;         /* what is recorded of its uses */
} ferro_decision;

typedef struct ferro_memo {
    ferro_decision decision; /* kernel NULL: none */
    unsigned long long stamp;
    ferro_kernel_op *op;
    uint64_t seen; /* uses of which the audit takes samples */
} ferro_memo;

/* Look a decision up; its key is retained for the caller. `stamp` is the slot's as it was before. Returns 0 when there
 * is none that is still good. */
int ferro_decisions_find(ferro_slot *slot, CK_OBJECT_HANDLE handle, CK_MECHANISM_TYPE mechanism, CK_FLAGS function,
                         ferro_decision *found, unsigned long long *stamp);

/* Remember a decision that was made after the slot's stamp was `stamp`. The reference to the key is taken over. */
void ferro_decisions_keep(ferro_decision *decision, unsigned long long stamp);

/* Whether a decision that was found at `stamp` is good now. */
int ferro_decision_good(const ferro_decision *decision, unsigned long long stamp);
void ferro_decision_release(ferro_decision *decision);

/* Forget what concerns a handle. Returns 1 when a session may still have a memo of it. */
int ferro_decisions_forget(CK_OBJECT_HANDLE handle);
void ferro_decisions_forget_slot(const ferro_slot *slot);
void ferro_decisions_forget_all(void);

/* Give back a memo's operation and key; the memo itself stays. */
void ferro_memo_clear(ferro_memo *memo);

/* A time in milliseconds that never goes back and costs next to nothing to read. */
unsigned long long ferro_coarse_time(void);

void ferro_decisions_prepare(void);
/* In the child of a fork: an empty table. The keys are the parent's, and the kernel has wiped them. */
void ferro_decisions_fork_child(void);

#endif
