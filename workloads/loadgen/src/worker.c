#include "worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "pacer.h"

#define BATCH 256
#define READ_SIZE 65536
#define STACK_SIZE (256 << 10)
#define SENDS_A_TURN 16             /* before looking for answers again: they are being timed */
#define NAP_MIN (4 * NS_PER_US)     /* sleeping takes longer than this by itself */
#define WAKE_MAX (100 * NS_PER_US)  /* the most that waking up is expected to take */
#define WAKE_STEP 500               /* how fast that expectation moves, ns */
#define WAKE_SHARE 10               /* of a wait, at most a tenth is spent awake for it */
#define REST (10 * NS_PER_MS)       /* of a closed connection that cannot connect */
#define STOP_DRAIN (200 * NS_PER_MS)
#define MISHAPS_MAX 4096 /* told of in a frame; all are counted */

enum slot_state { SHUT, CONNECTING, OPEN };
enum slot_list { NOWHERE, IDLE, FLIGHT, RESTING };

/* One connection, whether or not it is connected. */
struct slot {
    int fd;
    uint8_t state;
    uint8_t where;
    uint8_t phase;
    bool busy; /* has a request to answer for; in FLIGHT without one, it only connects */
    struct slot *prev;
    struct slot *next;
    struct target *target;
    struct target *next_target; /* to move to when the request is over; NULL to stay */
    int64_t planned;
    int64_t begun;
    size_t written;
    struct http_identity *identity;
    struct http http;
};

struct worker {
    const struct load_spec *spec;
    const struct http_search *search;
    struct timeline timeline;
    int index;

    int epoll;
    int alarm;
    int64_t alarm_due; /* INT64_MAX when it is not set */
    int64_t wake;      /* what waking up takes, the running median */
    bool worked;       /* in this turn */
    int64_t polled;    /* when a turn began that only polled, in vain; else 0 */
    int64_t spun;      /* what such turns have taken in all */
    int kick;
    int bell;
    pthread_t thread;
    bool running;

    struct slot *slots;
    int slot_count;
    int slot_first; /* number of our first connection among all threads' */
    struct target_set *set; /* as it was taken last */
    size_t rota;            /* whose turn it is in it */
    int idle;               /* connections in their targets' lists */
    struct list flight;  /* in order of `begun`, so that the head times out first */
    struct list resting; /* in order of `begun` too */
    bool head_request;

    struct pacer pacer;
    bool started;
    bool ending; /* no new requests */
    int64_t give_up;

    struct frame *frame; /* being filled */
    struct frame *frames[2];
    _Atomic uint32_t published;
    _Atomic uint32_t consumed;
    _Atomic uint32_t frames_in_all;
    _Atomic(struct target_set *) pending;
    _Atomic int64_t stop_at; /* 0 while nobody has said stop */

    char data[READ_SIZE];
};

