"""How much GPU memory a job will take, worked out before a GPU is taken; no torch anywhere."""
