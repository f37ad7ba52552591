#include "address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "buf.h"
#include "text.h"

bool address_numeric(struct address *a, const char *host, uint16_t port)
{
    memset(a, 0, sizeof *a);
    if (inet_pton(AF_INET, host, &a->sock.v4.sin_addr) == 1) {
        a->sock.v4.sin_family = AF_INET;
        a->sock.v4.sin_port = htons(port);
        a->len = sizeof a->sock.v4;
        return true;
    }
    if (inet_pton(AF_INET6, host, &a->sock.v6.sin6_addr) == 1) {
        a->sock.v6.sin6_family = AF_INET6;
        a->sock.v6.sin6_port = htons(port);
        a->len = sizeof a->sock.v6;
        return true;
    }
    return false;
}

bool address_equal(const struct address *a, const struct address *b)
{
    if (a->sock.any.sa_family != b->sock.any.sa_family)
        return false;
    if (a->sock.any.sa_family == AF_INET)
        return a->sock.v4.sin_port == b->sock.v4.sin_port &&
               a->sock.v4.sin_addr.s_addr == b->sock.v4.sin_addr.s_addr;
    return a->sock.v6.sin6_port == b->sock.v6.sin6_port &&
           a->sock.v6.sin6_scope_id == b->sock.v6.sin6_scope_id &&
           !memcmp(&a->sock.v6.sin6_addr, &b->sock.v6.sin6_addr, sizeof a->sock.v6.sin6_addr);
}

void address_text(const struct address *a, bool with_port, char out[ADDRESS_TEXT])
{
    char ip[INET6_ADDRSTRLEN] = "?";
    bool v6 = a->sock.any.sa_family == AF_INET6;
    unsigned port = ntohs(v6 ? a->sock.v6.sin6_port : a->sock.v4.sin_port);

    if (v6)
        inet_ntop(AF_INET6, &a->sock.v6.sin6_addr, ip, sizeof ip);
    else
        inet_ntop(AF_INET, &a->sock.v4.sin_addr, ip, sizeof ip);
    if (with_port)
        snprintf(out, ADDRESS_TEXT, v6 ? "[%s]:%u" : "%s:%u", ip, port);
    else
        snprintf(out, ADDRESS_TEXT, "%s", ip);
}

bool hostport_split(char *text, char **host, uint16_t *port, struct complaint *c)
{
    char *colon = strrchr(text, ':');
    struct complaint bad_port = {0};
    int64_t number;

    if (!colon || colon == text)
        return complain(c, "'%.80s' is not IP:PORT, [IPv6]:PORT or name:PORT", text);
    *colon = '\0';
    *host = text;
    if (text[0] == '[' && colon[-1] == ']') {
        colon[-1] = '\0';
        *host = text + 1;
    } else if (strchr(text, ':')) {
        return complain(c, "'%.80s:%.10s': an IPv6 address goes in brackets", text, colon + 1);
    }
    if (!**host || !text_int("port", colon + 1, 1, 65535, &number, &bad_port))
        return complain(c, "'%.80s:%.10s': want a port from 1 to 65535", *host, colon + 1);
    *port = (uint16_t)number;
    return true;
}

int address_connect(const struct address *a)
{
    static const int on = 1;
    int fd = socket(a->sock.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int error;

    if (fd < 0)
        return -errno;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, &a->sock.any, a->len) == 0 || errno == EINPROGRESS)
        return fd;
    error = errno;
    close(fd);
    return -error;
}

