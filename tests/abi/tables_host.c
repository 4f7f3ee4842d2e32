/* The C tables without Python, under a thread sanitizer: threads that use keys through memos, threads that destroy
 * keys, log in and out, close sessions, and all that read snapshots and search. The core is a flag for each key and
 * the kernel a count. What must hold: no key is used after the call that took its right away has returned.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decisions.h"
#include "finds.h"
#include "handles.h"
#include "recipes.h"
#include "sessions.h"
#include "snapshots.h"

enum { KEYS = 40, USERS = 3, SLOT = 7, MOST_OWNED = 600 };

#define CHECK(that)                                                            \
    do {                                                                       \
        if (!(that)) {                                                         \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #that);         \
            abort();                                                           \
        }                                                                      \
    } while (0)

/* ---- the kernel ---- */

struct ferro_kernel_key {
    atomic_int references;
    int number;
};

struct ferro_kernel_op {
    ferro_kernel_key *key;
};

static atomic_int living;

static void retain(ferro_kernel_key *key) { CHECK(atomic_fetch_add(&key->references, 1) > 0); }

static void release(ferro_kernel_key *key)
{
    int before = atomic_fetch_sub(&key->references, 1);
    CHECK(before > 0);
    if (before == 1) {
        key->number = -1;
        free(key);
        atomic_fetch_sub(&living, 1);
    }
}

static CK_RV begin(CK_FLAGS function, const CK_MECHANISM *mechanism, ferro_kernel_key *key, ferro_kernel_op **op)
{
    (void)function;
    (void)mechanism;
    CHECK(key->number >= 0);
    if (*op == NULL)
        CHECK((*op = calloc(1, sizeof **op)) != NULL);
    if ((*op)->key != key) {
        retain(key);
        if ((*op)->key != NULL)
            release((*op)->key);
        (*op)->key = key;
    }
    return CKR_OK;
}

static void op_reset(ferro_kernel_op *op) { CHECK(op->key->number >= 0); }

static void op_release(ferro_kernel_op *op)
{
    release(op->key);
    free(op);
}

static atomic_int made; /* and not released */

static CK_RV generate(const CK_MECHANISM *mechanism, const ferro_kernel_material *material,
                      ferro_kernel_generated **generated)
{
    (void)mechanism;
    CHECK(material->count == 1 && *(const CK_ULONG *)material->attributes[0].value == 32);
    CHECK((*generated = calloc(1, sizeof **generated)) != NULL);
    atomic_fetch_add(&made, 1);
    return CKR_OK;
}

static void generated_release(ferro_kernel_generated *generated)
{
    free(generated);
    atomic_fetch_sub(&made, 1);
}

static const ferro_kernel kernel = {
    .generate = generate, .generated_release = generated_release,
    .key_retain = retain, .key_release = release, .begin = begin, .op_reset = op_reset, .op_release = op_release,
};

/* ---- the core ---- */

static _Atomic unsigned long long words[3] = {1, 1, 0};
static ferro_slot *slot;
static pthread_mutex_t core = PTHREAD_MUTEX_INITIALIZER;
static struct {
    ferro_kernel_key *parsed; /* NULL: destroyed, or hidden by the logout */
    int is_private;
    long long oid;
} objects[KEYS];
static atomic_ulong handles[KEYS];
static atomic_int logged_in, ending;
static atomic_long quick, asked, identities, found_without;

static void make_object(int i)
{
    ferro_kernel_key *key = calloc(1, sizeof *key);
    CK_OBJECT_HANDLE handle;
    long long oid;
    CHECK(key != NULL);
    atomic_init(&key->references, 1);
    key->number = i;
    atomic_fetch_add(&living, 1);
    /* Identities are never used again, as in the core: a handle names one object for good. */
    oid = atomic_fetch_add(&identities, 1) + 1;
    handle = ferro_handle_make(SLOT, oid, 0, NULL);
    CHECK(handle != 0);
    pthread_mutex_lock(&core);
    objects[i].parsed = key;
    objects[i].is_private = i % 2;
    objects[i].oid = oid;
    atomic_store(&handles[i], handle);
    pthread_mutex_unlock(&core);
}