static int64_t earliest(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- lists ---- */

static struct list *list_of(struct worker *w, struct slot *s, enum slot_list where)
{
    if (where == IDLE)
        return &s->target->tallies[w->index].idle;
    return where == FLIGHT ? &w->flight : &w->resting;
}

static void slot_leave(struct worker *w, struct slot *s)
{
    struct list *list;

    if (s->where == NOWHERE)
        return;
    list = list_of(w, s, s->where);
    w->idle -= s->where == IDLE;
    if (s->prev)
        s->prev->next = s->next;
    else
        list->head = s->next;
    if (s->next)
        s->next->prev = s->prev;
    else
        list->tail = s->prev;
    s->where = NOWHERE;
}

static void slot_enter(struct worker *w, struct slot *s, enum slot_list where)
{
    struct list *list = list_of(w, s, where);

    slot_leave(w, s);
    w->idle += where == IDLE;
    s->where = (uint8_t)where;
    s->next = NULL;
    s->prev = list->tail;
    if (list->tail)
        list->tail->next = s;
    else
        list->head = s;
    list->tail = s;
}

/* Targets take turns, whatever becomes of their requests: one whose connections are refused at
 * once, or are all new, gets its share and no more, also within a few milliseconds. A
 * target without an idle connection is passed over. NULL if none has one. */
static struct slot *next_idle(struct worker *w)
{
    for (size_t i = 0; w->idle && i < w->set->count; i++) {
        struct target *target = w->set->targets[w->rota];

        w->rota = (w->rota + 1) % w->set->count;
        if (target->tallies[w->index].idle.head)
            return target->tallies[w->index].idle.head;
    }
    return NULL;
}

/* ---- connections and requests ---- */

static struct part *part_of(struct worker *w, struct slot *s)
{
    return &w->frame->parts[s->phase];
}

static struct target_tally *tally_of(struct worker *w, struct slot *s)
{
    return s->phase == MEASURED ? &s->target->tallies[w->index] : NULL;
}

static enum phase phase_at(const struct worker *w, int64_t planned)
{
    return planned < w->timeline.measured ? WARMUP : MEASURED;
}

static void slot_shut(struct slot *s)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};

    if (s->fd < 0)
        return;
    /* A reset leaves no TIME_WAIT behind: thousands of connections a second would
     * otherwise run out of ports within the minute. */
    setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(s->fd);
    s->fd = -1;
    s->state = SHUT;
}

static void request_begin(struct worker *w, struct slot *s, int64_t planned);
static void request_over(struct worker *w, struct slot *s, enum fault fault);

/* The slot has nothing to do. */
static void slot_free(struct worker *w, struct slot *s, bool failed)
{
    if (w->spec->open || !w->started || w->ending) {
        slot_enter(w, s, IDLE);
    } else if (failed) {
        /* A closed loop against a closed door: not a million knocks a second. */
        s->begun = clock_mono();
        slot_enter(w, s, RESTING);
    } else {
        request_begin(w, s, 0);
    }
}

/* Begins to connect; what went wrong if that is already known. */
static enum fault slot_dial(struct worker *w, struct slot *s)
{
    static const int on = 1;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = s};
    int fd = address_connect(&s->target->address);

    if (fd < 0)
        return fault_of_errno(-fd);
    if (epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &event)) {
        close(fd);
        return FAULT_LOCAL;
    }
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on); /* see arrival() */
    s->fd = fd;
    s->state = CONNECTING;
    return FAULT_NONE;
}

static void slot_connect(struct worker *w, struct slot *s)
{
    enum fault fault = slot_dial(w, s);

    w->frame->parts[w->started ? s->phase : WARMUP].counts.connects++;
    if (fault && s->busy)
        request_over(w, s, fault);
    else if (fault)
        slot_free(w, s, true);
}

/* Connects before there is a request, so that none has to pay for it. */
static void slot_preconnect(struct worker *w, struct slot *s)
{
    s->busy = false;
    s->begun = clock_mono();
    slot_enter(w, s, FLIGHT);
    slot_connect(w, s);
}

static void slot_write(struct worker *w, struct slot *s)
{
    const struct buf *request = &s->target->request;

    while (s->written < request->len) {
        const char *rest = request->data + s->written;
        ssize_t n = send(s->fd, rest, request->len - s->written, MSG_NOSIGNAL);

        if (n >= 0) {
            s->written += (size_t)n;
        } else if (errno == EAGAIN) {
            return; /* epoll will say when there is room */
        } else if (errno != EINTR) {
            request_over(w, s, fault_of_errno(errno));
            return;
        }
    }
}

/* In a closed loop a request is planned when it is sent. */
static void request_begin(struct worker *w, struct slot *s, int64_t planned)
{
    struct target_tally *tally;
    struct part *part;

    s->begun = clock_mono();
    s->planned = w->spec->open ? planned : s->begun;
    s->phase = (uint8_t)phase_at(w, s->planned);
    s->busy = true;
    s->written = 0;
    w->worked = true;
    slot_enter(w, s, FLIGHT);
    http_begin(&s->http, w->head_request, s->identity, w->search);
    part = part_of(w, s);
    tally = tally_of(w, s);
    part->counts.sent++;
    if (tally)
        tally->counts.sent++;
    if (w->spec->open)
        histogram_record(&part->lag, s->begun - planned);
    else
        part->counts.planned++;
    if (s->state == OPEN)
        slot_write(w, s);
    else
        slot_connect(w, s);
}

