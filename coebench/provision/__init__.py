"""What gives, resizes and takes bays."""
