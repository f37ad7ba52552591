"""A wall clock that is set while a load runs, and a load that runs long.

The clock of this machine is not touched. A library between the agent and libc moves what the agent is told by CLOCK_REALTIME,
as a step does, and takes away the kernel's notice of steps (a timerfd), which nobody can fake; so what is tested is the
agent's own reckoning and its once-a-second look. That the kernel's notice is taken is not tested here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "loadgen"))

from loadgen_harness import Agent, NullServer

from coebench.contract import Burst, LoadPlan, Target
from coebench.load import native
from coebench.load.coordinator import Coordinator

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static long long step(void)
{
    char text[32] = "";
    int fd = open(getenv("STEP_FILE"), O_RDONLY);

    if (fd < 0)
        return 0;
    if (read(fd, text, sizeof text - 1) < 0)
        text[0] = 0;
    close(fd);
    return atoll(text);
}

int clock_gettime(clockid_t which, struct timespec *t)
{
    static int (*real)(clockid_t, struct timespec *);
    int result;

    if (!real)
        real = dlsym(RTLD_NEXT, "clock_gettime");
    result = real(which, t);
    if (which == CLOCK_REALTIME)
        t->tv_sec += step();
    return result;
}

int timerfd_create(int which, int flags)
{
    static int (*real)(int, int);

    if (which == CLOCK_REALTIME) {
        errno = EINVAL;
        return -1;
    }
    if (!real)
        real = dlsym(RTLD_NEXT, "timerfd_create");
    return real(which, flags);
}
"""


@pytest.fixture
def stepped(tmp_path: Path) -> tuple[dict[str, str], Path]:
    """Environment of an agent whose wall clock is as many seconds off as the file says."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler")
    if "COELOAD" in os.environ:
        pytest.skip("COELOAD may be static, and a static program can't be told another time")
    source, library, file = tmp_path / "shim.c", tmp_path / "shim.so", tmp_path / "step"
    source.write_text(SHIM)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True, capture_output=True)
    return {"LD_PRELOAD": str(library), "STEP_FILE": str(file)}, file


def test_a_step_of_the_wall_clock_moves_neither_the_start_nor_a_second(stepped: tuple[dict[str, str], Path]) -> None:
    environment, file = stepped
    binary = native.program()
    with NullServer(binary) as null:
        steady, odd = Agent(binary), Agent(binary, env=environment)
        try:
            file.write_text("-7200")  # before the load is even asked for: its start is told by the agent's own clock
            plan = LoadPlan(
                targets=(Target("127.0.0.1", null.port),), rate=400.0, arrivals="constant", connections=4, duration=4.0, warmup=0
            )
            seen: list[Burst] = []

            def set_clock(burst: Burst) -> None:
                seen.append(burst)
                file.write_text("3600")

            addresses = [("steady", ("127.0.0.1", steady.port)), ("odd", ("127.0.0.1", odd.port))]
            coordinator = Coordinator(plan, addresses)
            result = coordinator.run(set_clock)
        finally:
            steady.end()
            odd.end()
    one, other = result.accounts
    assert (one.state, other.state) == ("done", "done")
    assert one.ok == other.ok == 800  # not one request more or less
    assert other.late == 0
    assert abs(other.offset) < 0.1  # its times are by the steady clock: the step does not reach them
    assert round(other.clock_steps[-1]) == 3600 + 7200
    assert one.clock_steps == ()
    assert any("generator odd: its wall clock was set" in f for f in result.flags)
    assert [b.generators for b in seen[:4]] == [2, 2, 2, 2]
    assert [b.planned for b in seen[:4]] == [400] * 4


def test_a_generator_does_not_grow_while_its_seconds_are_acknowledged(coeload: Path) -> None:

    def resident(pid: int) -> int:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    with NullServer(coeload) as null:
        agent = Agent(coeload)
        try:
            sizes: list[int] = []
            plan = LoadPlan(
                targets=(Target("127.0.0.1", null.port),), rate=300.0, arrivals="constant", connections=2, duration=12.0, warmup=0
            )
            Coordinator(plan, [("g", ("127.0.0.1", agent.port))]).run(lambda burst: sizes.append(resident(agent.process.pid)))
        finally:
            agent.end()
    # What is left are pages of histograms that are counted in for the first time.
    early, late = sizes[5], sizes[-2]
    assert late - early < 160_000
