#include "run.h"

#include <ctype.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "clock.h"
#include "load.h"
#include "report.h"

#define EXIT_NO_ANSWER 1
#define EXIT_USAGE 2

const char run_usage[] =
    "usage: coeload run URL… (--rate R | --stages R:T,R:T… | --closed) [options]\n"
    "\n"
    "  --connections N      in all, spread over the targets (32)\n"
    "  --threads T          that share them (1)\n"
    "  --duration T         measured, such as 10s; 0 until interrupted (10s)\n"
    "  --warmup T           before that, not in the figures (0)\n"
    "  --arrivals A         constant, poisson, or ramp with --rate-to R (constant)\n"
    "  --method M --body B --header 'Name: value' --host H\n"
    "  --expect-status S    2xx, or such as 404     --expect-version V  --expect-body TEXT\n"
    "  --timeout T          of a request (10s)      --drain T   at the end (1s)\n"
    "  --backlog N          due and unsent at once (what a second plans, 1000 at least)\n"
    "  --catchup F          late requests go out at F times the rate at most (4)\n"
    "  --close              a new connection for every request\n"
    "  --spin               do not sleep: exact to the microsecond, costs a whole core a thread\n"
    "  --resolve T          look names up again so often, 0 never (1s)\n"
    "  --seed N             of Poisson arrivals (1)\n"
    "  --json               one JSON object instead of text\n"
    "  --facts FD           that object to an open descriptor, beside the text\n"
    "\n"
    "exit code: 0, 1 if no request had a good answer, 2 for bad input or a target that refuses\n";

struct run {
    struct loop *loop;
    struct load *load;
    struct source signals;
    bool json;
    int facts; /* a descriptor, or -1 */
    int status;
};

/* Options that take a value; the same names as in the control protocol, but for '-'. */
static const char *const valued[] = {
    "rate",     "rate-to",     "stages",        "connections",    "threads",     "duration",
    "warmup",   "arrivals",    "method",        "body",           "header",      "host",
    "timeout",  "drain",       "expect-status", "expect-version", "expect-body", "backlog",
    "catchup",  "resolve",     "seed",
};

static int refuse(const char *message)
{
    fprintf(stderr, "coeload: %s\n", message);
    return EXIT_USAGE;
}

static void pair_add(struct request *r, const char *key, const char *value)
{
    char *name = must_strdup(key);

    for (char *c = name; *c; c++)
        if (*c == '-')
            *c = '_';
    r->pairs = must_realloc(r->pairs, (r->count + 1) * sizeof *r->pairs);
    r->pairs[r->count++] =
        (struct pair){.key = name, .value = must_strdup(value), .decoded = true};
}

/* http://host[:port][/path]: the target goes into `targets`, the path must agree. */
static bool take_url(const char *url, struct buf *targets, char **path, struct complaint *c)
{
    const char *host = url + 7;
    size_t host_len;
    const char *rest;
    const char *name_end;

    if (!strncmp(url, "https://", 8))
        return complain(c, "%.100s: TLS is not supported; give an http:// URL", url);
    if (strncmp(url, "http://", 7))
        return complain(c, "%.100s: want an http:// URL", url);
    host_len = strcspn(host, "/?#");
    rest = host + host_len;
    if (!host_len || memchr(host, '@', host_len) || memchr(host, ',', host_len))
        return complain(c, "%.100s: want http://host[:port]/path", url);
    if (*rest == '#')
        rest += strlen(rest);
    if (!*path) {
        size_t len = strcspn(rest, "#");

        *path = must_calloc(1, len + 2);
        if (*rest != '/')
            (*path)[0] = '/';
        strncat(*path, rest, len);
    } else {
        size_t len = strcspn(rest, "#");
        size_t slash = *rest != '/';

        if (strlen(*path) != len + slash || strncmp(*path + slash, rest, len))
            return complain(c, "%.100s: all URLs of a load must have the same path", url);
    }
    if (targets->len)
        buf_char(targets, ',');
    buf_add(targets, host, host_len);
    name_end = host[0] == '[' ? memchr(host, ']', host_len) : host;
    if (!name_end)
        return complain(c, "%.100s: an IPv6 address ends with ]", url);
    if (!memchr(name_end, ':', host_len - (size_t)(name_end - host)))
        buf_text(targets, ":80");
    return true;
}

static bool read_options(int argc, char **argv, struct run *run, struct request *r,
                         struct complaint *c)
{
    struct buf targets = {0};
    char *path = NULL;
    bool closed = false;
    bool ok = true;

