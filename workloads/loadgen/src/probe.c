#include "probe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "clock.h"
#include "http.h"
#include "text.h"

#define INFLIGHT_MAX 256
#define WAITING_EVERY NS_PER_S

struct watch {
    struct job job;
    struct loop *loop;
    struct resolver *resolver;
    int64_t interval;
    int64_t timeout;
    int64_t resolve;
    int inflight;
    bool keepalive;
    uint16_t port;
    char *host; /* as given: an address or a name */
    struct buf request;
    struct question *question;
    struct timer resolve_timer;
    struct timer unresolved_timer;
    uint64_t lookups_failed;
    struct endpoint *endpoints;
    struct tally {
        uint64_t probes;
        uint64_t good;
        uint64_t failed;
        uint64_t abandoned; /* given up for a newer one, or still unanswered when the watch ended */
        uint64_t skipped;   /* due, but as many as allowed were outstanding */
        int64_t max_gap;
    } tally; /* of endpoints that are gone */
};

#define PATIENCE (50 * NS_PER_MS) /* with a connection that is being made, if its place is wanted */

enum attempt_state { FREE, CONNECTING, ASKED, IDLE /* connected, nothing asked */ };

struct attempt {
    struct source source;
    struct timer deadline;
    struct endpoint *endpoint;
    enum attempt_state state;
    int64_t sent;
    int64_t connected;
    struct http http;
    struct http_identity identity;
};

/* One address of a watch. */
struct endpoint {
    struct watch *watch;
    struct endpoint *next;
    struct address address;
    char text[ADDRESS_TEXT];
    struct timer tick;
    struct timer waiting;
    struct tally tally;
    uint64_t tries; /* probes ended before the first good one, and that one */
    bool seen;      /* there has been a good answer */
    bool up;
    bool listed; /* in the last answer of the name server */
    enum fault last_fault;
    int64_t newest;    /* when the newest probe that has counted for `up` was sent */
    int64_t last_good; /* when the last good answer was read */
    struct http_identity last;
    struct attempt attempts[];
};

static void end_gap(struct endpoint *e, int64_t now)
{
    if (e->seen && now - e->last_good > e->tally.max_gap)
        e->tally.max_gap = now - e->last_good;
}

/* An attempt's connection is done with. A reset frees the port at once: hundreds of
 * probes a second would otherwise fill the tables with TIME_WAIT. */
static void drop_connection(struct attempt *a)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};

    timer_cancel(a->endpoint->watch->loop, &a->deadline);
    if (a->source.fd >= 0)
        setsockopt(a->source.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    loop_close(a->endpoint->watch->loop, &a->source);
    a->state = FREE;
}

static void event_head(struct json *j, const char *event, struct endpoint *e, int64_t at,
                       int64_t sent)
{
    json_event(j, event);
    json_str(j, "id", e->watch->job.id);
    json_str(j, "addr", e->text);
    json_int(j, "at", clock_wall_of(at));
    json_int(j, "sent", clock_wall_of(sent));
}

static void text_or_null(struct json *j, const char *key, const char *value)
{
    json_str(j, key, value[0] ? value : NULL);
}

static void code_or_null(struct json *j, int code)
{
    if (code)
        json_int(j, "code", code);
    else
        json_null(j, "code");
}

static void good(struct attempt *a, int64_t at)
{
    struct endpoint *e = a->endpoint;
    const struct http_identity *now = &a->identity;
    bool changed = !e->up || strcmp(now->instance, e->last.instance) ||
                   strcmp(now->version, e->last.version);
    struct json j = {0};

    e->tally.good++;
    end_gap(e, at);
    e->last_good = at;
    if (!e->seen)
        e->tries++;
    /* A later probe has already told: this one is late, not news. */
    if (a->sent < e->newest)
        return;
    e->newest = a->sent;
    e->last = *now;
    e->up = true;
    if (!e->seen) {
        e->seen = true;
        timer_cancel(e->watch->loop, &e->waiting);
    }
    if (!changed)
        return;
    event_head(&j, "change", e, at, a->sent);
    json_bool(&j, "up", true);
    json_int(&j, "code", a->http.code);
    text_or_null(&j, "instance", now->instance);
    text_or_null(&j, "version", now->version);
    text_or_null(&j, "started", now->started);
    json_int(&j, "tries", (int64_t)e->tries);
    json_real(&j, "connect_us", (double)(a->connected - a->sent) / 1e3, 1);
    json_real(&j, "total_us", (double)(at - a->sent) / 1e3, 1);
    json_end(&j);
    job_send(&e->watch->job, &j);
}

