"""One module per check: facts gathered once, then an ordered list of small rules over them."""
