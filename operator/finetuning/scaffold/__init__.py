"""`finetuning init`: a first manifest, from options or from answers to a few questions."""
