"""Load runs: measured in one run on one machine, told as ratios, because seconds of two machines do not compare."""
