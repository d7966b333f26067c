"""One module for each step, named for its revision: `vNNNN_what_it_does.py`."""
