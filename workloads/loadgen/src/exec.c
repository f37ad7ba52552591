#include "exec.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "text.h"

#define NOBODY 65534
#define KILL_AFTER NS_PER_S /* what a tool that is asked to end has for its summary */

/* A tool sees no variable of ours, and is never root: a started copy of ourselves gives all rights up, then becomes it. */
static char *const environment[] = {"PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp", "LC_ALL=C", NULL};

struct pipe_end {
    struct source source;
    struct tool *tool;
    const char *stream;
    char held[4]; /* the beginning of a character whose end is yet to be read */
    size_t held_len;
};

struct tool {
    struct job job;
    struct loop *loop;
    char **argv;
    pid_t pid;
    struct pipe_end out;
    struct pipe_end err;
    struct timer kill;
    struct tool *next; /* of all that run */
};

static struct tool *running;

static void tool_free(struct tool *tool)
{
    for (char **arg = tool->argv; *arg; arg++)
        free(*arg);
    free(tool->argv);
    tool->argv = NULL;
}

/* How many bytes at the end are a character cut short. */
static size_t cut_character(const unsigned char *s, size_t len)
{
    for (size_t back = 1; back <= 3 && back <= len; back++) {
        unsigned char c = s[len - back];
        size_t need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;

        if (c >= 0xc0)
            return need > back ? back : 0;
        if (c < 0x80)
            return 0;
    }
    return 0;
}

static void say(struct pipe_end *end, const char *data, size_t len)
{
    struct json j = {0};

    if (!len)
        return;
    json_event(&j, "output");
    json_str(&j, "id", end->tool->job.id);
    json_str(&j, "stream", end->stream);
    json_strn(&j, "data", data, len);
    json_end(&j);
    job_send(&end->tool->job, &j);
}

/* Passes on what there is; false once the other side has closed. */
static bool drain(struct pipe_end *end)
{
    char data[16384];

    while (end->source.fd >= 0) {
        ssize_t n = read(end->source.fd, data + end->held_len, sizeof data - end->held_len);
        size_t len;
        size_t cut;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN;
        memcpy(data, end->held, end->held_len);
        len = end->held_len + (size_t)n;
        cut = n ? cut_character((unsigned char *)data, len) : 0;
        memcpy(end->held, data + len - cut, cut);
        end->held_len = cut;
        say(end, data, len - cut);
        if (!n)
            return false;
    }
    return true;
}

static void pipe_ready(struct source *source, uint32_t events)
{
    struct pipe_end *end = container_of(source, struct pipe_end, source);

    (void)events;
    if (!drain(end))
        loop_close(end->tool->loop, source);
}

static void tool_kill(struct timer *timer)
{
    kill(-container_of(timer, struct tool, kill)->pid, SIGKILL);
}

static void tool_stop(struct job *job)
{
    struct tool *tool = container_of(job, struct tool, job);

    if (tool->kill.place)
        return;
    kill(-tool->pid, SIGTERM);
    timer_set(tool->loop, &tool->kill, clock_mono() + KILL_AFTER);
}

static const struct job_class exec_class = {.noun = "exec", .stop = tool_stop};

struct job *exec_begin(struct loop *loop, struct request *request, struct complaint *c)
{
    const char *argv = request_raw(request, "argv");
    struct tool *tool;
    size_t count = 0;

    if (!argv || !*argv) {
        complain(c, "exec needs argv=");
        return NULL;
    }
    if (!request_all_known(request, c))
        return NULL;
    tool = must_calloc(1, sizeof *tool);
    tool->job.class = &exec_class;
    tool->loop = loop;
    tool->out = (struct pipe_end){
        .tool = tool, .stream = "stdout", .source = {.fd = -1, .ready = pipe_ready}};
    tool->err = (struct pipe_end){
        .tool = tool, .stream = "stderr", .source = {.fd = -1, .ready = pipe_ready}};
    tool->kill.fire = tool_kill;
    tool->argv = must_calloc(3, sizeof *tool->argv);
    tool->argv[count++] = must_strdup("coeload");
    tool->argv[count++] = must_strdup(EXEC_AS_NOBODY);
    for (const char *at = argv;; count++) {
        size_t len = strcspn(at, ",");
        char *arg = must_calloc(1, len + 1);

        tool->argv = must_realloc(tool->argv, (count + 2) * sizeof *tool->argv);
        tool->argv[count] = memcpy(arg, at, len);
        tool->argv[count + 1] = NULL;
        text_percent_decode(arg); /* the request was checked for broken escapes */
        if (!at[len])
            break;
        at += len + 1;
    }
    if (!c->text[0])
        return &tool->job;
    tool_free(tool);
    free(tool);
    return NULL;
}