size_t resolve_now(const char *name, uint16_t port, struct address **list, const char **why)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    size_t count = 0;
    int error = getaddrinfo(name, NULL, &hints, &found);

    *list = NULL;
    *why = error ? gai_strerror(error) : "no address";
    if (error)
        return 0;
    for (struct addrinfo *i = found; i; i = i->ai_next) {
        struct address a = {.len = i->ai_addrlen};
        bool twice = false;

        if ((i->ai_family != AF_INET && i->ai_family != AF_INET6) ||
            i->ai_addrlen > sizeof a.sock)
            continue;
        memcpy(&a.sock, i->ai_addr, i->ai_addrlen);
        if (i->ai_family == AF_INET)
            a.sock.v4.sin_port = htons(port);
        else
            a.sock.v6.sin6_port = htons(port);
        for (size_t k = 0; k < count; k++)
            twice |= address_equal(&(*list)[k], &a);
        if (twice)
            continue;
        *list = must_realloc(*list, (count + 1) * sizeof **list);
        (*list)[count++] = a;
    }
    freeaddrinfo(found);
    return count;
}

struct question {
    struct resolver *resolver;
    struct question *next; /* in the resolver's list of those answered */
    resolver_answer *answer;
    void *arg;
    bool forgotten; /* read and written by the loop's thread alone */
    uint16_t port;
    struct address *list;
    size_t count;
    const char *why;
    char name[];
};

struct resolver {
    struct loop *loop;
    struct source bell;
    pthread_mutex_t lock;
    struct question *answered;
    size_t outstanding; /* loop's thread alone */
};

static void deliver(struct source *source, uint32_t events)
{
    struct resolver *resolver = container_of(source, struct resolver, bell);
    struct question *question;
    uint64_t rings;

    (void)events;
    if (read(source->fd, &rings, sizeof rings) < 0)
        return;
    pthread_mutex_lock(&resolver->lock);
    question = resolver->answered;
    resolver->answered = NULL;
    pthread_mutex_unlock(&resolver->lock);
    while (question) {
        struct question *next = question->next;

        resolver->outstanding--;
        if (!question->forgotten)
            question->answer(question->arg, question->list, question->count, question->why);
        free(question->list);
        free(question);
        question = next;
    }
}

static void *ask_thread(void *arg)
{
    struct question *question = arg;
    struct resolver *resolver = question->resolver;
    uint64_t one = 1;

    question->count = resolve_now(question->name, question->port, &question->list, &question->why);
    pthread_mutex_lock(&resolver->lock);
    question->next = resolver->answered;
    resolver->answered = question;
    /* Under the lock: once it is released the question, and at exit the bell, may go. */
    if (write(resolver->bell.fd, &one, sizeof one) < 0) {
        /* a full counter has rung already */
    }
    pthread_mutex_unlock(&resolver->lock);
    return NULL;
}

struct resolver *resolver_new(struct loop *loop)
{
    struct resolver *resolver = must_calloc(1, sizeof *resolver);
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

    resolver->loop = loop;
    resolver->bell.ready = deliver;
    pthread_mutex_init(&resolver->lock, NULL);
    if (fd < 0 || loop_add(loop, &resolver->bell, fd, EPOLLIN)) {
        perror("coeload: eventfd");
        exit(1);
    }
    return resolver;
}

void resolver_free(struct resolver *resolver)
{
    /* A thread inside getaddrinfo cannot be called back and still points here:
     * we are exiting, so leave it what it needs. */
    if (resolver->outstanding)
        return;
    loop_close(resolver->loop, &resolver->bell);
    pthread_mutex_destroy(&resolver->lock);
    free(resolver);
}

struct question *resolver_ask(struct resolver *resolver, const char *name, uint16_t port,
                              resolver_answer *answer, void *arg)
{
    size_t size = strlen(name) + 1;
    struct question *question = must_calloc(1, sizeof *question + size);
    pthread_attr_t attr;
    pthread_t thread;

    question->resolver = resolver;
    question->answer = answer;
    question->arg = arg;
    question->port = port;
    memcpy(question->name, name, size);
    resolver->outstanding++;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attr, ask_thread, question))
        ask_thread(question); /* slow is better than never */
    pthread_attr_destroy(&attr);
    return question;
}

void resolver_forget(struct question *question)
{
    question->forgotten = true;
}
