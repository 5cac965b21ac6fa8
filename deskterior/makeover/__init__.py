"""What a generate is: describe -> (render beside shop) -> publish -> notify, and the tasks that clients see.

`makeovers` is the face of this room. `workflow` runs the stages, one file each; `journal` remembers what is done and
paid; `register` holds the tasks; `delivery` tells the backend. Running and surviving is left to `deskterior.jobs`.
"""
