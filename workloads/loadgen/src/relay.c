#include "relay.h"

#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "clock.h"
#include "json.h"
#include "listen.h"
#include "loop.h"
#include "secret.h"
#include "version.h"

#define LINE_MAX_BYTES (16 << 20) /* a generator's end with ten thousand targets fits */
#define UNREAD_MAX (64 << 20)
#define NAME_MAX_BYTES 100

enum role { UNKNOWN, GENERATOR, HARNESS, HTTP };

struct end {
    struct source source;
    struct end *next;
    enum role role;
    char *name; /* of a generator */
    int64_t nonce;
    struct buf in;
    struct buf out;
    size_t scanned;
    bool blocked;
    bool closing; /* once `out` is written */
    bool broken;  /* shut down: waiting for the loop to notice */
    bool known;   /* it has said the secret */
};

static struct relay {
    struct loop *loop;
    struct source listener;
    struct source signals;
    struct end *ends;
    struct end *harness; /* the one that hears the generators: the latest that asked to */
} relay;

bool relay_name_good(const char *name)
{
    size_t len = strlen(name);

    for (const char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("._:-", *c))
            return false;
    return len && len <= NAME_MAX_BYTES;
}

/* ---- out ---- */

static void end_break(struct end *e)
{
    e->broken = true;
    e->out.len = 0;
    shutdown(e->source.fd, SHUT_RDWR);
}

static void end_flush(struct end *e)
{
    size_t done = 0;

    while (done < e->out.len) {
        ssize_t n = send(e->source.fd, e->out.data + done, e->out.len - done, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN) {
            end_break(e);
            return;
        }
        if (n < 0)
            break;
        done += (size_t)n;
    }
    buf_drop_front(&e->out, done);
    if (e->out.len > UNREAD_MAX) {
        end_break(e); /* it does not read: it can come back and ask again for what it missed */
        return;
    }
    if (e->blocked != (e->out.len > 0)) {
        e->blocked = e->out.len > 0;
        loop_modify(relay.loop, &e->source, EPOLLIN | (e->blocked ? EPOLLOUT : 0));
    }
    if (!e->out.len && e->closing)
        shutdown(e->source.fd, SHUT_WR);
}

/* "@name line\n", or the line alone. */
static void end_say(struct end *e, const char *name, const char *line, size_t len)
{
    if (!e || e->broken || e->closing)
        return;
    if (name) {
        buf_char(&e->out, '@');
        buf_text(&e->out, name);
        buf_char(&e->out, ' ');
    }
    buf_add(&e->out, line, len);
    buf_char(&e->out, '\n');
    if (!e->blocked)
        end_flush(e);
}

static void say_json(struct end *e, const char *name, struct json *j)
{
    json_end(j);
    end_say(e, name, j->out.data, j->out.len - 1);
    buf_free(&j->out);
}

static void say_generator(struct end *harness, const char *event, const struct end *generator)
{
    struct json j = {0};

    json_event(&j, event);
    json_str(&j, "name", generator->name);
    json_int(&j, "nonce", generator->nonce);
    say_json(harness, NULL, &j);
}

static void say_error(struct end *e, const char *name, const char *message)
{
    struct json j = {0};

    json_event(&j, "error");
    json_str(&j, "message", message);
    say_json(e, name, &j);
}

static void end_close(struct end *e)
{
    if (e->source.fd < 0)
        return;
    for (struct end **at = &relay.ends; *at; at = &(*at)->next) {
        if (*at == e) {
            *at = e->next;
            break;
        }
    }
    loop_close(relay.loop, &e->source);
    if (relay.harness == e)
        relay.harness = NULL;
    if (e->role == GENERATOR)
        say_generator(relay.harness, "left", e);
    free(e->name);
    buf_free(&e->in);
    buf_free(&e->out);
    loop_free_later(relay.loop, e);
}

/* ---- in ---- */

static struct end *find(const char *name)
{
    for (struct end *e = relay.ends; e; e = e->next)
        if (e->role == GENERATOR && !strcmp(e->name, name))
            return e;
    return NULL;
}

