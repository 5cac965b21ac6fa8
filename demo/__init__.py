"""The main job, shown on real input: `make demo`."""