/* What comes after a request, however it ended. */
static void slot_done(struct worker *w, struct slot *s, bool reusable)
{
    bool connected = s->state == OPEN;

    s->busy = false;
    if (!reusable || w->spec->close_each)
        slot_shut(s);
    if (s->next_target) {
        slot_shut(s);
        s->target = s->next_target;
        s->next_target = NULL;
    }
    slot_free(w, s, !connected);
}

static void note_mishap(struct worker *w, const struct slot *s, int64_t ended, enum fault fault)
{
    struct mishap mishap = {s->planned, s->begun, ended, s->target, fault};

    if (w->frame->mishaps.len >= MISHAPS_MAX * sizeof mishap)
        w->frame->untold++;
    else
        buf_add(&w->frame->mishaps, &mishap, sizeof mishap);
}

static void request_good(struct worker *w, struct slot *s, int64_t received)
{
    struct target_tally *tally = tally_of(w, s);
    struct part *part = part_of(w, s);

    part->counts.ok++;
    histogram_record(&part->raw, received - s->begun);
    if (w->spec->open)
        histogram_record(&part->latency, received - s->planned);
    if (tally) {
        tally->counts.ok++;
        histogram_record(tally->latency, received - s->planned);
    }
    if (w->spec->slow && received - s->planned > w->spec->slow)
        note_mishap(w, s, received, FAULT_NONE);
    slot_done(w, s, s->http.keepalive);
}

static void request_over(struct worker *w, struct slot *s, enum fault fault)
{
    struct target_tally *tally = tally_of(w, s);
    bool answered =
        fault == FAULT_BAD_STATUS || fault == FAULT_WRONG_VERSION || fault == FAULT_WRONG_BODY;

    part_of(w, s)->counts.errors[fault]++;
    if (tally)
        tally->counts.errors[fault]++;
    if (w->spec->mishaps)
        note_mishap(w, s, clock_mono(), fault);
    slot_done(w, s, answered && s->http.keepalive);
}

static enum fault judge(const struct worker *w, const struct slot *s)
{
    const struct load_spec *spec = w->spec;

    if (s->http.code < spec->expect_low || s->http.code > spec->expect_high)
        return FAULT_BAD_STATUS;
    if (spec->expect_version && strcmp(s->identity->version, spec->expect_version))
        return FAULT_WRONG_VERSION;
    if (w->search && !s->http.matched)
        return FAULT_WRONG_BODY;
    return FAULT_NONE;
}

/* When the bytes that were read came, as far as the kernel can say.
 *
 * The kernel stamps each packet on arrival. What passes from then until we read it is
 * our own waking and queueing, not the service's answer, and on a small machine it is
 * half of what a quick service would be charged with. */
static int64_t arrival(struct msghdr *message)
{
    int64_t now = clock_mono();

    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        struct timespec wall;
        struct timespec stamp;
        int64_t age;

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMPNS)
            continue;
        memcpy(&stamp, CMSG_DATA(c), sizeof stamp);
        clock_gettime(CLOCK_REALTIME, &wall);
        age = (wall.tv_sec - stamp.tv_sec) * NS_PER_S + (wall.tv_nsec - stamp.tv_nsec);
        /* Anything else means that the wall clock was set in between. */
        if (age > 0 && age < NS_PER_S)
            now -= age;
        break;
    }
    return now;
}

/* The whole answer is here. */
static void slot_answered(struct worker *w, struct slot *s, int64_t received)
{
    enum fault fault = judge(w, s);

    if (fault)
        request_over(w, s, fault);
    else
        request_good(w, s, received > s->begun ? received : s->begun);
}