static void drop_object(int i)
{
    ferro_kernel_key *key;
    pthread_mutex_lock(&core);
    key = objects[i].parsed;
    objects[i].parsed = NULL;
    pthread_mutex_unlock(&core);
    if (key != NULL)
        release(key);
}

/* The store's finder: it has no answer for a user whose keys are gone. */
static int find(ferro_finder *self, const ferro_kernel_attribute *wanted, size_t count, int as_user,
                uint64_t generation, long long *found, size_t *found_count)
{
    int i, sure = 1;

    (void)self;
    (void)generation;
    CHECK(count == 1 && wanted[0].type == CKA_ID && wanted[0].length == sizeof i);
    memcpy(&i, wanted[0].value, sizeof i);
    *found_count = 0;
    pthread_mutex_lock(&core);
    if (objects[i].is_private && as_user)
        sure = atomic_load(&logged_in);
    if (objects[i].parsed != NULL && (!objects[i].is_private || as_user))
        found[(*found_count)++] = objects[i].oid;
    pthread_mutex_unlock(&core);
    atomic_fetch_add(&found_without, sure);
    return sure;
}

static ferro_finder finder = {sizeof finder, find};

/* Search for a key, from memory or by asking. Returns its handle or 0; *known is set when it came from memory. */
static CK_OBJECT_HANDLE search(int i, int *known)
{
    ferro_wanted wanted = {0};
    ferro_find_moment before;
    CK_OBJECT_HANDLE handle = 0;
    ferro_found *found;

    CHECK(ferro_wanted_add(&wanted, CKA_ID, &i, sizeof i));
    ferro_find_note(slot, &before);
    found = ferro_finds_read(slot, &wanted);
    if (found == NULL && i % 4 < 2)
        found = ferro_finds_search(slot, &wanted);
    *known = found != NULL;
    if (found == NULL) {
        ferro_slot_look(slot);
        pthread_mutex_lock(&core);
        if (objects[i].parsed != NULL && (!objects[i].is_private || atomic_load(&logged_in)))
            handle = atomic_load(&handles[i]);
        pthread_mutex_unlock(&core);
        CHECK((found = ferro_found_make(&handle, handle != 0, before.stamp)) != NULL);
        ferro_finds_keep(slot, &wanted, found, &before);
        ferro_slot_was_bare(slot, before.births); /* no draft has the name of a key */
    }
    handle = 0;
    CHECK(ferro_found_take(found, &handle, 1) == found->count);
    free(found);
    return handle;
}

/* What begin_work does: ask the core and remember. Returns whether the core allowed it. */
static int ask(int i, CK_OBJECT_HANDLE handle)
{
    ferro_decision decision = {0};
    ferro_snapshot shown = {0};
    ferro_snapshot_moment before;
    unsigned char value[450];
    unsigned long long stamp = ferro_slot_stamp(slot);

    before.stamp = stamp;
    before.epoch = ferro_slot_epoch(slot);
    decision.on_token = i % 3 == 0;
    if (decision.on_token && !ferro_slot_settled(slot, &decision.generation))
        return 0;
    pthread_mutex_lock(&core);
    if (atomic_load(&handles[i]) == handle && objects[i].parsed != NULL
        && (!objects[i].is_private || atomic_load(&logged_in))) {
        decision.key = objects[i].parsed;
        decision.is_private = objects[i].is_private;
        retain(decision.key);
    }
    pthread_mutex_unlock(&core);
    if (decision.key == NULL)
        return 0;
    decision.slot = slot;
    decision.handle = handle;
    decision.mechanism = CKM_SHA256_HMAC;
    decision.function = CKF_SIGN;
    decision.kernel = &kernel;
    decision.epoch = before.epoch;
    before.generation = decision.generation;
    ferro_snapshot_add(&shown, CKA_LABEL, CKR_OK, &handle, sizeof handle);
    memset(value, (int)handle & 0xFF, sizeof value);
    ferro_snapshot_add(&shown, CKA_VALUE, CKR_OK, value, (size_t)(handle % 5 + 1) * 90); /* of any size of block */
    ferro_snapshots_keep(slot, handle, &shown, &before, decision.on_token);
    ferro_decisions_keep(&decision, stamp);
    atomic_fetch_add(&asked, 1);
    return 1;
}

