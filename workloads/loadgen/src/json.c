#include "json.h"

#include <math.h>
#include <string.h>

/* Length of the well-formed UTF-8 sequence at s, or 0: overlong forms,
 * surrogates and what lies past U+10FFFF are not well-formed. */
static size_t utf8_length(const unsigned char *s, size_t left)
{
    size_t len = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
               : s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;

    if (!len || len > left)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return len;
}

static void quoted(struct buf *out, const char *text, size_t len)
{
    const unsigned char *s = (const unsigned char *)text;

    buf_char(out, '"');
    for (size_t i = 0; i < len;) {
        size_t n = utf8_length(s + i, len - i);

        if (!n) { /* what a tool prints need not be text; say where it was not */
            buf_text(out, "\\ufffd");
            i++;
            continue;
        }
        if (s[i] == '"' || s[i] == '\\') {
            buf_char(out, '\\');
            buf_char(out, (char)s[i]);
        } else if (s[i] == '\n') {
            buf_text(out, "\\n");
        } else if (s[i] < 0x20 || s[i] == 0x7f) {
            buf_printf(out, "\\u%04x", s[i]);
        } else {
            buf_add(out, s + i, n);
        }
        i += n;
    }
    buf_char(out, '"');
}

static void key_of(struct json *j, const char *key)
{
    if (j->comma)
        buf_char(&j->out, ',');
    j->comma = true;
    if (key) {
        quoted(&j->out, key, strlen(key));
        buf_char(&j->out, ':');
    }
}

void json_event(struct json *j, const char *name)
{
    buf_char(&j->out, '{');
    j->comma = false;
    json_str(j, "event", name);
}

void json_end(struct json *j)
{
    buf_text(&j->out, "}\n");
    j->comma = false;
}

void json_strn(struct json *j, const char *key, const char *value, size_t len)
{
    key_of(j, key);
    quoted(&j->out, value, len);
}

void json_str(struct json *j, const char *key, const char *value)
{
    if (value)
        json_strn(j, key, value, strlen(value));
    else
        json_null(j, key);
}

void json_int(struct json *j, const char *key, int64_t value)
{
    key_of(j, key);
    buf_printf(&j->out, "%lld", (long long)value);
}

void json_real(struct json *j, const char *key, double value, int decimals)
{
    if (!isfinite(value)) {
        json_null(j, key);
        return;
    }
    key_of(j, key);
    buf_printf(&j->out, "%.*f", decimals, value);
}

void json_bool(struct json *j, const char *key, bool value)
{
    key_of(j, key);
    buf_text(&j->out, value ? "true" : "false");
}

void json_null(struct json *j, const char *key)
{
    key_of(j, key);
    buf_text(&j->out, "null");
}

void json_base64(struct json *j, const char *key, const struct buf *value)
{
    key_of(j, key);
    buf_char(&j->out, '"');
    buf_base64(&j->out, value->data, value->len);
    buf_char(&j->out, '"');
}

void json_open(struct json *j, const char *key, char bracket)
{
    key_of(j, key);
    buf_char(&j->out, bracket);
    j->comma = false;
}

void json_close(struct json *j, char bracket)
{
    buf_char(&j->out, bracket);
    j->comma = true;
}
