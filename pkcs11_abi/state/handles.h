/* Object handles: (slot, object identity) to CK_OBJECT_HANDLE and back. A handle is never used again in a process.
 *
 * A handle that was given out during a login may name a private object, and those are dead after the logout, even when
 * the user comes back. So it remembers the login epoch; one of an older epoch is stale, and the ABI asks the core
 * whether its object is private before it trusts it again (then it is killed) or for good (then it is confirmed).
 */
#ifndef FERROHSM_STATE_HANDLES_H
#define FERROHSM_STATE_HANDLES_H

#include "pkcs11.h"
#include "sessions.h"

typedef struct ferro_target {
    CK_OBJECT_HANDLE handle;
    CK_SLOT_ID slot;
    long long oid;
    unsigned long long epoch; /* 0: public, valid in every epoch */
} ferro_target;

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

/* In the child of a fork: a new lock and an empty table; the old one is abandoned. */
void ferro_handles_fork_child(void);

#endif
