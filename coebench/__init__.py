"""coebench: the same workload on Kubernetes, Docker Swarm and Mesos, measured the same way, in one table."""

__version__ = "0.1.0"
