"""`python3 -m finetuning.publish`: a trained model, with its model card, to where others find it.

What is sent is what the run's manifest says, file by file, before and after. A publication that
was broken off goes on where it was, and one that is complete sends nothing again.
"""