/* ---- threads ---- */

static atomic_ulong dead[KEYS]; /* the last handle of this key whose end has been told */
static atomic_ulong born[KEYS];  /* the last handle whose beginning has been told */
static atomic_ulong dying[KEYS]; /* the last handle whose end has begun */
static atomic_long known_searches;
static atomic_int out;          /* odd: a logout has returned and no login has begun */

/* What is found is there and may be seen; what is there and may be seen is found. */
static void look_for(int i)
{
    CK_OBJECT_HANDLE began = atomic_load(&born[i]), ended = atomic_load(&dead[i]), found;
    int was_out = atomic_load(&out), known;

    found = search(i, &known);
    if (!known)
        return;
    atomic_fetch_add(&known_searches, 1);
    CHECK(found == 0 || found != ended);
    CHECK(!(found != 0 && i % 2 && was_out % 2 && atomic_load(&out) == was_out));
    if (i % 2 == 0 && began != 0)
        CHECK(found >= began || atomic_load(&dying[i]) >= began);
}

static atomic_long sessions; /* that were opened and not torn down */

static void tear_down(ferro_session *session)
{
    ferro_handles_kill_owned(session);
    ferro_session_free(session);
    atomic_fetch_sub(&sessions, 1);
}

static CK_SESSION_HANDLE open_one(void)
{
    CK_SESSION_HANDLE opened;

    CHECK(ferro_session_open(SLOT, CKF_SERIAL_SESSION, &opened) == CKR_OK);
    atomic_fetch_add(&sessions, 1);
    return opened;
}

static void close_one(CK_SESSION_HANDLE opened)
{
    ferro_session *closed;
    int last;

    CHECK(ferro_session_detach(opened, &closed, &last) == CKR_OK);
    if (ferro_session_leave(closed, 0))
        tear_down(closed);
}

static void use(CK_SESSION_HANDLE opened, int i)
{
    CK_OBJECT_HANDLE handle = atomic_load(&handles[i]);
    int was_dead = atomic_load(&dead[i]) == handle, was_out = atomic_load(&out);
    ferro_snapshot shown;
    ferro_session *session;
    ferro_operation *operation;
    ferro_memo *memo;
    CK_SESSION_INFO info;
    const void *value;
    size_t length;
    CK_RV answer;

    if (ferro_session_info(opened, &info) == CKR_OK)
        CHECK(info.slotID == SLOT && info.flags == CKF_SERIAL_SESSION);
    if (ferro_session_take(opened, 1, CKF_SIGN, &session) != CKR_OK)
        return;
    operation = &session->operations[FERRO_SIGN];
    if (operation->kind == FERRO_KERNEL) {
        ferro_operation_end(operation);
    } else if ((memo = ferro_session_memo(session, FERRO_SIGN, handle, CKM_SHA256_HMAC)) == NULL) {
        ask(i, handle);
    } else {
        CHECK(!was_dead);
        /* Whether the login ended: only if nobody has logged in meanwhile. */
        CHECK(!(i % 2 && was_out % 2 && atomic_load(&out) == was_out));
        CHECK(kernel.begin(CKF_SIGN, NULL, memo->decision.key, &memo->op) == CKR_OK);
        CHECK(memo->op->key->number == i);
        operation->object = memo;
        operation->kind = FERRO_KERNEL;
        atomic_fetch_add(&quick, 1);
    }
    if (ferro_snapshots_read(slot, handle, &shown)) {
        CHECK(!was_dead);
        CHECK(!(i % 2 && was_out % 2 && atomic_load(&out) == was_out));
        CHECK(ferro_snapshot_find(&shown, CKA_LABEL, &answer, &value, &length));
        CHECK(length == sizeof handle && memcmp(value, &handle, length) == 0);
        CHECK(ferro_snapshot_find(&shown, CKA_VALUE, &answer, &value, &length));
        CHECK(length == (size_t)(handle % 5 + 1) * 90);
        while (length-- > 0)
            CHECK(((const unsigned char *)value)[length] == (handle & 0xFF));
    }
    if (!ferro_session_leave_well(session, 1, 1) && ferro_session_leave(session, 1)) {
        tear_down(session);
    }
}

