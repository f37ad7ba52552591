#include "agent.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "address.h"
#include "clock.h"
#include "exec.h"
#include "job.h"
#include "listen.h"
#include "load_job.h"
#include "probe.h"
#include "request.h"
#include "secret.h"
#include "text.h"
#include "version.h"

#define LINE_MAX_BYTES (1 << 20) /* a list of ten thousand targets fits */
#define UNREAD_MAX (64 << 20)    /* a coordinator that stopped reading is gone */
#define HTTP_WAIT (5 * NS_PER_S)
#define CLOSE_WAIT NS_PER_S
#define JOIN_WAIT (5 * NS_PER_S)
#define JOIN_PAUSE (100 * NS_PER_MS) /* doubled with every try, up to: */
#define JOIN_PAUSE_MAX (2 * NS_PER_S)
#define FAREWELL (3 * NS_PER_S) /* to end the jobs and flush, when told to end */

struct outlet {
    struct source source;
    struct outlet *next;
    struct buf in;
    struct buf out;
    struct timer deadline; /* of an HTTP request, or of closing */
    size_t scanned;        /* of `in`: no line end before here */
    bool http;
    bool closing; /* no more requests; close once `out` is written */
    bool broken;  /* shut down: waiting for the loop to notice */
    bool blocked; /* waiting for room in the socket */
    bool joined;  /* we called: a relay, which hands requests on */
    bool known;   /* it has said the secret */
};

static struct agent {
    struct loop *loop;
    struct resolver *resolver;
    struct source listener;
    struct source signals;
    struct source clock;
    struct timer clock_poll;
    struct timer farewell;
    struct outlet *outlets;
    struct job *jobs;
    bool allow_exec;
    bool ending;
    struct {
        char *name;
        char *host;
        uint16_t port;
        uint64_t nonce; /* tells this process from another of the same name */
        size_t tries;
        int64_t pause;
        struct timer retry;
    } join;
} agent;

static void end_if_done(void);
static void join_later(void);

/* ---- what goes out ---- */

static void outlet_close(struct outlet *o)
{
    if (o->source.fd < 0)
        return;
    for (struct outlet **at = &agent.outlets; *at; at = &(*at)->next) {
        if (*at == o) {
            *at = o->next;
            break;
        }
    }
    timer_cancel(agent.loop, &o->deadline);
    loop_close(agent.loop, &o->source);
    if (o->joined)
        join_later();
    for (struct job *job = agent.jobs, *next; job; job = next) {
        next = job->next;
        if (job->outlet != o)
            continue;
        job->outlet = NULL;
        if (!job->keep)
            job->class->stop(job);
    }
    buf_free(&o->in);
    buf_free(&o->out);
    loop_free_later(agent.loop, o);
    end_if_done();
}

/* Whoever sends may be in the middle of a job that closing would end. So a broken
 * connection is only shut down here, and closed when the loop comes to it. */
static void outlet_break(struct outlet *o)
{
    o->broken = true;
    o->out.len = 0;
    shutdown(o->source.fd, SHUT_RDWR);
}

static void outlet_flush(struct outlet *o)
{
    size_t done = 0;

    while (done < o->out.len) {
        ssize_t n = send(o->source.fd, o->out.data + done, o->out.len - done, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            if (errno != EAGAIN) {
                outlet_break(o);
                return;
            }
            break;
        }
        done += (size_t)n;
    }
    buf_drop_front(&o->out, done);
    if (o->out.len > UNREAD_MAX) {
        outlet_break(o);
        return;
    }
    if (o->blocked != (o->out.len > 0)) {
        o->blocked = o->out.len > 0;
        loop_modify(agent.loop, &o->source, EPOLLIN | (o->blocked ? EPOLLOUT : 0));
    }
    if (o->out.len)
        return;
    if (o->joined)
        timer_cancel(agent.loop, &o->deadline); /* it is connected */
    if (o->closing) { /* the other side closes in turn, or is given up on */
        shutdown(o->source.fd, SHUT_WR);
        timer_set(agent.loop, &o->deadline, clock_mono() + CLOSE_WAIT);
    }
    end_if_done();
}

