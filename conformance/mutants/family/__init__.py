"""Wrong implementations of the losses beside info_nce."""
