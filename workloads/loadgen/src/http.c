#include "http.h"

#include <string.h>
#include <strings.h>

#include "buf.h"

enum state {
    STATUS_LINE,
    HEADER_LINE,
    BODY_LENGTH,
    BODY_UNTIL_CLOSE,
    CHUNK_SIZE,
    CHUNK_DATA,
    CHUNK_END,
    TRAILER,
    COMPLETE,
    BROKEN,
};

void http_begin(struct http *h, bool head_request, struct http_identity *identity,
                const struct http_search *search)
{
    /* Not a memset of the whole: the line buffer is large and needs no clearing. */
    h->state = STATUS_LINE;
    h->head_request = head_request;
    h->keepalive = false;
    h->chunked = false;
    h->has_length = false;
    h->matched = false;
    h->code = 0;
    h->line_len = 0;
    h->match_at = 0;
    h->head_len = 0;
    h->left = 0;
    h->identity = identity;
    h->search = search;
    if (identity)
        identity->instance[0] = identity->version[0] = identity->started[0] = '\0';
}

bool http_begun(const struct http *h)
{
    return h->head_len > 0;
}

uint16_t *http_search_prepare(const char *text, size_t len)
{
    uint16_t *fallback = must_calloc(len, sizeof *fallback);

    for (size_t i = 1, k = 0; i < len; i++) {
        while (k && text[i] != text[k])
            k = fallback[k - 1];
        k += text[i] == text[k];
        fallback[i] = (uint16_t)k;
    }
    return fallback;
}

