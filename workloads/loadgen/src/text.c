#include "text.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "clock.h"

#define RATE_MAX 10e6 /* no kernel serves this from one generator: surely a slip of the pen */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool text_percent_valid(const char *text)
{
    while ((text = strchr(text, '%'))) {
        int high = hex_digit(text[1]);
        int low = high < 0 ? -1 : hex_digit(text[2]);

        if (low < 0 || (high | low) == 0)
            return false;
        text += 3;
    }
    return true;
}

bool text_percent_decode(char *text)
{
    char *out = text;

    if (!text_percent_valid(text))
        return false;
    for (const char *in = text; *in; in++) {
        if (*in == '%') {
            *out++ = (char)(hex_digit(in[1]) << 4 | hex_digit(in[2]));
            in += 2;
        } else {
            *out++ = *in;
        }
    }
    *out = '\0';
    return true;
}

bool text_int(const char *key, const char *text, int64_t low, int64_t high, int64_t *value,
              struct complaint *c)
{
    char *end;
    long long n;

    errno = 0;
    n = strtoll(text, &end, 10);
    if (errno || end == text || *end || n < low || n > high)
        return complain(c, "%s=%.40s: want a whole number from %lld to %lld", key, text,
                        (long long)low, (long long)high);
    *value = n;
    return true;
}

bool text_bool(const char *key, const char *text, bool *value, struct complaint *c)
{
    if (!strcmp(text, "1") || !strcmp(text, "true") || !strcmp(text, "yes"))
        *value = true;
    else if (!strcmp(text, "0") || !strcmp(text, "false") || !strcmp(text, "no"))
        *value = false;
    else
        return complain(c, "%s=%.40s: want 0 or 1", key, text);
    return true;
}

/* strtod also takes "inf", "nan" and hexadecimal, which nobody means here. */
static bool plain_decimal(const char *text, double *value, char **end)
{
    if (!strchr("0123456789.", text[0]) || !text[0] || !strncasecmp(text, "0x", 2))
        return false;
    errno = 0;
    *value = strtod(text, end);
    return !errno && *end != text && isfinite(*value);
}

bool text_duration(const char *key, const char *text, int64_t low, int64_t high, int64_t *ns,
                   struct complaint *c)
{
    static const struct {
        const char *name;
        double ns;
    } units[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}};
    double number;
    char *end;

    if (!plain_decimal(text, &number, &end))
        return complain(c, "%s=%.40s: want a duration such as 5ms, 1.5s or 2m", key, text);
    if (!*end && number == 0) {
        *ns = 0;
    } else {
        double scale = 0;

        for (size_t i = 0; i < sizeof units / sizeof *units; i++)
            if (!strcmp(end, units[i].name))
                scale = units[i].ns;
        if (scale == 0)
            return complain(c, "%s=%.40s: want a unit: ns, us, ms, s, m or h", key, text);
        if (number * scale > 9e18)
            return complain(c, "%s=%.40s: too long", key, text);
        *ns = llround(number * scale);
    }
    if (*ns < low || *ns > high)
        return complain(c, "%s=%.40s: want from %g s to %g s", key, text, (double)low / 1e9,
                        (double)high / 1e9);
    return true;
}

bool text_rate(const char *key, const char *text, double *rate, struct complaint *c)
{
    char *end;

    if (!plain_decimal(text, rate, &end))
        return complain(c, "%s=%.40s: want requests a second, such as 1000 or 50k", key, text);
    if (*end == 'k' || *end == 'K') {
        *rate *= 1e3;
        end++;
    } else if (*end == 'M') {
        *rate *= 1e6;
        end++;
    }
    if (!strcmp(end, "/s"))
        end += 2;
    if (*end)
        return complain(c, "%s=%.40s: want requests a second, such as 1000 or 50k", key, text);
    if (*rate < 0.001 || *rate > RATE_MAX)
        return complain(c, "%s=%.40s: want from 0.001 to %.0f requests a second", key, text,
                        RATE_MAX);
    return true;
}
