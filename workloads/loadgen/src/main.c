/* coeload: coebench's native load generator and prober. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "clock.h"
#include "exec.h"
#include "neighbour.h"
#include "null.h"
#include "relay.h"
#include "run.h"
#include "secret.h"
#include "text.h"
#include "version.h"

#define EXIT_USAGE 2
#define DEFAULT_PORT 7770

static const char usage[] =
    "usage: coeload agent [--port P] [--allow-exec] [--open] [--join HOST:PORT [--name N]]\n"
    "                                                 probe and generate on request\n"
    "       coeload relay [--port P] [--open]         one port for many agents that join\n"
    "       coeload run URL… …                         one load from here; see run --help\n"
    "       coeload null [--port P] [--pauses]         a server that does nothing, to calibrate\n"
    "       coeload --version\n"
    "An agent and a relay obey whoever knows COEBENCH_SECRET (in their environment); --open: whoever reaches them.\n"
    "--allow-exec: such a caller may also run programs, as nobody.\n";

static int refuse(const char *message)
{
    fprintf(stderr, "coeload: %s\n", message);
    return EXIT_USAGE;
}

static bool env_is_true(const char *name)
{
    const char *value = getenv(name);

    return value && !strcmp(value, "1");
}

/* What the option says, or else the environment. */
static bool read_port(const char *option, uint16_t *port, struct complaint *c)
{
    const char *from = "--port";
    int64_t number;

    if (!option || !*option)
        option = getenv(from = "COEBENCH_PORT");
    if (!option || !*option) /* Mesos tells a task its port by this name */
        option = getenv(from = "PORT0");
    if (!option || !*option)
        return true;
    if (!text_int(from, option, 0, 65535, &number, c))
        return false;
    *port = (uint16_t)number;
    return true;
}

/* As the driver wishes, for a network that is ours alone. Without the right to it the agent serves as well, only later. */
static bool ask_neighbours_sooner(struct complaint *c)
{
    const char *wish = getenv("COEBENCH_NEIGHBOUR_RETRY_MS");
    int64_t ms;
    int done;

    if (!wish || !*wish)
        return true;
    if (!text_int("COEBENCH_NEIGHBOUR_RETRY_MS", wish, 1, 1000, &ms, c))
        return false;
    done = neighbour_retry((uint64_t)ms);
    if (done < 0)
        fprintf(stderr, "coeload: neighbours are asked for once a second: %s\n", strerror(-done));
    return true;
}

static int agent_main(int argc, char **argv)
{
    struct agent_options options = {.port = DEFAULT_PORT, .allow_exec = env_is_true("COEBENCH_ALLOW_EXEC")};
    struct complaint c = {0};
    const char *join = getenv("COEBENCH_JOIN");
    const char *name = getenv("COEBENCH_INSTANCE");
    const char *port = NULL;
    bool open = false;

    if (!name || !*name) /* the same by Mesos' name */
        name = getenv("MESOS_TASK_ID");
    for (int i = 0; i < argc; i++) {
        if (!strcmp(argv[i], "--port") && i + 1 < argc) {
            port = argv[++i];
        } else if (!strcmp(argv[i], "--join") && i + 1 < argc) {
            join = argv[++i];
        } else if (!strcmp(argv[i], "--name") && i + 1 < argc) {
            name = argv[++i];
        } else if (!strcmp(argv[i], "--allow-exec")) {
            options.allow_exec = true;
        } else if (!strcmp(argv[i], "--open")) {
            open = true;
        } else {
            complain(&c, "agent: unknown or incomplete option '%.40s'", argv[i]);
            return refuse(c.text);
        }
    }
    options.join = join && *join ? join : NULL;
    options.name = name && *name ? name : NULL;
    if (options.join && options.name && !relay_name_good(options.name))
        return refuse("--name: up to 100 of letters, digits and ._:- only");
    if (!read_port(port, &options.port, &c) || !ask_neighbours_sooner(&c) || !secret_begin(open, &c))
        return refuse(c.text);
    return agent_run(&options);
}

static int relay_main(int argc, char **argv)
{
    struct complaint c = {0};
    uint16_t port = DEFAULT_PORT;
    bool open = argc && !strcmp(argv[argc - 1], "--open");

    argc -= open;
    if (argc && (argc != 2 || strcmp(argv[0], "--port")))
        return refuse("relay: want --port P, --open and nothing else");
    if (!read_port(argc ? argv[1] : NULL, &port, &c) || !secret_begin(open, &c))
        return refuse(c.text);
    return relay_run(port);
}

static int null_main(int argc, char **argv)
{
    struct complaint c = {0};
    int64_t port = 0;

    bool tell = argc && !strcmp(argv[argc - 1], "--pauses");

    argc -= tell;
    if (argc && (argc != 2 || strcmp(argv[0], "--port")))
        return refuse("null: want --port P, --pauses and nothing else");
    if (argc && !text_int("--port", argv[1], 0, 65535, &port, &c))
        return refuse(c.text);
    return null_run((uint16_t)port, tell);
}

static bool wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            return true;
    return false;
}

int main(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";

    clock_anchor();
    if (wants_help(argc, argv)) {
        fputs(strcmp(command, "run") ? usage : run_usage, stdout);
        return 0;
    }
    if (!strcmp(command, EXEC_AS_NOBODY))
        return exec_as_nobody(argv + 2);
    if (!strcmp(command, "agent"))
        return agent_main(argc - 2, argv + 2);
    if (!strcmp(command, "relay"))
        return relay_main(argc - 2, argv + 2);
    if (!strcmp(command, "run"))
        return run_main(argc - 2, argv + 2);
    if (!strcmp(command, "null"))
        return null_main(argc - 2, argv + 2);
    if (!strcmp(command, "--version")) {
        puts("coeload " COELOAD_VERSION);
        return 0;
    }
    fputs(usage, stderr);
    return EXIT_USAGE;
}
