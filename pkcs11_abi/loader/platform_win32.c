/* Windows. There is no fork and there are no signals; everything else has its counterpart. */
#include "platform.h"

#include <psapi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- locks ----------------------------------------------------------------------------------------------------- */

void ferro_mutex_lock(ferro_mutex *mutex)
{
    AcquireSRWLockExclusive(mutex);
}

void ferro_mutex_unlock(ferro_mutex *mutex)
{
    ReleaseSRWLockExclusive(mutex);
}

void ferro_mutex_renew(ferro_mutex *mutex)
{
    InitializeSRWLock(mutex);
}

void ferro_condition_wait(ferro_condition *condition, ferro_mutex *mutex)
{
    SleepConditionVariableSRW(condition, mutex, INFINITE, 0);
}

void ferro_condition_broadcast(ferro_condition *condition)
{
    WakeAllConditionVariable(condition);
}

void ferro_condition_renew(ferro_condition *condition)
{
    InitializeConditionVariable(condition);
}

/* --- shared libraries ------------------------------------------------------------------------------------------ */

/* Paths are UTF-8 here and wide in the system. */
static int widen(const char *path, wchar_t *wide, int size)
{
    return MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, wide, size) > 0 ? 0 : -1;
}

void *ferro_library_open(const char *path)
{
    wchar_t wide[FERRO_PATH_MAX];
    if (widen(path, wide, FERRO_PATH_MAX) != 0)
        return NULL;
    /* python3X.dll finds vcruntime beside itself; a bare name comes from the system's search path. */
    if (strchr(path, '\\') != NULL)
        return LoadLibraryExW(wide, NULL, LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR | LOAD_LIBRARY_SEARCH_DEFAULT_DIRS);
    return LoadLibraryExW(wide, NULL, LOAD_LIBRARY_SEARCH_DEFAULT_DIRS);
}

void *ferro_library_symbol(void *library, const char *name)
{
    return (void *)(uintptr_t)GetProcAddress((HMODULE)library, name);
}

void ferro_library_error(char *text, size_t size)
{
    snprintf(text, size, "error %lu", GetLastError());
}

void *ferro_library_find_python(void)
{
    HMODULE modules[1024];
    DWORD bytes = 0;
    if (!EnumProcessModules(GetCurrentProcess(), modules, sizeof modules, &bytes))
        return NULL;
    size_t count = bytes / sizeof modules[0];
    for (size_t i = 0; i < count && i < sizeof modules / sizeof modules[0]; i++) {
        char name[MAX_PATH];
        /* python3.dll only forwards to the real one. */
        if (GetModuleBaseNameA(GetCurrentProcess(), modules[i], name, sizeof name) == 0 ||
            _strnicmp(name, "python", 6) != 0 || _stricmp(name, "python3.dll") == 0)
            continue;
        if (GetProcAddress(modules[i], "Py_IsInitialized") != NULL)
            return modules[i];
    }
    return NULL;
}

void ferro_library_promote(const void *address)
{
    (void)address; /* every library's symbols are found by the library's name */
}

int ferro_library_path(const void *address, char *path, size_t size)
{
    wchar_t wide[FERRO_PATH_MAX];
    HMODULE module;
    DWORD flags = GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN;
    if (!GetModuleHandleExW(flags, (LPCWSTR)address, &module))
        return -1;
    DWORD length = GetModuleFileNameW(module, wide, FERRO_PATH_MAX);
    if (length == 0 || length >= FERRO_PATH_MAX)
        return -1;
    return WideCharToMultiByte(CP_UTF8, 0, wide, -1, path, (int)size, NULL, NULL) > 0 ? 0 : -1;
}

/* --- forks and signals ------------------------------------------------------------------------------------------- */

volatile int *ferro_fork_word(void)
{
    return NULL;
}

void ferro_fork_handlers(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
    (void)prepare;
    (void)parent;
    (void)child;
}

ferro_signals *ferro_signals_begin(void)
{
    return NULL;
}

void ferro_signals_end(ferro_signals *saved)
{
    (void)saved;
}

/* --- environment, files, time ------------------------------------------------------------------------------------ */

const char *ferro_secure_getenv(const char *name)
{
    return getenv(name);
}

int ferro_file_exists(const char *path)
{
    wchar_t wide[FERRO_PATH_MAX];
    return widen(path, wide, FERRO_PATH_MAX) == 0 && GetFileAttributesW(wide) != INVALID_FILE_ATTRIBUTES;
}

int ferro_file_real_path(const char *path, char *real, size_t size)
{
    wchar_t wide[FERRO_PATH_MAX], full[FERRO_PATH_MAX];
    if (widen(path, wide, FERRO_PATH_MAX) != 0)
        return -1;
    DWORD length = GetFullPathNameW(wide, FERRO_PATH_MAX, full, NULL);
    if (length == 0 || length >= FERRO_PATH_MAX)
        return -1;
    return WideCharToMultiByte(CP_UTF8, 0, full, -1, real, (int)size, NULL, NULL) > 0 ? 0 : -1;
}

int ferro_file_read(const char *path, char *text, size_t size)
{
    wchar_t wide[FERRO_PATH_MAX];
    DWORD length = 0;
    if (widen(path, wide, FERRO_PATH_MAX) != 0)
        return -1;
    HANDLE file = CreateFileW(wide, GENERIC_READ, FILE_SHARE_READ, NULL, OPEN_EXISTING, 0, NULL);
    if (file == INVALID_HANDLE_VALUE)
        return -1;
    BOOL done = ReadFile(file, text, (DWORD)(size - 1), &length, NULL);
    CloseHandle(file);
    text[done ? length : 0] = '\0';
    return done ? 0 : -1;
}

static HANDLE trace_handle = INVALID_HANDLE_VALUE;

int ferro_trace_file(const char *path)
{
    wchar_t wide[FERRO_PATH_MAX];
    if (widen(path, wide, FERRO_PATH_MAX) != 0)
        return -1;
    trace_handle = CreateFileW(wide, FILE_APPEND_DATA, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, OPEN_ALWAYS, 0, NULL);
    return trace_handle == INVALID_HANDLE_VALUE ? -1 : 3;
}

void ferro_trace_write(int file, const char *text, size_t length)
{
    DWORD written;
    WriteFile(file == 2 ? GetStdHandle(STD_ERROR_HANDLE) : trace_handle, text, (DWORD)length, &written, NULL);
}

void ferro_message(const char *text)
{
    DWORD written;
    WriteFile(GetStdHandle(STD_ERROR_HANDLE), text, (DWORD)strlen(text), &written, NULL);
}

uint64_t ferro_microseconds(void)
{
    LARGE_INTEGER now, frequency;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&frequency);
    return (uint64_t)(now.QuadPart / frequency.QuadPart) * 1000000u +
           (uint64_t)(now.QuadPart % frequency.QuadPart) * 1000000u / (uint64_t)frequency.QuadPart;
}

void ferro_sleep_microseconds(unsigned int microseconds)
{
    Sleep(microseconds < 1000 ? 1 : microseconds / 1000);
}

unsigned long ferro_process_id(void)
{
    return GetCurrentProcessId();
}

unsigned long ferro_thread_id(void)
{
    return GetCurrentThreadId();
}
