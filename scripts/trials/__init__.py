"""The parts of ``scripts/campaign.py``: what is done to the package, and what counts as an answer."""
