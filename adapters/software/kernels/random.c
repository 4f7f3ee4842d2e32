/*
 * Random bytes: small requests come out of buffers that each thread fills from libcrypto's two
 * generators, one for what everybody may see and one for keys; what is handed out is wiped in them.
 * The buffers are dropped on seed and stop, and a child of fork() finds them empty, because the
 * system wipes their pages for it.
 */
#include <openssl/err.h>
#include <openssl/rand.h>
#include <string.h>

#include "kernel.h"

enum { AHEAD = 4096, DIRECT = 1024 };

/* The generators, whose outputs are kept apart. */
enum { OPEN, PRIVATE, GENERATORS };

/* In the secret zone: in a child `left` is 0. */
typedef struct {
    size_t left; /* unused bytes, at the end */
    uint8_t bytes[AHEAD];
} store;

typedef struct source {
    atomic_flag busy; /* its thread, or one that drops what it holds */
    store *ahead[GENERATORS]; /* made when first asked for */
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

static void source_free(source *s)
{
    int which;

    for (which = 0; which < GENERATORS; which++)
        ferro_free(s->ahead[which]);
    ferro_free(s);
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
    source_free(s);
}

static source *source_make(void)
{
    source *s = ferro_alloc(sizeof(*s));

    if (s == NULL)
        return NULL;
    memset(s, 0, sizeof(*s));
    atomic_flag_clear(&s->busy);
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

static CK_RV generate(int which, void *out, size_t length)
{
    int done = which == PRIVATE ? RAND_priv_bytes_ex(ferro_library(), out, length, 0)
                                : RAND_bytes_ex(ferro_library(), out, length, 0);

    return done > 0 ? CKR_OK : ferro_failed(CKR_RANDOM_NO_RNG);
}

/* With the source taken: see to it that so many bytes are there. */
static CK_RV fill(source *s, int which, size_t length)
{
    store *ahead = s->ahead[which];
    CK_RV rv;

    if (ahead == NULL) {
        if ((ahead = s->ahead[which] = ferro_secret_alloc(sizeof(store))) == NULL)
            return CKR_HOST_MEMORY;
        ahead->left = 0;
    }
    if (ahead->left >= length)
        return CKR_OK;
    ferro_wipe(ahead, sizeof(*ahead));
    if ((rv = generate(which, ahead->bytes, AHEAD)) == CKR_OK)
        ahead->left = AHEAD;
    return rv;
}

static CK_RV hand_out(int which, void *out, size_t length)
{
    source *s = mine;
    uint8_t *from;
    CK_RV rv;

    if (length == 0)
        return CKR_OK;
    if (length >= DIRECT || (s == NULL && (s = source_make()) == NULL))
        return generate(which, out, length);
    take(s);
    if ((rv = fill(s, which, length)) == CKR_OK) {
        from = s->ahead[which]->bytes + AHEAD - s->ahead[which]->left;
        memcpy(out, from, length);
        ferro_wipe(from, length);
        s->ahead[which]->left -= length;
    }
    give(s);
    return rv;
}

CK_RV ferro_random(void *out, size_t length)
{
    CK_RV rv = ferro_enter();

    return rv != CKR_OK ? rv : hand_out(OPEN, out, length);
}

CK_RV ferro_random_private(void *out, size_t length) { return hand_out(PRIVATE, out, length); }

static void drop(source *s)
{
    int which;

    for (which = 0; which < GENERATORS; which++)
        if (s->ahead[which] != NULL)
            ferro_wipe(s->ahead[which], sizeof(*s->ahead[which]));
}

void ferro_random_drop(void)
{
    source *s;

    ferro_mutex_lock(&lock);
    for (s = sources; s != NULL; s = s->next) {
        take(s);
        drop(s);
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
        if (s != mine)
            source_free(s);
    }
    if (mine != NULL) {
        mine->previous = mine->next = NULL;
        atomic_flag_clear(&mine->busy);
        drop(mine);
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