static atomic_long drafted, looked_at;

/* What C_GenerateKeyPair does: by a recipe, or ask the core, which gives one. */
static void make_pair(CK_SESSION_HANDLE opened, unsigned random)
{
    static CK_ULONG size = 32;
    CK_ATTRIBUTE template = {CKA_VALUE_LEN, &size, sizeof size};
    ferro_packed packed = {0};
    CK_OBJECT_HANDLE public = 0, private = 0, *places[2] = {&public, &private};
    CK_MECHANISM mechanism = {CKM_EC_KEY_PAIR_GEN, NULL, 0};
    ferro_kernel_generated *generated = NULL;
    ferro_recipe *recipe;
    ferro_session *session;
    int was_out = atomic_load(&out);

    if (ferro_session_take(opened, 0, 0, &session) != CKR_OK)
        return;
    CHECK(ferro_template_pack(&packed, &template, 1, 0) && ferro_template_pack(&packed, &template, 1, 0));
    recipe = ferro_recipe_find(slot, CKF_GENERATE_KEY_PAIR, mechanism.mechanism, 0, &packed);
    if (recipe == NULL) {
        CHECK((recipe = ferro_recipe_make(&packed)) != NULL);
        recipe->epoch = ferro_slot_epoch(slot);
        recipe->slot = slot;
        recipe->kernel = &kernel;
        recipe->function = CKF_GENERATE_KEY_PAIR;
        recipe->mechanism = mechanism.mechanism;
        recipe->halves = 2;
        recipe->is_private[1] = 1;
        CHECK(ferro_recipe_ask(recipe, CKA_VALUE_LEN, &size, sizeof size));
        if (atomic_load(&logged_in))
            ferro_recipe_keep(recipe, 0);
        else
            ferro_recipe_release(recipe);
    } else {
        CHECK(kernel.generate(&mechanism, &recipe->material, &generated) == CKR_OK);
        if (ferro_draft_hand_out(recipe, generated, session, places) == CKR_OK) {
            /* Not if the login had ended before we came, and has not begun again. */
            CHECK(!(was_out % 2 && atomic_load(&out) == was_out));
            atomic_fetch_add(&drafted, 1);
            if (random % 3 == 0) {
                int half;
                long long oid;
                CK_SESSION_HANDLE owner;
                ferro_draft *draft = ferro_draft_find(private, &half, &oid, &owner);
                if (draft != NULL) {
                    CHECK(half == 1 && owner == opened && oid < 0);
                    ferro_draft_release(draft);
                    atomic_fetch_add(&looked_at, ferro_draft_settle(private));
                    ferro_handle_kill(slot, private);
                }
            } else if (random % 3 == 1) {
                CHECK(ferro_drafts_owned(session) <= 2 * MOST_OWNED);
                if (ferro_draft_claim(slot, private) == 1) {
                    CHECK(ferro_draft_claim(slot, private) <= 0); /* gone with the login, or taken */
                    if (random % 5 == 0) {
                        ferro_draft_unclaim(private);
                        ferro_draft_claim(slot, private);
                    }
                    ferro_draft_destroy(slot, private);
                    CHECK(ferro_draft_claim(slot, private) == 0);
                }
            }
            if (random % 2)
                ferro_draft_destroy(slot, public);
        }
    }
    if (!ferro_session_leave_well(session, 0, 1) && ferro_session_leave(session, 0)) {
        tear_down(session);
    }
}