static void failed(struct attempt *a, enum fault fault, int64_t at)
{
    struct endpoint *e = a->endpoint;
    int code = fault == FAULT_BAD_STATUS ? a->http.code : 0;
    bool news = a->sent >= e->newest;
    struct json j = {0};

    e->tally.failed++;
    e->last_fault = fault;
    if (!e->seen) {
        e->tries++;
        return;
    }
    if (news) {
        e->newest = a->sent;
        if (e->up) {
            e->up = false;
            event_head(&j, "change", e, at, a->sent);
            json_bool(&j, "up", false);
            json_str(&j, "error", fault_name(fault));
            code_or_null(&j, code);
            json_end(&j);
            job_send(&e->watch->job, &j);
        }
    }
    event_head(&j, "failure", e, at, a->sent);
    json_str(&j, "error", fault_name(fault));
    code_or_null(&j, code);
    json_end(&j);
    job_send(&e->watch->job, &j);
}

static void attempt_failed(struct attempt *a, enum fault fault)
{
    drop_connection(a);
    failed(a, fault, clock_mono());
}

static void attempt_done(struct attempt *a)
{
    struct watch *watch = a->endpoint->watch;
    int64_t at = clock_mono();

    timer_cancel(watch->loop, &a->deadline);
    if (watch->keepalive && a->http.keepalive)
        a->state = IDLE;
    else
        drop_connection(a);
    if (a->http.code >= 200 && a->http.code <= 299)
        good(a, at);
    else
        failed(a, FAULT_BAD_STATUS, at);
}

static void attempt_ask(struct attempt *a)
{
    struct buf *request = &a->endpoint->watch->request;
    ssize_t n = send(a->source.fd, request->data, request->len, MSG_NOSIGNAL);

    a->state = ASKED;
    http_begin(&a->http, false, &a->identity, NULL);
    /* A probe is a few hundred bytes into an empty socket buffer: it fits or the
     * connection is broken. */
    if (n != (ssize_t)request->len)
        attempt_failed(a, n < 0 ? fault_of_errno(errno) : FAULT_LOCAL);
}

static void attempt_read(struct attempt *a)
{
    char data[16384];

    for (;;) {
        ssize_t n = recv(a->source.fd, data, sizeof data, 0);
        size_t used;

        if (n < 0) {
            if (errno == EINTR)
                continue;
            if (errno != EAGAIN)
                attempt_failed(a, fault_of_errno(errno));
            return;
        }
        if (n == 0) {
            if (http_closed(&a->http) == HTTP_DONE)
                attempt_done(a);
            else
                attempt_failed(a, FAULT_CLOSED);
            return;
        }
        switch (http_feed(&a->http, data, (size_t)n, &used)) {
        case HTTP_DONE:
            if (used < (size_t)n)
                a->http.keepalive = false; /* more than was asked for: do not trust the rest */
            attempt_done(a);
            return;
        case HTTP_BAD:
            attempt_failed(a, FAULT_BAD_HTTP);
            return;
        case HTTP_MORE:
            break;
        }
    }
}

static void attempt_ready(struct source *source, uint32_t events)
{
    struct attempt *a = container_of(source, struct attempt, source);

    if (a->state == CONNECTING) {
        int error = 0;
        socklen_t len = sizeof error;

        if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
            return;
        getsockopt(source->fd, SOL_SOCKET, SO_ERROR, &error, &len);
        if (error) {
            attempt_failed(a, fault_of_errno(error));
            return;
        }
        a->connected = clock_mono();
        attempt_ask(a);
        return;
    }
    if (!(events & (EPOLLIN | EPOLLERR | EPOLLHUP | EPOLLRDHUP)))
        return;
    if (a->state == IDLE)
        drop_connection(a); /* closed between two probes: the next one connects anew */
    else if (a->state == ASKED)
        attempt_read(a);
}

