"""Kubernetes, through the official Python client, from any kubeconfig."""

from .driver import KubernetesDriver

__all__ = ["KubernetesDriver"]