/* Sessions that all users work in, cancel and close: each is torn down by whoever leaves it last. */
enum { SHARED = 3 };
static _Atomic CK_SESSION_HANDLE shared[SHARED], closed_last[SHARED];
static atomic_long told, met;

static void share(unsigned random)
{
    int i = (int)(random % SHARED), what = (int)(random / SHARED % 32);
    CK_SESSION_HANDLE ended = atomic_load(&closed_last[i]), handle = atomic_load(&shared[i]), fresh;
    ferro_session *session;
    CK_SESSION_INFO info;

    CHECK(ended == 0 || ferro_session_info(ended, &info) == CKR_SESSION_HANDLE_INVALID);
    (void)ferro_session_info(handle, &info); /* from now on known without the lock, until it is closed */
    if (handle == 0) {
        fresh = open_one();
        if (!atomic_compare_exchange_strong(&shared[i], &handle, fresh))
            close_one(fresh);
    } else if (what == 0) {
        if (!atomic_compare_exchange_strong(&shared[i], &handle, 0))
            return;
        close_one(handle);
        atomic_store(&closed_last[i], handle);
    } else if (what < 6) {
        if (ferro_session_take(handle, 0, 0, &session) != CKR_OK)
            return;
        atomic_fetch_add(&told, ferro_session_cancel(session, CKF_SIGN));
        if (!ferro_session_leave_well(session, 0, 0) && ferro_session_leave(session, 0))
            tear_down(session);
    } else if (ferro_session_take(handle, 1, CKF_SIGN, &session) == CKR_OK) {
        CHECK(ferro_session_take(handle, 1, CKF_SIGN, &(ferro_session *){NULL}) != CKR_OK); /* nobody else has it alone */
        if (what % 4 == 0)
            sched_yield();
        if (!ferro_session_leave_well(session, 1, 1)) {
            atomic_fetch_add(&met, 1);
            if (ferro_session_leave(session, 1))
                tear_down(session);
        }
    } else {
        make_pair(handle, random >> 8);
    }
}

static void *user(void *seed)
{
    unsigned random = (unsigned)(size_t)seed;
    CK_SESSION_HANDLE session = 0;
    long n;

    for (n = 0; !atomic_load(&ending); n++) {
        random = random * 1103515245u + 12345u;
        if (session == 0)
            session = open_one();
        use(session, (int)(random >> 16) % KEYS);
        look_for((int)(random >> 20) % KEYS);
        make_pair(session, random >> 20);
        share(random >> 12);
        if (n % 500 == 499) {
            close_one(session);
            session = 0;
        }
    }
    return NULL;
}

static void *destroyer(void *rounds)
{
    long n;

    for (n = 0; n < *(long *)rounds; n++) {
        int i = (int)(n * 7 % KEYS);
        CK_OBJECT_HANDLE handle = atomic_load(&handles[i]);
        atomic_store(&dying[i], handle);
        drop_object(i);
        ferro_handle_kill(slot, handle);
        atomic_store(&dead[i], handle);
        if (n % 5 == 0) { /* another process has written */
            atomic_fetch_add(&words[0], 1);
            atomic_fetch_add(&words[1], 1);
        }
        make_object(i);
        ferro_slot_born(slot);
        atomic_store(&born[i], atomic_load(&handles[i]));
        if (n % 3 == 0) {
            if (atomic_load(&logged_in)) {
                atomic_store(&logged_in, 0);
                ferro_slot_logged_out(slot);
                ferro_sessions_forget_slot(slot);
                atomic_fetch_add(&out, 1);
            } else {
                atomic_fetch_add(&out, 1);
                CHECK(ferro_slot_begin_login(slot, FERRO_USER) == CKR_OK);
                atomic_store(&logged_in, 1);
                ferro_slot_end_login(slot, FERRO_USER, 1);
                ferro_sessions_forget_slot(slot);
            }
        }
        sched_yield();
    }
    atomic_store(&ending, 1);
    return NULL;
}

