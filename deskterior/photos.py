"""Photos for the rest of the service: fetched, decoded and scaled without holding up the event loop.

Where they may come from is `deskterior.download`'s, what they may be is `deskterior.decoding`'s.
"""

from deskterior.decoding import SIZE, PhotoInfo, decode, inspect, scaled_jpeg

__all__ = ["SIZE", "PhotoInfo", "decode", "inspect", "scaled_jpeg"]
