"""The nouns that everything shares, and the ports: `Driver`, `Provisioner`, `Prober`, `Scenario`.

Nothing here imports anything else of coebench. A third party's driver needs this package and no other. `VERSION` is the
contract's own version: a driver names the one it was written for, and a core that knows no such version says so instead
of failing later.
"""

from .asking import AskingPort, Verb
from .bay import Access, Bay, BaySpec, Host, NodeFault, Role, is_bay_name
from .bays import Bays, UpgradingPort
from .capability import Capability, Support
from .clock import now
from .driver import Change, Driver, EngineInfo, Node, Progress, Reach, Watch
from .errors import (
    BadInput,
    BayFailed,
    CoebenchError,
    Conflict,
    EngineError,
    MissingService,
    PhaseTimeout,
    Unplaceable,
    Unsupported,
)
from .faults import EndingPort
from .generator import Generator
from .holding import HoldingPort
from .journal import Journal, Resource
from .metric import Better, Metric, Sample
from .observation import Observation, Observe
from .private import drop_private, own_folder, private_folder
from .prober import Account, Answer, AtTarget, Burst, Flow, LoadPlan, LoadResult, Mishap, Prober, Ran, Target
from .provisioner import Provisioner, TimeoutsGiven
from .registry import ImageRegistry, Pushed, RegistryPort
from .rights import KnowsRights, Leaves, Right
from .room import BaysGiven, BaysWanted, Room, RoomGiven, RoomWanted, TimeWanted, ToolsWanted
from .scenario import Deadline, Scenario, Trial
from .service import (
    Claim,
    Health,
    Instance,
    InstanceState,
    Routing,
    ServiceSpec,
    Strategy,
    Workload,
    is_service_name,
)
from .usage import ENGINE, INSTANCES, Usage, UsagePort
from .watching import FollowingWatch

VERSION = 1

__all__ = [
    "ENGINE",
    "INSTANCES",
    "VERSION",
    "Access",
    "Account",
    "Answer",
    "AskingPort",
    "AtTarget",
    "BadInput",
    "Bay",
    "BayFailed",
    "BaySpec",
    "Bays",
    "BaysGiven",
    "BaysWanted",
    "Better",
    "Burst",
    "Capability",
    "Change",
    "Claim",
    "CoebenchError",
    "Conflict",
    "Deadline",
    "Driver",
    "EndingPort",
    "EngineError",
    "EngineInfo",
    "Flow",
    "FollowingWatch",
    "Generator",
    "Health",
    "HoldingPort",
    "Host",
    "ImageRegistry",
    "Instance",
    "InstanceState",
    "Journal",
    "KnowsRights",
    "Leaves",
    "LoadPlan",
    "LoadResult",
    "Metric",
    "Mishap",
    "MissingService",
    "Node",
    "NodeFault",
    "Observation",
    "Observe",
    "PhaseTimeout",
    "Prober",
    "Progress",
    "Provisioner",
    "Pushed",
    "Ran",
    "Reach",
    "RegistryPort",
    "Resource",
    "Right",
    "Role",
    "Room",
    "RoomGiven",
    "RoomWanted",
    "Routing",
    "Sample",
    "Scenario",
    "ServiceSpec",
    "Strategy",
    "Support",
    "Target",
    "TimeWanted",
    "TimeoutsGiven",
    "ToolsWanted",
    "Trial",
    "Unplaceable",
    "Unsupported",
    "UpgradingPort",
    "Usage",
    "UsagePort",
    "Verb",
    "Watch",
    "Workload",
    "drop_private",
    "is_bay_name",
    "is_service_name",
    "now",
    "own_folder",
    "private_folder",
]
