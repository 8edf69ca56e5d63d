"""`finetuning top`: the jobs of a cluster, or the runs of a folder, live in a terminal."""
