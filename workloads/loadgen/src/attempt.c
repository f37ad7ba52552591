#include "attempt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "buf.h"
#include "clock.h"

struct attempt {
    struct source source;
    struct attempts *all;
};

struct attempts {
    struct loop *loop;
    struct timer timer;
    attempts_answer *answer;
    void *arg;
    size_t count;
    size_t open; /* still without an outcome */
    struct address *list;
    int *errors;
    struct attempt each[];
};

void attempts_forget(struct attempts *all)
{
    timer_cancel(all->loop, &all->timer);
    for (size_t i = 0; i < all->count; i++)
        loop_close(all->loop, &all->each[i].source);
    free(all->list);
    free(all->errors);
    loop_free_later(all->loop, all);
}

static void out_of_time(struct timer *timer)
{
    struct attempts *all = container_of(timer, struct attempts, timer);

    all->answer(all->arg, all->list, all->errors, all->count);
    attempts_forget(all);
}

static void attempt_ready(struct source *source, uint32_t events)
{
    struct attempt *one = container_of(source, struct attempt, source);
    struct attempts *all = one->all;
    int error = 0;
    socklen_t len = sizeof error;

    if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
        return;
    getsockopt(source->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    all->errors[one - all->each] = error;
    loop_close(all->loop, source);
    if (!--all->open)
        timer_set(all->loop, &all->timer, clock_mono());
}

struct attempts *attempts_begin(struct loop *loop, const struct address *list, size_t count,
                                int64_t patience, attempts_answer *answer, void *arg)
{
    struct attempts *all = must_calloc(1, sizeof *all + count * sizeof *all->each);

    *all = (struct attempts){.loop = loop, .answer = answer, .arg = arg, .count = count};
    all->timer.fire = out_of_time;
    all->list = must_calloc(count, sizeof *list);
    memcpy(all->list, list, count * sizeof *list);
    all->errors = must_calloc(count, sizeof *all->errors);
    for (size_t i = 0; i < count; i++) {
        struct attempt *one = &all->each[i];
        int fd = address_connect(&list[i]);

        *one = (struct attempt){.source = {.fd = -1, .ready = attempt_ready}, .all = all};
        all->errors[i] = fd < 0 ? -fd : ETIMEDOUT;
        if (fd < 0)
            continue;
        all->errors[i] = loop_add(loop, &one->source, fd, EPOLLOUT);
        if (all->errors[i]) {
            one->source.fd = fd; /* to be closed with the others */
            continue;
        }
        all->errors[i] = ETIMEDOUT;
        all->open++;
    }
    timer_set(loop, &all->timer, clock_mono() + (all->open ? patience : 0));
    return all;
}
