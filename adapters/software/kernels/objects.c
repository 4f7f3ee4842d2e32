/*
 * Every key and operation that lives, so that a child of fork() can wipe its copies.
 *
 * The child is noticed by one page that the system wipes for it: a load at each entry, no system
 * call, and a raw clone() is caught too.
 */
#include "kernel.h"

atomic_uint ferro_epoch = 1;

static ferro_mutex lock = FERRO_MUTEX_INIT;
static ferro_kernel_key *keys;
static ferro_kernel_op *ops;
static size_t count;
static volatile uint32_t *same_process;

uint32_t ferro_current_epoch(void)
{
    return atomic_load_explicit(&ferro_epoch, memory_order_relaxed);
}

static void fork_prepare(void)
{
    ferro_mutex_lock(&lock);
    ferro_random_lock();
    ferro_arena_lock();
}

static void fork_done(void)
{
    ferro_arena_unlock();
    ferro_random_unlock();
    ferro_mutex_unlock(&lock);
}

/*
 * Called when the library is loaded, not when it is first used: who registers later has its own
 * handler run before ours, and can wait for calls that need these locks while they are free.
 */
void ferro_objects_watch_forks(void)
{
    static int watched;

    if (!watched)
        watched = ferro_around_fork(fork_prepare, fork_done, fork_done) == 0;
}

CK_RV ferro_objects_start(void)
{
    uint32_t *page = ferro_map_reserve(ferro_page_size(), 1);

    if (page == NULL || ferro_map_commit(page, ferro_page_size()) != 0)
        return CKR_HOST_MEMORY;
    *page = 1;
    same_process = page;
    return CKR_OK;
}

CK_RV ferro_enter(void)
{
    CK_RV rv;

    if (same_process != NULL && *same_process == 1)
        return CKR_OK;
    if ((rv = ferro_engine_start()) != CKR_OK)
        return rv;
    if (*same_process == 0)
        ferro_fork_child();
    return CKR_OK;
}

void ferro_objects_add_key(ferro_kernel_key *key)
{
    ferro_mutex_lock(&lock);
    key->previous = NULL;
    key->next = keys;
    if (keys != NULL)
        keys->previous = key;
    keys = key;
    count++;
    ferro_mutex_unlock(&lock);
}

void ferro_objects_remove_key(ferro_kernel_key *key)
{
    ferro_mutex_lock(&lock);
    if (key->previous != NULL)
        key->previous->next = key->next;
    else
        keys = key->next;
    if (key->next != NULL)
        key->next->previous = key->previous;
    count--;
    ferro_mutex_unlock(&lock);
}

void ferro_objects_add_op(ferro_kernel_op *op)
{
    ferro_mutex_lock(&lock);
    op->previous = NULL;
    op->next = ops;
    if (ops != NULL)
        ops->previous = op;
    ops = op;
    count++;
    ferro_mutex_unlock(&lock);
}

void ferro_objects_remove_op(ferro_kernel_op *op)
{
    ferro_mutex_lock(&lock);
    if (op->previous != NULL)
        op->previous->next = op->next;
    else
        ops = op->next;
    if (op->next != NULL)
        op->next->previous = op->previous;
    count--;
    ferro_mutex_unlock(&lock);
}

size_t ferro_objects_count(void)
{
    size_t n;

    ferro_mutex_lock(&lock);
    n = count;
    ferro_mutex_unlock(&lock);
    return n;
}

/* The idle operations of a key, taken from it. */
static ferro_kernel_op *idle_of(ferro_kernel_key *key)
{
    ferro_kernel_op *idle;

    ferro_mutex_lock(&key->lock);
    idle = key->idle;
    key->idle = NULL;
    key->idle_count = 0;
    ferro_mutex_unlock(&key->lock);
    return idle;
}

static void destroy_idle(ferro_kernel_op *idle)
{
    while (idle != NULL) {
        ferro_kernel_op *next = idle->idle_next;
        ferro_op_destroy(idle);
        idle = next;
    }
}

/*
 * Owners of keys and operations may still release them in the child, so the shells stay until
 * they do; what is inside goes now.
 */
void ferro_fork_child(void)
{
    ferro_kernel_key *key;
    ferro_kernel_op *op;

    if (ferro_engine_start() != CKR_OK || *same_process != 0)
        return;
    *same_process = 1;
    atomic_fetch_add(&ferro_epoch, 1);
    ferro_arena_fork_child(); /* before anything is given back to it */
    for (key = keys; key != NULL; key = key->next)
        /* A thread that is not here any more may have held it. */
        ferro_mutex_init(&key->lock);
    for (key = keys; key != NULL; key = key->next)
        destroy_idle(idle_of(key));
    for (op = ops; op != NULL; op = op->next)
        ferro_op_strip(op);
    for (key = keys; key != NULL; key = key->next) {
        EVP_PKEY_free(key->pkey);
        key->pkey = NULL;
        ferro_free(key->value);
        key->value = NULL;
        key->length = 0;
    }
    ferro_random_fork_child();
}

void ferro_stop(void)
{
    ferro_kernel_op *gone = NULL;
    ferro_kernel_key *key;

    if (ferro_enter() != CKR_OK)
        return;
    ferro_random_drop();
    ferro_mutex_lock(&lock);
    for (key = keys; key != NULL; key = key->next) {
        ferro_kernel_op *idle = idle_of(key);
        while (idle != NULL) {
            ferro_kernel_op *next = idle->idle_next;
            idle->idle_next = gone;
            gone = idle;
            idle = next;
        }
    }
    ferro_mutex_unlock(&lock);
    destroy_idle(gone);
}