static void slot_read(struct worker *w, struct slot *s, uint32_t events)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(struct timespec))];
    } control;
    struct iovec where = {.iov_base = w->data, .iov_len = sizeof w->data};
    struct msghdr message = {.msg_iov = &where, .msg_iovlen = 1};

    for (;;) {
        ssize_t n;
        size_t used;

        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        n = recvmsg(s->fd, &message, 0);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            if (errno != EAGAIN)
                request_over(w, s, fault_of_errno(errno));
            return;
        }
        if (n == 0) {
            if (http_closed(&s->http) == HTTP_DONE)
                slot_answered(w, s, clock_mono());
            else
                request_over(w, s, FAULT_CLOSED);
            return;
        }
        part_of(w, s)->counts.bytes += (uint64_t)n;
        if (s->phase == MEASURED)
            s->target->tallies[w->index].counts.bytes += (uint64_t)n;
        switch (http_feed(&s->http, w->data, (size_t)n, &used)) {
        case HTTP_DONE:
            /* More than was asked for, or the end of the connection: this was its last. */
            if (used < (size_t)n || events & EPOLLRDHUP || s->written < s->target->request.len)
                s->http.keepalive = false;
            slot_answered(w, s, arrival(&message));
            return;
        case HTTP_BAD:
            request_over(w, s, FAULT_BAD_HTTP);
            return;
        case HTTP_MORE:
            /* A short read has emptied the socket; asking again would be a wasted call,
             * unless what comes next is the end and the edge has told us already. */
            if ((size_t)n < sizeof w->data && !(events & (EPOLLRDHUP | EPOLLHUP)))
                return;
            break;
        }
    }
}

static void slot_ready(struct worker *w, struct slot *s, uint32_t events)
{
    if (s->fd < 0)
        return;
    if (s->state == CONNECTING) {
        int error = 0;
        socklen_t len = sizeof error;

        if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
            return;
        getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len);
        if (error) {
            if (s->busy) {
                request_over(w, s, fault_of_errno(error));
            } else {
                slot_shut(s);
                slot_free(w, s, true);
            }
            return;
        }
        s->state = OPEN;
        if (s->busy)
            slot_write(w, s);
        else
            slot_free(w, s, false);
        return;
    }
    if (!s->busy) {
        /* The server closed it, or speaks unasked: the next request connects anew. */
        if (events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP))
            slot_shut(s);
        return;
    }
    if (s->written < s->target->request.len && events & EPOLLOUT)
        slot_write(w, s);
    if (s->busy && s->state == OPEN && events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP))
        slot_read(w, s, events);
}

static void time_out(struct worker *w, int64_t now)
{
    for (struct slot *s; (s = w->flight.head) && now - s->begun >= w->spec->timeout;) {
        if (s->busy) {
            request_over(w, s, FAULT_TIMEOUT);
        } else {
            slot_shut(s);
            slot_free(w, s, true);
        }
    }
}

static void wake_resting(struct worker *w, int64_t now)
{
    for (struct slot *s; (s = w->resting.head) && now - s->begun >= REST;)
        slot_free(w, s, false);
}

/* ---- targets ---- */

/* Spreads our connections evenly over the targets, moving as few as that takes. */
static void take_targets(struct worker *w, struct target_set *set)
{
    size_t cursor = 0;

    for (int i = 0; i < w->slot_count; i++)
        set->targets[(size_t)(w->slot_first + i) % set->count]->tallies[w->index].quota++;
    for (int i = 0; i < w->slot_count; i++) {
        struct slot *s = &w->slots[i];

        if (s->target && s->target->tallies[w->index].quota > 0) {
            s->target->tallies[w->index].quota--;
            s->next_target = s->target; /* stays: so marked for the second round */
        } else {
            s->next_target = NULL;
        }
    }
    for (int i = 0; i < w->slot_count; i++) {
        struct slot *s = &w->slots[i];

        if (s->next_target) {
            s->next_target = NULL;
            continue;
        }
        while (!set->targets[cursor]->tallies[w->index].quota)
            cursor++;
        set->targets[cursor]->tallies[w->index].quota--;
        if (s->busy) {
            s->next_target = set->targets[cursor];
            continue;
        }
        slot_shut(s);
        if (s->where == IDLE)
            slot_leave(w, s);
        s->target = set->targets[cursor];
        if (s->where != RESTING)
            slot_preconnect(w, s);
    }
    if (w->set)
        target_set_release(w->set);
    w->set = set;
    w->rota = (size_t)w->slot_first % set->count;
}

