"""FiftyOne: labels of a data set."""
