"""The study that the toys of the sweeps belong to; importing this module makes it known."""

from hybridbench.measurement.schema import STUDIES, Kind

STUDIES["toys"] = (Kind("Toy", ("task", "seed"), (), ("step", "part"), ("step", "train_loss", "threads", "part")),)
