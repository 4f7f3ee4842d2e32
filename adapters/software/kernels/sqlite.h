/*
 * SQLite as the interpreter has it: the functions of the very library that Python's `sqlite3` uses.
 *
 * A second SQLite in the process would be a second list of what is locked, and closing a file in one takes
 * the locks of the other away (POSIX locks belong to the process). So none is linked; the functions are
 * looked up in what is loaded, and it is proved that they are that library's before they are used.
 */
#ifndef FERRO_KERNELS_SQLITE_H
#define FERRO_KERNELS_SQLITE_H 1

#include <stdint.h>

typedef struct sqlite3 sqlite3;
typedef struct sqlite3_stmt sqlite3_stmt;

enum {
    SQLITE_OK = 0,
    SQLITE_ROW = 100,
    SQLITE_DONE = 101,
    SQLITE_INTEGER = 1,
    SQLITE_BLOB = 4,
    SQLITE_OPEN_READWRITE = 0x2,
    SQLITE_OPEN_URI = 0x40,
    SQLITE_OPEN_NOMUTEX = 0x8000
};

typedef struct ferro_sqlite {
    int (*threadsafe)(void);
    int (*auto_extension)(void (*entry)(void));
    int (*cancel_auto_extension)(void (*entry)(void));
    int (*open_v2)(const char *name, sqlite3 **db, int flags, const char *vfs);
    int (*close)(sqlite3 *db);
    int (*exec)(sqlite3 *db, const char *sql, int (*row)(void *, int, char **, char **), void *, char **error);
    int (*get_autocommit)(sqlite3 *db);
    int (*prepare_v2)(sqlite3 *db, const char *sql, int length, sqlite3_stmt **statement, const char **tail);
    int (*finalize)(sqlite3_stmt *statement);
    int (*bind_blob)(sqlite3_stmt *statement, int at, const void *value, int length, void (*destroy)(void *));
    int (*bind_int64)(sqlite3_stmt *statement, int at, int64_t value);
    int (*step)(sqlite3_stmt *statement);
    int (*reset)(sqlite3_stmt *statement);
    int (*column_type)(sqlite3_stmt *statement, int at);
    int (*column_bytes)(sqlite3_stmt *statement, int at);
    const void *(*column_blob)(sqlite3_stmt *statement, int at);
    int64_t (*column_int64)(sqlite3_stmt *statement, int at);
} ferro_sqlite;

/* What Python's extension at `path` uses; NULL when it cannot be reached. It is not proved yet. */
const ferro_sqlite *ferro_sqlite_find(const char *path);

/* The proof: between these two Python opens a connection. `end` says whether our SQLite saw it on this thread. */
int ferro_sqlite_begin_proof(void);
int ferro_sqlite_end_proof(void);

#endif
