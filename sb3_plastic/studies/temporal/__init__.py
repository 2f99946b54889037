"""The study of temporal tasks: networks, training, cells, report."""
