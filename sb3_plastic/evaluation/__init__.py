"""Does it adapt? Evaluation of any SB3 model under novel dynamics. It knows nothing of spiking networks.

In reading order: `measures` (what is measured of an episode), `records` (the results folder).
"""