/* The value of a string or a number in a line that a generator wrote: it has no escapes. */
static char *field(const char *line, const char *key)
{
    char quoted[32];
    const char *at;

    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    at = strstr(line, quoted);
    if (!at)
        return NULL;
    at += strlen(quoted);
    at += *at == '"';
    return strndup(at, strcspn(at, "\",}"));
}

static void refuse(struct end *e, const char *why)
{
    char line[200];

    snprintf(line, sizeof line, "refused why=%s", why);
    end_say(e, NULL, line, strlen(line));
    e->closing = true;
    end_flush(e);
}

static void take_registration(struct end *e, const char *line)
{
    char *name = field(line, "name");
    char *nonce = field(line, "nonce");
    struct end *old = name ? find(name) : NULL;
    int64_t number = nonce ? strtoll(nonce, NULL, 10) : 0;

    free(nonce);
    if (!name || !relay_name_good(name)) {
        refuse(e, "a%20name%20is%20up%20to%20100%20of%20letters,%20digits%20and%20._:-");
        free(name);
        return;
    }
    if (old && old->nonce != number) {
        struct json j = {0};

        refuse(e, "another%20generator%20of%20this%20name%20is%20here");
        json_event(&j, "duplicate");
        json_str(&j, "name", name);
        say_json(relay.harness, NULL, &j);
        free(name);
        return;
    }
    if (old)
        end_close(old); /* the same process, whose old connection has not yet been noticed to be dead */
    e->role = GENERATOR;
    e->name = name;
    e->nonce = number;
    say_generator(relay.harness, "joined", e);
}

/* "auth secret=…" of a harness, or the field of a generator's registration. */
static bool admitted(struct end *e, const char *line, bool registers)
{
    char *guess = registers ? field(line, "secret") : NULL;

    if (!e->known)
        e->known = secret_is(registers ? guess : !strncmp(line, "auth secret=", 12) ? line + 12 : NULL);
    free(guess);
    return e->known;
}

static void take_first(struct end *e, const char *line)
{
    struct json j = {0};
    bool registers = !strncmp(line, "{\"event\":\"register\"", 19);

    if (!admitted(e, line, registers)) {
        if (registers) {
            refuse(e, "its%20COEBENCH_SECRET%20is%20missing%20or%20wrong");
            return;
        }
        say_error(e, NULL, "the secret is missing or wrong: the first line must be auth secret=...");
        e->closing = true;
        end_flush(e);
        return;
    }
    if (!strncmp(line, "auth ", 5))
        return;
    if (registers) {
        take_registration(e, line);
    } else if (!strcmp(line, "generators")) {
        struct end *before = relay.harness;

        e->role = HARNESS;
        relay.harness = e;
        if (before && before != e) {
            say_error(before, NULL, "another harness has asked for the generators");
            before->closing = true;
            end_flush(before);
        }
        json_event(&j, "relay");
        json_int(&j, "proto", COELOAD_PROTO);
        json_str(&j, "version", COELOAD_VERSION);
        say_json(e, NULL, &j);
        for (struct end *g = relay.ends; g; g = g->next)
            if (g->role == GENERATOR)
                say_generator(e, "joined", g);
    } else {
        say_error(e, NULL, "a relay knows 'generators', and lines that begin with @name");
    }
}

static void take_harness(struct end *e, char *line, size_t len)
{
    char *rest = line[0] == '@' ? strchr(line, ' ') : NULL;
    struct end *generator;

    if (!rest) {
        if (!strcmp(line, "generators"))
            take_first(e, line);
        else
            say_error(e, NULL, "want 'generators' or '@name request'");
        return;
    }
    *rest++ = '\0';
    generator = find(line + 1);
    if (generator)
        end_say(generator, NULL, rest, len - (size_t)(rest - line));
    else if (relay_name_good(line + 1))
        say_error(e, line + 1, "no generator of this name is here");
}

