"""The kinds of node a plan is made of: features, training, prediction, checkpoint. A new kind is one file here."""
