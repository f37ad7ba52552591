#include "histogram.h"

#include <math.h>
#include <string.h>

#define COOKIE_V2 (0x1c849303 | 0x10)
#define COOKIE_V2_COMPRESSED (0x1c849304 | 0x10)

struct histogram *histogram_new(void)
{
    return must_calloc(1, sizeof(struct histogram));
}

void histogram_add(struct histogram *to, const struct histogram *from)
{
    if (!from->total)
        return;
    if (!to->total || from->min < to->min)
        to->min = from->min;
    if (from->max > to->max)
        to->max = from->max;
    to->total += from->total;
    for (uint32_t i = histogram_slot(from->min), last = histogram_slot(from->max); i <= last; i++)
        to->counts[i] += from->counts[i];
}

void histogram_clear(struct histogram *h)
{
    uint32_t first;

    if (!h->total)
        return;
    /* Only what was touched: clearing all would make every page real. */
    first = histogram_slot(h->min);
    memset(h->counts + first, 0, (histogram_slot(h->max) - first + 1) * sizeof *h->counts);
    h->total = 0;
    h->min = h->max = 0;
}

uint64_t histogram_beyond(const struct histogram *h)
{
    return h->max < HISTOGRAM_HIGHEST ? 0 : h->counts[histogram_slot(HISTOGRAM_HIGHEST)];
}

/* Lowest value and width of a slot. */
static int64_t slot_value(uint32_t slot, int64_t *width)
{
    uint32_t bucket = slot >> HISTOGRAM_HALF_BITS;
    uint32_t sub = slot & (HISTOGRAM_HALF - 1);

    if (bucket == 0) { /* the first bucket is whole, the others have an upper half only */
        *width = 1LL << HISTOGRAM_UNIT_BITS;
        return (int64_t)sub << HISTOGRAM_UNIT_BITS;
    }
    bucket--;
    *width = 1LL << (bucket + HISTOGRAM_UNIT_BITS);
    return (int64_t)(sub + HISTOGRAM_HALF) << (bucket + HISTOGRAM_UNIT_BITS);
}

int64_t histogram_percentile(const struct histogram *h, double percentile)
{
    uint64_t wanted;
    uint64_t seen = 0;
    uint32_t last;

    if (!h->total)
        return 0;
    if (percentile >= 100)
        return h->max;
    wanted = (uint64_t)ceil((double)h->total * percentile / 100);
    if (wanted < 1)
        wanted = 1;
    last = histogram_slot(h->max);
    for (uint32_t i = histogram_slot(h->min); i <= last; i++) {
        seen += h->counts[i];
        if (seen >= wanted) {
            int64_t width;
            int64_t value = slot_value(i, &width) + width - 1;

            return value > h->max ? h->max : value;
        }
    }
    return h->max;
}

double histogram_mean(const struct histogram *h)
{
    double sum = 0;
    uint32_t last;

    if (!h->total)
        return 0;
    last = histogram_slot(h->max);
    for (uint32_t i = histogram_slot(h->min); i <= last; i++) {
        int64_t width;
        int64_t value = slot_value(i, &width);

        double middle = (double)value + (double)width / 2;

        /* No value is beyond what was seen, so neither is their mean. */
        middle = fmin(fmax(middle, (double)h->min), (double)h->max);
        sum += (double)h->counts[i] * middle;
    }
    return sum / (double)h->total;
}

static void big_endian(struct buf *out, uint64_t value, int bytes)
{
    while (bytes--)
        buf_char(out, (char)(value >> (bytes * 8)));
}

/* ZigZag LEB128 in at most nine bytes, the ninth holding eight bits. */
static void zigzag(struct buf *out, int64_t value)
{
    uint64_t v = (uint64_t)value << 1 ^ (uint64_t)(value >> 63);

    for (int i = 0; i < 8 && v >> 7; i++, v >>= 7)
        buf_char(out, (char)(v | 0x80));
    buf_char(out, (char)v);
}

static void encode_counts(const struct histogram *h, struct buf *out)
{
    int64_t zeros = 0;
    uint32_t last;

    if (!h->total)
        return;
    last = histogram_slot(h->max);
    zeros = histogram_slot(h->min);
    for (uint32_t i = (uint32_t)zeros; i <= last; i++) {
        if (!h->counts[i]) {
            zeros++;
            continue;
        }
        if (zeros)
            zigzag(out, zeros == 1 ? 0 : -zeros);
        zeros = 0;
        zigzag(out, (int64_t)h->counts[i]);
    }
}

static uint32_t adler32(const unsigned char *data, size_t len)
{
    uint32_t a = 1;
    uint32_t b = 0;

    for (size_t i = 0; i < len; i++) {
        a = (a + data[i]) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

/* A zlib stream of stored blocks: the counts are packed already, and most of what
 * deflate would win is not worth its code or our CPU in the middle of a trial. */
static void zlib_stored(struct buf *out, const struct buf *in)
{
    size_t at = 0;

    buf_add(out, "\x78\x01", 2);
    do {
        size_t len = in->len - at < 65535 ? in->len - at : 65535;

        buf_char(out, at + len == in->len);
        buf_char(out, (char)len);
        buf_char(out, (char)(len >> 8));
        buf_char(out, (char)~len);
        buf_char(out, (char)(~len >> 8));
        buf_add(out, in->data + at, len);
        at += len;
    } while (at < in->len);
    big_endian(out, adler32((const unsigned char *)in->data, in->len), 4);
}

void histogram_encode(const struct histogram *h, struct buf *out)
{
    struct buf counts = {0};
    struct buf plain = {0};
    struct buf packed = {0};
    double ratio = 1.0;
    uint64_t ratio_bits;

    memcpy(&ratio_bits, &ratio, sizeof ratio_bits);
    encode_counts(h, &counts);
    big_endian(&plain, COOKIE_V2, 4);
    big_endian(&plain, counts.len, 4);
    big_endian(&plain, 0, 4); /* normalizing index offset */
    big_endian(&plain, HISTOGRAM_DIGITS, 4);
    big_endian(&plain, HISTOGRAM_LOWEST, 8);
    big_endian(&plain, HISTOGRAM_HIGHEST, 8);
    big_endian(&plain, ratio_bits, 8);
    buf_add(&plain, counts.data, counts.len);
    zlib_stored(&packed, &plain);
    big_endian(out, COOKIE_V2_COMPRESSED, 4);
    big_endian(out, packed.len, 4);
    buf_add(out, packed.data, packed.len);
    buf_free(&counts);
    buf_free(&plain);
    buf_free(&packed);
}
