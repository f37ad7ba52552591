"""Apache Mesos 1.11.0 for lab hosts: what fetches it (fetch.py), builds it (build.sh) and starts it (master.sh, agent.sh)."""
