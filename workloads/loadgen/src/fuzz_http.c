/* libFuzzer: whatever the bytes and however they are cut, the parser must come to the
 * same end, consume no more than it was given, and touch nothing that is not its own. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http.h"

static const char needle[] = "aabaaba";
static struct http_search search = {needle, sizeof needle - 1, NULL};

struct outcome {
    enum http_result result;
    size_t consumed;
    uint16_t code;
    bool keepalive;
    bool matched;
    struct http_identity identity;
};

/* Feeds it in pieces of `piece` bytes, each in a block of its own so that the
 * sanitizer sees a read beyond its end. */
static struct outcome parse(const uint8_t *data, size_t len, size_t piece, bool head)
{
    struct outcome o = {.result = HTTP_MORE};
    struct http h;

    memset(&h, 0xa5, sizeof h);
    http_begin(&h, head, &o.identity, &search);
    while (o.consumed < len && o.result == HTTP_MORE) {
        size_t step = len - o.consumed < piece ? len - o.consumed : piece;
        char *copy = malloc(step);
        size_t used;

        memcpy(copy, data + o.consumed, step);
        o.result = http_feed(&h, copy, step, &used);
        free(copy);
        if (used > step || (o.result == HTTP_MORE && used != step))
            abort();
        o.consumed += used;
    }
    if (o.result == HTTP_MORE)
        o.result = http_closed(&h) == HTTP_DONE ? HTTP_DONE : HTTP_MORE;
    o.code = h.code;
    o.keepalive = o.result == HTTP_DONE && h.keepalive;
    o.matched = h.matched;
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct outcome whole;
    struct outcome cut;
    size_t piece;
    bool head;

    if (size < 2)
        return 0;
    if (!search.fallback)
        search.fallback = http_search_prepare(search.text, search.len);
    head = data[0] & 1;
    piece = (size_t)(data[0] >> 1) % 17 + 1;
    data++;
    size--;
    whole = parse(data, size, size, head);
    cut = parse(data, size, piece, head);
    /* Where garbage is found out may differ, that it is garbage may not. */
    if (whole.result != cut.result || whole.keepalive != cut.keepalive)
        abort();
    if (whole.result == HTTP_DONE &&
        (whole.consumed != cut.consumed || whole.code != cut.code || whole.matched != cut.matched ||
         strcmp(whole.identity.instance, cut.identity.instance) ||
         strcmp(whole.identity.version, cut.identity.version)))
        abort();
    return 0;
}
