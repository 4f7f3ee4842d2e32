/* Calls in progress, forks, and the phases of the library. */
#include "gate.h"
#include "python.h"

#include <string.h>

#define SHARDS 16
#define FORK_WAIT_MS 5000

/* What the fork handlers have done on the forking thread. */
enum { FORK_NONE = 0, FORK_LEFT = 1, FORK_GATE = 2, FORK_FULL = 3, FORK_HOOK = 4 };

static ferro_shard shards[SHARDS];
static atomic_uint next_shard;
static volatile int always_alive = 1; /* where the system has no wipe-on-fork memory, the fork handlers do the work */
static ferro_condition changed = FERRO_CONDITION_INIT;
static ferro_mutex fork_mutex = FERRO_MUTEX_INIT; /* one fork at a time; never waited for with the GIL */
static atomic_uint serial;                        /* counts initializations and forks */

FERRO_THREAD_LOCAL ferro_thread ferro_self;
volatile int *ferro_alive = &always_alive;
atomic_int ferro_phase = FERRO_CLOSED;
const CK_FUNCTION_LIST_3_2 *ferro_functions;
ferro_mutex ferro_gate_mutex = FERRO_MUTEX_INIT;

ferro_shard *ferro_shard_of_thread(void)
{
    ferro_self.shard = &shards[atomic_fetch_add(&next_shard, 1) % SHARDS];
    return ferro_self.shard;
}

/* --- the phase ------------------------------------------------------------------------------------------------- */

/* Wait for a change of the phase; ferro_gate_mutex is held before and after. A thread that holds the GIL lends it to
 * the others meanwhile, and takes it again while it holds no lock. */
static void wait_for_change(void)
{
    void *state = ferro_python_detach();
    ferro_condition_wait(&changed, &ferro_gate_mutex);
    if (state != NULL) {
        ferro_mutex_unlock(&ferro_gate_mutex);
        ferro_python_reattach(state);
        ferro_mutex_lock(&ferro_gate_mutex);
    }
}

/* Wait until no fork is under way and return the phase; ferro_gate_mutex is held. */
static int unpaused_phase(void)
{
    while (atomic_load(&ferro_phase) & FERRO_PAUSED)
        wait_for_change();
    return atomic_load(&ferro_phase);
}

int ferro_gate_settle(void)
{
    for (;;) {
        int phase = unpaused_phase();
        if (phase == FERRO_CLOSED || phase == FERRO_OPEN)
            return phase;
        wait_for_change();
    }
}

void ferro_gate_change(int phase)
{
    ferro_thread *self = &ferro_self;
    ferro_shard *shard = self->shard != NULL ? self->shard : ferro_shard_of_thread();
    int working = phase == FERRO_STARTING || phase == FERRO_CLOSING;
    if (working && !self->counted) {
        atomic_fetch_add(&shard->calls, 1);
        self->counted = 1;
    } else if (!working && self->counted) {
        self->counted = 0;
        atomic_fetch_sub(&shard->calls, 1);
    }
    if (phase == FERRO_OPEN)
        atomic_fetch_add(&serial, 1);
    atomic_store(&ferro_phase, (atomic_load(&ferro_phase) & FERRO_PAUSED) | phase);
    ferro_condition_broadcast(&changed);
}

/* --- calls ----------------------------------------------------------------------------------------------------- */

/* Count this thread's call if the library is open; 1 on success. */
static int count_in(void)
{
    ferro_thread *self = &ferro_self;
    ferro_shard *shard = self->shard != NULL ? self->shard : ferro_shard_of_thread();
    atomic_fetch_add(&shard->calls, 1);
    if (atomic_load(&ferro_phase) == FERRO_OPEN) {
        self->counted = 1;
        return 1;
    }
    atomic_fetch_sub(&shard->calls, 1);
    return 0;
}

CK_RV ferro_enter_slowly(void)
{
    if (ferro_gate_check_child())
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    do {
        ferro_mutex_lock(&ferro_gate_mutex);
        int phase = unpaused_phase();
        ferro_mutex_unlock(&ferro_gate_mutex);
        if (phase != FERRO_OPEN || !ferro_python_usable())
            return CKR_CRYPTOKI_NOT_INITIALIZED;
    } while (!count_in());
    ferro_self.depth = 1;
    return CKR_OK;
}

void ferro_gate_step_out(void)
{
    ferro_thread *self = &ferro_self;
    if (!self->counted)
        return;
    self->serial = atomic_load(&serial);
    self->counted = 0;
    atomic_fetch_sub(&self->shard->calls, 1);
}

int ferro_gate_step_in(void)
{
    ferro_thread *self = &ferro_self;
    if (self->counted)
        return 0;
    do {
        if (!*ferro_alive)
            return 1;
        ferro_mutex_lock(&ferro_gate_mutex);
        int same = unpaused_phase() == FERRO_OPEN && atomic_load(&serial) == self->serial;
        ferro_mutex_unlock(&ferro_gate_mutex);
        if (!same)
            return 1;
    } while (!count_in());
    if (atomic_load(&serial) == self->serial)
        return 0;
    /* Finalized and initialized again between the two looks. */
    self->counted = 0;
    atomic_fetch_sub(&self->shard->calls, 1);
    return 1;
}

