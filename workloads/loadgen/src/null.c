#include "null.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "buf.h"
#include "clock.h"
#include "listen.h"
#include "version.h"

#define BATCH 256
#define REQUEST_MAX 65536

struct visitor {
    int fd;
    size_t len;  /* of a request that is not whole yet */
    size_t skip; /* of a request's body that is still to come */
    bool last;   /* …and then it is to be closed */
    char held[REQUEST_MAX];
};

static struct buf answer;

#define PAUSES 16

/* The longest times between two rounds of the loop: while requests come, what kept the
 * server from running. */
static struct {
    int64_t from;
    int64_t to;
} pauses[PAUSES];

static volatile sig_atomic_t over;

static void end(int number)
{
    (void)number;
    over = 1;
}

static void note_pause(int64_t from, int64_t to)
{
    int shortest = 0;

    for (int i = 1; i < PAUSES; i++)
        if (pauses[i].to - pauses[i].from < pauses[shortest].to - pauses[shortest].from)
            shortest = i;
    if (to - from > pauses[shortest].to - pauses[shortest].from) {
        pauses[shortest].from = from;
        pauses[shortest].to = to;
    }
}

static void tell_pauses(void)
{
    printf("[");
    for (int i = 0; i < PAUSES; i++)
        printf("%s[%lld,%lld]", i ? "," : "", (long long)clock_wall_of(pauses[i].from),
               (long long)clock_wall_of(pauses[i].to));
    printf("]\n");
}

/* Where the head ends and what it says of the rest; false when it is not whole. */
static bool read_head(const char *data, size_t len, size_t *head, size_t *body, bool *close)
{
    const char *end = memmem(data, len, "\r\n\r\n", 4);
    const char *line;

    if (!end)
        return false;
    *head = (size_t)(end - data) + 4;
    *body = 0;
    *close = false;
    for (line = data; (line = memchr(line, '\n', (size_t)(end + 2 - line))) && ++line < end;) {
        if (!strncasecmp(line, "Content-Length:", 15))
            *body = strtoul(line + 15, NULL, 10);
        else if (!strncasecmp(line, "Connection: close", 17))
            *close = true;
    }
    return true;
}

static void leave(struct visitor *v)
{
    close(v->fd);
    free(v);
}

/* Answers each whole request in the bytes; false when the connection is over. */
static bool serve(struct visitor *v, const char *data, size_t len)
{
    /* Nearly every request is the same as the last one, whoever sent it. */
    static char known[1024];
    static size_t known_len;
    static bool known_close;

    while (len || (!v->skip && v->last)) {
        size_t head;
        size_t body;
        bool last;

        if (v->skip) {
            size_t step = len < v->skip ? len : v->skip;

            v->skip -= step;
            data += step;
            len -= step;
            continue;
        }
        if (v->last)
            return false;
        if (known_len && len == known_len && !memcmp(data, known, len)) {
            head = len;
            body = 0;
            last = known_close;
        } else {
            if (!read_head(data, len, &head, &body, &last)) {
                if (len > REQUEST_MAX)
                    return false;
                memmove(v->held, data, len);
                v->len = len;
                return true;
            }
            if (!body && head == len && head <= sizeof known) {
                memcpy(known, data, head);
                known_len = head;
                known_close = last;
            }
        }
        if (send(v->fd, answer.data, answer.len, MSG_NOSIGNAL) != (ssize_t)answer.len)
            return false; /* who does not read its answers gets no more of them */
        v->skip = body;
        v->last = last;
        data += head;
        len -= head;
    }
    return true;
}

static bool visit(struct visitor *v)
{
    static char fresh[REQUEST_MAX];

    for (;;) {
        ssize_t n;
        size_t len = v->len;

        if (len) {
            n = recv(v->fd, v->held + len, sizeof v->held - len, 0);
        } else {
            n = recv(v->fd, fresh, sizeof fresh, 0);
        }
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        if (n == 0)
            return false;
        v->len = 0;
        if (!serve(v, len ? v->held : fresh, len + (size_t)n))
            return false;
        if (!len && (size_t)n < sizeof fresh)
            return true; /* the socket is empty: asking it again would be a wasted call */
    }
}

static void welcome(int epoll, int listener)
{
    static const int on = 1;
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct visitor *v = must_alloc(sizeof *v);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = v};

        v->fd = fd;
        v->len = v->skip = 0;
        v->last = false;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
            leave(v);
    }
}

int null_run(uint16_t port, bool tell)
{
    int64_t last = 0;
    struct complaint c = {0};
    struct epoll_event events[BATCH];
    struct epoll_event listening = {.events = EPOLLIN, .data.ptr = NULL};
    int listener = listen_on(&port, &c);
    int epoll = epoll_create1(EPOLL_CLOEXEC);

    if (listener < 0 || epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &listening)) {
        fprintf(stderr, "coeload: %s\n", c.text[0] ? c.text : strerror(errno));
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    if (tell)
        sigaction(SIGTERM, &(struct sigaction){.sa_handler = end}, NULL);
    buf_printf(&answer,
               "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n"
               "X-Coebench-Instance: null-%d\r\nX-Coebench-Version: %s\r\n"
               "X-Coebench-Started: %lld\r\n\r\nok\n",
               (int)getpid(), COELOAD_VERSION, (long long)clock_wall_of(clock_mono()));
    printf("coeload null %s listening on port %u\n", COELOAD_VERSION, port);
    fflush(stdout);
    while (!over) {
        int n = epoll_wait(epoll, events, BATCH, -1);

        if (tell) {
            int64_t at = clock_mono();

            if (last)
                note_pause(last, at);
            last = at;
        }
        for (int i = 0; i < n; i++) {
            struct visitor *v = events[i].data.ptr;

            if (!v)
                welcome(epoll, listener);
            else if (!visit(v))
                leave(v);
        }
    }
    tell_pauses();
    return 0;
}