/* ---- the plan ---- */

static void plan_due(struct worker *w, int64_t now)
{
    int64_t planned;
    bool kept;

    while (pacer_plan(&w->pacer, now, &planned, &kept)) {
        struct counts *counts = &w->frame->parts[phase_at(w, planned)].counts;

        counts->planned++;
        counts->unsent += !kept;
    }
}

/* Sends what is due. Returns when to come back: 0 for at once, INT64_MAX if only an
 * answer or the next arrival can change anything. */
static int64_t send_due(struct worker *w, int64_t now)
{
    for (int sends = 0; w->pacer.len && w->idle; sends++) {
        int64_t planned = pacer_oldest(&w->pacer);
        int64_t hold;

        if (sends == SENDS_A_TURN)
            return 0;
        hold = pacer_held_until(&w->pacer, planned, now);
        if (hold)
            return hold;
        pacer_pop(&w->pacer);
        request_begin(w, next_idle(w), planned);
    }
    return INT64_MAX;
}

static void drop_backlog(struct worker *w)
{
    for (; w->pacer.len; pacer_pop(&w->pacer))
        w->frame->parts[phase_at(w, pacer_oldest(&w->pacer))].counts.unsent++;
}

/* ---- frames ---- */

static int64_t thread_cpu(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}

static uint64_t in_flight(const struct worker *w)
{
    uint64_t count = 0;

    for (const struct slot *s = w->flight.head; s; s = s->next)
        count += s->busy;
    return count;
}

static void frame_publish(struct worker *w)
{
    struct frame *frame = w->frame;
    uint64_t one = 1;

    frame->cpu = thread_cpu();
    frame->spun = w->spun;
    frame->in_flight = in_flight(w);
    frame->backlog = w->pacer.len;
    atomic_store_explicit(&w->published, frame->seq + 1, memory_order_release);
    if (write(w->bell, &one, sizeof one) < 0) {
        /* a full counter has rung already */
    }
}

/* If the reader is late we go on filling the old frame: nothing is lost and nobody
 * waits, only that frame is longer than it says. */
static void frame_rotate(struct worker *w, int64_t now)
{
    while (now >= w->frame->to) {
        uint32_t next = w->frame->seq + 1;

        if (atomic_load_explicit(&w->consumed, memory_order_acquire) + 1 < next)
            return;
        plan_due(w, w->frame->to - 1); /* each arrival in the second in which it was due */
        frame_publish(w);
        w->frame = w->frames[next & 1];
        timeline_frame(&w->timeline, next, w->frame);
    }
}

/* ---- the thread ---- */

static void set_alarm(struct worker *w, int64_t due)
{
    struct itimerspec when = {
        .it_value = {.tv_sec = due / NS_PER_S, .tv_nsec = due % NS_PER_S}};

    /* One that rings too early is harmless, and cheaper than setting it anew. */
    if (w->alarm_due <= due)
        return;
    w->alarm_due = due;
    timerfd_settime(w->alarm, TFD_TIMER_ABSTIME, &when, NULL);
}

static void end_now(struct worker *w, int64_t now, int64_t drain)
{
    w->ending = true;
    pacer_end(&w->pacer);
    w->give_up = now + drain;
    while (w->resting.head)
        slot_enter(w, w->resting.head, IDLE);
}

