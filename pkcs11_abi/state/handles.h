/* Object handles: (slot, object identity) to CK_OBJECT_HANDLE and back. A handle is never used again in a process.
 *
 * A handle that was given out during a login may name a private object, and those are dead after the logout, even when
 * the user comes back. So it remembers the login epoch; one of an older epoch is stale, and the ABI asks the core
 * whether its object is private before it trusts it again (then it is killed) or for good (then it is confirmed).
 */
#ifndef FERROHSM_STATE_HANDLES_H
#define FERROHSM_STATE_HANDLES_H

#include "pkcs11.h"
#include "recipes.h"
#include "sessions.h"

typedef struct ferro_target {
    CK_OBJECT_HANDLE handle;
    CK_SLOT_ID slot;
    long long oid;
    unsigned long long epoch; /* 0: public, valid in every epoch */
    int is_draft;             /* the core does not know it yet */
} ferro_target;

/* Once, before any other call. */
void ferro_handles_prepare(void);

/* The handle of an object, made if there is none; 0 when there is no memory. With `owner` it is a session object,
 * whose handle dies with the session. */
CK_OBJECT_HANDLE ferro_handle_make(CK_SLOT_ID slot, long long oid, unsigned long long epoch, ferro_session *owner);

/* Look a handle up; an object up. Return 0 when it is not known. */
int ferro_handle_find(CK_OBJECT_HANDLE handle, ferro_target *target);
int ferro_handle_of(CK_SLOT_ID slot, long long oid, ferro_target *target);

void ferro_handle_confirm(CK_OBJECT_HANDLE handle);
/* A handle dies with the decisions about it. */
void ferro_handle_kill(ferro_slot *slot, CK_OBJECT_HANDLE handle);
void ferro_handles_kill_owned(ferro_session *owner);
void ferro_handles_kill_slot(CK_SLOT_ID slot);
void ferro_handles_kill_all(void);

/* Drafts: session objects that the core does not know yet. What the kernel made is shared by the halves of a pair.
 *
 * A draft ends with its handle: destroyed, its session closed, the slot's token gone, or private and the login over.
 * `settle` says that the core knows the object now; from then on the handle is like all others. */
typedef struct ferro_draft {
    _Atomic unsigned references;
    ferro_recipe *recipe;
    ferro_kernel_generated *made;
} ferro_draft;

/* Give out handles of what was made by a recipe, `handles` for each of its halves. The material and the reference to
 * the recipe are taken over, whatever is returned: CKR_OK, CKR_HOST_MEMORY, or FERRO_ASK when the login is another by
 * now. */
CK_RV ferro_draft_hand_out(ferro_recipe *recipe, ferro_kernel_generated *made, ferro_session *owner,
                           CK_OBJECT_HANDLE *handles[2]);

/* The draft behind a handle with a reference of the caller's, or NULL; which half it is, its identity to be, and the
 * session that it belongs to. */
ferro_draft *ferro_draft_find(CK_OBJECT_HANDLE handle, int *half, long long *oid, CK_SESSION_HANDLE *owner);
/* A search of a slot begins: which drafts there are. One that is made from here on moves the slot's births. */
typedef struct ferro_drafts_seen {
    CK_OBJECT_HANDLE last[FERRO_HANDLE_PARTS];
} ferro_drafts_seen;

void ferro_drafts_mark(ferro_slot *slot, ferro_drafts_seen *seen);
/* The handle of one of the slot's drafts that were there, the oldest of its maker's, or 0 when none is left. */
CK_OBJECT_HANDLE ferro_draft_of_slot(CK_SLOT_ID slot, ferro_drafts_seen *seen);
/* The core has it. Returns 0 when the handle is gone meanwhile: then the core has to give it up again. */
int ferro_draft_settle(CK_OBJECT_HANDLE handle);
/* Say that a draft of this slot is to be destroyed, once that is recorded. Returns 1; 0 when there is no such draft; -1
 * when another thread has said so. `unclaim`: it could not be recorded. */
int ferro_draft_claim(ferro_slot *slot, CK_OBJECT_HANDLE handle);
void ferro_draft_unclaim(CK_OBJECT_HANDLE handle);
/* How many drafts end with a session. */
unsigned long long ferro_drafts_owned(const ferro_session *owner);
/* Destroy it if it is a draft of this slot; returns whether it was. */
int ferro_draft_destroy(ferro_slot *slot, CK_OBJECT_HANDLE handle);
void ferro_draft_release(ferro_draft *draft);

/* The login has ended: private drafts of other epochs are gone. Returns how many these were. */
unsigned long long ferro_drafts_forget_private(ferro_slot *slot);

/* In the child of a fork: a new lock and an empty table; the old one is abandoned. */
void ferro_handles_fork_child(void);

#endif
