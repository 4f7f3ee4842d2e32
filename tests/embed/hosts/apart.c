/* A host whose slot is in a process of its own: it has no child that it did not make, and hears of none. */
#include "host.h"

static volatile sig_atomic_t heard;

static void child_ended(int number)
{
    (void)number;
    heard++;
}

static void expect_no_child(int ended)
{
    int status;
    CHECK(waitpid(-1, &status, WNOHANG) == -1 && errno == ECHILD);
    CHECK(heard == ended);
}

/* The kernel fills the signals that there are; what sigset_t has room for beyond them stays as it was. */
static void expect_same_mask(const sigset_t *before)
{
    sigset_t now;
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    for (int number = 1; number < NSIG; number++)
        CHECK(sigismember(before, number) == sigismember(&now, number));
}

static void work(void)
{
    CK_OBJECT_HANDLE public, private;
    CK_SESSION_HANDLE session = open_session(token_slot());
    login(session);
    sign(session, mac_key(session));
    ec_keys(session, &public, &private);
    OK(try_ec_sign(session, public, private));
    OK(p11->C_CloseSession(session));
}

static int forked(void)
{
    CK_INFO info;
    EXPECT(CKR_CRYPTOKI_NOT_INITIALIZED, p11->C_GetInfo(&info));
    OK(p11->C_Initialize(NULL));
    work();
    OK(p11->C_Finalize(NULL));
    return 0;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = child_ended};
    sigset_t before;
    CHECK(argc == 3);
    load(argv[1]);
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    OK(p11->C_Initialize(NULL));
    work();
    expect_same_mask(&before);
    expect_no_child(0);
    if (strcmp(argv[2], "stays") == 0 || strcmp(argv[2], "stays-forked") == 0) {
        /* Its end of the socket is in the child too, which goes on when this process is killed. */
        pid_t child = strcmp(argv[2], "stays") == 0 ? 0 : fork();
        if (child == 0 && strcmp(argv[2], "stays") != 0) {
            sleep(60);
            _exit(0);
        }
        printf("%d\n", (int)child);
        fflush(stdout);
        sleep(60);
        return 1;
    }
    pid_t child = fork();
    if (child == 0)
        _exit(forked());
    CHECK(await(child, 60) == 0);
    work(); /* what the child did has not touched ours */
    expect_no_child(1);
    for (int i = 0; i < 3; i++) {
        OK(p11->C_Finalize(NULL));
        OK(p11->C_Initialize(NULL));
    }
    work();
    OK(p11->C_Finalize(NULL));
    expect_no_child(1);
    return 0;
}