static void attempt_late(struct timer *timer)
{
    attempt_failed(container_of(timer, struct attempt, deadline), FAULT_TIMEOUT);
}

/* A first packet that comes before the network knows the address is lost, and TCP sends
 * the next one only a second later. With every attempt waiting for that, an instance
 * would be seen on a grid of whole seconds. So an attempt that can't connect gives way to
 * a new one; but never the first of them, for a network that is just slow. */
static struct attempt *give_way(struct endpoint *e, int64_t now)
{
    struct attempt *oldest = NULL;

    for (int i = 1; i < e->watch->inflight; i++) {
        struct attempt *a = &e->attempts[i];

        if (a->state == CONNECTING && now - a->sent >= PATIENCE && (!oldest || a->sent < oldest->sent))
            oldest = a;
    }
    if (oldest) {
        e->tally.abandoned++;
        drop_connection(oldest);
    }
    return oldest;
}

static void probe_once(struct endpoint *e)
{
    struct watch *watch = e->watch;
    struct attempt *a = NULL;
    int error;
    int fd;

    for (int i = 0; i < watch->inflight; i++) {
        struct attempt *candidate = &e->attempts[i];

        if (candidate->state == IDLE) {
            a = candidate;
            break;
        }
        if (candidate->state == FREE && !a)
            a = candidate;
    }
    if (!a)
        a = give_way(e, clock_mono());
    if (!a) {
        e->tally.skipped++;
        return;
    }
    e->tally.probes++;
    a->sent = a->connected = clock_mono();
    a->http.code = 0;
    timer_set(watch->loop, &a->deadline, a->sent + watch->timeout);
    if (a->state == IDLE) {
        attempt_ask(a);
        return;
    }
    fd = address_connect(&e->address);
    if (fd < 0) {
        attempt_failed(a, fault_of_errno(-fd));
        return;
    }
    a->state = CONNECTING;
    error = loop_add(watch->loop, &a->source, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    if (error) {
        close(fd);
        attempt_failed(a, fault_of_errno(error));
    }
}

static void endpoint_tick(struct timer *timer)
{
    struct endpoint *e = container_of(timer, struct endpoint, tick);
    int64_t interval = e->watch->interval;
    int64_t next = timer->due + interval;
    int64_t now = clock_mono();

    if (next <= now) { /* we were held up: say what was missed, never make up for it */
        int64_t missed = (now - next) / interval + 1;

        e->tally.skipped += (uint64_t)missed;
        next += missed * interval;
    }
    timer_set(e->watch->loop, timer, next);
    probe_once(e);
}

static void endpoint_waiting(struct timer *timer)
{
    struct endpoint *e = container_of(timer, struct endpoint, waiting);
    struct json j = {0};

    timer_set(e->watch->loop, timer, timer->due + WAITING_EVERY);
    json_event(&j, "waiting");
    json_str(&j, "id", e->watch->job.id);
    json_str(&j, "addr", e->text);
    json_int(&j, "at", clock_wall_of(clock_mono()));
    json_int(&j, "tries", (int64_t)e->tries);
    json_str(&j, "error", e->last_fault ? fault_name(e->last_fault) : NULL);
    json_end(&j);
    job_send(&e->watch->job, &j);
}

static struct endpoint *endpoint_begin(struct watch *watch, const struct address *address)
{
    size_t size = sizeof(struct endpoint) + (size_t)watch->inflight * sizeof(struct attempt);
    struct endpoint *e = must_calloc(1, size);
    int64_t now = clock_mono();

    e->watch = watch;
    e->address = *address;
    e->listed = true;
    address_text(address, false, e->text);
    for (int i = 0; i < watch->inflight; i++) {
        e->attempts[i].endpoint = e;
        e->attempts[i].source.fd = -1;
        e->attempts[i].source.ready = attempt_ready;
        e->attempts[i].deadline.fire = attempt_late;
    }
    e->tick.fire = endpoint_tick;
    e->waiting.fire = endpoint_waiting;
    e->next = watch->endpoints;
    watch->endpoints = e;
    timer_set(watch->loop, &e->waiting, now + WAITING_EVERY);
    timer_set(watch->loop, &e->tick, now);
    return e;
}

static void tally_add(struct tally *sum, const struct tally *part)
{
    sum->probes += part->probes;
    sum->good += part->good;
    sum->failed += part->failed;
    sum->abandoned += part->abandoned;
    sum->skipped += part->skipped;
    if (part->max_gap > sum->max_gap)
        sum->max_gap = part->max_gap;
}

/* Ends it and adds it to the watch's own tally. Unlinking is the caller's. */
static void endpoint_end(struct endpoint *e)
{
    struct watch *watch = e->watch;

    timer_cancel(watch->loop, &e->tick);
    timer_cancel(watch->loop, &e->waiting);
    for (int i = 0; i < watch->inflight; i++) {
        if (e->attempts[i].state == CONNECTING || e->attempts[i].state == ASKED)
            e->tally.abandoned++;
        drop_connection(&e->attempts[i]);
    }
    if (!e->up) /* down to the end: the gap is at least this long */
        end_gap(e, clock_mono());
    tally_add(&watch->tally, &e->tally);
    loop_free_later(watch->loop, e);
}

static void unresolved_waiting(struct timer *timer)
{
    struct watch *watch = container_of(timer, struct watch, unresolved_timer);
    struct json j = {0};

    timer_set(watch->loop, timer, timer->due + WAITING_EVERY);
    json_event(&j, "waiting");
    json_str(&j, "id", watch->job.id);
    json_null(&j, "addr");
    json_int(&j, "at", clock_wall_of(clock_mono()));
    json_int(&j, "tries", (int64_t)watch->lookups_failed);
    json_str(&j, "error", fault_name(FAULT_UNRESOLVED));
    json_end(&j);
    job_send(&watch->job, &j);
}

static void resolve_again(struct timer *timer);

static void resolved(void *arg, const struct address *list, size_t count, const char *why)
{
    struct watch *watch = arg;
    bool changed = false;
    struct json j = {0};

    (void)why;
    watch->question = NULL;
    timer_set(watch->loop, &watch->resolve_timer, clock_mono() + watch->resolve);
    if (!count) {
        /* A name server that is briefly away has not removed the service: keep on
         * asking the addresses that we know. */
        watch->lookups_failed++;
        return;
    }
    timer_cancel(watch->loop, &watch->unresolved_timer);
    for (struct endpoint *e = watch->endpoints; e; e = e->next)
        e->listed = false;
    for (size_t i = 0; i < count; i++) {
        struct endpoint *e = watch->endpoints;

        while (e && !address_equal(&e->address, &list[i]))
            e = e->next;
        if (e) {
            e->listed = true;
        } else {
            endpoint_begin(watch, &list[i]);
            changed = true;
        }
    }
    for (struct endpoint **at = &watch->endpoints; *at;) {
        struct endpoint *e = *at;

        if (e->listed) {
            at = &e->next;
            continue;
        }
        *at = e->next;
        endpoint_end(e);
        changed = true;
    }
    if (!changed)
        return;
    json_event(&j, "resolved");
    json_str(&j, "id", watch->job.id);
    json_int(&j, "at", clock_wall_of(clock_mono()));
    json_open(&j, "addrs", '[');
    for (struct endpoint *e = watch->endpoints; e; e = e->next)
        json_str(&j, NULL, e->text);
    json_close(&j, ']');
    json_end(&j);
    job_send(&watch->job, &j);
}

static void resolve_again(struct timer *timer)
{
    struct watch *watch = container_of(timer, struct watch, resolve_timer);

    watch->question = resolver_ask(watch->resolver, watch->host, watch->port, resolved, watch);
}

static void watch_stop(struct job *job)
{
    struct watch *watch = container_of(job, struct watch, job);
    struct json j = {0};

    timer_cancel(watch->loop, &watch->resolve_timer);
    timer_cancel(watch->loop, &watch->unresolved_timer);
    if (watch->question)
        resolver_forget(watch->question);
    for (struct endpoint *e; (e = watch->endpoints);) {
        watch->endpoints = e->next;
        endpoint_end(e);
    }
    json_event(&j, "unwatched");
    json_str(&j, "id", job->id);
    json_int(&j, "at", clock_wall_of(clock_mono()));
    json_int(&j, "probes", (int64_t)watch->tally.probes);
    json_int(&j, "good", (int64_t)watch->tally.good);
    json_int(&j, "failed", (int64_t)watch->tally.failed);
    json_int(&j, "abandoned", (int64_t)watch->tally.abandoned);
    json_int(&j, "skipped", (int64_t)watch->tally.skipped);
    json_real(&j, "max_gap_ms", (double)watch->tally.max_gap / 1e6, 3);
    json_end(&j);
    job_send(job, &j);
    buf_free(&watch->request);
    free(watch->host);
    job_over(job);
}

static const struct job_class watch_class = {.noun = "watch", .stop = watch_stop};

static bool has_control(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text <= ' ' || *text == 0x7f)
            return true;
    return false;
}

