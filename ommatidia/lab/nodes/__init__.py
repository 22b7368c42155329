"""What can be done once and kept: features, trainings, predictions, checkpoints, and the store that keeps them. A new
kind of node is one file here."""
