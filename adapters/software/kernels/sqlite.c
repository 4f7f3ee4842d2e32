/* Looking up SQLite's functions, and proving whose they are. */
#include "sqlite.h"
#include "platform.h"

#include <stdatomic.h>
#include <string.h>

static ferro_sqlite functions;
static int complete;
static _Thread_local int watching, seen;

/* SQLite calls this for every connection that anybody opens while the proof is under way. */
static int opened(sqlite3 *db, char **error, const void *routines)
{
    (void)db;
    (void)error;
    (void)routines;
    if (watching)
        seen = 1;
    return SQLITE_OK;
}

/* A pointer to a function cannot be had from one to an object but by its bytes. */
static int look_up(void *library, const char *name, void *place)
{
    void *found = ferro_library_symbol(library, name);

    memcpy(place, &found, sizeof found);
    return found != NULL;
}

const ferro_sqlite *ferro_sqlite_find(const char *path)
{
    void *library;

    if (complete)
        return &functions;
    if ((library = ferro_library_loaded(path)) == NULL)
        return NULL;
    complete = look_up(library, "sqlite3_threadsafe", &functions.threadsafe)
               && look_up(library, "sqlite3_auto_extension", &functions.auto_extension)
               && look_up(library, "sqlite3_cancel_auto_extension", &functions.cancel_auto_extension)
               && look_up(library, "sqlite3_open_v2", &functions.open_v2)
               && look_up(library, "sqlite3_close", &functions.close)
               && look_up(library, "sqlite3_exec", &functions.exec)
               && look_up(library, "sqlite3_get_autocommit", &functions.get_autocommit)
               && look_up(library, "sqlite3_prepare_v2", &functions.prepare_v2)
               && look_up(library, "sqlite3_finalize", &functions.finalize)
               && look_up(library, "sqlite3_bind_blob", &functions.bind_blob)
               && look_up(library, "sqlite3_bind_int64", &functions.bind_int64)
               && look_up(library, "sqlite3_step", &functions.step)
               && look_up(library, "sqlite3_reset", &functions.reset)
               && look_up(library, "sqlite3_column_type", &functions.column_type)
               && look_up(library, "sqlite3_column_bytes", &functions.column_bytes)
               && look_up(library, "sqlite3_column_blob", &functions.column_blob)
               && look_up(library, "sqlite3_column_int64", &functions.column_int64)
               && functions.threadsafe() != 0;
    return complete ? &functions : NULL;
}

int ferro_sqlite_begin_proof(void)
{
    seen = 0;
    watching = 1;
    return functions.auto_extension((void (*)(void))opened) == SQLITE_OK;
}

int ferro_sqlite_end_proof(void)
{
    watching = 0;
    (void)functions.cancel_auto_extension((void (*)(void))opened);
    return seen;
}