struct job *watch_begin(struct loop *loop, struct resolver *resolver, struct request *request,
                        struct complaint *c)
{
    const char *addr = request_need(request, "addr", c);
    const char *port = request_need(request, "port", c);
    const char *path = request_get(request, "path");
    const char *host = request_get(request, "host");
    const char *interval = request_get(request, "interval");
    const char *timeout = request_get(request, "timeout");
    const char *resolve = request_get(request, "resolve");
    const char *inflight = request_get(request, "inflight");
    const char *keepalive = request_get(request, "keepalive");
    int64_t number = 0;
    int64_t many = 4;
    struct watch w = {
        .interval = 5 * NS_PER_MS, .timeout = NS_PER_S, .resolve = NS_PER_S};
    struct watch *watch;

    if (!addr || !port || !text_int("port", port, 1, 65535, &number, c) ||
        (interval &&
         !text_duration("interval", interval, 100 * NS_PER_US, 3600 * NS_PER_S, &w.interval, c)) ||
        (timeout &&
         !text_duration("timeout", timeout, NS_PER_MS, 600 * NS_PER_S, &w.timeout, c)) ||
        (resolve &&
         !text_duration("resolve", resolve, 10 * NS_PER_MS, 3600 * NS_PER_S, &w.resolve, c)) ||
        (inflight && !text_int("inflight", inflight, 1, INFLIGHT_MAX, &many, c)) ||
        (keepalive && !text_bool("keepalive", keepalive, &w.keepalive, c)) ||
        !request_all_known(request, c))
        return NULL;
    if (!path || !*path)
        path = "/";
    if (path[0] != '/' || has_control(path) || (host && has_control(host)) || has_control(addr) ||
        strlen(path) > 4096 || strlen(addr) > 255) {
        complain(c, "path must begin with / and, like addr and host, have no spaces in it");
        return NULL;
    }

    watch = must_alloc(sizeof *watch);
    *watch = w;
    watch->job.class = &watch_class;
    watch->loop = loop;
    watch->resolver = resolver;
    watch->inflight = (int)many;
    watch->port = (uint16_t)number;
    watch->host = must_strdup(addr);
    watch->resolve_timer.fire = resolve_again;
    watch->unresolved_timer.fire = unresolved_waiting;
    buf_printf(&watch->request, "GET %s HTTP/1.1\r\nHost: ", path);
    if (host)
        buf_text(&watch->request, host);
    else
        buf_printf(&watch->request, strchr(addr, ':') ? "[%s]:%u" : "%s:%u", addr, watch->port);
    buf_printf(&watch->request, "\r\nUser-Agent: coeload\r\nConnection: %s\r\n\r\n",
               watch->keepalive ? "keep-alive" : "close");
    return &watch->job;
}

void watch_go(struct job *job)
{
    struct watch *watch = container_of(job, struct watch, job);
    struct address address;

    if (address_numeric(&address, watch->host, watch->port)) {
        endpoint_begin(watch, &address);
        return;
    }
    timer_set(watch->loop, &watch->unresolved_timer, clock_mono() + WAITING_EVERY);
    resolve_again(&watch->resolve_timer);
}
