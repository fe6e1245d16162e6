"""How things lie on disk: image files, HDF5, PNG, and the run folder."""
