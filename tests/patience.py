"""The time that tests wait for a process that may hang."""

# In seconds. Machines under load take minutes for what takes seconds on others.
HANGS = 1200
