"""From a plan to trials in order to observations; clocks, limits and clean-up."""