static void outlet_send(struct outlet *o, struct json *line)
{
    if (o->source.fd >= 0 && !o->broken) {
        buf_add(&o->out, line->out.data, line->out.len);
        if (!o->blocked)
            outlet_flush(o);
    }
    buf_free(&line->out);
}

void job_send(struct job *job, struct json *line)
{
    if (job->outlet)
        outlet_send(job->outlet, line);
    else
        buf_free(&line->out);
    *line = (struct json){0};
}

void job_over(struct job *job)
{
    for (struct job **at = &agent.jobs; *at; at = &(*at)->next) {
        if (*at == job) {
            *at = job->next;
            break;
        }
    }
    free(job->id);
    loop_free_later(agent.loop, job);
    end_if_done();
}

bool job_last_call(void)
{
    return agent.ending;
}

static struct job *job_find(const char *id)
{
    for (struct job *job = agent.jobs; job; job = job->next)
        if (!strcmp(job->id, id))
            return job;
    return NULL;
}

/* ---- the verbs ---- */

static void answer_error(struct outlet *o, const char *id, const char *message)
{
    struct json j = {0};

    json_event(&j, "error");
    json_str(&j, "id", id);
    json_str(&j, "message", message);
    json_end(&j);
    outlet_send(o, &j);
}

/* Of the machine, container or not: who has the same shares its CPUs. Empty where the kernel doesn't tell. */
static const char *boot_id(void)
{
    static char id[64];
    FILE *f;

    if (!id[0] && (f = fopen("/proc/sys/kernel/random/boot_id", "re"))) {
        if (!fgets(id, sizeof id, f))
            id[0] = '\0';
        fclose(f);
        id[strcspn(id, "\n")] = '\0';
    }
    return id;
}

static bool verb_hello(struct outlet *o, struct request *r, struct complaint *c)
{
    struct json j = {0};
    int64_t now = clock_mono();

    if (!request_all_known(r, c))
        return false;
    json_event(&j, "hello");
    json_int(&j, "proto", COELOAD_PROTO);
    json_str(&j, "version", COELOAD_VERSION);
    json_int(&j, "now", clock_wall_of(now));
    json_int(&j, "mono", now);
    json_int(&j, "pid", getpid());
    json_int(&j, "cpus", sysconf(_SC_NPROCESSORS_ONLN));
    json_str(&j, "boot", boot_id());
    json_bool(&j, "exec", agent.allow_exec);
    json_end(&j);
    outlet_send(o, &j);
    return true;
}

static bool verb_ping(struct outlet *o, struct request *r, struct complaint *c)
{
    const char *id = request_get(r, "id");
    struct json j = {0};

    if (!request_all_known(r, c))
        return false;
    json_event(&j, "pong");
    json_str(&j, "id", id);
    json_int(&j, "now", clock_wall_of(clock_mono()));
    json_end(&j);
    outlet_send(o, &j);
    return true;
}

/* The part that all jobs have in common. */
static const char *new_job_id(struct request *r, bool *keep, struct complaint *c)
{
    const char *id = request_need(r, "id", c);
    const char *kept = request_get(r, "keep");

    if (!id || (kept && !text_bool("keep", kept, keep, c)))
        return NULL;
    if (job_find(id)) {
        complain(c, "id %.80s is in use", id);
        return NULL;
    }
    return id;
}

static void job_enter(struct job *job, struct outlet *o, const char *id, bool keep)
{
    struct json j = {0};

    job->id = must_strdup(id);
    job->keep = keep;
    job->outlet = o;
    job->next = agent.jobs;
    agent.jobs = job;
    json_event(&j, "accepted");
    json_str(&j, "id", id);
    json_int(&j, "at", clock_wall_of(clock_mono()));
    json_end(&j);
    job_send(job, &j);
}

static bool verb_watch(struct outlet *o, struct request *r, struct complaint *c)
{
    bool keep = false;
    const char *id = new_job_id(r, &keep, c);
    struct job *job = id ? watch_begin(agent.loop, agent.resolver, r, c) : NULL;

    if (!job)
        return false;
    job_enter(job, o, id, keep);
    watch_go(job);
    return true;
}

