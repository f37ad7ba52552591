#include "throttle.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "buf.h"

#define LEVELS 16 /* a pod in a slice in a slice … has five or six */

struct level {
    int fd; /* of cpu.stat: stays readable wherever mounts go */
    struct throttled seen;
    struct throttled measured;
};

struct throttle {
    struct level levels[LEVELS];
    int count;
};

static bool read_level(int fd, struct throttled *now)
{
    char text[2048];
    ssize_t len = pread(fd, text, sizeof text - 1, 0);
    char *rest = NULL;
    char *line;

    *now = (struct throttled){0};
    if (len <= 0)
        return false;
    text[len] = '\0';
    for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        uint64_t value;

        if (sscanf(line, "nr_periods %" SCNu64, &value) == 1)
            now->periods = value;
        else if (sscanf(line, "nr_throttled %" SCNu64, &value) == 1)
            now->cut = value, now->known = true;
        else if (sscanf(line, "throttled_time %" SCNu64, &value) == 1) /* v1 */
            now->ns = (int64_t)value;
        else if (sscanf(line, "throttled_usec %" SCNu64, &value) == 1) /* v2 */
            now->ns = (int64_t)value * 1000;
    }
    return now->known; /* a v2 group without the cpu controller has other lines only */
}

/* Whether a list such as "rw,cpu,cpuacct" has the word. */
static bool lists(const char *list, const char *word)
{
    size_t len = strlen(word);

    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (!strncmp(at, word, len) && (!at[len] || at[len] == ','))
            return true;
    return false;
}

/* Our path in the hierarchy: that of the cpu controller (v1), or the unified one. */
static char *own_path(bool unified)
{
    FILE *file = fopen("/proc/self/cgroup", "re");
    char *line = NULL;
    size_t size = 0;
    char *found = NULL;

    while (file && !found && getline(&line, &size, file) > 0) {
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;

        if (!path)
            continue;
        *path++ = '\0';
        path[strcspn(path, "\n")] = '\0';
        controllers++;
        if (unified ? !*controllers : lists(controllers, "cpu"))
            found = must_strdup(path);
    }
    free(line);
    if (file)
        fclose(file);
    return found;
}

/* mountinfo writes blanks and the like as \040. */
static void unescape(char *text)
{
    char *to = text;

    for (; *text; to++) {
        unsigned code;

        if (*text == '\\' && sscanf(text + 1, "%3o", &code) == 1) {
            *to = (char)code;
            text += 4;
        } else {
            *to = *text++;
        }
    }
    *to = '\0';
}

/* Where the path is mounted, or NULL. `top` is how much of it is the mount itself. */
static char *mounted_at(const char *path, bool unified, size_t *top)
{
    FILE *file = fopen("/proc/self/mountinfo", "re");
    char *line = NULL;
    size_t size = 0;
    char *found = NULL;

    while (file && !found && getline(&line, &size, file) > 0) {
        char root[1024];
        char point[1024];
        char type[32];
        char options[512];
        const char *tail = strstr(line, " - ");
        size_t len;

        if (!tail || sscanf(line, "%*s %*s %*s %1023s %1023s", root, point) != 2 ||
            sscanf(tail, " - %31s %*s %511s", type, options) != 2)
            continue;
        if (strcmp(type, unified ? "cgroup2" : "cgroup") || (!unified && !lists(options, "cpu")))
            continue;
        unescape(root);
        unescape(point);
        len = strcmp(root, "/") ? strlen(root) : 0;
        if (strncmp(path, root, len) || (path[len] && path[len] != '/'))
            continue; /* another part of the tree: what it says is not about us */
        *top = strlen(point);
        found = must_alloc(*top + strlen(path + len) + sizeof "/cpu.stat");
        strcpy(found, point);
        strcat(found, path + len);
    }
    free(line);
    if (file)
        fclose(file);
    return found;
}

static void add_levels(struct throttle *t, bool unified)
{
    char *path = own_path(unified);
    size_t top = 0;
    char *folder = path ? mounted_at(path, unified, &top) : NULL;

    free(path);
    while (folder && t->count < LEVELS) {
        size_t len = strlen(folder);
        struct level *level = &t->levels[t->count];
        char *slash;

        strcpy(folder + len, "/cpu.stat");
        level->fd = open(folder, O_RDONLY | O_CLOEXEC);
        if (level->fd >= 0 && read_level(level->fd, &level->seen))
            t->count++;
        else if (level->fd >= 0)
            close(level->fd);
        folder[len] = '\0';
        slash = strrchr(folder, '/');
        if (len <= top || !slash || slash < folder + top)
            break;
        *slash = '\0';
    }
    free(folder);
}

struct throttle *throttle_open(void)
{
    struct throttle *t = must_calloc(1, sizeof *t);

    add_levels(t, false);
    if (!t->count)
        add_levels(t, true);
    return t;
}

void throttle_close(struct throttle *t)
{
    for (int i = 0; t && i < t->count; i++)
        close(t->levels[i].fd);
    free(t);
}

static bool cut_more(const struct throttled *a, const struct throttled *b)
{
    return !b->known || a->ns > b->ns || (a->ns == b->ns && a->periods > b->periods);
}

struct throttled throttle_second(struct throttle *t, bool measured)
{
    struct throttled most = {0};

    for (int i = 0; i < t->count; i++) {
        struct level *level = &t->levels[i];
        struct throttled now;
        struct throttled since;

        if (!read_level(level->fd, &now))
            continue; /* the group is gone from under us */
        since = (struct throttled){.known = true,
                                   .periods = now.periods - level->seen.periods,
                                   .cut = now.cut - level->seen.cut,
                                   .ns = now.ns - level->seen.ns};
        level->seen = now;
        if (measured) {
            level->measured.known = true;
            level->measured.periods += since.periods;
            level->measured.cut += since.cut;
            level->measured.ns += since.ns;
        }
        if (cut_more(&since, &most))
            most = since;
    }
    return most;
}

struct throttled throttle_measured(const struct throttle *t)
{
    struct throttled most = {0};

    for (int i = 0; i < t->count; i++)
        if (t->levels[i].measured.known && cut_more(&t->levels[i].measured, &most))
            most = t->levels[i].measured;
    return most;
}