static void kicked(struct worker *w)
{
    struct target_set *set;
    int64_t stop_at;
    uint64_t kicks;

    if (read(w->kick, &kicks, sizeof kicks) < 0)
        return;
    set = atomic_exchange_explicit(&w->pending, NULL, memory_order_acq_rel);
    if (set)
        take_targets(w, set);
    stop_at = atomic_load_explicit(&w->stop_at, memory_order_acquire);
    if (!stop_at)
        return;
    if (!w->ending)
        end_now(w, clock_mono(), w->spec->drain < STOP_DRAIN ? w->spec->drain : STOP_DRAIN);
    drop_backlog(w);
    if (stop_at < w->timeline.end)
        w->timeline.end = stop_at > w->timeline.measured ? stop_at : w->timeline.measured;
}

static void learn_wake(struct worker *w, int64_t took)
{
    if (took > w->wake && w->wake < WAKE_MAX)
        w->wake += WAKE_STEP;
    else if (took < w->wake)
        w->wake -= w->wake < WAKE_STEP ? w->wake : WAKE_STEP;
}

/* Takes what has happened, having slept until `due` at most.
 *
 * From the timer's interrupt to our next instruction it takes tens of microseconds,
 * more in a virtual machine and from a core gone idle. So the alarm is set early by
 * the median of what it took before, and the few microseconds that remain are spent
 * polling: a tenth of the wait at most, or a busy schedule would become a spin. */
static void wait_until(struct worker *w, int64_t due, int64_t now)
{
    struct epoll_event events[BATCH];
    int64_t early = earliest(w->wake, (due - now) / WAKE_SHARE);
    bool nap = !w->spec->spin && due - early - now > NAP_MIN;
    int n;

    if (nap)
        set_alarm(w, due - early);
    n = epoll_wait(w->epoll, events, BATCH, nap ? -1 : 0);
    w->polled = n || nap || w->worked ? 0 : now;
    for (int i = 0; i < n; i++) {
        void *who = events[i].data.ptr;

        if (who == &w->alarm) {
            if (n == 1 && nap) /* else it was not the alarm that woke us */
                learn_wake(w, clock_mono() - w->alarm_due);
            w->alarm_due = INT64_MAX;
        } else if (who == &w->kick) {
            kicked(w);
        } else {
            slot_ready(w, who, events[i].events);
        }
    }
}

static void start(struct worker *w)
{
    w->started = true;
    if (w->spec->open) {
        pacer_start(&w->pacer, w->timeline.start);
        return;
    }
    for (int left = w->slot_count; left && w->idle; left--)
        slot_free(w, next_idle(w), false);
}

/* One turn; false when there is nothing more to do. */
static bool turn(struct worker *w)
{
    int64_t now = clock_mono();
    int64_t due = w->started ? w->frame->to : w->timeline.start;

    if (w->polled)
        w->spun += now - w->polled;
    w->worked = false;
    if (!w->started && now >= w->timeline.start && !w->ending)
        start(w);
    if (w->started)
        frame_rotate(w, now);
    plan_due(w, now < w->timeline.end ? now : w->timeline.end - 1);
    if (!w->ending && now >= w->timeline.end)
        end_now(w, w->timeline.end, w->spec->drain);
    due = earliest(due, send_due(w, now));
    time_out(w, now);
    wake_resting(w, now);
    if (w->ending) {
        if ((!w->pacer.len && !in_flight(w)) || now >= w->give_up)
            return false;
        due = earliest(due, w->give_up);
    }
    if (w->flight.head)
        due = earliest(due, w->flight.head->begun + w->spec->timeout);
    if (w->resting.head)
        due = earliest(due, w->resting.head->begun + REST);
    due = earliest(due, w->pacer.next_due);
    wait_until(w, due, now);
    return true;
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;

    take_targets(w, atomic_exchange(&w->pending, NULL));
    while (turn(w))
        ;
    drop_backlog(w);
    for (struct slot *s = w->flight.head; s; s = s->next) {
        if (!s->busy)
            continue;
        part_of(w, s)->counts.in_flight++;
        if (s->phase == MEASURED)
            s->target->tallies[w->index].counts.in_flight++;
    }
    for (int i = 0; i < w->slot_count; i++)
        slot_shut(&w->slots[i]);
    w->frame->to = earliest(w->frame->to, clock_mono());
    atomic_store_explicit(&w->frames_in_all, w->frame->seq + 1, memory_order_release);
    frame_publish(w);
    return NULL;
}