static bool verb_load(struct outlet *o, struct request *r, struct complaint *c)
{
    bool keep = false;
    bool acked = false;
    const char *id = new_job_id(r, &keep, c);
    const char *text = request_get(r, "acked");
    struct job *job;

    if (!id || (text && !text_bool("acked", text, &acked, c)))
        return false;
    job = load_begin(agent.loop, agent.resolver, r, acked, c);
    if (!job)
        return false;
    job_enter(job, o, id, keep || acked);
    load_job_go(job);
    return true;
}

static bool verb_retarget(struct outlet *o, struct request *r, struct complaint *c)
{
    const char *id = request_need(r, "id", c);
    struct job *job = id ? job_find(id) : NULL;
    struct json j = {0};

    if (!id)
        return false;
    if (!job || job->class != &load_class)
        return complain(c, "there is no load %.80s", id);
    if (!load_job_retarget(job, r, c))
        return false;
    json_event(&j, "retargeted");
    json_str(&j, "id", id);
    json_int(&j, "at", clock_wall_of(clock_mono()));
    json_end(&j);
    outlet_send(o, &j);
    return true;
}

static bool verb_exec(struct outlet *o, struct request *r, struct complaint *c)
{
    bool keep = false;
    const char *id;
    struct job *job;

    if (!agent.allow_exec)
        return complain(c, "exec is not allowed: start the agent with --allow-exec");
    id = new_job_id(r, &keep, c);
    job = id ? exec_begin(agent.loop, r, c) : NULL;
    if (!job)
        return false;
    job_enter(job, o, id, keep);
    exec_go(job);
    return true;
}

static bool stop_job(struct outlet *o, struct request *r, struct complaint *c, bool watches)
{
    const char *id = request_need(r, "id", c);
    struct job *job = id ? job_find(id) : NULL;

    if (!id || !request_all_known(r, c))
        return false;
    if (!job || (!strcmp(job->class->noun, "watch")) != watches)
        return complain(c, "there is no %s %.80s", watches ? "watch" : "load or exec", id);
    job->outlet = o; /* whoever stops it wants to hear how it ended */
    job->class->stop(job);
    return true;
}

static bool verb_unwatch(struct outlet *o, struct request *r, struct complaint *c)
{
    return stop_job(o, r, c, true);
}

static bool verb_stop(struct outlet *o, struct request *r, struct complaint *c)
{
    return stop_job(o, r, c, false);
}

/* A coordinator that lost its connection takes its kept jobs back. */
static bool verb_attach(struct outlet *o, struct request *r, struct complaint *c)
{
    const char *id = request_need(r, "id", c);
    const char *since = request_get(r, "since");
    struct job *job = id ? job_find(id) : NULL;
    int64_t from = -1;
    struct json j = {0};

    if (!id || (since && !text_int("since", since, 0, UINT32_MAX, &from, c)) ||
        !request_all_known(r, c))
        return false;
    if (!job)
        return complain(c, "there is no job %.80s", id);
    job->outlet = o;
    json_event(&j, "attached");
    json_str(&j, "id", id);
    json_str(&j, "job", job->class->noun);
    json_end(&j);
    outlet_send(o, &j);
    if (job->class == &load_class)
        load_job_replay(job, from);
    return true;
}

static bool verb_ack(struct outlet *o, struct request *r, struct complaint *c)
{
    const char *id = request_need(r, "id", c);
    const char *next = id ? request_need(r, "next", c) : NULL;
    const char *end = request_get(r, "end");
    struct job *job = id ? job_find(id) : NULL;
    int64_t number;
    bool all = false;

    (void)o;
    if (!next || !text_int("next", next, 0, UINT32_MAX, &number, c) ||
        (end && !text_bool("end", end, &all, c)) || !request_all_known(r, c))
        return false;
    if (job && job->class == &load_class)
        load_job_acknowledged(job, number, all);
    return true; /* one that is gone has been acknowledged already: no error, and no answer */
}

/* What a relay says to a name that it knows already, of another process. */
static bool verb_refused(struct outlet *o, struct request *r, struct complaint *c)
{
    const char *why = request_get(r, "why");

    if (!o->joined)
        return complain(c, "refused is what a relay says");
    fprintf(stderr, "coeload: the relay refuses %s: %s\n", agent.join.name, why ? why : "?");
    agent.join.pause = JOIN_PAUSE_MAX;
    o->closing = true;
    outlet_flush(o);
    return request_all_known(r, c);
}

