/* Where our Python is: the venv around us (its pyvenv.cfg), or the prefix we are installed in, then the Python that
 * this build was made with, then whatever the dynamic linker finds. */
#include "environment.h"

#include <patchlevel.h>
#include <stdio.h>
#include <string.h>

#define QUOTED(number) QUOTED_(number)
#define QUOTED_(number) #number
#define VERSION QUOTED(PY_MAJOR_VERSION) "." QUOTED(PY_MINOR_VERSION)
#define LEVELS 6

#if defined(_WIN32)
static const char *const programs[] = {"Scripts\\python.exe", "python.exe"};
static const char *const libraries[] = {FERRO_PYTHON_LIBRARY};
#else
static const char *const programs[] = {"bin/python" VERSION, "bin/python3", "bin/python"};
static const char *const libraries[] = {
    "lib/" FERRO_PYTHON_LIBRARY,
    "lib64/" FERRO_PYTHON_LIBRARY,
    "lib/" FERRO_PYTHON_MULTIARCH "/" FERRO_PYTHON_LIBRARY,
    "Python", /* a framework of macOS */
};
#endif
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

typedef struct {
    char executable[FERRO_PATH_MAX]; /* of the environment itself; empty if unknown */
    char base[FERRO_PATH_MAX];       /* prefix of the Python under it; empty if unknown */
} environment;

/* Cut the last part of a path; 0 when there is none. */
static int cut(char *path)
{
    char *slash = strrchr(path, FERRO_SEPARATOR);
    if (slash == NULL || slash == path)
        return 0;
    *slash = '\0';
    return 1;
}

static int join_path(char *path, const char *folder, const char *name)
{
    int written = snprintf(path, FERRO_PATH_MAX, "%s%c%s", folder, FERRO_SEPARATOR, name);
    return written > 0 && written < FERRO_PATH_MAX && ferro_file_exists(path);
}

/* Write the Python program of a prefix; 0 when it has none. */
static int program_of(const char *prefix, size_t first, char *executable)
{
    for (size_t i = first; i < COUNT(programs); i++) {
        if (join_path(executable, prefix, programs[i]))
            return 1;
    }
    executable[0] = '\0';
    return 0;
}

/* Take `home` out of pyvenv.cfg: the folder of the base Python's program. */
static void read_home(const char *file, char *home)
{
    char text[8192];
    home[0] = '\0';
    if (ferro_file_read(file, text, sizeof text) != 0)
        return;
    for (char *line = strtok(text, "\r\n"); line != NULL; line = strtok(NULL, "\r\n")) {
        char *value = strchr(line, '=');
        if (value == NULL || strncmp(line, "home", 4) != 0 || line[4 + strspn(line + 4, " \t")] != '=')
            continue;
        value++;
        value += strspn(value, " \t");
        snprintf(home, FERRO_PATH_MAX, "%s", value);
        size_t length = strlen(home);
        while (length > 0 && strchr(" \t/\\", home[length - 1]) != NULL)
            home[--length] = '\0';
        return;
    }
}

static void describe(const char *module_path, environment *found)
{
    char folder[FERRO_PATH_MAX], file[FERRO_PATH_MAX];
    found->executable[0] = found->base[0] = '\0';
    ferro_environment_site(module_path, folder);
    for (int level = 0; level < LEVELS && cut(folder); level++) {
        if (join_path(file, folder, "pyvenv.cfg")) {
            program_of(folder, 0, found->executable);
            read_home(file, found->base);
#if !defined(_WIN32)
            cut(found->base);
#endif
            return;
        }
        /* Only the exact version tells a prefix: any folder may have a "bin/python". */
        if (join_path(file, folder, programs[0])) {
            snprintf(found->executable, sizeof found->executable, "%s", file);
            snprintf(found->base, sizeof found->base, "%s", folder);
            return;
        }
    }
}

/* Write the prefix and program that a libpython belongs to. */
static void owner_of(const void *address, char *prefix, char *executable)
{
    executable[0] = '\0';
    if (ferro_library_path(address, prefix, FERRO_PATH_MAX) != 0) {
        prefix[0] = '\0';
        return;
    }
    for (int level = 0; level < LEVELS && cut(prefix); level++) {
        if (join_path(executable, prefix, programs[0]))
            return;
    }
    executable[0] = prefix[0] = '\0';
}

static int same_place(const char *one, const char *other)
{
    char first[FERRO_PATH_MAX], second[FERRO_PATH_MAX];
    return ferro_file_real_path(one, first, sizeof first) == 0 &&
           ferro_file_real_path(other, second, sizeof second) == 0 && strcmp(first, second) == 0;
}

/* The environment's own program, when this libpython is the one under it; else the libpython's, so that library and
 * standard library belong together (our site-packages is added to its path later). */
static void choose(const environment *ours, const void *address, char *executable)
{
    char prefix[FERRO_PATH_MAX], theirs[FERRO_PATH_MAX];
    owner_of(address, prefix, theirs);
    int fits = ours->executable[0] != '\0' && ours->base[0] != '\0' &&
               (prefix[0] == '\0' || same_place(ours->base, prefix));
    snprintf(executable, FERRO_PATH_MAX, "%s", fits ? ours->executable : theirs);
}

static void *open_below(const char *prefix)
{
    char path[FERRO_PATH_MAX];
    void *library = NULL;
    for (size_t i = 0; i < COUNT(libraries) && library == NULL && prefix[0] != '\0'; i++) {
        if (join_path(path, prefix, libraries[i]))
            library = ferro_library_open(path);
    }
    return library;
}

/* The program of a venv is a link to the base Python, or a copy of it: the link may lead to another prefix than
 * pyvenv.cfg names (a version manager's shim). */
static void *open_behind(const char *executable)
{
    char path[FERRO_PATH_MAX];
    if (executable[0] == '\0' || ferro_file_real_path(executable, path, sizeof path) != 0 || !cut(path))
        return NULL;
#if !defined(_WIN32)
    if (!cut(path))
        return NULL;
#endif
    return open_below(path);
}

static void *open_recorded(void)
{
    char path[FERRO_PATH_MAX];
    void *library = NULL;
    if (FERRO_PYTHON_LIBDIR[0] != '\0' && join_path(path, FERRO_PYTHON_LIBDIR, FERRO_PYTHON_LIBRARY))
        library = ferro_library_open(path);
    return library != NULL ? library : ferro_library_open(FERRO_PYTHON_LIBRARY);
}

void ferro_environment_site(const char *module_path, char *site)
{
    snprintf(site, FERRO_PATH_MAX, "%s", module_path);
    cut(site);
    cut(site);
}

void *ferro_environment_library(const char *module_path, char *executable, char *message, size_t size)
{
    environment ours;
    describe(module_path, &ours);
    void *library = open_below(ours.base);
    if (library == NULL)
        library = open_behind(ours.executable);
    if (library == NULL)
        library = open_recorded();
    if (library == NULL) {
        char reason[300];
        ferro_library_error(reason, sizeof reason);
        snprintf(message, size,
                 "there is no shared %s for the Python of this installation (%s). Install it (Debian and Ubuntu: "
                 "libpython" VERSION "; Fedora: python3-libs), or use a Python built with --enable-shared",
                 FERRO_PYTHON_LIBRARY, reason);
        return NULL;
    }
    choose(&ours, ferro_library_symbol(library, "Py_IsInitialized"), executable);
    return library;
}

void ferro_environment_executable(const char *module_path, const void *address, char *executable)
{
    environment ours;
    describe(module_path, &ours);
    choose(&ours, address, executable);
}