/* What a login showed is not read once the slot says that it has ended, though nothing was forgotten yet. */
static void end_a_login_slowly(void)
{
    ferro_snapshot_moment before = {0};
    ferro_snapshot shown = {0};

    CHECK(ferro_slot_begin_login(slot, FERRO_USER) == CKR_OK);
    ferro_slot_end_login(slot, FERRO_USER, 1);
    before.stamp = ferro_slot_stamp(slot);
    before.epoch = ferro_slot_epoch(slot);
    ferro_snapshot_add(&shown, CKA_LABEL, CKR_OK, "private", 7);
    ferro_snapshots_keep(slot, 4711, &shown, &before, 0);
    CHECK(ferro_snapshots_read(slot, 4711, &shown));
    ferro_slot_logged_out(slot);
    CHECK(!ferro_snapshots_read(slot, 4711, &shown));
    ferro_sessions_forget_slot(slot);
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 2000;
    ferro_slot_view view = {.id = SLOT, .is_inline = 1, .present = 1, .initialized = 1};
    pthread_t threads[USERS + 1];
    ferro_session *session;
    int i, last;

    ferro_sessions_prepare();
    ferro_decisions_prepare();
    ferro_handles_prepare();
    ferro_recipes_prepare();
    ferro_snapshots_prepare();
    ferro_finds_prepare();
    CHECK(ferro_slots_update(&view, 1, 0) == CKR_OK);
    slot = ferro_slot_find(SLOT, NULL);
    ferro_slot_behind(slot, &kernel, (const void *)words);
    ferro_slot_finds_with(slot, &finder);
    (void)open_one(); /* so that no login ends by itself */
    end_a_login_slowly();
    atomic_store(&out, 1);
    for (i = 0; i < KEYS; i++)
        make_object(i);
    for (i = 0; i < USERS; i++)
        CHECK(pthread_create(&threads[i], NULL, user, (void *)(size_t)(i + 1)) == 0);
    CHECK(pthread_create(&threads[USERS], NULL, destroyer, &rounds) == 0);
    for (i = 0; i <= USERS; i++)
        pthread_join(threads[i], NULL);
    while ((session = ferro_session_detach_any(NULL, &last)) != NULL)
        if (ferro_session_leave(session, 0)) {
            tear_down(session);
        }
    ferro_decisions_forget_all();
    ferro_recipes_forget_slot(NULL);
    ferro_snapshots_forget_slot(NULL);
    ferro_finds_forget_slot(NULL);
    for (i = 0; i < KEYS; i++)
        drop_object(i);
    ferro_handles_kill_all();
    CHECK(atomic_load(&living) == 0 && atomic_load(&made) == 0 && atomic_load(&sessions) == 0);
    CHECK(atomic_load(&told) > 0 && atomic_load(&met) > 0);
    CHECK(atomic_load(&drafted) > rounds / 10 && atomic_load(&looked_at) > 0);
    CHECK(atomic_load(&quick) > rounds / 10 && atomic_load(&asked) > rounds / 10);
    CHECK(atomic_load(&known_searches) > rounds / 10 && atomic_load(&found_without) > 0);
    printf("%ld from memory, %ld asked, %ld told, %ld met\n", atomic_load(&quick), atomic_load(&asked), atomic_load(&told),
           atomic_load(&met));
    return 0;
}