static const struct {
    const char *name;
    bool (*handle)(struct outlet *o, struct request *r, struct complaint *c);
} verbs[] = {
    {"hello", verb_hello},     {"ping", verb_ping}, {"watch", verb_watch},
    {"unwatch", verb_unwatch}, {"exec", verb_exec}, {"stop", verb_stop},
    {"attach", verb_attach},   {"load", verb_load}, {"retarget", verb_retarget},
    {"ack", verb_ack},         {"refused", verb_refused},
};

/* The first line of whoever calls: "auth secret=…". Anything else ends the connection. */
static bool admitted(struct outlet *o, struct request *r)
{
    bool first = !strcmp(r->verb, "auth");

    if (!o->known && first)
        o->known = secret_is(request_get(r, "secret"));
    if (!o->known)
        o->closing = true;
    return o->known;
}

static void take_request(struct outlet *o, char *line)
{
    struct complaint c = {0};
    struct request r;
    bool ok = false;

    if (!line[strspn(line, " \t\r")])
        return;
    if (!request_parse(&r, line, &c)) {
        o->closing = !o->known;
    } else if (!admitted(o, &r)) {
        complain(&c, "the secret is missing or wrong: the first line must be auth secret=…");
    } else if (!strcmp(r.verb, "auth")) {
        ok = true;
    } else {
        size_t i = 0;

        while (i < sizeof verbs / sizeof *verbs && strcmp(verbs[i].name, r.verb))
            i++;
        if (i == sizeof verbs / sizeof *verbs)
            complain(&c, "unknown verb '%.40s'", r.verb);
        else
            ok = verbs[i].handle(o, &r, &c);
    }
    if (!ok)
        answer_error(o, request_get(&r, "id"), c.text);
    request_free(&r);
}

/* ---- what comes in ---- */

/* An engine's health check asks over HTTP on the same port. */
static void take_http(struct outlet *o)
{
    const char *end = memmem(o->in.data, o->in.len, "\r\n\r\n", 4);
    bool head;
    bool healthy;
    struct json j = {0};

    if (!end) {
        if (o->in.len > 16384)
            outlet_close(o);
        return;
    }
    head = !strncmp(o->in.data, "HEAD ", 5);
    o->in.data[end - o->in.data] = '\0';
    healthy = !strncmp(o->in.data + (head ? 5 : 4), "/healthz ", 9);
    buf_printf(&j.out,
               "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"
               "Connection: close\r\n\r\n%s",
               healthy ? "200 OK" : "404 Not Found", healthy ? 3 : 10,
               head ? "" : healthy ? "ok\n" : "not found\n");
    o->closing = true;
    outlet_send(o, &j);
}

static void outlet_late(struct timer *timer)
{
    outlet_close(container_of(timer, struct outlet, deadline));
}

static bool is_http(const struct buf *in)
{
    return (in->len >= 5 && !memcmp(in->data, "GET /", 5)) ||
           (in->len >= 6 && !memcmp(in->data, "HEAD /", 6));
}

static void take_lines(struct outlet *o)
{
    size_t begin = 0;

    while (!o->broken && !o->closing) {
        char *end = o->scanned < o->in.len
                        ? memchr(o->in.data + o->scanned, '\n', o->in.len - o->scanned)
                        : NULL;

        if (!end)
            break;
        *end = '\0';
        o->scanned = (size_t)(end - o->in.data) + 1;
        take_request(o, o->in.data + begin);
        begin = o->scanned;
    }
    o->scanned = o->in.len - begin;
    buf_drop_front(&o->in, begin);
    if (o->in.len > LINE_MAX_BYTES) {
        o->closing = true;
        answer_error(o, NULL, "request line too long");
    }
}

