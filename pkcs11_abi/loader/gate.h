/* The gate that every call passes: is the library initialized, is this still the process that initialized it, and
 * how many calls are in progress. */
#ifndef FERROHSM_GATE_H
#define FERROHSM_GATE_H

#include <stdatomic.h>

#include "platform.h"
/* Our definitions are the exported ones. */
#define CK_DECLARE_FUNCTION(returnType, name) FERRO_EXPORT returnType name
#include "boot.h"

/* The phases of the library; FERRO_PAUSED is added while a fork is under way. */
enum { FERRO_CLOSED = 0, FERRO_STARTING = 1, FERRO_OPEN = 2, FERRO_CLOSING = 3, FERRO_PAUSED = 16 };

/* Calls in progress are counted in one of several cache lines, so that threads don't meet at one counter. */
typedef struct {
    atomic_long calls;
    char padding[64 - sizeof(atomic_long)];
} ferro_shard;

/* What the gate knows of the thread. */
typedef struct {
    ferro_shard *shard;
    unsigned int depth;   /* calls of this thread in progress: more than one when a callback calls again */
    int counted;          /* whether this thread stands in its shard's count */
    unsigned int serial;  /* the initialization it belongs to, while the thread has stepped out by pause() */
    int fork_mode;        /* what the fork handlers have done on this thread */
    int fork_depth;       /* they are registered twice: the outermost pair works */
} ferro_thread;

typedef struct {
    uint64_t started;   /* microseconds, 0 without a trace */
    ferro_thread *self; /* the calling thread's, whose address is dear to find */
} ferro_call;

extern FERRO_THREAD_LOCAL ferro_thread ferro_self;
extern volatile int *ferro_alive;                      /* 0 in a child that has not been noticed yet */
extern atomic_int ferro_phase;
extern const CK_FUNCTION_LIST_3_2 *ferro_functions;    /* valid while the phase is FERRO_OPEN */
extern int ferro_tracing;
extern int ferro_hosted;

CK_RV ferro_enter_slowly(void);
ferro_shard *ferro_shard_of_thread(void);
int ferro_python_usable(void); /* python.c */
void ferro_trace_open(void);

static inline void ferro_call_begin(ferro_call *call)
{
    call->started = FERRO_UNLIKELY(ferro_tracing) ? ferro_microseconds() : 0;
}

/* Begin a call: CKR_OK, and then ferro_leave is due, or the result of the call. */
static inline CK_RV ferro_enter(ferro_call *call)
{
    ferro_thread *self = &ferro_self;
    FERRO_OPAQUE(self);
    call->self = self;
    ferro_call_begin(call);
    if (FERRO_UNLIKELY(!*ferro_alive))
        return ferro_enter_slowly();
    if (FERRO_UNLIKELY(self->depth != 0)) {
        self->depth++;
        return CKR_OK;
    }
    ferro_shard *shard = self->shard;
    if (FERRO_UNLIKELY(shard == NULL))
        shard = ferro_shard_of_thread();
    /* Both sequentially consistent: whoever changes the phase and then reads the counters sees this call, or this
     * call sees the new phase. */
    atomic_fetch_add(&shard->calls, 1);
    if (FERRO_UNLIKELY(atomic_load(&ferro_phase) != FERRO_OPEN || (ferro_hosted && !ferro_python_usable()))) {
        atomic_fetch_sub(&shard->calls, 1);
        return ferro_enter_slowly();
    }
    self->counted = 1;
    self->depth = 1;
    return CKR_OK;
}

static inline void ferro_leave(const ferro_call *call)
{
    ferro_thread *self = call->self;
    if (--self->depth == 0 && self->counted) {
        self->counted = 0;
        atomic_fetch_sub_explicit(&self->shard->calls, 1, memory_order_release);
    }
}

/* The slow side, for boot.c. */
void ferro_gate_begin(void);             /* once: fork word and fork handlers */
void ferro_gate_outermost(void);         /* after other libraries have registered fork handlers */
int ferro_gate_check_child(void);        /* 1 when this turned out to be an unnoticed child; the state is renewed */
int ferro_gate_drain(unsigned int ms);   /* wait for the other threads' calls; 0 when none is left */
/* Wait until no fork, C_Initialize or C_Finalize is under way, then return the phase; ferro_gate_mutex is held. */
int ferro_gate_settle(void);
/* Change the phase; ferro_gate_mutex is held. While one of them runs, C_Initialize and C_Finalize count as calls. */
void ferro_gate_change(int phase);

/* pause and resume of ferro_host. */
void ferro_gate_step_out(void);
int ferro_gate_step_in(void);

/* Hooks of os.fork in a Python host: `before` runs with the GIL and releases it while it waits. */
void ferro_gate_before_fork(void);
void ferro_gate_after_fork_parent(void);

extern ferro_mutex ferro_gate_mutex;     /* guards changes of the phase; held for moments only */
extern const ferro_table *ferro_entered; /* boot.c: the table, once there is one */

/* boot.c */
CK_RV ferro_initialize(CK_VOID_PTR pInitArgs);
CK_RV ferro_finalize(CK_VOID_PTR pReserved);

#endif
