"""Load and sight: the protocol of `coeload`, and the prober that is made of it."""