static void take_line(struct end *e, char *line, size_t len)
{
    if (len && line[len - 1] == '\r')
        line[--len] = '\0';
    if (e->role == GENERATOR)
        end_say(relay.harness, e->name, line, len);
    else if (e->role == HARNESS)
        take_harness(e, line, len);
    else if (len)
        take_first(e, line);
}

/* An engine's health check. */
static void take_http(struct end *e)
{
    static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                             "Content-Length: 3\r\nConnection: close\r\n\r\nok";

    e->role = HTTP;
    if (!memmem(e->in.data, e->in.len, "\r\n\r\n", 4)) {
        if (e->in.len > 16384)
            end_break(e);
        return;
    }
    end_say(e, NULL, ok, sizeof ok - 1);
    e->closing = true;
    end_flush(e);
}

static void end_ready(struct source *source, uint32_t events)
{
    struct end *e = container_of(source, struct end, source);
    size_t begin = 0;
    ssize_t n;

    if ((events & EPOLLOUT) && !e->broken)
        end_flush(e);
    if (!(events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
        return;
    buf_reserve(&e->in, 65536);
    n = recv(source->fd, e->in.data + e->in.len, 65536, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || e->broken) {
        end_close(e);
        return;
    }
    if (e->closing)
        return;
    e->in.len += (size_t)n;
    if (e->role == HTTP || (e->role == UNKNOWN && e->in.len >= 5 &&
                            (!memcmp(e->in.data, "GET /", 5) || !memcmp(e->in.data, "HEAD ", 5)))) {
        take_http(e);
        return;
    }
    while (!e->broken && !e->closing && e->scanned < e->in.len) {
        char *end = memchr(e->in.data + e->scanned, '\n', e->in.len - e->scanned);

        if (!end)
            break;
        *end = '\0';
        e->scanned = (size_t)(end - e->in.data) + 1;
        take_line(e, e->in.data + begin, e->scanned - 1 - begin);
        begin = e->scanned;
    }
    e->scanned = e->in.len - begin;
    buf_drop_front(&e->in, begin);
    if (e->in.len > LINE_MAX_BYTES)
        end_break(e);
}

static void accept_ready(struct source *source, uint32_t events)
{
    static const int on = 1;
    int fd;

    (void)events;
    while ((fd = accept4(source->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct end *e = must_calloc(1, sizeof *e);

        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &(int){30}, sizeof(int));
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &(int){10}, sizeof(int));
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &(int){3}, sizeof(int));
        e->source.ready = end_ready;
        if (loop_add(relay.loop, &e->source, fd, EPOLLIN)) {
            close(fd);
            free(e);
            continue;
        }
        e->next = relay.ends;
        relay.ends = e;
    }
}

static void signal_ready(struct source *source, uint32_t events)
{
    struct signalfd_siginfo info;

    (void)events;
    if (read(source->fd, &info, sizeof info) == (ssize_t)sizeof info)
        loop_stop(relay.loop);
}

int relay_run(uint16_t port)
{
    struct complaint c = {0};
    sigset_t wanted;
    int fd;

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGINT);
    sigprocmask(SIG_BLOCK, &wanted, NULL);
    fd = listen_on(&port, &c);
    if (fd < 0) {
        fprintf(stderr, "coeload: %s\n", c.text);
        return 1;
    }
    relay.loop = loop_new();
    relay.listener.ready = accept_ready;
    relay.signals.ready = signal_ready;
    if (loop_add(relay.loop, &relay.listener, fd, EPOLLIN) ||
        loop_add(relay.loop, &relay.signals, signalfd(-1, &wanted, SFD_NONBLOCK | SFD_CLOEXEC),
                 EPOLLIN)) {
        perror("coeload: epoll");
        return 1;
    }
    printf("coeload relay %s listening on port %u\n", COELOAD_VERSION, port);
    fflush(stdout);
    loop_run(relay.loop);
    while (relay.ends)
        end_close(relay.ends);
    loop_close(relay.loop, &relay.listener);
    loop_close(relay.loop, &relay.signals);
    loop_free(relay.loop);
    return 0;
}
