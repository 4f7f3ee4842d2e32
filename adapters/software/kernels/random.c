/*
 * Random bytes: small requests come out of a buffer that each thread fills from libcrypto's
 * generator; what is handed out is wiped in it. The buffers are dropped on seed and stop, and a
 * child of fork() finds them empty, because the system wipes their pages for it.
 */
#include <openssl/err.h>
#include <openssl/rand.h>
#include <string.h>

#include "kernel.h"

enum { AHEAD = 4096, DIRECT = 1024 };

/* In the secret zone: in a child `left` is 0. */
typedef struct {
    size_t left; /* unused bytes, at the end */
    uint8_t bytes[AHEAD];
} store;

typedef struct source {
    atomic_flag busy; /* its thread, or one that drops what it holds */
    store *ahead;
    struct source *previous, *next;
} source;

static ferro_mutex lock = FERRO_MUTEX_INIT;
static source *sources;
static ferro_thread_hook ends;
static _Thread_local source *mine;

static void take(source *s)
{
    while (atomic_flag_test_and_set_explicit(&s->busy, memory_order_acquire))
        ;
}

static void give(source *s)
{
    atomic_flag_clear_explicit(&s->busy, memory_order_release);
}

static void source_end(void *value)
{
    source *s = value;

    if (s == NULL)
        return;
    ferro_mutex_lock(&lock);
    if (s->previous != NULL)
        s->previous->next = s->next;
    else
        sources = s->next;
    if (s->next != NULL)
        s->next->previous = s->previous;
    ferro_mutex_unlock(&lock);
    mine = NULL;
    ferro_free(s->ahead);
    ferro_free(s);
}

static source *source_make(void)
{
    source *s = ferro_alloc(sizeof(*s));

    if (s == NULL)
        return NULL;
    memset(s, 0, sizeof(*s));
    atomic_flag_clear(&s->busy);
    if ((s->ahead = ferro_secret_alloc(sizeof(store))) == NULL) {
        ferro_free(s);
        return NULL;
    }
    s->ahead->left = 0;
    ferro_mutex_lock(&lock);
    s->next = sources;
    if (sources != NULL)
        sources->previous = s;
    sources = s;
    ferro_mutex_unlock(&lock);
    mine = s;
    ferro_thread_hook_set(&ends, s);
    return s;
}

CK_RV ferro_random_start(void)
{
    return ferro_thread_hook_make(&ends, source_end) == 0 ? CKR_OK : CKR_HOST_MEMORY;
}

static CK_RV generate(void *out, size_t length)
{
    return RAND_bytes_ex(ferro_library(), out, length, 0) > 0 ? CKR_OK : ferro_failed(CKR_RANDOM_NO_RNG);
}

CK_RV ferro_random(void *out, size_t length)
{
    CK_RV rv = ferro_enter();
    source *s = mine;
    uint8_t *from;

    if (rv != CKR_OK || length == 0)
        return rv;
    if (length >= DIRECT || (s == NULL && (s = source_make()) == NULL))
        return generate(out, length);
    take(s);
    if (s->ahead->left < length) {
        ferro_wipe(s->ahead->bytes, AHEAD);
        s->ahead->left = 0;
        if ((rv = generate(s->ahead->bytes, AHEAD)) == CKR_OK)
            s->ahead->left = AHEAD;
    }
    if (rv == CKR_OK) {
        from = s->ahead->bytes + AHEAD - s->ahead->left;
        memcpy(out, from, length);
        ferro_wipe(from, length);
        s->ahead->left -= length;
    }
    give(s);
    return rv;
}

void ferro_random_drop(void)
{
    source *s;

    ferro_mutex_lock(&lock);
    for (s = sources; s != NULL; s = s->next) {
        take(s);
        ferro_wipe(s->ahead, sizeof(*s->ahead));
        give(s);
    }
    ferro_mutex_unlock(&lock);
}

CK_RV ferro_seed(const void *seed, size_t length)
{
    CK_RV rv = ferro_enter();
    EVP_RAND_CTX *primary;

    if (rv != CKR_OK)
        return rv;
    /* Mixed in beside fresh entropy; the threads' own generators follow their parent's reseeding. */
    if ((primary = RAND_get0_primary(ferro_library())) == NULL
        || !EVP_RAND_reseed(primary, 0, NULL, 0, seed, length))
        return ferro_failed(CKR_FUNCTION_FAILED);
    ferro_random_drop();
    return CKR_OK;
}

/* The other threads do not exist here: their buffers, wiped already, go. */
void ferro_random_fork_child(void)
{
    source *s = sources, *next;

    for (sources = NULL; s != NULL; s = next) {
        next = s->next;
        if (s != mine) {
            ferro_free(s->ahead);
            ferro_free(s);
        }
    }
    if (mine != NULL) {
        mine->previous = mine->next = NULL;
        atomic_flag_clear(&mine->busy);
        ferro_wipe(mine->ahead, sizeof(*mine->ahead));
        sources = mine;
    }
}

void ferro_random_lock(void)
{
    ferro_mutex_lock(&lock);
}

void ferro_random_unlock(void)
{
    ferro_mutex_unlock(&lock);
}
