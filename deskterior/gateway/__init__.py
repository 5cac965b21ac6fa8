"""Who may come in, and how much: what stands between a stranger's request and everything else.

Nothing is imported here, so that the settings can take their parts from this package without a circle.
"""
