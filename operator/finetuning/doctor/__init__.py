"""`finetuning doctor`: what a cluster lacks for fine-tuning, and how to mend it."""
