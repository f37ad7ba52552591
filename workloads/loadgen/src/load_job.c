#include "load_job.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "load.h"
#include "report.h"

/* What a coordinator may miss and still get by attaching again: ten minutes. Only
 * for loads that outlive their connection; the others have nobody to tell. */
#define KEPT_SECONDS 600
/* For so long after its end a load waits for the coordinator to say that it has all. */
#define UNCLAIMED (600 * NS_PER_S)

struct load_job {
    struct job job;
    struct loop *loop;
    struct load *load;
    struct timer unclaimed;
    bool acked;
    int64_t had; /* the coordinator has all seconds before this one */
    struct buf kept[KEPT_SECONDS]; /* lines, the one of second n at n % KEPT_SECONDS */
    uint32_t seconds;
    struct buf last; /* the line of the end */
};

static void send_copy(struct job *job, const struct buf *line)
{
    struct json j = {0};

    if (!line->len || !job->outlet)
        return;
    buf_add(&j.out, line->data, line->len);
    job_send(job, &j);
}

static void load_job_over(struct load_job *l)
{
    for (int i = 0; i < KEPT_SECONDS; i++)
        buf_free(&l->kept[i]);
    buf_free(&l->last);
    timer_cancel(l->loop, &l->unclaimed);
    job_over(&l->job);
}

static void started(void *arg, const struct load *load, int64_t start, int64_t late)
{
    struct load_job *l = arg;
    const struct load_spec *spec = load_spec_of(load);
    struct json j = {0};

    json_event(&j, "started");
    json_str(&j, "id", l->job.id);
    json_int(&j, "at", clock_wall_of(start));
    json_real(&j, "late_ms", (double)late / 1e6, 3);
    json_int(&j, "backlog_limit", spec->open ? spec->backlog : 0);
    json_end(&j);
    job_send(&l->job, &j);
}

static void second_over(void *arg, const struct load *load, const struct second *second)
{
    struct load_job *l = arg;
    struct json j = {0};

    json_event(&j, "second");
    json_str(&j, "id", l->job.id);
    report_second(&j, load_spec_of(load), second);
    json_end(&j);
    if (l->job.keep) {
        struct buf *slot = &l->kept[second->seq % KEPT_SECONDS];

        slot->len = 0;
        buf_add(slot, j.out.data, j.out.len);
    }
    l->seconds = second->seq + 1;
    job_send(&l->job, &j);
}

static void over(void *arg, const struct load_total *total, const char *why)
{
    struct load_job *l = arg;
    struct json j = {0};

    if (total) {
        json_event(&j, "done");
        json_str(&j, "id", l->job.id);
        report_total(&j, load_spec_of(l->load), total);
    } else {
        json_event(&j, "error");
        json_str(&j, "id", l->job.id);
        json_str(&j, "message", why);
    }
    json_end(&j);
    load_free(l->load);
    l->load = NULL;
    if (l->job.keep && (!l->job.outlet || l->acked) && !job_last_call()) {
        l->last = j.out; /* until somebody comes for it, or says that it came */
        send_copy(&l->job, &l->last);
        timer_set(l->loop, &l->unclaimed, clock_mono() + UNCLAIMED);
        return;
    }
    job_send(&l->job, &j);
    load_job_over(l);
}

static void load_job_stop(struct job *job)
{
    struct load_job *l = container_of(job, struct load_job, job);

    if (l->load) {
        load_stop(l->load);
        return;
    }
    send_copy(job, &l->last);
    load_job_over(l);
}

static void unclaimed(struct timer *timer)
{
    load_job_over(container_of(timer, struct load_job, unclaimed));
}

const struct job_class load_class = {.noun = "load", .stop = load_job_stop};

struct job *load_begin(struct loop *loop, struct resolver *resolver, struct request *request,
                       bool acked, struct complaint *c)
{
    struct load_job *l;
    struct load_listener listener = {.started = started, .second = second_over, .over = over};
    struct load_spec spec;

    if (!load_spec_read(&spec, request, c))
        return NULL;
    l = must_calloc(1, sizeof *l);
    l->job.class = &load_class;
    l->loop = loop;
    l->acked = acked;
    l->unclaimed.fire = unclaimed;
    listener.arg = l;
    l->load = load_new(loop, resolver, &spec, &listener, c);
    if (l->load)
        return &l->job;
    free(l);
    return NULL;
}

void load_job_go(struct job *job)
{
    load_go(container_of(job, struct load_job, job)->load);
}

bool load_job_retarget(struct job *job, struct request *request, struct complaint *c)
{
    struct load_job *l = container_of(job, struct load_job, job);
    const char *targets = request_need(request, "targets", c);

    if (!targets || !request_all_known(request, c))
        return false;
    if (!l->load)
        return complain(c, "the load has ended");
    return load_retarget(l->load, targets, c);
}

void load_job_replay(struct job *job, int64_t since)
{
    struct load_job *l = container_of(job, struct load_job, job);
    int64_t oldest = l->seconds > KEPT_SECONDS ? l->seconds - KEPT_SECONDS : 0;

    if (since < 0)
        since = l->had;
    for (int64_t seq = since > oldest ? since : oldest; seq < l->seconds; seq++)
        send_copy(job, &l->kept[seq % KEPT_SECONDS]);
    if (l->load)
        return;
    send_copy(job, &l->last);
    if (!l->acked)
        load_job_over(l);
}

void load_job_acknowledged(struct job *job, int64_t next, bool end)
{
    struct load_job *l = container_of(job, struct load_job, job);

    if (next > l->seconds)
        next = l->seconds;
    for (; l->had < next; l->had++)
        if (l->had + KEPT_SECONDS >= l->seconds) /* else its place is a later one's already */
            buf_free(&l->kept[l->had % KEPT_SECONDS]);
    if (end && !l->load)
        load_job_over(l);
}
