"""Tell members of the training set from non-members."""
