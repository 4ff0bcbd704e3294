"""Functions on this machine: their folders read and written, built into images, run on the host."""
