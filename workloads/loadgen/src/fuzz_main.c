/* What libFuzzer does, as far as gcc allows: inputs are mutated, those that make the parser
 * take a way that none took before are kept and mutated further.
 *
 *     fuzz_gcc RUNS SEED FILE      FILE gets the input of a crash; no other file is written
 *
 * Deterministic: the same seed makes the same inputs. */
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sanitizer/common_interface_defs.h>

#define INPUT_MAX 4096
#define KEPT_MAX 4096
#define WAYS (1u << 14)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    uint8_t *data;
    size_t len;
};

static struct input kept[KEPT_MAX];
static size_t kept_count;
static uint8_t ways_ever[WAYS];
static uint8_t ways_now[WAYS];
static uintptr_t last_place;
static uint64_t chance;
static uint8_t current[INPUT_MAX];
static size_t current_len;
static const char *crash_file;

/* Called by the parser at each of its branches, since it is compiled with trace-pc. */
void __sanitizer_cov_trace_pc(void);

__attribute__((no_sanitize("address", "undefined"))) void __sanitizer_cov_trace_pc(void)
{
    uintptr_t place = (uintptr_t)__builtin_return_address(0);
    uintptr_t way = (place ^ (last_place >> 1)) * 0x9e3779b97f4a7c15u;

    last_place = place;
    way >>= 50;
    if (ways_now[way] < 255)
        ways_now[way]++;
}

static const char *const seeds[] = {
    "\1HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\naabaaba",
    "\5HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;a=b\r\nwiki\r\n1A\r\n"
    "abcdefghijklmnopqrstuvwxyz\r\n0\r\nTrailer: x\r\n\r\n",
    "\2HTTP/1.0 200 OK\n\nuntil the end aabaaba",
    "\11HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    "\3HTTP/1.1 200 OK\r\nX-Coebench-Instance: i-1\r\nX-Coebench-Version: v1\r\n"
    "X-Coebench-Started: 17.5\r\nConnection: keep-alive, close\r\nContent-Length: 0\r\n\r\n",
    "\7HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n",
};

static const char *const words[] = {
    "\r\n", "\r\n\r\n", "\n", "0\r\n\r\n", "HTTP/1.1 ", "Content-Length: ", "Transfer-Encoding: chunked\r\n",
    "chunked", "18446744073709551616", "9223372036854775807", "ffffffffffffffff", "-1", "+5", " ", ":",
    "Connection: close\r\n", "X-Coebench-Instance: ", "X-Coebench-Version: ", "aabaaba", "aab", ";", "\t",
};

static uint32_t draw(uint32_t below)
{
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return (uint32_t)((chance >> 11) % below);
}

static void insert(const void *what, size_t len)
{
    size_t at = draw((uint32_t)current_len + 1);

    if (current_len + len > INPUT_MAX)
        return;
    memmove(current + at + len, current + at, current_len - at);
    memcpy(current + at, what, len);
    current_len += len;
}

static void mutate(void)
{
    uint8_t piece[256];
    uint32_t at = current_len ? draw((uint32_t)current_len) : 0;
    uint32_t len = current_len ? draw((uint32_t)(current_len - at < 64 ? current_len - at : 64)) + 1 : 0;
    const struct input *other = &kept[draw((uint32_t)kept_count)];

    switch (draw(8)) {
    case 0: /* a bit */
        if (current_len)
            current[at] ^= (uint8_t)(1u << draw(8));
        break;
    case 1: /* a byte, of any kind */
        if (current_len)
            current[at] = (uint8_t)draw(256);
        break;
    case 2: /* a piece away */
        if (current_len) {
            memmove(current + at, current + at + len, current_len - at - len);
            current_len -= len;
        }
        break;
    case 3: /* a piece twice */
        if (current_len) {
            memcpy(piece, current + at, len);
            insert(piece, len);
        }
        break;
    case 4: { /* a word of the protocol */
        const char *word = words[draw(sizeof words / sizeof *words)];

        insert(word, strlen(word));
        break;
    }
    case 5: /* a digit */
        piece[0] = (uint8_t)("0123456789abcdefABCDEF"[draw(22)]);
        insert(piece, 1);
        break;
    case 6: /* cut off */
        current_len = at;
        break;
    default: /* the end of another one */
        if (other->len) {
            size_t from = draw((uint32_t)other->len);
            size_t rest = other->len - from < INPUT_MAX - at ? other->len - from : INPUT_MAX - at;

            memcpy(current + at, other->data + from, rest);
            current_len = at + rest;
        }
    }
}

/* How often a way is gone counts by powers of two, as in AFL: three times is not twice. */
static uint8_t bucket(uint8_t times)
{
    return (uint8_t)(1u << (times < 2 ? 0 : times < 4 ? 1 : times < 8 ? 2 : times < 32 ? 3 : times < 128 ? 4 : 5));
}

static bool try_current(void)
{
    bool fresh = false;
    /* In a block of its own, so that a read beyond its end is seen. */
    uint8_t *copy = malloc(current_len ? current_len : 1);

    memcpy(copy, current, current_len);
    memset(ways_now, 0, sizeof ways_now);
    last_place = 0;
    LLVMFuzzerTestOneInput(copy, current_len);
    free(copy);
    for (size_t i = 0; i < WAYS; i++)
        if (ways_now[i] && !(ways_ever[i] & bucket(ways_now[i]))) {
            ways_ever[i] |= bucket(ways_now[i]);
            fresh = true;
        }
    return fresh;
}

static void keep(void)
{
    struct input *slot = &kept[kept_count < KEPT_MAX ? kept_count++ : draw(KEPT_MAX)];

    free(slot->data);
    slot->data = malloc(current_len ? current_len : 1);
    memcpy(slot->data, current, current_len);
    slot->len = current_len;
}

static void crashed(void)
{
    FILE *file = fopen(crash_file, "wb");

    if (file) {
        fwrite(current, 1, current_len, file);
        fclose(file);
        fprintf(stderr, "the input is in %s\n", crash_file);
    }
}

static void aborted(int number)
{
    crashed();
    signal(number, SIG_DFL);
    raise(number);
}

int main(int argc, char **argv)
{
    unsigned long runs;
    size_t ways = 0;

    if (argc != 4) {
        fprintf(stderr, "usage: fuzz_gcc RUNS SEED FILE\n");
        return 2;
    }
    runs = strtoul(argv[1], NULL, 10);
    chance = strtoull(argv[2], NULL, 10) * 0x9e3779b97f4a7c15u + 1;
    crash_file = argv[3];
    __sanitizer_set_death_callback(crashed);
    signal(SIGABRT, aborted);
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++) {
        current_len = strlen(seeds[i]);
        memcpy(current, seeds[i], current_len);
        try_current();
        keep();
    }
    for (unsigned long run = 0; run < runs; run++) {
        const struct input *from = &kept[draw((uint32_t)kept_count)];
        uint32_t times = 1 + draw(6);

        current_len = from->len;
        memcpy(current, from->data, current_len);
        while (times--)
            mutate();
        if (try_current())
            keep();
    }
    for (size_t i = 0; i < WAYS; i++)
        ways += ways_ever[i] != 0;
    printf("%lu inputs, %zu kept, %zu ways through the parser\n", runs, kept_count, ways);
    return 0;
}
