"""A run as it happens: in a terminal, on a page, for a Prometheus. All are plug-ins of the hooks and share one state."""
