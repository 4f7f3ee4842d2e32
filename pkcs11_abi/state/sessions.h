/* Sessions and their operations as C structures: open, close and info need no interpreter.
 *
 * A session's lock (its shard's mutex) guards changes of state and never a wait. A call takes the session and leaves
 * it again. A call that changes an operation takes it alone: it is marked busy, and a second such call gets
 * CKR_OPERATION_ACTIVE. Other calls (attributes, key generation, random) only hold a reference. Closing takes the
 * session out of the table at once; whoever leaves it last tears it down.
 */
#ifndef FERROHSM_STATE_SESSIONS_H
#define FERROHSM_STATE_SESSIONS_H

#include <stddef.h>

#include "decisions.h"
#include "finds.h"
#include "lanes.h"
#include "pkcs11.h"
#include "slots.h"

/* The places for operations of a session: one of each may be active. */
enum {
    FERRO_FIND,
    FERRO_ENCRYPT,
    FERRO_DECRYPT,
    FERRO_DIGEST,
    FERRO_SIGN,
    FERRO_SIGN_RECOVER,
    FERRO_VERIFY,
    FERRO_VERIFY_RECOVER,
    FERRO_MESSAGE_ENCRYPT,
    FERRO_MESSAGE_DECRYPT,
    FERRO_MESSAGE_SIGN,
    FERRO_MESSAGE_VERIFY,
    FERRO_OPERATIONS
};

/* What an operation is made of: an object of the core's, the session's memo with a kernel's operation, or the objects
 * that a search has found. */
enum { FERRO_IDLE, FERRO_PYTHON, FERRO_KERNEL, FERRO_FOUND };

/* How far it has come. */
enum { FERRO_FRESH, FERRO_PARTS, FERRO_HELD_ONCE, FERRO_HELD_FINISH };

typedef struct ferro_operation {
    int kind;
    int phase;
    void *object;               /* FERRO_PYTHON: an owned reference, touched only with the interpreter's lock;
                                   FERRO_KERNEL: the session's memo; FERRO_FOUND: a ferro_found, owned */
    unsigned char *held;        /* a result that did not fit yet (FERRO_HELD_...), wiped when it is given back */
    size_t held_length;
    unsigned long long held_epoch; /* the slot's login epoch then: after a logout the result is not given out */
    unsigned char *input;       /* the input it was computed from: another input is another operation */
    size_t input_length;
    unsigned char *signature;   /* C_VerifySignatureInit's signature */
    size_t signature_length;
} ferro_operation;

enum { FERRO_REMOVED = 2 };

/* The handle table is in so many parts. */
enum { FERRO_HANDLE_PARTS = FERRO_LANES };

typedef struct ferro_session {
    CK_SESSION_HANDLE handle;
    ferro_slot *slot;
    CK_FLAGS flags;
    void *core;                 /* the core's session, made at the first call that needs it; interpreter's lock */
    struct ferro_handle *owned[FERRO_HANDLE_PARTS]; /* handles of its session objects; the locks of the table's parts */
    _Atomic unsigned owning;    /* in which parts it ever had one: bits */
    ferro_operation operations[FERRO_OPERATIONS];
    ferro_memo *memos[FERRO_OPERATIONS]; /* made at first use */
    unsigned token;             /* which of the slot's tokens it is with */
    unsigned long long seen;    /* the slot's stamp when the memos were last looked through */
    _Atomic unsigned long long quick; /* calls that had it alone and needed no Python */
    /* The word by which whoever has the session alone leaves it without the lock, if nothing has happened to it. It is
     * changed with the shard's lock, but by that one leaving. */
    _Atomic unsigned state;
    /* The rest is the shard's. */
    unsigned refs;              /* of the table and of calls that have it beside others */
    int closed;                 /* 1, or FERRO_REMOVED: with its token */
    CK_FLAGS running;           /* the operation flag of the call that has the session alone */
    CK_FLAGS cancelled;         /* what C_SessionCancel asked it to end */
    struct ferro_session *next;
} ferro_session;

/* Once, before any other call. */
void ferro_sessions_prepare(void);

CK_RV ferro_session_open(CK_SLOT_ID slot, CK_FLAGS flags, CK_SESSION_HANDLE *handle);

/* Take a session. `alone` marks it busy, with `running` as what may be cancelled. */
CK_RV ferro_session_take(CK_SESSION_HANDLE handle, int alone, CK_FLAGS running, ferro_session **session);

/* What happened to the session while a call had it: CKR_OK, CKR_SESSION_CLOSED, CKR_DEVICE_REMOVED or
 * CKR_FUNCTION_CANCELED. */
CK_RV ferro_session_fate(ferro_session *session, int alone);

/* Leave it unless something happened to it meanwhile: then it returns 0, and the fate has to be asked. `quick` counts a
 * call that needed no Python. */
int ferro_session_leave_well(ferro_session *session, int alone, int quick);

/* The calls in sessions so far that needed no Python. */
unsigned long long ferro_sessions_quick(void);

/* The memo with which an operation may begin at once, or NULL: the core has to be asked. The caller has the session
 * alone. */
ferro_memo *ferro_session_memo(ferro_session *session, int operation, CK_OBJECT_HANDLE handle,
                               CK_MECHANISM_TYPE mechanism);

/* A reason was taken away: end operations of the slot's sessions that rest on it, give back keys and contexts that were
 * kept for the next use. A session that a call has alone is looked through when that call leaves it. */
void ferro_sessions_look_through(ferro_slot *slot);

/* What ferro_handle_kill, a change of an object or of the login does to decisions: see decisions.h. */
void ferro_sessions_forget_handle(ferro_slot *slot, CK_OBJECT_HANDLE handle);
/* Returns how many drafts have ended with a login. */
unsigned long long ferro_sessions_forget_slot(ferro_slot *slot);

/* Leave it. Returns 1 when the session was closed and this was the last user: the caller tears it down. */
int ferro_session_leave(ferro_session *session, int alone);

/* Take the session out of the table; its reference is now the caller's, who leaves it. `last` is set when its login
 * ended with it. */
CK_RV ferro_session_detach(CK_SESSION_HANDLE handle, ferro_session **session, int *last);

/* The same for one session of a slot (any slot when NULL), or NULL when there is none. */
ferro_session *ferro_session_detach_any(ferro_slot *slot, int *last);

/* The same for one session with a token that is not in the slot any more. */
ferro_session *ferro_session_detach_removed(ferro_slot *slot);

/* Ask the call that is running one of `flags` to stop. Returns 1 when there is one. */
int ferro_session_cancel(ferro_session *session, CK_FLAGS flags);

CK_RV ferro_session_info(CK_SESSION_HANDLE handle, CK_SESSION_INFO *info);
CK_STATE ferro_session_state(const ferro_session *session);

/* Free the structure; its Python references were dropped before. */
void ferro_session_free(ferro_session *session);

/* Wipe and free what an operation holds in C. */
void ferro_operation_clear(ferro_operation *operation);

/* End a kernel's operation; its contexts stay in the memo. */
void ferro_operation_end(ferro_operation *operation);

/* The operation's flag in CK_MECHANISM_INFO, which C_SessionCancel uses. */
CK_FLAGS ferro_operation_flag(int operation);

/* In the child of a fork: new locks, empty tables. What the parent's sessions held is abandoned, not freed. */
void ferro_sessions_fork_child(void);

#endif