static void outlet_ready(struct source *source, uint32_t events)
{
    struct outlet *o = container_of(source, struct outlet, source);
    ssize_t n;

    if (events & EPOLLOUT) {
        if (!o->broken)
            outlet_flush(o);
    }
    if (!(events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
        return;
    buf_reserve(&o->in, 65536);
    n = recv(source->fd, o->in.data + o->in.len, 65536, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || o->broken) {
        outlet_close(o);
        return;
    }
    if (o->closing)
        return; /* we have answered; the rest is read only to be rid of it */
    o->in.len += (size_t)n;
    if (!o->http && is_http(&o->in)) {
        o->http = true;
        timer_set(agent.loop, &o->deadline, clock_mono() + HTTP_WAIT);
    }
    if (o->joined)
        agent.join.pause = JOIN_PAUSE;
    if (o->http)
        take_http(o);
    else
        take_lines(o);
}

static void tune(int fd)
{
    static const int on = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    /* A coordinator whose machine vanished never closes: notice within minutes,
     * or its load would go on for ever. */
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &(int){30}, sizeof(int));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &(int){10}, sizeof(int));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &(int){3}, sizeof(int));
}

static void accept_ready(struct source *source, uint32_t events)
{
    int fd;

    (void)events;
    while ((fd = accept4(source->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct outlet *o = must_calloc(1, sizeof *o);

        tune(fd);
        o->source.ready = outlet_ready;
        o->deadline.fire = outlet_late;
        o->known = !secret_own();
        if (loop_add(agent.loop, &o->source, fd, EPOLLIN)) {
            close(fd);
            free(o);
            continue;
        }
        o->next = agent.outlets;
        agent.outlets = o;
    }
}

/* ---- joining a relay: where nobody can call us, we call ---- */

static void join_connect(void *arg, const struct address *list, size_t count, const char *why)
{
    struct outlet *o;
    struct json j = {0};
    int fd;

    (void)arg;
    (void)why;
    fd = count ? address_connect(&list[agent.join.tries++ % count]) : -1;
    if (fd < 0) {
        join_later();
        return;
    }
    tune(fd);
    o = must_calloc(1, sizeof *o);
    o->joined = o->blocked = o->known = true;
    o->source.ready = outlet_ready;
    o->deadline.fire = outlet_late;
    if (loop_add(agent.loop, &o->source, fd, EPOLLIN | EPOLLOUT)) {
        close(fd);
        free(o);
        join_later();
        return;
    }
    o->next = agent.outlets;
    agent.outlets = o;
    timer_set(agent.loop, &o->deadline, clock_mono() + JOIN_WAIT);
    json_event(&j, "register");
    json_str(&j, "name", agent.join.name);
    json_int(&j, "proto", COELOAD_PROTO);
    json_int(&j, "nonce", (int64_t)agent.join.nonce);
    json_str(&j, "secret", secret_own());
    json_end(&j);
    outlet_send(o, &j); /* waits in its buffer for the connection */
}

static void join_now(struct timer *timer)
{
    struct address address;

    (void)timer;
    if (address_numeric(&address, agent.join.host, agent.join.port))
        join_connect(NULL, &address, 1, NULL);
    else
        resolver_ask(agent.resolver, agent.join.host, agent.join.port, join_connect, NULL);
}

static void join_later(void)
{
    if (agent.ending)
        return;
    timer_set(agent.loop, &agent.join.retry, clock_mono() + agent.join.pause);
    agent.join.pause = agent.join.pause * 2 < JOIN_PAUSE_MAX ? agent.join.pause * 2 : JOIN_PAUSE_MAX;
}

static bool join_begin(const struct agent_options *options, struct complaint *c)
{
    char *copy;
    char *host;
    char own[128] = "host";

    if (!options->join)
        return true;
    copy = must_strdup(options->join);
    if (!hostport_split(copy, &host, &agent.join.port, c)) {
        free(copy);
        return false;
    }
    agent.join.host = must_strdup(host);
    free(copy);
    if (options->name) {
        agent.join.name = must_strdup(options->name);
    } else {
        gethostname(own, sizeof own - 16);
        snprintf(own + strlen(own), 16, "-%d", (int)getpid());
        agent.join.name = must_strdup(own);
    }
    /* Positive, so that every reader of JSON gets it whole. */
    if (getrandom(&agent.join.nonce, sizeof agent.join.nonce, 0) != sizeof agent.join.nonce)
        agent.join.nonce = (uint64_t)clock_mono();
    agent.join.nonce >>= 12;
    agent.join.pause = JOIN_PAUSE;
    agent.join.retry.fire = join_now;
    return true;
}

/* ---- the process ---- */

static void end_now(struct timer *timer)
{
    (void)timer;
    loop_stop(agent.loop);
}

/* When ending: once every job has said its last word and every word is sent. */
static void end_if_done(void)
{
    if (!agent.ending || agent.jobs)
        return;
    for (struct outlet *o = agent.outlets; o; o = o->next)
        if (o->out.len)
            return;
    loop_stop(agent.loop);
}

static void end_all(void)
{
    if (agent.ending)
        return;
    agent.ending = true;
    loop_close(agent.loop, &agent.listener);
    timer_cancel(agent.loop, &agent.join.retry);
    for (struct outlet *o = agent.outlets, *next; o; o = next) {
        next = o->next;
        if (o->joined && o->deadline.place)
            outlet_close(o); /* still connecting: nobody is there to hear us */
    }
    timer_set(agent.loop, &agent.farewell, clock_mono() + FAREWELL);
    for (struct job *job = agent.jobs, *next; job; job = next) {
        next = job->next;
        job->class->stop(job);
    }
    end_if_done();
}

static void signal_ready(struct source *source, uint32_t events)
{
    struct signalfd_siginfo info;

    (void)events;
    while (read(source->fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGCHLD)
            exec_reap();
        else
            end_all();
    }
}

static void look_at_clock(void)
{
    int64_t step = clock_step();

    if (!step)
        return;
    for (struct outlet *o = agent.outlets, *next; o; o = next) {
        struct json j = {0};

        next = o->next;
        if (o->http || !o->known)
            continue;
        json_event(&j, "clock_step");
        json_int(&j, "ns", step);
        json_int(&j, "at", clock_wall_of(clock_mono()));
        json_end(&j);
        outlet_send(o, &j);
    }
}

static void clock_ready(struct source *source, uint32_t events)
{
    (void)events;
    clock_rearm(source->fd);
    look_at_clock();
}

static void clock_poll(struct timer *timer)
{
    timer_set(agent.loop, timer, clock_mono() + NS_PER_S);
    look_at_clock();
}

static void watch_clock(void)
{
    int fd = clock_step_fd();

    agent.clock = (struct source){.fd = -1, .ready = clock_ready};
    agent.clock_poll.fire = clock_poll;
    if (fd >= 0 && !loop_add(agent.loop, &agent.clock, fd, EPOLLIN))
        return;
    /* A kernel that does not tell us is asked once a second. */
    timer_set(agent.loop, &agent.clock_poll, clock_mono() + NS_PER_S);
}

int agent_run(const struct agent_options *options)
{
    struct complaint c = {0};
    sigset_t wanted;
    uint16_t port = options->port;
    int fd;

    /* Before any thread exists, so that all inherit the mask. */
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGINT);
    sigaddset(&wanted, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &wanted, NULL);

    fd = join_begin(options, &c) ? listen_on(&port, &c) : -1;
    if (fd < 0) {
        fprintf(stderr, "coeload: %s\n", c.text);
        return 1;
    }
    agent.allow_exec = options->allow_exec;
    agent.loop = loop_new();
    agent.resolver = resolver_new(agent.loop);
    agent.farewell.fire = end_now;
    agent.listener.ready = accept_ready;
    agent.signals.ready = signal_ready;
    watch_clock();
    if (agent.join.name)
        join_now(NULL);
    if (loop_add(agent.loop, &agent.listener, fd, EPOLLIN) ||
        loop_add(agent.loop, &agent.signals, signalfd(-1, &wanted, SFD_NONBLOCK | SFD_CLOEXEC),
                 EPOLLIN)) {
        perror("coeload: epoll");
        return 1;
    }
    printf("coeload agent %s listening on port %u\n", COELOAD_VERSION, port);
    fflush(stdout);
    loop_run(agent.loop);
    while (agent.outlets)
        outlet_close(agent.outlets);
    loop_close(agent.loop, &agent.listener);
    loop_close(agent.loop, &agent.signals);
    loop_close(agent.loop, &agent.clock);
    resolver_free(agent.resolver);
    loop_free(agent.loop);
    free(agent.join.name);
    free(agent.join.host);
    return 0;
}
