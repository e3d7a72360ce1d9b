"""Native and fast forms of the losses, one file for each library. None yet: the reference runs on all of them."""
