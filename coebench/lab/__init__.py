"""The lab: real engines on this one machine, in hosts made of namespaces, cgroups and a root file system of their own.

It knows no driver and no scenario. Nothing is installed into the user's system: every program that runs in a host comes
from a Debian tree in the cache, and all mounts are made inside the hosts' own mount namespaces.
"""
