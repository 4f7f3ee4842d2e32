/* The process is as it was after the module has started, worked and stopped. */
#include "host.h"

#include <dirent.h>
#include <fcntl.h>
#include <locale.h>
#include <sys/stat.h>

extern char **environ;

typedef struct {
    struct sigaction actions[65];
    sigset_t mask;
    char locale[200], directory[4096], environment[65536];
    mode_t mask_of_files;
    int flags[3], count, buffered;
    struct stat streams[3];
} picture;

static void on_signal(int number)
{
    (void)number;
}

static void take(picture *p)
{
    size_t length = 0;
    memset(p, 0, sizeof *p);
    for (int i = 1; i < 65; i++) {
        sigaction(i, NULL, &p->actions[i]);
        p->actions[i].sa_flags &= ~0x04000000; /* SA_RESTORER: an inner matter of libc and the kernel */
    }
    pthread_sigmask(SIG_SETMASK, NULL, &p->mask);
    snprintf(p->locale, sizeof p->locale, "%s", setlocale(LC_ALL, NULL));
    CHECK(getcwd(p->directory, sizeof p->directory) != NULL);
    for (char **one = environ; *one != NULL; one++)
        length += (size_t)snprintf(p->environment + length, sizeof p->environment - length, "%s\n", *one);
    p->mask_of_files = umask(0);
    umask(p->mask_of_files);
    for (int i = 0; i < 3; i++) {
        p->flags[i] = fcntl(i, F_GETFL);
        if (fstat(i, &p->streams[i]) != 0)
            memset(&p->streams[i], 0, sizeof p->streams[i]);
        p->streams[i].st_atime = p->streams[i].st_mtime = 0;
        memset(&p->streams[i].st_atim, 0, 3 * sizeof p->streams[i].st_atim);
        p->streams[i].st_size = 0;
    }
}

static void compare(const picture *before, const char *when)
{
    static picture now;
    take(&now);
    for (int i = 1; i < 65; i++) {
        if (before->actions[i].sa_handler != now.actions[i].sa_handler ||
            before->actions[i].sa_flags != now.actions[i].sa_flags)
            FAIL("%s: the handler of signal %d has changed", when, i);
    }
    for (int i = 1; i < 65; i++) {
        if (sigismember(&before->mask, i) != sigismember(&now.mask, i))
            FAIL("%s: signal %d is %s", when, i, sigismember(&now.mask, i) ? "blocked" : "let through");
    }
    CHECK(strcmp(before->locale, now.locale) == 0);
    CHECK(strcmp(before->directory, now.directory) == 0);
    CHECK(strcmp(before->environment, now.environment) == 0);
    CHECK(before->mask_of_files == now.mask_of_files);
    for (int i = 0; i < 3; i++) {
        if (before->flags[i] == -1) {
            /* A stream that the host has closed: SQLite puts /dev/null there, so that no file of ours takes its
             * number and then what the host prints. */
            struct stat null;
            CHECK(stat("/dev/null", &null) == 0);
            CHECK(now.flags[i] == -1 || now.streams[i].st_rdev == null.st_rdev);
            continue;
        }
        CHECK(before->flags[i] == now.flags[i]);
        CHECK(memcmp(&before->streams[i], &now.streams[i], sizeof now.streams[i]) == 0);
    }
}

/* The threads that the library has started, if any, leave the process's signals to the host's. */
static int threads_without_signals(int ending)
{
    static const int theirs[] = {SIGHUP, SIGINT, SIGTERM, SIGALRM, SIGCHLD, SIGUSR1, SIGPIPE, SIGPROF};
    DIR *directory = opendir("/proc/self/task");
    struct dirent *entry;
    int threads = 0;
    CHECK(directory != NULL);
    while ((entry = readdir(directory)) != NULL) {
        char path[300], line[256];
        unsigned long long blocked = 0;
        if (entry->d_name[0] == '.' || atoi(entry->d_name) == getpid())
            continue;
        threads++;
        if (ending)
            continue; /* a thread that is on its way out has no masks any more */
        snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
        FILE *file = fopen(path, "r");
        CHECK(file != NULL);
        while (fgets(line, sizeof line, file) != NULL)
            (void)sscanf(line, "SigBlk: %llx", &blocked);
        fclose(file);
        for (size_t i = 0; i < sizeof theirs / sizeof theirs[0]; i++) {
            if (!(blocked >> (theirs[i] - 1) & 1))
                FAIL("thread %s takes signal %d", entry->d_name, theirs[i]);
        }
    }
    closedir(directory);
    return threads;
}

static void run(const picture *before, int threads)
{
    compare(before, "after loading");
    OK(p11->C_Initialize(NULL));
    compare(before, "after C_Initialize");
    work_once();
    compare(before, "after a signature");
    /* One more writes the audit, for a moment. */
    int seen = threads_without_signals(0);
    CHECK(seen == threads || seen == threads + 1);
    OK(p11->C_Finalize(NULL));
    compare(before, "after C_Finalize");
    /* Python's join returns a moment before the thread is gone. */
    for (int wait = 0; threads_without_signals(1) != 0; wait++) {
        CHECK(wait < 30000);
        milliseconds(1);
    }
}

int main(int argc, char **argv)
{
    static picture before;
    sigset_t some;
    CHECK(argc > 2);
    int threads = argc > 3 ? atoi(argv[3]) : 0;
    if (strcmp(argv[2], "handlers") == 0) {
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
        sigaction(SIGCHLD, &action, NULL);
        signal(SIGPIPE, on_signal);
        sigemptyset(&some);
        sigaddset(&some, SIGUSR1);
        sigaddset(&some, SIGHUP);
        pthread_sigmask(SIG_BLOCK, &some, NULL);
        umask(013);
    } else if (strcmp(argv[2], "ignored") == 0) {
        signal(SIGINT, SIG_IGN);
        signal(SIGPIPE, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
    } else if (strcmp(argv[2], "locale") == 0) {
        CHECK(setlocale(LC_ALL, "C.UTF-8") != NULL);
        CHECK(setlocale(LC_NUMERIC, "C") != NULL);
    } else if (strcmp(argv[2], "closed") == 0) {
        close(0);
        close(1);
    } else if (strcmp(argv[2], "directory") == 0) {
        /* The library was loaded by a relative path, and the directory changes before it starts. */
        char *slash = strrchr(argv[1], '/');
        *slash = '\0';
        CHECK(chdir(argv[1]) == 0);
        char relative[300];
        snprintf(relative, sizeof relative, "./%s", slash + 1);
        load(relative);
        CHECK(chdir("/") == 0);
        take(&before);
        run(&before, threads);
        return 0;
    } else {
        CHECK(strcmp(argv[2], "plain") == 0);
    }
    take(&before);
    load(argv[1]);
    run(&before, threads);
    return 0;
}
