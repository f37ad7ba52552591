"""Apache Mesos 1.11.0 for lab hosts: fetch.py gets it, build.sh builds it, master.sh and agent.sh start it."""