static void search_body(struct http *h, const char *data, size_t len)
{
    const struct http_search *s = h->search;

    if (!s || h->matched)
        return;
    for (size_t i = 0; i < len; i++) {
        while (h->match_at && data[i] != s->text[h->match_at])
            h->match_at = s->fallback[h->match_at - 1];
        h->match_at = (uint16_t)(h->match_at + (data[i] == s->text[h->match_at]));
        if (h->match_at == s->len) {
            h->matched = true;
            return;
        }
    }
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* "HTTP/1.1 200 OK", "HTTP/1.0 404", … */
static bool status_line(struct http *h, const char *line, size_t len)
{
    if (len < 12 || memcmp(line, "HTTP/1.", 7) || (line[7] != '0' && line[7] != '1') ||
        line[8] != ' ' || !is_digit(line[9]) || !is_digit(line[10]) || !is_digit(line[11]) ||
        (len > 12 && line[12] != ' '))
        return false;
    h->code = (uint16_t)((line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0'));
    h->keepalive = line[7] == '1';
    return h->code >= 100;
}

static bool name_is(const char *line, size_t name_len, const char *name)
{
    return strlen(name) == name_len && !strncasecmp(line, name, name_len);
}

/* Whether a comma-separated list has this word. */
static bool has_token(const char *value, size_t len, const char *word)
{
    size_t word_len = strlen(word);

    while (len) {
        const char *comma = memchr(value, ',', len);
        size_t part = comma ? (size_t)(comma - value) : len;
        const char *token = value;
        size_t token_len = part;

        while (token_len && (*token == ' ' || *token == '\t')) {
            token++;
            token_len--;
        }
        while (token_len && (token[token_len - 1] == ' ' || token[token_len - 1] == '\t'))
            token_len--;
        if (token_len == word_len && !strncasecmp(token, word, word_len))
            return true;
        if (!comma)
            return false;
        value += part + 1;
        len -= part + 1;
    }
    return false;
}

static bool content_length(struct http *h, const char *value, size_t len)
{
    uint64_t n = 0;

    if (!len)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!is_digit(value[i]) || n > (UINT64_MAX - 9) / 10)
            return false;
        n = n * 10 + (uint64_t)(value[i] - '0');
    }
    if (h->has_length && h->left != n)
        return false; /* two lengths: whichever we believed could be the wrong one */
    h->has_length = true;
    h->left = n;
    return true;
}

static void keep(char out[HTTP_VALUE_MAX], const char *value, size_t len)
{
    if (len > HTTP_VALUE_MAX - 1)
        len = HTTP_VALUE_MAX - 1;
    memcpy(out, value, len);
    out[len] = '\0';
}

static bool header_line(struct http *h, const char *line, size_t len)
{
    const char *colon;
    const char *value;
    size_t name_len;
    size_t value_len;

    if (line[0] == ' ' || line[0] == '\t')
        return true; /* a folded line goes on with one that we do not need */
    colon = memchr(line, ':', len);
    if (!colon || colon == line)
        return false;
    name_len = (size_t)(colon - line);
    for (size_t i = 0; i < name_len; i++)
        if ((unsigned char)line[i] <= ' ' || line[i] == 0x7f)
            return false;
    value = colon + 1;
    value_len = len - name_len - 1;
    while (value_len && (*value == ' ' || *value == '\t')) {
        value++;
        value_len--;
    }
    while (value_len && (value[value_len - 1] == ' ' || value[value_len - 1] == '\t'))
        value_len--;

    switch (line[0] | 0x20) { /* most lines are none of ours: one comparison each */
    case 'c':
        if (name_is(line, name_len, "Content-Length"))
            return content_length(h, value, value_len);
        if (name_is(line, name_len, "Connection")) {
            if (has_token(value, value_len, "close"))
                h->keepalive = false;
            else if (has_token(value, value_len, "keep-alive"))
                h->keepalive = true;
        }
        break;
    case 't':
        if (name_is(line, name_len, "Transfer-Encoding"))
            h->chunked = has_token(value, value_len, "chunked");
        break;
    case 'x':
        if (!h->identity)
            break;
        if (name_is(line, name_len, "X-Coebench-Instance"))
            keep(h->identity->instance, value, value_len);
        else if (name_is(line, name_len, "X-Coebench-Version"))
            keep(h->identity->version, value, value_len);
        else if (name_is(line, name_len, "X-Coebench-Started"))
            keep(h->identity->started, value, value_len);
        break;
    default:
        break;
    }
    return true;
}

/* The empty line after the head: what follows it? */
static enum state after_head(struct http *h)
{
    if (h->code < 200 && h->code != 101) { /* an interim answer: the real one follows */
        h->has_length = h->chunked = false;
        h->left = 0;
        return STATUS_LINE;
    }
    if (h->head_request || h->code == 204 || h->code == 304)
        return COMPLETE;
    if (h->code == 101) { /* we never ask for another protocol */
        h->keepalive = false;
        return COMPLETE;
    }
    if (h->chunked) {
        h->left = 0; /* a length beside it is to be ignored */
        return CHUNK_SIZE;
    }
    if (h->has_length)
        return h->left ? BODY_LENGTH : COMPLETE;
    h->keepalive = false;
    return BODY_UNTIL_CLOSE;
}

static bool chunk_size(struct http *h, const char *line, size_t len)
{
    uint64_t n = 0;
    size_t i;

    for (i = 0; i < len; i++) {
        char c = line[i];
        char lower = (char)(c | 0x20);
        unsigned digit;

        if (is_digit(c))
            digit = (unsigned)(c - '0');
        else if (lower >= 'a' && lower <= 'f')
            digit = (unsigned)(lower - 'a') + 10;
        else
            break;
        if (n >> 60)
            return false;
        n = n << 4 | digit;
    }
    if (!i || (i < len && line[i] != ';' && line[i] != ' ' && line[i] != '\t'))
        return false;
    h->left = n;
    return true;
}

/* One line without its end. Returns the state that it leads to. */
static enum state take_line(struct http *h, const char *line, size_t len)
{
    switch ((enum state)h->state) {
    case STATUS_LINE:
        return status_line(h, line, len) ? HEADER_LINE : BROKEN;
    case HEADER_LINE:
        if (!len)
            return after_head(h);
        return header_line(h, line, len) ? HEADER_LINE : BROKEN;
    case CHUNK_SIZE:
        if (!chunk_size(h, line, len))
            return BROKEN;
        return h->left ? CHUNK_DATA : TRAILER;
    case CHUNK_END:
        return len ? BROKEN : CHUNK_SIZE;
    case TRAILER:
        return len ? TRAILER : COMPLETE;
    default:
        return BROKEN;
    }
}

/* Whether what we have of a status line can still become one: garbage without a
 * line end should be known for what it is at once, not at the time-out. */
static bool could_be_status(const char *line, size_t len)
{
    return !memcmp(line, "HTTP/1.", len < 7 ? len : 7);
}

static bool in_lines(uint8_t state)
{
    return state == STATUS_LINE || state == HEADER_LINE || state == CHUNK_SIZE ||
           state == CHUNK_END || state == TRAILER;
}

/* Takes one line, or the part of it that is here. Returns what was consumed. */
static size_t feed_line(struct http *h, const char *data, size_t len)
{
    const char *end = memchr(data, '\n', len);
    size_t part = end ? (size_t)(end - data) : len;
    size_t used = part + (end != NULL);
    const char *line = data;
    size_t line_len = part;

    if (!end || h->line_len) { /* in pieces: gather it, up to what could matter to us */
        size_t room = sizeof h->line - h->line_len;
        size_t copy = part < room ? part : room;

        memcpy(h->line + h->line_len, data, copy);
        h->line_len = (uint16_t)(h->line_len + copy);
        line = h->line;
        line_len = h->line_len;
    }
    if (h->state == HEADER_LINE || h->state == STATUS_LINE || h->state == TRAILER) {
        h->head_len += (uint32_t)used;
        if (h->head_len > HTTP_HEAD_MAX) {
            h->state = BROKEN;
            return used;
        }
    } else if (line_len >= sizeof h->line) {
        h->state = BROKEN; /* a chunk size of half a kilobyte */
        return used;
    }
    if (line_len > sizeof h->line)
        line_len = sizeof h->line; /* the same for whole lines as for those in pieces */
    if (!end) {
        if (h->state == STATUS_LINE && !could_be_status(line, line_len))
            h->state = BROKEN;
        return used;
    }
    if (line_len && line[line_len - 1] == '\r')
        line_len--;
    h->state = (uint8_t)take_line(h, line, line_len);
    h->line_len = 0;
    return used;
}

enum http_result http_feed(struct http *h, const char *data, size_t len, size_t *used)
{
    size_t at = 0;

    while (at < len && h->state != COMPLETE && h->state != BROKEN) {
        size_t step = len - at;

        if (in_lines(h->state)) {
            at += feed_line(h, data + at, step);
            continue;
        }
        if (h->state != BODY_UNTIL_CLOSE) {
            if (step > h->left)
                step = (size_t)h->left;
            h->left -= step;
        }
        search_body(h, data + at, step);
        at += step;
        if (h->state == BODY_LENGTH && !h->left)
            h->state = COMPLETE;
        else if (h->state == CHUNK_DATA && !h->left)
            h->state = CHUNK_END;
    }
    *used = at;
    return h->state == COMPLETE ? HTTP_DONE : h->state == BROKEN ? HTTP_BAD : HTTP_MORE;
}

enum http_result http_closed(const struct http *h)
{
    return h->state == BODY_UNTIL_CLOSE || h->state == COMPLETE ? HTTP_DONE : HTTP_MORE;
}
