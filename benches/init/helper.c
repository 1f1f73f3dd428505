/* What is run below an init to measure it: as little as can be, so that the init is what is
   measured. Times are CLOCK_MONOTONIC in nanoseconds, written to the file that is named. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void note(const char *path, long long time) {
    char line[32];
    int length = snprintf(line, sizeof line, "%lld\n", time);
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (file < 0 || write(file, line, length) != length) _exit(99);
    close(file);
}

static volatile long long heard;
static void hear(int number) { (void)number; heard = now(); }

/* Notes what is heard: the file is open, since a handler may do little. */
static int tally_file;
static void tally(int number) {
    char line[16];
    int length = snprintf(line, sizeof line, "%d\n", number);
    if (write(tally_file, line, length) != length) _exit(94);
    if (number == SIGTERM) _exit(0);
}

static void hear_all(const char *path) {
    struct sigaction action = { .sa_handler = tally };
    sigfillset(&action.sa_mask);
    tally_file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    for (int number = 1; number <= SIGRTMAX; number++) sigaction(number, &action, 0);
}

/* Leaves a daemon behind that takes its time to go, and then notes 99. */
static void last_words(int number) {
    (void)number;
    usleep(300000);
    tally(99);
    _exit(0);
}

static void leave_daemon(const char *path) {
    if (fork()) return;
    setsid();
    if (fork()) _exit(0);
    signal(SIGTERM, last_words);
    tally_file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    for (;;) pause();
}

/* Whether any process but the first and ourselves is left in this PID namespace. */
static int others(void) {
    int found = 0;
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    while (proc && (entry = readdir(proc))) {
        int pid = atoi(entry->d_name);
        if (pid > 1 && pid != getpid()) found++;
    }
    if (proc) closedir(proc);
    return found;
}

/* A process that leaves orphans behind, all of which end at once. Its exit makes them the
   init's. Returns the last of them. */
static int leave_orphans(int count) {
    int ends[2], last = 0, status;
    if (pipe(ends)) _exit(98);
    int parent = fork();
    if (parent == 0) {
        for (int i = 0; i < count; i++) {
            last = fork();
            if (last == 0) _exit(0);
            if (last < 0) { i--; usleep(100); }
        }
        if (write(ends[1], &last, sizeof last) != sizeof last) _exit(97);
        _exit(0);
    }
    close(ends[1]);
    if (parent < 0 || read(ends[0], &last, sizeof last) != sizeof last) _exit(96);
    close(ends[0]);
    waitpid(parent, &status, 0);
    return last;
}

/* As many orphans as asked for, as fast as we can make them: in portions, since no machine
   has room for all of them at once. From the end of the last until none is a zombie. */
static void orphans(const char *path, int count) {
    enum { PORTION = 500 };
    int last = 0;
    note(path, now());
    for (int made = 0; made < count; made += PORTION) last = leave_orphans(PORTION);
    long long start = now();
    /* They are handed over in the order of their making; the last is looked at alone first,
       since a look at all of them would slow the init down. */
    while (kill(last, 0) == 0) usleep(100);
    while (others() > 0) usleep(100);
    note(path, now() - start);
}

/* As a service's program: the words are the lines of the file `args` beside it. */
static void from_file(int *argc, char ***argv) {
    static char text[4096], *words[16] = { "run" };
    int file = open("args", O_RDONLY), count = 1;
    if (file < 0 || read(file, text, sizeof text - 1) < 0) _exit(95);
    close(file);
    for (char *word = strtok(text, "\n"); word && count < 15; word = strtok(0, "\n"))
        words[count++] = word;
    *argc = count;
    *argv = words;
}

int main(int argc, char **argv) {
    if (argc < 3) from_file(&argc, &argv);
    if (argc < 3) return 64;
    const char *what = argv[1], *path = argv[2];
    if (!strcmp(what, "launch")) {          /* launch FILE PROGRAM...: note, and become it */
        note(path, now());
        execvp(argv[3], argv + 3);
        return 127;
    }
    if (!strcmp(what, "stay")) {            /* stay FILE: note, and stay until SIGTERM */
        note(path, now());
        for (;;) pause();
    }
    if (!strcmp(what, "crash")) {           /* crash FILE: note; after 1.2 s note, and crash */
        note(path, now());
        usleep(1200000);
        note(path, now());
        return 1;
    }
    if (!strcmp(what, "hear")) {            /* hear FILE: note when SIGUSR1 was heard */
        struct sigaction action = { .sa_handler = hear };
        sigset_t none, user;
        sigemptyset(&none);
        sigemptyset(&user);
        sigaddset(&user, SIGUSR1);
        sigprocmask(SIG_BLOCK, &user, 0);
        sigaction(SIGUSR1, &action, 0);
        note(path, now());
        for (;;) {
            heard = 0;
            sigsuspend(&none);
            if (heard) note(path, heard);
        }
    }
    if (!strcmp(what, "exit")) {            /* exit FILE CODE: end so; -N: by signal N */
        int code = atoi(argv[3]);
        if (code < 0) kill(getpid(), -code);
        return code;
    }
    if (!strcmp(what, "tally")) {           /* tally FILE: note all that is heard */
        hear_all(path);
        note(path, now());
        for (;;) pause();
    }
    if (!strcmp(what, "zombie")) {          /* zombie FILE: leave an orphan that has ended */
        if (!fork()) { if (!fork()) _exit(0); usleep(50000); _exit(0); }
        wait(0);
        note(path, now());
        for (;;) pause();
    }
    if (!strcmp(what, "daemon")) {          /* daemon FILE: leave a daemon behind, and stay */
        leave_daemon(path);
        wait(0);
        note(path, now());
        for (;;) pause();
    }
    if (!strcmp(what, "deaf")) {            /* deaf FILE: do not go when told to */
        signal(SIGTERM, SIG_IGN);
        note(path, now());
        for (;;) pause();
    }
    if (!strcmp(what, "orphans")) {         /* orphans FILE COUNT: how long until they are reaped */
        orphans(path, atoi(argv[3]));
        for (;;) pause();
    }
    return 64;
}