/* ---- from the agent's thread ---- */

static int watch_fd(struct worker *w, int fd, void *who)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = who};

    return fd < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &event);
}

struct worker *worker_new(const struct load_spec *spec, const struct timeline *timeline, int index,
                          struct target_set *set, const struct http_search *search, int bell,
                          struct complaint *c)
{
    struct worker *w = must_calloc(1, sizeof *w);
    int64_t total = spec->connections;

    w->spec = spec;
    w->search = search;
    w->timeline = *timeline;
    w->index = index;
    w->bell = bell;
    w->alarm_due = INT64_MAX;
    w->head_request = !strcmp(spec->method, "HEAD");
    w->slot_first = (int)(total * index / spec->threads);
    w->slot_count = (int)(total * (index + 1) / spec->threads) - w->slot_first;
    w->slots = must_calloc((size_t)w->slot_count, sizeof *w->slots);
    for (int i = 0; i < w->slot_count; i++) {
        w->slots[i].fd = -1;
        if (spec->expect_version)
            w->slots[i].identity = must_calloc(1, sizeof *w->slots[i].identity);
    }
    pacer_init(&w->pacer, spec, index);
    for (int i = 0; i < 2; i++)
        w->frames[i] = must_calloc(1, sizeof *w->frames[i]);
    w->frame = w->frames[0];
    timeline_frame(&w->timeline, 0, w->frame);
    atomic_init(&w->pending, set);
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    w->alarm = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    w->kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (w->epoll < 0 || watch_fd(w, w->alarm, &w->alarm) || watch_fd(w, w->kick, &w->kick))
        complain(c, "cannot set up a thread's epoll: %s", strerror(errno));
    return w;
}

bool worker_start(struct worker *w, struct complaint *c)
{
    pthread_attr_t attr;
    int error;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    error = pthread_create(&w->thread, &attr, worker_main, w);
    pthread_attr_destroy(&attr);
    w->running = !error;
    return w->running || complain(c, "cannot start a thread: %s", strerror(error));
}

static void kick(struct worker *w)
{
    uint64_t one = 1;

    if (write(w->kick, &one, sizeof one) < 0) {
        /* a full counter kicks as well */
    }
}

void worker_retarget(struct worker *w, struct target_set *set)
{
    struct target_set *missed =
        atomic_exchange_explicit(&w->pending, set, memory_order_acq_rel);

    if (missed)
        target_set_release(missed);
    kick(w);
}

void worker_stop(struct worker *w, int64_t at)
{
    atomic_store_explicit(&w->stop_at, at, memory_order_release);
    kick(w);
}

struct frame *worker_frame(struct worker *w, uint32_t seq)
{
    if (atomic_load_explicit(&w->published, memory_order_acquire) <= seq)
        return NULL;
    return w->frames[seq & 1];
}

void worker_frame_done(struct worker *w, uint32_t seq)
{
    struct frame *frame = w->frames[seq & 1];

    frame_clear(frame);
    atomic_store_explicit(&w->consumed, seq + 1, memory_order_release);
}

uint32_t worker_frames(struct worker *w)
{
    return atomic_load_explicit(&w->frames_in_all, memory_order_acquire);
}

void worker_free(struct worker *w)
{
    struct target_set *set;

    if (w->running)
        pthread_join(w->thread, NULL);
    set = atomic_exchange(&w->pending, NULL);
    if (set)
        target_set_release(set);
    if (w->set)
        target_set_release(w->set);
    for (int i = 0; i < w->slot_count; i++)
        free(w->slots[i].identity);
    free(w->slots);
    pacer_free(&w->pacer);
    for (int i = 0; i < 2; i++) {
        buf_free(&w->frames[i]->mishaps);
        free(w->frames[i]);
    }
    close(w->epoll);
    close(w->alarm);
    close(w->kick);
    free(w);
}
