#include "frame.h"

#include "clock.h"

void frame_clear(struct frame *frame)
{
    for (int i = 0; i < PHASES; i++) {
        frame->parts[i].counts = (struct counts){0};
        histogram_clear(&frame->parts[i].latency);
        histogram_clear(&frame->parts[i].raw);
        histogram_clear(&frame->parts[i].lag);
    }
    frame->mishaps.len = 0;
    frame->untold = 0;
}

void timeline_frame(const struct timeline *t, uint32_t seq, struct frame *frame)
{
    int64_t warm = (t->measured - t->start + NS_PER_S - 1) / NS_PER_S;
    int64_t length = INT64_MAX;
    int64_t begin;
    int64_t until;

    if (t->end != INT64_MAX)
        length = (t->end - t->measured + NS_PER_S - 1) / NS_PER_S;
    frame->seq = seq;
    if (seq < warm) {
        frame->kind = FRAME_WARMUP;
        begin = t->start + seq * NS_PER_S;
        until = t->measured;
    } else if (seq - warm < length) {
        frame->kind = FRAME_MEASURED;
        begin = t->measured + (seq - warm) * NS_PER_S;
        until = t->end;
    } else {
        frame->kind = FRAME_DRAIN;
        begin = t->end + (seq - warm - length) * NS_PER_S;
        until = INT64_MAX;
    }
    frame->from = begin;
    frame->to = until - begin > NS_PER_S ? begin + NS_PER_S : until;
}