    r->verb = "run";
    for (int i = 0; i < argc && ok; i++) {
        const char *arg = argv[i];
        const char *name = arg + 2;
        const char *value = NULL;
        char key[32] = "";
        bool known = false;

        if (strncmp(arg, "--", 2)) {
            ok = take_url(arg, &targets, &path, c);
            continue;
        }
        if (strcspn(name, "=") < sizeof key)
            memcpy(key, name, strcspn(name, "="));
        if (name[strcspn(name, "=")])
            value = name + strcspn(name, "=") + 1;
        if (!value && !strcmp(key, "json"))
            known = run->json = true;
        else if (!strcmp(key, "facts")) {
            const char *fd = value ? value : i + 1 < argc ? argv[++i] : "";

            known = true;
            if (!*fd || fd[strspn(fd, "0123456789")] || strlen(fd) > 4)
                ok = complain(c, "--facts wants the number of an open descriptor");
            else
                run->facts = atoi(fd);
        }
        else if (!value && !strcmp(key, "closed"))
            known = closed = true;
        for (size_t k = 0; k < 2 && !value && !known; k++) {
            static const char *const flags[] = {"close", "spin"};

            if (!strcmp(key, flags[k])) {
                pair_add(r, key, "1");
                known = true;
            }
        }
        for (size_t k = 0; k < sizeof valued / sizeof *valued && !known; k++) {
            if (strcmp(key, valued[k]))
                continue;
            if (!value && i + 1 < argc)
                value = argv[++i];
            if (value) {
                pair_add(r, key, value);
                known = true;
            } else {
                ok = complain(c, "--%s wants a value", key);
            }
        }
        if (ok && !known)
            ok = complain(c, "unknown option %.60s", arg);
    }
    if (ok && !targets.len)
        ok = complain(c, "run wants a URL");
    if (ok && !closed) {
        bool rated = false;

        for (size_t i = 0; i < r->count; i++)
            rated |= !strcmp(r->pairs[i].key, "rate") || !strcmp(r->pairs[i].key, "stages");
        if (!rated)
            ok = complain(c, "run wants --rate R, --stages or --closed");
    }
    if (ok) {
        bool timed = false;

        for (size_t i = 0; i < r->count; i++)
            timed |= !strcmp(r->pairs[i].key, "duration") || !strcmp(r->pairs[i].key, "stages");
        if (!timed)
            pair_add(r, "duration", "10s");
        buf_char(&targets, '\0');
        pair_add(r, "targets", targets.data);
        pair_add(r, "path", path);
        pair_add(r, "mode", closed ? "closed" : "open");
    }
    buf_free(&targets);
    free(path);
    return ok;
}

static void started(void *arg, const struct load *load, int64_t start, int64_t late)
{
    (void)arg;
    (void)load;
    (void)start;
    (void)late;
}

static void second_over(void *arg, const struct load *load, const struct second *second)
{
    (void)arg;
    (void)load;
    (void)second;
}

/* The exit code of a load: 0 if any request was answered well, else what that says of the target. */
static int judge(const struct counts *counts)
{
    uint64_t errors = counts_errors(counts);

    if (counts->ok || !errors)
        return 0;
    if (errors == counts->errors[FAULT_REFUSED])
        return refuse("every connection was refused: does a server listen there?");
    fputs("coeload: no request had a good answer\n", stderr);
    return EXIT_NO_ANSWER;
}

static bool write_all(int fd, const struct buf *b)
{
    size_t done = 0;

    while (done < b->len) {
        ssize_t n = write(fd, b->data + done, b->len - done);

        if (n < 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

static void over(void *arg, const struct load_total *total, const char *why)
{
    struct run *run = arg;

    if (!total) {
        run->status = refuse(why);
    } else {
        struct json j = {0};

        json_event(&j, "done");
        report_total(&j, load_spec_of(run->load), total);
        json_end(&j);
        if (run->json)
            fwrite(j.out.data, 1, j.out.len, stdout);
        else
            report_text(stdout, load_spec_of(run->load), total);
        fflush(stdout);
        run->status = judge(&total->parts[MEASURED].counts);
        if (run->facts >= 0 && !write_all(run->facts, &j.out))
            run->status = refuse("--facts: can't write there");
        buf_free(&j.out);
    }
    load_free(run->load);
    run->load = NULL;
    loop_stop(run->loop);
}

static void signal_ready(struct source *source, uint32_t events)
{
    struct run *run = container_of(source, struct run, signals);

    struct signalfd_siginfo info;

    (void)events;
    if (read(source->fd, &info, sizeof info) == (ssize_t)sizeof info && run->load)
        load_stop(run->load);
}

int run_main(int argc, char **argv)
{
    struct run run = {.signals = {.fd = -1, .ready = signal_ready}, .facts = -1};
    struct load_listener listener = {started, second_over, over, &run};
    struct request request = {0};
    struct complaint c = {0};
    struct load_spec spec;
    struct resolver *resolver;
    sigset_t wanted;

    bool ok = read_options(argc, argv, &run, &request, &c) && load_spec_read(&spec, &request, &c);

    for (size_t i = 0; i < request.count; i++) {
        free((char *)request.pairs[i].key);
        free(request.pairs[i].value);
    }
    request_free(&request);
    if (!ok)
        return refuse(c.text);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGINT);
    pthread_sigmask(SIG_BLOCK, &wanted, NULL);
    run.loop = loop_new();
    resolver = resolver_new(run.loop);
    loop_add(run.loop, &run.signals, signalfd(-1, &wanted, SFD_NONBLOCK | SFD_CLOEXEC), EPOLLIN);
    run.load = load_new(run.loop, resolver, &spec, &listener, &c);
    if (run.load) {
        load_go(run.load);
        loop_run(run.loop);
    } else {
        run.status = refuse(c.text);
    }
    loop_close(run.loop, &run.signals);
    resolver_free(resolver);
    loop_free(run.loop);
    return run.status;
}