/* 0, or why there is no such program: known before anything is started. */
static int find_program(const char *name)
{
    char path[4096];

    if (strchr(name, '/'))
        return access(name, X_OK) ? errno : 0;
    for (const char *at = environment[0] + strlen("PATH="); *at;) {
        size_t len = strcspn(at, ":");

        snprintf(path, sizeof path, "%.*s/%s", (int)len, at, name);
        if (!access(path, X_OK))
            return 0;
        at += len + (at[len] == ':');
    }
    return ENOENT;
}

static bool open_pipe(struct pipe_end *end, int *child_side)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC))
        return false;
    /* Only our side: the tool may not expect a stdout that says "try again". */
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    if (loop_add(end->tool->loop, &end->source, fds[0], EPOLLIN)) {
        close(fds[0]);
        close(fds[1]);
        return false;
    }
    *child_side = fds[1];
    return true;
}

static void tool_over(struct tool *tool)
{
    loop_close(tool->loop, &tool->out.source);
    loop_close(tool->loop, &tool->err.source);
    timer_cancel(tool->loop, &tool->kill);
    tool_free(tool);
    job_over(&tool->job);
}

void exec_go(struct job *job)
{
    struct tool *tool = container_of(job, struct tool, job);
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none;
    sigset_t defaults;
    struct complaint why = {0};
    struct json j = {0};
    int out = -1;
    int err = -1;
    int error;

    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attr);
    /* A group of its own, so that stopping it stops what it has started. */
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                        POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &defaults);
    if ((error = find_program(tool->argv[2]))) {
        ;
    } else if (!open_pipe(&tool->out, &out) || !open_pipe(&tool->err, &err)) {
        error = errno;
    } else {
        posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_adddup2(&files, out, 1);
        posix_spawn_file_actions_adddup2(&files, err, 2);
        error = posix_spawn(&tool->pid, "/proc/self/exe", &files, &attr, tool->argv, environment);
    }
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    if (out >= 0)
        close(out);
    if (err >= 0)
        close(err);
    if (!error) {
        tool->next = running;
        running = tool;
        return;
    }
    complain(&why, "cannot run %.80s: %s", tool->argv[2], strerror(error));
    json_event(&j, "error");
    json_str(&j, "id", job->id);
    json_str(&j, "message", why.text);
    json_end(&j);
    job_send(job, &j);
    tool_over(tool);
}

static void tool_ended(struct tool *tool, int status, const struct rusage *usage)
{
    double cpu = (double)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) +
                 (double)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) / 1e6;
    struct json j = {0};

    /* What it wrote before it ended is still in the pipes. */
    drain(&tool->out);
    drain(&tool->err);
    say(&tool->out, tool->out.held, tool->out.held_len);
    say(&tool->err, tool->err.held, tool->err.held_len);
    json_event(&j, "exit");
    json_str(&j, "id", tool->job.id);
    if (WIFEXITED(status))
        json_int(&j, "code", WEXITSTATUS(status));
    else
        json_null(&j, "code");
    if (WIFSIGNALED(status))
        json_int(&j, "signal", WTERMSIG(status));
    else
        json_null(&j, "signal");
    json_real(&j, "cpu_s", cpu, 6);
    json_end(&j);
    job_send(&tool->job, &j);
    tool_over(tool);
}

void exec_reap(void)
{
    /* One by one and by pid: SIGCHLDs merge, and a child that is nobody's (we may
     * be pid 1 of a container) must not be mistaken for a tool. */
    for (struct tool **at = &running; *at;) {
        struct tool *tool = *at;
        siginfo_t info = {0};
        struct rusage usage;
        int status;

        if (waitid(P_PID, (id_t)tool->pid, &info, WEXITED | WNOHANG | WNOWAIT) || !info.si_pid) {
            at = &tool->next;
            continue;
        }
        /* Anything it left behind, while its unreaped pid still reserves the group. */
        kill(-tool->pid, SIGKILL);
        wait4(tool->pid, &status, 0, &usage);
        *at = tool->next;
        tool_ended(tool, status, &usage);
    }
}

int exec_as_nobody(char **argv)
{
    const char *said = "no program is named";

    if (argv[0]) {
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
            (!geteuid() && (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY)))) {
            fprintf(stderr, "coeload: rights can't be given up: %s\n", strerror(errno));
            return EXEC_FAILED;
        }
        execvp(argv[0], argv);
        said = strerror(errno);
    }
    fprintf(stderr, "coeload: cannot run %.80s: %s\n", argv[0] ? argv[0] : "", said);
    return EXEC_FAILED;
}
