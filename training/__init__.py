"""Photos of desks and of other things become the model in ``models/desk_classifier``: ``python -m training --help``.

Nothing that serves imports this package; the model itself is ``runners.desk_model``.
"""