/* Return how many calls of other threads are in progress. */
static long others(void)
{
    const ferro_thread *self = &ferro_self;
    long sum = 0;
    for (int i = 0; i < SHARDS; i++)
        sum += atomic_load(&shards[i].calls);
    return sum - (self->counted ? 1 : 0);
}

int ferro_gate_drain(unsigned int ms)
{
    uint64_t end = ferro_microseconds() + (uint64_t)ms * 1000;
    unsigned int pause = 20;
    while (others() > 0) {
        if (ferro_microseconds() >= end)
            return -1;
        ferro_sleep_microseconds(pause);
        if (pause < 1000)
            pause *= 2;
    }
    return 0;
}

/* --- forks ----------------------------------------------------------------------------------------------------- */

static void pause_calls(void)
{
    ferro_mutex_lock(&ferro_gate_mutex);
    atomic_fetch_or(&ferro_phase, FERRO_PAUSED);
    ferro_mutex_unlock(&ferro_gate_mutex);
    /* After the time the fork goes on all the same: the interpreter is safe by the GIL, and the child makes every lock
     * new. A call that computes for seconds holds none. */
    (void)ferro_gate_drain(FORK_WAIT_MS);
}

static void continue_calls(void)
{
    ferro_mutex_lock(&ferro_gate_mutex);
    atomic_fetch_and(&ferro_phase, ~FERRO_PAUSED);
    ferro_condition_broadcast(&changed);
    ferro_mutex_unlock(&ferro_gate_mutex);
}

/* Make everything new in a child: it has one thread, this one, and whatever the others held is free. */
static void renew_in_child(void)
{
    *ferro_alive = 1;
    for (int i = 0; i < SHARDS; i++)
        atomic_store(&shards[i].calls, 0);
    ferro_self.counted = 0;
    ferro_mutex_renew(&ferro_gate_mutex);
    ferro_mutex_renew(&fork_mutex);
    ferro_condition_renew(&changed);
    atomic_fetch_add(&serial, 1);
    atomic_store(&ferro_phase, FERRO_CLOSED);
    if (ferro_entered != NULL)
        ferro_entered->fork_child();
}

static void fork_prepare(void)
{
    ferro_thread *self = &ferro_self;
    if (self->fork_depth++ != 0 || self->fork_mode == FORK_HOOK)
        return;
    if (ferro_python_attached()) {
        /* CPython forks (os.fork, subprocess) and has done, or left out, what it needs. Waiting for other threads
         * here could wait for the GIL that this one holds. */
        self->fork_mode = FORK_LEFT;
        return;
    }
    ferro_mutex_lock(&fork_mutex);
    pause_calls();
    self->fork_mode = FORK_FULL; /* first, since in a Python host CPython calls our hook now */
    if (!ferro_python_before_fork())
        self->fork_mode = FORK_GATE;
}

static void fork_parent(void)
{
    ferro_thread *self = &ferro_self;
    int mode = self->fork_mode;
    if (self->fork_depth == 0 || --self->fork_depth != 0)
        return;
    if (mode == FORK_HOOK)
        return; /* ferro_gate_after_fork_parent follows */
    self->fork_mode = FORK_NONE;
    if (mode == FORK_LEFT || mode == FORK_NONE)
        return;
    if (mode == FORK_FULL)
        ferro_python_after_fork_parent();
    continue_calls();
    ferro_mutex_unlock(&fork_mutex);
}

static void fork_child(void)
{
    ferro_thread *self = &ferro_self;
    int mode = self->fork_mode;
    if (self->fork_depth != 0 && --self->fork_depth != 0)
        return;
    self->fork_mode = FORK_NONE;
    renew_in_child();
    if (mode == FORK_FULL)
        ferro_python_after_fork_child();
}

void ferro_gate_before_fork(void)
{
    if (ferro_self.fork_mode != FORK_NONE)
        return;
    void *state = ferro_python_detach();
    ferro_mutex_lock(&fork_mutex);
    pause_calls();
    ferro_self.fork_mode = FORK_HOOK;
    ferro_python_reattach(state);
}

void ferro_gate_after_fork_parent(void)
{
    if (ferro_self.fork_mode != FORK_HOOK)
        return;
    ferro_self.fork_mode = FORK_NONE;
    continue_calls();
    ferro_mutex_unlock(&fork_mutex);
}

int ferro_gate_check_child(void)
{
    if (*ferro_alive)
        return 0;
    ferro_python_cloned(others() <= 0);
    renew_in_child();
    return 1;
}

/* Handlers of prepare run last registered first, the others in the order of their registration. A library that takes
 * its own locks there (our kernels' does) would hold them while we wait for calls that need them, had it registered
 * later than we. So we do it again once the ABI has loaded what it needs, and whichever of our pairs is the outermost
 * does the work. */
void ferro_gate_outermost(void)
{
    static int done;
    ferro_mutex_lock(&ferro_gate_mutex);
    if (!done)
        ferro_fork_handlers(fork_prepare, fork_parent, fork_child);
    done = 1;
    ferro_mutex_unlock(&ferro_gate_mutex);
}

void ferro_gate_begin(void)
{
    static int begun;
    ferro_mutex_lock(&ferro_gate_mutex);
    if (!begun) {
        volatile int *word = ferro_fork_word();
        begun = 1;
        if (word != NULL)
            ferro_alive = word;
        ferro_fork_handlers(fork_prepare, fork_parent, fork_child);
    }
    ferro_mutex_unlock(&ferro_gate_mutex);
}
