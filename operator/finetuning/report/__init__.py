"""`finetuning report`: one HTML page about a run, from the files of its output folder."""
